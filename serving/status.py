"""One table: which error leaves as which gRPC status, and how a client gets the same error back.

`describe` turns an error into a `google.rpc.Status` with details: ErrorInfo (reason = the code in
capitals, domain "headrace"), BadRequest (every violation), RetryInfo (when to try again) and
ResourceInfo (what is missing, or in the way). `rebuild` is its inverse in the client.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details_pb2
from google.rpc.status_pb2 import Status

from headrace.errors import (
    ConflictError,
    EventError,
    HeadraceError,
    NotFoundError,
    OtherBuildError,
    OverloadError,
    RequestError,
    SpecError,
    StateError,
    UnavailableError,
    Violation,
)

DOMAIN = "headrace"
DETAILS_KEY = "grpc-status-details-bin"
# Clients accept 8 KiB of metadata by default. The message travels twice (percent-encoded, and in
# the details, which are base64): 3 x 512 + 4/3 x 4096 leaves room for the rest.
MESSAGE_BYTES = 512
DETAILS_BYTES = 4096
VALUE_BYTES = 128  # of one value in ErrorInfo.metadata
DEFAULT_RETRY_S = 1.0

Refusal = RequestError | SpecError | EventError | StateError
"""The errors that are answers. Anything else is a bug and leaves as `internal`."""


class Row(NamedTuple):
    """How one code leaves: its gRPC status, the class that the client raises, what it means."""

    status: grpc.StatusCode
    error: type[HeadraceError]
    meaning: str


_S = grpc.StatusCode
TABLE: Mapping[str, Row] = MappingProxyType(
    {
        # The caller: the request is wrong as it stands.
        "invalid_request": Row(
            _S.INVALID_ARGUMENT, RequestError, "a field is missing or senseless"
        ),
        "unknown_feature": Row(_S.INVALID_ARGUMENT, RequestError, "the spec has no such feature"),
        "missing_feature": Row(_S.INVALID_ARGUMENT, RequestError, "the spec rejects its absence"),
        "wrong_type": Row(_S.INVALID_ARGUMENT, RequestError, "not the type that the spec declares"),
        "not_finite": Row(_S.INVALID_ARGUMENT, RequestError, "NaN or infinite"),
        "out_of_range": Row(_S.INVALID_ARGUMENT, RequestError, "outside the declared range"),
        "bad_utf8": Row(_S.INVALID_ARGUMENT, RequestError, "a text is not UTF-8"),
        "too_long": Row(_S.INVALID_ARGUMENT, RequestError, "a text or a list is too long"),
        "too_large": Row(_S.INVALID_ARGUMENT, RequestError, "above a size limit"),
        "invalid_spec": Row(_S.INVALID_ARGUMENT, SpecError, "the spec cannot be deployed"),
        "bad_event": Row(_S.INVALID_ARGUMENT, RequestError, "the event would be quarantined"),
        "unknown_agent": Row(_S.NOT_FOUND, NotFoundError, "no agent of that name"),
        "unknown_key": Row(_S.NOT_FOUND, NotFoundError, "the agent has not seen that key"),
        "unknown_spec": Row(_S.NOT_FOUND, NotFoundError, "the agent has no such spec version"),
        "unknown_service": Row(_S.NOT_FOUND, NotFoundError, "health was asked of no such service"),
        "agent_exists": Row(_S.ALREADY_EXISTS, ConflictError, "another spec under that name"),
        "no_room": Row(_S.RESOURCE_EXHAUSTED, OverloadError, "the worker's budget of open files"),
        "emit_loop": Row(
            _S.FAILED_PRECONDITION, ConflictError, "decisions would come back as events"
        ),
        "emit_topic_taken": Row(
            _S.FAILED_PRECONDITION, ConflictError, "another agent writes there"
        ),
        "topic_missing": Row(_S.FAILED_PRECONDITION, RequestError, "the broker has no such topic"),
        # The caller: of snapshots, and of rollbacks to them.
        "unknown_snapshot": Row(_S.NOT_FOUND, NotFoundError, "no snapshot of that id"),
        "snapshot_expired": Row(_S.NOT_FOUND, NotFoundError, "it was removed with its age"),
        "snapshot_exists": Row(_S.ALREADY_EXISTS, ConflictError, "the agent has one of that name"),
        "snapshot_incomplete": Row(
            _S.FAILED_PRECONDITION, ConflictError, "not every partition is in it"
        ),
        "snapshot_in_use": Row(
            _S.FAILED_PRECONDITION, ConflictError, "a rollback still stands on it"
        ),
        "other_build": Row(
            _S.FAILED_PRECONDITION, ConflictError, "written by a build whose state is not read"
        ),
        "spec_mismatch": Row(
            _S.FAILED_PRECONDITION, ConflictError, "the state does not go with the spec"
        ),
        "rollback_running": Row(
            _S.FAILED_PRECONDITION, ConflictError, "the agent is being rolled back already"
        ),
        "unknown_decision": Row(_S.NOT_FOUND, NotFoundError, "its topic holds no such decision"),
        "unknown_rollback": Row(_S.NOT_FOUND, NotFoundError, "no rollback of that control id"),
        "not_standing": Row(
            _S.FAILED_PRECONDITION, ConflictError, "the rollback was taken back already"
        ),
        "unknown_forget": Row(_S.NOT_FOUND, NotFoundError, "no forgetting of that control id"),
        "log_too_short": Row(
            _S.FAILED_PRECONDITION, ConflictError, "the log does not reach back far enough"
        ),
        "not_per_key": Row(
            _S.FAILED_PRECONDITION, ConflictError, "the agent's keys share their state"
        ),
        # The service: the same request may succeed later.
        "overloaded": Row(_S.RESOURCE_EXHAUSTED, OverloadError, "too many calls in flight"),
        "slow_consumer": Row(_S.RESOURCE_EXHAUSTED, OverloadError, "the client does not keep up"),
        "not_ready": Row(_S.UNAVAILABLE, UnavailableError, "the shard is not loaded yet"),
        "stopping": Row(_S.UNAVAILABLE, UnavailableError, "the worker is going down"),
        "broker_away": Row(_S.UNAVAILABLE, UnavailableError, "the broker does not answer"),
        "control_timeout": Row(_S.DEADLINE_EXCEEDED, UnavailableError, "appended, no effect seen"),
        "deadline": Row(_S.DEADLINE_EXCEEDED, UnavailableError, "the caller's deadline passed"),
        # The operator.
        "bad_state": Row(_S.FAILED_PRECONDITION, StateError, "state that cannot be used as it is"),
        "snapshot_damaged": Row(
            _S.DATA_LOSS, RequestError, "its bytes are not those that the logs vouch for"
        ),
        "internal": Row(_S.INTERNAL, RequestError, "a bug; the log has it under the id"),
    }
)
# A code that is not in the table leaves by its class.
_BY_CLASS: tuple[tuple[type[RequestError], str], ...] = (
    (NotFoundError, "unknown_agent"),
    (ConflictError, "agent_exists"),
    (OverloadError, "overloaded"),
    (UnavailableError, "not_ready"),
    (RequestError, "invalid_request"),
)
# Of an error's context, the most specific first.
_RESOURCES = ("key", "decision", "snapshot", "rollback", "agent", "topic")
_NAMES = ("code", "text", "violations")  # a RequestError's own: not to be had as context
_MessageT = TypeVar("_MessageT", bound=Message)


def code_of(error: Refusal) -> str:
    """The error's code: for a RequestError its own, else that of its class."""
    if isinstance(error, RequestError):
        return error.code
    if isinstance(error, SpecError):
        return "invalid_spec"
    if isinstance(error, EventError):
        return "bad_event"
    return "other_build" if isinstance(error, OtherBuildError) else "bad_state"


