"""What is known of one shard in a snapshot before any of its files has been read."""

from __future__ import annotations

from typing import Literal

import msgspec

from headrace.state.manifest import FileEntry, Manifest, Versions
from headrace.state.store import AppliedRecord, ShardMeta
from headrace.views import Partition

Kind = Literal["automatic", "named", "undo"]
"""Who asked for a snapshot: the service, which keeps it for a while; a user, who keeps it until it
is deleted; a rollback, which keeps what it replaces for some days."""


class Cut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a `Manifest` says, except its files, and the snapshot's kind.

    `probes` come from whoever takes the cut, and go with it into its manifest. `asked`: the place
    in the control log of the command that it was taken for, -1 if there was none. What contradicts
    itself raises ValueError.

    >>> cut = Cut(
    ...     kind="named", snapshot_id="fraud.s1", agent="fraud", epoch=1, spec_version=2,
    ...     spec_digest="5f", topic="payments", partition=3, partitions=8, next_offset=42,
    ...     applied=None, cluster_id="c", control_offset=7, created_ms=1_700_000_000_000,
    ...     versions=Versions(headrace="0", river="0.26.1", numpy="2", codec="1", python="3.11"),
    ... )
    >>> cut.manifest((FileEntry(name="CURRENT", sha256="ab" * 32, size=16),)).next_offset
    42
    """

    kind: Kind
    snapshot_id: str
    agent: str
    epoch: int
    spec_version: int
    spec_digest: str
    topic: str
    partition: int
    partitions: int
    next_offset: int
    applied: AppliedRecord | None
    cluster_id: str
    control_offset: int
    versions: Versions
    created_ms: int
    probes: bytes = b""
    forgotten: int = -1
    asked: int = -1
    schema: Literal[1] = 1

    def __post_init__(self) -> None:
        self.manifest(())
        if agent_of(self.snapshot_id) != self.agent:
            raise ValueError(f"{self.snapshot_id!r} is no snapshot of {self.agent[:80]!r}")

    @property
    def shard(self) -> Partition:
        """The partition whose shard it is."""
        return Partition(self.topic, self.partition)

    def manifest(self, files: tuple[FileEntry, ...]) -> Manifest:
        """The manifest of this cut with those files."""
        names = [name for name in Manifest.__struct_fields__ if name != "files"]
        return Manifest(files=files, **{name: getattr(self, name) for name in names})

    def describes(self, meta: ShardMeta) -> bool:
        """Whether a store with that meta stands where this cut says."""
        names = [name for name in ShardMeta.__struct_fields__ if name != "anchor"]
        return all(getattr(self, name) == getattr(meta, name) for name in names)

    def is_same(self, other: Cut) -> bool:
        """Whether both are the same state in the same snapshot, whenever they were taken: a shard
        that takes a cut again after a crash takes it at the same place, later, with probes that
        may be of other keys.
        """
        mine = msgspec.structs.replace(self, created_ms=other.created_ms, probes=other.probes)
        return mine == other


AUTOMATIC_NAMES = "auto-"
"""What the names of snapshots begin with that nobody asks for."""
OWN_NAMES = (AUTOMATIC_NAMES, "undo-")
"""What the names of snapshots begin with that the service takes by itself."""


def is_own(snapshot_id: str) -> bool:
    """Whether it is such an id as the service gives, and nobody else may.

    >>> is_own("fraud.auto-3-20261126-103300"), is_own("fraud.before-auto-3")
    (True, False)
    """
    return snapshot_id.partition(".")[2].startswith(OWN_NAMES)


def is_automatic(snapshot_id: str) -> bool:
    """Whether it is such an id as no command asks for."""
    return snapshot_id.partition(".")[2].startswith(AUTOMATIC_NAMES)


def agent_of(snapshot_id: str) -> str:
    """The agent whose snapshot it is: what stands before the first dot; "" if there is none.

    >>> agent_of("card-fraud.before.friday"), agent_of("nobody")
    ('card-fraud', '')
    """
    agent, dot, _ = snapshot_id.partition(".")
    return agent if dot else ""
