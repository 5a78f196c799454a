"""The records of the topic of withdrawn decisions: what became of decisions in a rollback.

A contract like that of decisions (`schema: 1`): fields are added, never changed; docs/records.md
tells how they are folded. No record has the key of an event: a key that is forgotten is not here.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from headrace.pipelines.validity import Fate
from headrace.views import Position


class Fated(msgspec.Struct, frozen=True, kw_only=True):
    """One decision that a rollback has withdrawn, or taken back into force.

    `epoch`: the one that the rollback began; of several records of a decision that of the highest
    epoch counts.
    """

    schema: Literal[1] = 1
    fate: Fate
    decision: str
    agent: str
    epoch: int
    control_id: str


class Complete(msgspec.Struct, frozen=True, kw_only=True, tag_field="fate", tag="complete"):
    """All decisions of one partition of which a rollback has changed the fate are published.

    `position`: where the rollback counts; `partitions`: how many such records it has in all.
    """

    schema: Literal[1] = 1
    agent: str
    epoch: int
    control_id: str
    position: Position
    partitions: int
    withdrawn: int
    reinstated: int


class _Named(msgspec.Struct):
    agent: str


_encoder = msgspec.json.Encoder()
_named_decoder = msgspec.json.Decoder(_Named)


def encode(record: Fated | Complete) -> bytes:
    """The record as JSON.

    >>> encode(Fated(fate="withdrawn", decision="a/1/t/0/7", agent="a", epoch=2, control_id="c"))
    b'{"schema":1,"fate":"withdrawn","decision":"a/1/t/0/7","agent":"a","epoch":2,"control_id":"c"}'
    """
    return _encoder.encode(record)


def agent_of(data: bytes) -> str | None:
    """Whose record it is; None for what somebody else has written there."""
    try:
        return _named_decoder.decode(data).agent
    except msgspec.DecodeError:
        return None