def row_of(error: Refusal) -> Row:
    """The error's row; a code that the table does not know leaves by its class."""
    row = TABLE.get(code_of(error))
    if row is None:
        row = TABLE[next(code for cls, code in _BY_CLASS if isinstance(error, cls))]
    return row


def describe(error: Refusal) -> Status:
    """The error as a status with details, bounded so that it fits into metadata."""
    row, violations = row_of(error), _violations(error)
    info = details_pb2.ErrorInfo(reason=code_of(error).upper(), domain=DOMAIN)
    context = _context(error)
    for name, value in context.items():
        info.metadata[name] = clip(value, VALUE_BYTES)
    details: list[Message] = [info]
    resource = next((name for name in _RESOURCES if context.get(name)), None)
    if resource and row.status in (_S.NOT_FOUND, _S.ALREADY_EXISTS, _S.FAILED_PRECONDITION):
        name = clip(context[resource], VALUE_BYTES)
        details.append(details_pb2.ResourceInfo(resource_type=resource, resource_name=name))
    if row.status in (_S.UNAVAILABLE, _S.RESOURCE_EXHAUSTED):
        retry = details_pb2.RetryInfo()
        retry_s = error.retry_s if isinstance(error, OverloadError) else DEFAULT_RETRY_S
        retry.retry_delay.FromNanoseconds(round(retry_s * 1e9))
        details.append(retry)
    number: int = row.status.value[0]
    status = Status(code=number, message=clip(_message(error), MESSAGE_BYTES))
    status.details.extend(_packed(detail) for detail in details)
    if violations:
        room = DETAILS_BYTES - status.ByteSize() - 64
        status.details.append(_packed(_bad_request(violations, room)))
    return status


