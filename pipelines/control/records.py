"""The records of the control log: commands, and where each took effect in each shard."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from headrace.views import Exclusion

Kind = Literal["deploy", "pause", "resume", "delete", "snapshot", "rollback"]
Mode = Literal["revert", "rewind"]


class _Logged(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every record of the control log has: an identity that makes it idempotent."""

    schema: int = 1
    id: str


class Deploy(_Logged, frozen=True, kw_only=True, tag="deploy"):
    """Start an agent. `spec` has all defaults filled in; `digest` is its identity.

    `epoch_min`: above all epochs that its name has in its topic of decisions and in the catalogue,
    which may have outlived the control log that they came of.
    """

    kind: ClassVar[Kind] = "deploy"
    agent: str
    spec: dict[str, Any]
    digest: str
    emit_topic: str
    epoch_min: int = 1


class Pause(_Logged, frozen=True, kw_only=True, tag="pause"):
    """Stop learning: the agent goes on predicting and deciding."""

    kind: ClassVar[Kind] = "pause"
    agent: str


class Resume(_Logged, frozen=True, kw_only=True, tag="resume"):
    """Learn again, from the effect's position on."""

    kind: ClassVar[Kind] = "resume"
    agent: str


class Delete(_Logged, frozen=True, kw_only=True, tag="delete"):
    """Stop the agent and remove its state. Its topics stay."""

    kind: ClassVar[Kind] = "delete"
    agent: str


class Snapshot(_Logged, frozen=True, kw_only=True, tag="snapshot"):
    """Keep the agent's state as it is where this counts, under a name that a user gave.

    `life`: the epoch at which the agent was deployed.
    """

    kind: ClassVar[Kind] = "snapshot"
    agent: str
    life: int
    snapshot_id: str
    partitions: int


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """One shard of the snapshot that a rollback goes back to.

    `digest`: of its manifest; the log vouches for it also when it has left the catalogue.
    """

    partition: int
    epoch: int
    next_offset: int
    digest: str


class Rollback(_Logged, frozen=True, kw_only=True, tag="rollback"):
    """Put a snapshot's state in place of the agent's: of all keys, or of `keys` only.

    `life`: the epoch at which the agent was deployed; `bases`: one for each partition;
    `undoes`: the control id of the rollback that this one takes back, or empty.
    """

    kind: ClassVar[Kind] = "rollback"
    agent: str
    life: int
    snapshot_id: str
    bases: tuple[Base, ...]
    mode: Mode = "revert"
    keys: tuple[str, ...] = ()
    exclude: Exclusion | None = None
    undoes: str = ""

    def base(self, partition: int) -> Base:
        """The one of that partition."""
        return next(base for base in self.bases if base.partition == partition)


class ShardEffect(_Logged, frozen=True, kw_only=True, tag="effect"):
    """A command took effect in one shard: records below `next_offset` came before it.

    `failed`: why a rollback could not be done there, so that the new epoch goes on with the old
    state; empty otherwise.
    """

    control_id: str
    agent: str
    epoch: int
    topic: str
    partition: int
    next_offset: int
    worker: str
    failed: str = ""


class Hello(_Logged, frozen=True, kw_only=True, tag="hello"):
    """A worker has started and reads until it sees this, so it knows that it has read all."""

    worker: str


Command = Deploy | Pause | Resume | Delete | Snapshot | Rollback
ControlRecord = Command | ShardEffect | Hello

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[ControlRecord] = msgspec.json.Decoder(ControlRecord)


def encode(record: ControlRecord) -> bytes:
    """The record as JSON, with its `type`."""
    return _encoder.encode(record)


def decode(data: bytes) -> ControlRecord:
    """The record. Raises msgspec.DecodeError for what this build does not write."""
    return _decoder.decode(data)


def is_ours(data: bytes) -> bool:
    """Whether some Headrace may have written it: an object with a type, of whatever schema.

    >>> is_ours(b'{"schema": 2, "type": "rollback"}'), is_ours(b'{"id": 7}'), is_ours(b"hello")
    (True, False, False)
    """
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(found, dict) and "type" in found
