"""Questions at a fixed rate, whether the answers come or not: an open loop, in its own process.

A question has its time before the run begins, and its latency counts from that time, so an answer
that is late does not spare the service the questions behind it. How late the questions themselves
went out is told too: if that is much, the load was the bottleneck and not the service.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from threading import Event
from typing import Any, NamedTuple

import grpc
import msgspec
from benchmarks.processes import say

from headrace.serving import calls, encode, prediction_pb2_grpc
from headrace.serving.prediction_pb2 import PredictRequest
from headrace.views import Question

ANSWER_WAIT_S = 10.0
READY_WAIT_S = 10.0
WARM_UP = 50  # questions before the first run, not measured


class Order(msgspec.Struct):
    """Whom to ask what: one question after the other, round and round."""

    address: str
    questions: list[Question]


class Burst(msgspec.Struct):
    """A run: `rate` questions a second in all, over so many connections, for some seconds."""

    connections: int
    rate: float
    seconds: float


class Told(NamedTuple):
    """When each question was due, sent and answered, in seconds from the run's begin.

    `begin`: by `time.perf_counter`, which all processes of a machine share. `epochs`: of the state
    that each answer used; 0 if there was none.
    """

    due: list[float]
    sent: list[float]
    answered: list[float]
    failed: int
    begin: float
    epochs: list[int]


def main(order: str) -> None:
    """The process: a line of JSON in for each burst, a line out with what came of it."""
    given = msgspec.json.decode(order, type=Order)
    requests = [PredictRequest(question=encode.question(each)) for each in given.questions]
    for line in sys.stdin:
        burst = msgspec.json.decode(line, type=Burst)
        channels = [_channel(given.address) for _ in range(burst.connections)]
        try:
            asked = [prediction_pb2_grpc.PredictionServiceStub(each).Predict for each in channels]
            for number in range(max(WARM_UP, burst.connections)):
                asked[number % len(asked)](requests[number % len(requests)], timeout=ANSWER_WAIT_S)
            told = ask(asked, requests, burst)
        finally:
            for channel in channels:
                channel.close()
        say(told._asdict())


def ask(asked: Sequence[Any], requests: Sequence[PredictRequest], burst: Burst) -> Told:
    """One run; `asked`: the method of each connection."""
    count = int(burst.rate * burst.seconds)
    due = [number / burst.rate for number in range(count)]
    sent, answered, epochs = [0.0] * count, [0.0] * count, [0] * count
    failures: list[str] = []
    left, all_in = [count], Event()
    clock = time.perf_counter
    begin = clock() + 0.1

    def done(number: int, call: Any) -> None:
        answered[number] = clock() - begin
        if call.code() is grpc.StatusCode.OK:
            epochs[number] = call.result().answer.standing.epoch
        else:
            failures.append(call.code().name)
        left[0] -= 1
        if not left[0]:
            all_in.set()

    for number in range(count):
        while (wait := begin + due[number] - clock()) > 0:
            time.sleep(wait)
        sent[number] = clock() - begin
        request = requests[number % len(requests)]
        call = asked[number % len(asked)].future(request, timeout=ANSWER_WAIT_S)
        call.add_done_callback(lambda call, number=number: done(number, call))
    all_in.wait(ANSWER_WAIT_S + READY_WAIT_S)
    return Told(due, sent, answered, len(failures) + left[0], begin, epochs)


def _channel(address: str) -> grpc.Channel:
    # Else gRPC would lead all channels of a process over one connection.
    options = [*calls.OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.insecure_channel(address, options=options)
    grpc.channel_ready_future(channel).result(timeout=READY_WAIT_S)
    return channel
