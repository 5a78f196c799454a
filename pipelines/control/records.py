"""The records of the control log: commands, and where each took effect in each shard."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from headrace.errors import StateError
from headrace.views import Exclusion, How

Kind = Literal["deploy", "pause", "resume", "delete", "snapshot", "rollback", "migrate", "forget"]
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

    def __post_init__(self) -> None:
        _check_source(self.spec)


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

    `life`: the epoch at which the agent was deployed. `free_from`: the commands of that name below
    this offset are over, because what they made was removed; None: an earlier build asked, which
    did not look.
    """

    kind: ClassVar[Kind] = "snapshot"
    agent: str
    life: int
    snapshot_id: str
    partitions: int
    free_from: int | None = None


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """One shard of the snapshot that a rollback goes back to.

    `digest`: of its manifest; the log vouches for it also when it has left the catalogue. Empty: of
    the undo snapshot that a rollback took there, which need not be published: the same log takes
    the same state again wherever the shard is learned again.
    """

    partition: int
    epoch: int
    next_offset: int
    digest: str


class Rollback(_Logged, frozen=True, kw_only=True, tag="rollback"):
    """Put a snapshot's state in place of the agent's: of all keys, or of `keys` only.

    `life`: the epoch at which the agent was deployed; `bases`: one for each partition;
    `undoes`: the control id of the rollback that this one takes back, or empty; `spec_digest`: of
    the spec that it was checked with, and whose rows it brings. Empty in records of older builds.
    `if_standing`: it counts only if what it `undoes` was not taken back by then; `where_standing`:
    nor is it done in a partition where that was, or where that had not been done. `asked_ms`: when,
    for people; 0 in records of older builds.
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
    spec_digest: str = ""
    if_standing: bool = False
    where_standing: bool = False
    asked_ms: int = 0

    def base(self, partition: int) -> Base:
        """The one of that partition. Raises StateError."""
        return base_in(self.bases, partition)

    @property
    def partitions(self) -> int:
        """How many there are."""
        return len(self.bases)


class Migrate(_Logged, frozen=True, kw_only=True, tag="migrate"):
    """Go on under another spec, with a state of that spec in place of the agent's.

    `life`: the epoch at which the agent was deployed; `replaces`: the digest of the spec that is
    left; `bases`: `from`: the shards of the snapshot, as in a rollback; `refold`: where in each
    partition it begins to learn (`epoch` 0, no digest); else none. `anew`: the same spec counts,
    too, because its state is another build's and is left.
    """

    kind: ClassVar[Kind] = "migrate"
    agent: str
    life: int
    how: How
    replaces: str
    spec: dict[str, Any]
    digest: str
    emit_topic: str
    partitions: int
    snapshot_id: str = ""
    bases: tuple[Base, ...] = ()
    anew: bool = False

    def __post_init__(self) -> None:
        _check_source(self.spec)

    def base(self, partition: int) -> Base:
        """The one of that partition. Raises StateError."""
        return base_in(self.bases, partition)


def _check_source(spec: dict[str, Any]) -> None:
    """The one thing of a spec that the fold asks. Raises TypeError."""
    source = spec.get("source", {})
    if not isinstance(source, dict) or not isinstance(source.get("topic", ""), str):
        raise TypeError("its spec names no source topic")


def base_in(bases: tuple[Base, ...], partition: int) -> Base:
    """The one of that partition. Raises StateError if there is none: the command is older than the
    partition.
    """
    for base in bases:
        if base.partition == partition:
            return base
    raise StateError(
        f"partition {partition} has been added to the topic since an agent of it was rolled back "
        "or migrated, and no agent follows its topic to more partitions: delete the agent, with "
        "its topic of decisions, and deploy it again"
    )


def begins_anew(command: object) -> bool:
    """Whether it leaves the state that there is, and needs nothing of it."""
    return isinstance(command, Migrate) and command.how in ("refold", "reset")


class Forget(_Logged, frozen=True, kw_only=True, tag="forget"):
    """Erase a key for good. The log does not hold the key: `tombstone` is its hash under the secret
    of that id, which is in the catalogue of snapshots; see `state.tombstones`. `asked_ms`: when,
    for people.
    """

    kind: ClassVar[Kind] = "forget"
    agent: str
    secret_id: str
    tombstone: str
    asked_ms: int = 0


class ShardEffect(_Logged, frozen=True, kw_only=True, tag="effect"):
    """A command took effect in one shard: records below `next_offset` came before it.

    `failed`: why a rollback or a migration could not be done there, so that the new epoch goes on
    with the old state and its spec; empty otherwise.
    """

    control_id: str
    agent: str
    epoch: int
    topic: str
    partition: int
    next_offset: int
    worker: str
    failed: str = ""


class Withdrawn(_Logged, frozen=True, kw_only=True, tag="withdrawn"):
    """Of all decisions of a partition of which a rollback has changed the fate, the ids are in the
    topic of withdrawn decisions, so many of each. `life`: as of the rollback.
    """

    control_id: str
    agent: str
    life: int
    topic: str
    partition: int
    withdrawn: int
    reinstated: int
    worker: str


class Hello(_Logged, frozen=True, kw_only=True, tag="hello"):
    """A worker has started and reads until it sees this, so it knows that it has read all."""

    worker: str


Command = Deploy | Pause | Resume | Delete | Snapshot | Rollback | Migrate | Forget
ControlRecord = Command | ShardEffect | Withdrawn | Hello

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
