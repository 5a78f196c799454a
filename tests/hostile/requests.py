"""A hostile afternoon for the server: raw bytes to every method, and an answer of the table each.

The messages are good ones with faults in their bytes, good ones with monstrous values, and noise.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from headrace.serving import agent_pb2, decision_pb2, prediction_pb2, snapshot_pb2, status
from headrace.serving.caller import LOST_ANSWER
from tests.hostile.events import Afternoon, Progress, nobody
from tests.hostile.fuzzer import Fuzzer
from tests.hostile.messages import filled, good, monsters

FILES = (agent_pb2, decision_pb2, prediction_pb2, snapshot_pb2, health_pb2, reflection_pb2)
AT_ONCE = 16
PATIENCE_S = 20.0  # until an answer must be there
WATCH_S = 0.5  # how long an endless stream is listened to
TRIES = 4
MESSAGES_READ = 50  # of one stream
# Asked one time in 20.
SLOW = {
    *("WatchDecisions", "WatchQuarantine", "WatchWithdrawn", "Watch"),
    *("DeployAgent", "CreateSnapshot", "PreviewRollback", "VerifyDecision"),
    *("DiffSnapshots", "ExportSnapshot", "ImportSnapshot"),
}
# A message that happens to name an agent would have it deleted, paused or rolled back: these get
# none of others.
CAREFUL = {
    *("PauseLearning", "ResumeLearning", "DeleteAgent", "ForgetKey", "Rollback", "UndoRollback"),
}
STATUSES = {row.status for row in status.TABLE.values()}
Method = tuple[str, MethodDescriptor]


class Asked(NamedTuple):
    """One call: the method's path and kind, and the messages that are sent."""

    path: str
    streaming: tuple[bool, bool]
    messages: tuple[bytes, ...]

    @property
    def shown(self) -> str:
        return f"{self.path} {[m[:400] for m in self.messages]!r}"


class Answered(NamedTuple):
    """What came back: status code, what our details say, and the messages."""

    code: grpc.StatusCode
    reason: str
    text: str
    messages: list[bytes]


def methods() -> dict[str, MethodDescriptor]:
    """Every method that the server offers, by path."""
    found = {}
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                found[f"/{service.full_name}/{method.name}"] = method
    return found


async def run_requests(
    address: str, count: int, seed: int | str, *, progress: Progress = nobody
) -> Afternoon:
    """`count` bad calls, 16 at a time; the codes that came back, and what is wrong with them."""
    calls = _calls(count, seed)
    codes: Counter[str] = Counter()
    findings: list[str] = []
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]

    async def ask(channel: grpc.aio.Channel) -> None:
        for asked in calls:
            answered = await _answer(channel, asked)
            codes[answered.reason or answered.code.name] += 1
            finding = _judged(asked, answered)
            if finding and len(findings) < 20:
                findings.append(f"{finding}: {asked.shown}")
            progress(1)

    with Complaints() as complaints:
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            await asyncio.gather(*(ask(channel) for _ in range(AT_ONCE)))
    findings += [f"logged: {text}" for text in complaints.texts[:5]]
    return Afternoon(count, codes, findings)


def _judged(asked: Asked, answered: Answered) -> str:
    code, reason = answered.code, answered.reason
    if code is grpc.StatusCode.INTERNAL or reason == "internal":
        return f"a bug: {answered.text}"
    if code is not grpc.StatusCode.OK and code not in STATUSES | {grpc.StatusCode.CANCELLED}:
        return f"{code.name} is not in the table: {answered.text}"
    if reason and (reason not in status.TABLE or status.TABLE[reason].status is not code):
        return f"{code.name} with the reason {reason!r}, which is not in the table"
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND) and not reason:
        return f"{code.name} without a reason: {answered.text}"
    response = methods()[asked.path].output_type
    for data in answered.messages:
        for row in getattr(_read(response, data), "outcomes", ()):
            if row.WhichOneof("outcome") == "error" and _reason(row.error) not in status.TABLE:
                return f"a row's reason {_reason(row.error)!r} is not in the table"
    return ""


def _read(kind: Any, data: bytes) -> Message:
    message: Message = kind._concrete_class.FromString(data)
    return message


