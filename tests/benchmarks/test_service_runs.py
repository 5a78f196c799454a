"""Small runs of what `make bench` measures: through a broker, a worker's process and gRPC."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from benchmarks.endtoend import run
from benchmarks.load import Burst, ask
from benchmarks.place import Place
from benchmarks.topics import append, decided, make_topic
from benchmarks.workload import PARTITIONS, events_for, uniform_keys
from rich.console import Console

from headrace.errors import StateError
from headrace.pipelines import reader
from headrace.pipelines.broker import Broker
from headrace.pipelines.live import partition_of
from headrace.serving import prediction_pb2, prediction_pb2_grpc
from headrace.views import Partition


async def test_events_lie_in_the_partitions_of_their_keys(broker: Broker) -> None:
    """All of them, in their order, where Kafka's own clients would put them."""
    topic = "benched-partitions"
    await make_topic(broker, topic)
    events = events_for(uniform_keys(300, 20))
    await append(broker, topic, events, times=2)
    found: list[bytes] = []
    for number in range(PARTITIONS):
        mine = [e.value for e in events if partition_of(e.key.decode(), PARTITIONS) == number]
        lying = [r.value async for r in reader.stored(broker.bootstrap, [Partition(topic, number)])]
        assert lying == mine * 2
        found += lying
    assert len(found) == 600


async def test_missing_decisions_are_an_error(broker: Broker) -> None:
    """A topic that holds fewer decisions than there were events is never counted as done."""
    topic = "benched-decisions"
    await make_topic(broker, topic)
    records = [event._replace(value=b'{"id":"%d"}' % n) for n, event in enumerate(events_for("ab"))]
    await append(broker, topic, records, times=2)
    found = await decided(broker, topic, 4)
    assert (found.records, found.ids) == (4, 2)
    with pytest.raises(StateError, match="4 decisions of 5"):
        await decided(broker, topic, 5, wait_s=0.5)


async def test_a_run_goes_through_the_whole_service(broker: Broker, tmp_path: Path) -> None:
    """Every event is learned, decided and durable, between two bare loops, with its stages told."""
    events = events_for(uniform_keys(3_000, 50))
    place = Place(tmp_path, Console(quiet=True))
    measured = await run(place, broker, events, ("stages", "flushes"))
    assert measured.speed.events == 3_000
    assert measured.ratio > 0
    assert all(each.events == 3_000 for each in measured.bare)
    meters = measured.said["meters"]
    assert sum(meters["stages"]["cpu_s"].values()) <= measured.speed.cpu_s
    assert meters["flushes"]["rows"] >= 50


class Withholding(prediction_pb2_grpc.PredictionServiceServicer):
    """Answers nobody before so many have asked."""

    def __init__(self, wanted: int) -> None:
        self._all_in = threading.Barrier(wanted, timeout=20)

    def Predict(  # noqa: N802
        self, request: prediction_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> prediction_pb2.PredictResponse:
        self._all_in.wait()
        return prediction_pb2.PredictResponse()


@contextmanager
def served(servicer: Withholding, callers: int) -> Iterator[grpc.Channel]:
    server = grpc.server(ThreadPoolExecutor(callers))
    prediction_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    server.stop(grace=None).wait()


def test_questions_do_not_wait_for_answers() -> None:
    """The loop is open: all questions go out, and in time, although none of them is answered."""
    with served(Withholding(20), 20) as channel:
        asked = prediction_pb2_grpc.PredictionServiceStub(channel).Predict
        told = ask([asked], [prediction_pb2.PredictRequest()], Burst(1, 200.0, 0.1))
    assert told.failed == 0
    assert told.due == pytest.approx([number / 200 for number in range(20)])
    assert min(told.answered) >= max(told.due)
    assert all(sent >= due for sent, due in zip(told.sent, told.due, strict=True))


def test_an_answer_that_failed_is_told() -> None:
    """A load that was refused is never taken for a quick one."""
    with grpc.insecure_channel("127.0.0.1:1") as nobody:
        asked = prediction_pb2_grpc.PredictionServiceStub(nobody).Predict
        told = ask([asked], [prediction_pb2.PredictRequest()], Burst(1, 200.0, 0.02))
    assert told.failed == 4