def internal(error_id: str) -> Status:
    """What a client is told of a bug: the id under which the log has it, nothing else."""
    text = f"internal error {error_id}; the worker's log has it under this id"
    return describe(RequestError("internal", text, id=error_id))


def trailing(status: Status) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries the details."""
    return ((DETAILS_KEY, status.SerializeToString()),)


def rebuild(status: Status) -> HeadraceError:
    """The error that `describe` described, as far as it fitted."""
    info = _unpacked(status, details_pb2.ErrorInfo) or details_pb2.ErrorInfo()
    code = info.reason.lower() or "internal"
    found = _unpacked(status, details_pb2.BadRequest)
    fields = found.field_violations if found else ()
    violations = [Violation(path=v.field, text=v.description) for v in fields]
    row = TABLE.get(code) or _row_of_status(status.code)
    context = {name: value for name, value in info.metadata.items() if name not in _NAMES}
    if issubclass(row.error, SpecError):
        return SpecError(violations or [Violation(path="$", text=status.message)])
    if issubclass(row.error, OverloadError):
        retry = _unpacked(status, details_pb2.RetryInfo)
        retry_s = retry.retry_delay.ToNanoseconds() / 1e9 if retry else DEFAULT_RETRY_S
        return row.error(code, status.message, retry_s=retry_s)
    if issubclass(row.error, RequestError):
        return row.error(code, status.message, violations=violations, **context)
    return row.error(status.message)


def clip(text: str, limit: int) -> str:
    """The text in at most `limit` bytes of valid UTF-8."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode("utf-8")
    return data[: limit - 3].decode("utf-8", "ignore") + "…"


def _message(error: Refusal) -> str:
    if not isinstance(error, SpecError):
        return str(error)
    count = len(error.violations)
    first = str(error).partition("\n")[0]
    return first if count == 1 else f"{count} violations, the first: {first}"


def _context(error: Refusal) -> dict[str, str]:
    if isinstance(error, RequestError):
        return {name: str(value) for name, value in error.context.items()}
    if isinstance(error, EventError):
        return {"reason": error.code, "path": error.path}
    return {}


def _violations(error: Refusal) -> tuple[Violation, ...]:
    if isinstance(error, SpecError):
        return error.violations
    if isinstance(error, EventError):
        return (Violation(path=error.path, text=error.text),)
    if not isinstance(error, RequestError) or error.violations:
        return error.violations if isinstance(error, RequestError) else ()
    path = error.context.get("path")
    return (Violation(path=path, text=error.text),) if path else ()


def _bad_request(violations: Iterable[Violation], room: int) -> details_pb2.BadRequest:
    """As many violations as `room` bytes hold; the first always, clipped if it must be."""
    bad = details_pb2.BadRequest()
    for violation in violations:
        text = violation.text + (f" ({violation.hint})" if violation.hint else "")
        bad.field_violations.add(
            field=clip(violation.path, VALUE_BYTES), description=clip(text, MESSAGE_BYTES)
        )
        if bad.ByteSize() > room and len(bad.field_violations) > 1:
            del bad.field_violations[-1]
            break
    return bad


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _unpacked(status: Status, kind: type[_MessageT]) -> _MessageT | None:
    for detail in status.details:
        message = kind()
        if detail.Is(kind.DESCRIPTOR) and detail.Unpack(message):
            return message
    return None


def _row_of_status(number: int) -> Row:
    rows = (row for row in TABLE.values() if row.status.value[0] == number)
    return next(rows, TABLE["internal"])