def _reason(described: Status) -> str:
    for detail in described.details:
        info = ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason).lower()
    return ""


async def _answer(channel: grpc.aio.Channel, asked: Asked) -> Answered:
    """The answer; asked again where gRPC's client has lost it. A bug says its id, and is logged."""
    for _ in range(TRIES - 1):
        answered = await _tried(channel, asked)
        if answered.text != LOST_ANSWER:
            return answered
    return await _tried(channel, asked)


async def _tried(channel: grpc.aio.Channel, asked: Asked) -> Answered:
    many_in, many_out = asked.streaming
    endless = many_out and "Watch" in asked.path
    timeout = WATCH_S if endless else PATIENCE_S
    kind = f"{'stream' if many_in else 'unary'}_{'stream' if many_out else 'unary'}"
    method: Any = getattr(channel, kind)(asked.path)
    messages: list[bytes] = []
    try:
        if many_in and not many_out:
            messages.append(await _told(method(timeout=timeout), asked.messages))
        elif many_in:
            await _converse(method(timeout=timeout), asked.messages, messages)
        elif many_out:
            await _listen(method(asked.messages[0], timeout=timeout), messages)
        else:
            messages.append(await method(asked.messages[0], timeout=timeout))
    except grpc.aio.AioRpcError as error:
        for name, value in error.trailing_metadata() or ():
            if name == status.DETAILS_KEY:
                described = Status.FromString(value)
                return Answered(error.code(), _reason(described), described.message, messages)
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not endless:
            return Answered(grpc.StatusCode.UNKNOWN, "", f"no answer in {timeout} s", messages)
        return Answered(error.code(), "", error.details() or "", messages)
    return Answered(grpc.StatusCode.OK, "", "", messages)


async def _converse(call: Any, sent: Iterable[bytes], answers: list[bytes]) -> None:
    """Send and read in turn: gRPC's client forgets a status that comes while it writes."""
    for message in sent:
        await call.write(message)
        answer = await call.read()
        if answer is grpc.aio.EOF:
            break
        answers.append(answer)
    await call.done_writing()
    await _listen(call, answers)


async def _told(call: Any, sent: Iterable[bytes]) -> bytes:
    """Send all, and read the one answer, which may come before the last message."""
    with contextlib.suppress(asyncio.InvalidStateError):  # it has been answered
        for message in sent:
            await call.write(message)
        await call.done_writing()
    answer: bytes = await call
    return answer


async def _listen(call: Any, answers: list[bytes]) -> None:
    while (answer := await call.read()) is not grpc.aio.EOF:
        answers.append(answer)
        if len(answers) >= MESSAGES_READ:
            call.cancel()
            return
    if await call.code() is not grpc.StatusCode.OK:
        await call  # raises it


class Complaints(logging.Handler):
    """What was logged as an error meanwhile: a call that ends well for its caller may leave one.

    >>> with Complaints() as complaints:
    ...     logging.getLogger("headrace").error("call_failed")
    >>> complaints.texts
    ['call_failed']
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)


def _calls(count: int, seed: int | str) -> Iterator[Asked]:
    fuzzer = Fuzzer(seed)
    chance = fuzzer.chance
    paths = methods()
    quick = [path for path in paths if _name(path) not in SLOW]
    everything = [message for path in paths for message in good(_name(path))]
    huge = monsters()
    for _ in range(count):
        path = chance.choice(list(paths) if chance.random() < 0.05 else quick)
        method = paths[path]
        streaming = (bool(method.client_streaming), bool(method.server_streaming))
        careful = _name(path) in CAREFUL
        messages = []
        for _ in range(chance.randint(0, 4) if streaming[0] else 1):
            kind = chance.random()
            if kind < 0.5:
                message = filled(method.input_type, chance, careful).SerializeToString()
            elif kind < 0.85:
                others = () if careful else everything
                message = fuzzer.spoil(chance.choice(good(_name(path))), others)
            elif kind < 0.9 or careful:
                message = chance.randbytes(chance.choice((0, 1, 2, 7, 40, 1000)))
            else:
                message = chance.choice(everything if kind < 0.95 else huge)
            messages.append(message)
        yield Asked(path, streaming, tuple(messages))


def _name(path: str) -> str:
    return path.rpartition("/")[2]
