"""The quarantine record: a refused event, why, and where it stood."""

from __future__ import annotations

import base64

import msgspec

from headrace.models.decisions import Origin
from headrace.models.guard import Refusal
from headrace.ports import Record
from headrace.views import Position

QUARANTINED_BYTES_MAX = 65_536
"""How much of an event's value is kept; the position says where the whole of it is."""


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """One event that an agent refused. `value` is base64 of the first 64 KiB of the original."""

    schema: int = 1
    id: str
    agent: str
    spec_version: int
    epoch: int
    position: Position
    timestamp: int
    reason: str
    path: str
    text: str
    key: str | None  # base64
    value: str | None  # base64
    truncated: bool


_encoder = msgspec.json.Encoder()
decode = msgspec.json.Decoder(Quarantined).decode


def encode(quarantined: Quarantined) -> bytes:
    """The record as JSON."""
    return _encoder.encode(quarantined)


def quarantined(refusal: Refusal, record: Record, origin: Origin) -> Quarantined:
    """What is kept of a refused event."""
    key, value = record.key, record.value
    return Quarantined(
        id=origin.decision_id(refusal.offset),
        agent=origin.agent,
        spec_version=origin.spec_version,
        epoch=origin.epoch,
        position=Position(origin.topic, origin.partition, refusal.offset),
        timestamp=record.timestamp,
        reason=refusal.code,
        path=refusal.path,
        text=refusal.text,
        key=None if key is None else _text(key[:QUARANTINED_BYTES_MAX]),
        value=None if value is None else _text(value[:QUARANTINED_BYTES_MAX]),
        truncated=max(len(key or b""), len(value or b"")) > QUARANTINED_BYTES_MAX,
    )


def original(quarantined: Quarantined) -> bytes | None:
    """The event's value, up to the bound; None if it had none."""
    return None if quarantined.value is None else base64.b64decode(quarantined.value)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
