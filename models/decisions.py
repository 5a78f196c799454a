"""Decisions: what an agent's policy does with a prediction, and the record that says so.

The record is a contract (`schema: 1`): fields are added, never changed. The same event in the same
epoch gives the same bytes, so a decision that is delivered twice can be told from a contradiction.
Between decisions stand boundaries, which say where an epoch ended (docs/records.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from headrace.models.spec import Verdict
from headrace.views import Position, ScoredItem


class Origin(msgspec.Struct, frozen=True):
    """Which shard of which epoch decides."""

    agent: str
    spec_version: int
    epoch: int
    topic: str
    partition: int

    def decision_id(self, offset: int) -> str:
        """The name of the decision on the record at `offset`.

        >>> Origin("card-fraud", 1, 0, "transactions", 3).decision_id(17)
        'card-fraud/0/transactions/3/17'
        """
        return f"{self.agent}/{self.epoch}/{self.topic}/{self.partition}/{offset}"

    def boundary_id(self) -> str:
        """The name of the boundary at which this epoch begins; none of a decision.

        >>> Origin("card-fraud", 1, 2, "transactions", 3).boundary_id()
        'card-fraud/2/transactions/3/boundary'
        """
        return f"{self.agent}/{self.epoch}/{self.topic}/{self.partition}/boundary"


class Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="cause", tag="event"):
    """One decision, as it stands in the decision topic.

    `decision` is the verdict's name, the predicted class, or what the policy did (`score`,
    `recommend`, `adjust`, `cold`, `stale`, `safe`, …). `value` is an adjustment in the actuator's
    unit.
    """

    schema: Literal[1] = 1
    id: str
    agent: str
    spec_version: int
    epoch: int
    key: str
    position: Position
    event_time: int  # milliseconds since 1970
    decision: str
    score: float | None = None
    value: float | None = None
    items: tuple[ScoredItem, ...] | None = None
    propensity: float = 1.0  # of this decision among those possible; 1.0 where nothing is drawn
    updates: int = 0  # how often this key's model had learned
    cold: bool = False  # it had not learned yet, or had been forgotten as idle

    @property
    def offset(self) -> int:
        """Where the event stands in its partition."""
        return self.position.offset


class Boundary(msgspec.Struct, frozen=True, kw_only=True, tag_field="cause", tag="boundary"):
    """Where an epoch began, as it stands in the decision topic, behind all decisions of the epochs
    before: of one `life` of the agent, a decision of an older epoch on an event at `position`, or
    behind it, is void.
    """

    schema: Literal[1] = 1
    id: str
    agent: str
    life: int  # the epoch at which the agent was deployed
    epoch: int
    position: Position
    control_id: str  # of the rollback or migration


_ENCODE: Callable[[Decision], bytes] = msgspec.json.Encoder().encode
_DECODE: Callable[[bytes], Decision] = msgspec.json.Decoder(Decision).decode
_ENCODE_BOUNDARY: Callable[[Boundary], bytes] = msgspec.json.Encoder().encode
_DECODE_RECORD: Callable[[bytes], Decision | Boundary] = msgspec.json.Decoder(
    Decision | Boundary
).decode


def encode_decision(decision: Decision) -> bytes:
    """The record as canonical JSON.

    >>> record = Decision(
    ...     id="a/0/t/0/7", agent="a", spec_version=1, epoch=0, key="ada",
    ...     position=Position("t", 0, 7), event_time=1000, decision="allow", score=0.25,
    ... )
    >>> decode_decision(encode_decision(record)) == record
    True
    """
    return _ENCODE(decision)


def decode_decision(data: bytes) -> Decision:
    """The record of these bytes. Raises msgspec.DecodeError, also for a boundary."""
    return _DECODE(data)


def encode_boundary(boundary: Boundary) -> bytes:
    """The record as canonical JSON."""
    return _ENCODE_BOUNDARY(boundary)


def decode_record(data: bytes) -> Decision | Boundary:
    """Whatever stands in a topic of decisions. Raises msgspec.DecodeError.

    >>> boundary = Boundary(
    ...     id="a/2/t/0/boundary", agent="a", life=1, epoch=2, position=Position("t", 0, 7),
    ...     control_id="c",
    ... )
    >>> decode_record(encode_boundary(boundary)) == boundary
    True
    """
    return _DECODE_RECORD(data)


def is_boundary(data: bytes) -> bool:
    """Whether a record of a decision topic says where an epoch began."""
    return data.startswith(b'{"cause":"boundary",')


class VerdictPolicy:
    """The first verdict, from the highest threshold down, that the score reaches.

    >>> policy = VerdictPolicy(
    ...     Verdict(thresholds=(("review", 0.6), ("block", 0.9)), otherwise="allow")
    ... )
    >>> policy.choose(0.95), policy.choose(0.6), policy.choose(0.1), policy.choose(None)
    ('block', 'review', 'allow', 'allow')
    """

    def __init__(self, verdict: Verdict) -> None:
        self._steps = tuple(sorted(verdict.thresholds, key=lambda step: -step[1]))
        self._otherwise = verdict.otherwise

    def choose(self, score: float | None) -> str:
        """The verdict on a score. Without a score: the one that no threshold guards."""
        if score is not None:
            for name, threshold in self._steps:
                if score >= threshold:
                    return name
        return self._otherwise
