"""States of the past and verified decisions as protobuf messages, both ways.

A server trusts nothing here: what is asked is bounded and raises RequestError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.errors import RequestError
from headrace.serving import prediction_pb2, snapshot_pb2
from headrace.serving.decode import bounded, invalid, too_large
from headrace.serving.decode_snapshots import snapshot_id
from headrace.views import AsOf, Difference, Verification

if TYPE_CHECKING:
    from headrace.serving.limits import Limits  # it loads the models

VERDICTS = {
    "confirmed": snapshot_pb2.VERDICT_CONFIRMED,
    "contradicted": snapshot_pb2.VERDICT_CONTRADICTED,
    "unverifiable": snapshot_pb2.VERDICT_UNVERIFIABLE,
}
_VERDICT_NAMES = {number: text for text, number in VERDICTS.items()}


def as_of(state: AsOf) -> prediction_pb2.AsOf:
    """The message. Raises RequestError unless exactly one is given, and can be carried."""
    given = {
        name: value
        for name in AsOf.__struct_fields__
        if (value := getattr(state, name, None)) is not None
    }
    if len(given) != 1:
        raise RequestError("invalid_request", "as_of: give one of snapshot_id, offset and time_ms")
    try:
        return prediction_pb2.AsOf(**given)
    except (TypeError, ValueError) as error:
        raise RequestError("invalid_request", f"as_of: {error}") from error


def read_as_of(asked: prediction_pb2.AsOf, limits: Limits) -> AsOf:
    """Which state is asked. Raises RequestError."""
    kind = asked.WhichOneof("state")
    if kind is None:
        raise invalid("as_of", "names no state; give snapshot_id, offset or time_ms")
    if kind == "snapshot_id":
        return AsOf(snapshot_id=snapshot_id(asked.snapshot_id, limits))
    value = getattr(asked, kind)
    if value < 0:
        raise invalid(f"as_of.{kind}", f"is {value}; give 0 or more")
    return AsOf(offset=value) if kind == "offset" else AsOf(time_ms=value)


def read_decision(
    asked: snapshot_pb2.VerifyDecisionRequest, limits: Limits
) -> tuple[str | None, bytes | None]:
    """The id of the decision that is to be verified, or its record. Raises RequestError."""
    kind = asked.WhichOneof("decision")
    if kind is None:
        raise invalid("decision", "is missing; give decision_id or record")
    if kind == "decision_id":
        return bounded("decision_id", asked.decision_id, limits.key_chars), None
    size = len(asked.record)
    if size > limits.event_bytes:
        raise too_large("record", size, limits.event_bytes, unit="bytes")
    return None, asked.record


def verification(view: Verification) -> snapshot_pb2.VerifyDecisionResponse:
    """What came of making a decision again."""
    return snapshot_pb2.VerifyDecisionResponse(
        decision_id=view.decision_id,
        verdict=VERDICTS[view.verdict],
        reason=view.reason,
        text=view.text,
        differences=[
            snapshot_pb2.Difference(field=each.field, found=each.found, expected=each.expected)
            for each in view.differences
        ],
        snapshot_id=view.snapshot_id,
        events=view.events,
        note=view.note,
    )


def read_verification(found: snapshot_pb2.VerifyDecisionResponse) -> Verification:
    """The same in a client."""
    return Verification(
        decision_id=found.decision_id,
        verdict=_VERDICT_NAMES.get(found.verdict, "unknown"),
        reason=found.reason,
        text=found.text,
        differences=tuple(
            Difference(field=each.field, found=each.found, expected=each.expected)
            for each in found.differences
        ),
        snapshot_id=found.snapshot_id,
        events=found.events,
        note=found.note,
    )
