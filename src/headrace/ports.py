"""The Protocols that rooms share. A seam has five methods at most; reading is smaller than writing.

`pipelines` implements the ones below `# -- served` and `serving` calls them; `state` implements
`Rows` and `models` calls it. So neither pair of rooms imports the other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from typing import Any, Protocol

from headrace.errors import EventError, RequestError
from headrace.views import (
    AgentView,
    Answer,
    AsOf,
    DryRun,
    Effect,
    ForgetView,
    KeyView,
    Migration,
    Partition,
    Position,
    Question,
    RollbackPreview,
    RollbackRequest,
    RollbackView,
    SnapshotDiff,
    SnapshotsStanding,
    SnapshotView,
    Verification,
)


class Record(Protocol):
    """A record of a log as the broker hands it over; aiokafka's ConsumerRecord is one."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int: ...  # milliseconds

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...


class Rows(Protocol):
    """Durable rows of one shard, as of its last flush."""

    def get(self, row: bytes) -> bytes | None: ...

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]: ...


class ReadingPositions(Protocol):
    """Who knows where each partition must be read from and how far it is durable."""

    def next_offset(self, partition: Partition) -> int | None: ...  # None: as the group says

    def durable_offset(self, partition: Partition) -> int | None: ...  # None: nothing yet


# -- served ----------------------------------------------------------------------------------


class Predictor(Protocol):
    """Reads live shards. Never mutates, never blocks."""

    def predict(self, question: Question) -> Answer: ...

    def key(self, agent: str, key: str) -> KeyView: ...


class Directory(Protocol):
    """What is deployed and whether it is ready."""

    def ready(self) -> bool: ...

    def broker_away_s(self) -> float: ...  # 0.0: it answers

    def agents(self) -> Sequence[AgentView]: ...

    def agent(self, name: str) -> AgentView: ...

    def snapshots_standing(self) -> SnapshotsStanding: ...


class Specs(Protocol):
    """The specs that an agent has had since it was deployed."""

    def spec(self, agent: str, spec_version: int) -> dict[str, Any]: ...


class Controls(Protocol):
    """Appends to the control log and waits, bounded, until the record took effect."""

    async def deploy(self, spec: bytes, migration: Migration | None = None) -> Effect: ...

    async def dry_run(self, spec: bytes, migration: Migration | None = None) -> DryRun: ...

    async def pause(self, agent: str) -> Effect: ...

    async def resume(self, agent: str) -> Effect: ...

    async def delete(self, agent: str) -> Effect: ...


class EventSink(Protocol):
    """Appends whole events to an agent's input log."""

    async def append(self, agent: str, key: str, event: bytes) -> Position: ...

    async def append_all(
        self, agent: str, events: Sequence[tuple[str, bytes]]
    ) -> Sequence[Position | EventError | RequestError]: ...  # one each, in their order


class DecisionFeed(Protocol):
    """Follows an agent's decision topic, the quarantine and the topic of withdrawn decisions: the
    records as they were written.

    `follow=False` ends the stream where the log ends now.
    """

    def watch(self, agent: str, *, from_start: bool, follow: bool) -> AsyncIterator[bytes]: ...

    def watch_quarantine(
        self, agent: str | None, *, from_start: bool, follow: bool
    ) -> AsyncIterator[bytes]: ...

    def watch_withdrawn(
        self, agent: str | None, *, from_start: bool, follow: bool
    ) -> AsyncIterator[bytes]: ...


class Snapshots(Protocol):
    """The snapshots of all agents, and the verbs that make, keep and remove them."""

    async def create(self, agent: str, name: str) -> SnapshotView: ...

    def list(self, agent: str | None) -> Sequence[SnapshotView]: ...  # newest first

    def get(self, snapshot_id: str) -> SnapshotView: ...

    async def pin(self, snapshot_id: str, *, pinned: bool) -> SnapshotView: ...

    async def delete(self, snapshot_id: str) -> None: ...


class Archive(Protocol):
    """A snapshot on its way out: its archive's SHA-256, its size in bytes, and its bytes."""

    @property
    def digest(self) -> str: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def pieces(self) -> AsyncGenerator[bytes, None]: ...


class Archives(Protocol):
    """Snapshots compared, and carried from one service to another."""

    async def diff(self, earlier: str, later: str | None) -> SnapshotDiff: ...  # None: as it is now

    async def export(self, snapshot_id: str) -> Archive: ...

    async def import_(self, digest: str, pieces: AsyncIterator[bytes]) -> SnapshotView: ...


class Rollbacks(Protocol):
    """Putting the state of a snapshot in place of an agent's, and taking that back."""

    async def preview(self, request: RollbackRequest) -> RollbackPreview: ...

    # A request that was answered, or whose answer was lost, may be repeated under its own id.
    async def rollback(
        self, request: RollbackRequest, request_id: str | None = None
    ) -> RollbackView: ...

    async def undo(  # without a control id the last one
        self, agent: str, control_id: str | None, request_id: str | None = None
    ) -> RollbackView: ...

    def get(self, control_id: str) -> RollbackView: ...

    def list(self, agent: str) -> Sequence[RollbackView]: ...  # newest first


class Past(Protocol):
    """States that shards had once: made again from snapshots and logs, beside the live ones."""

    async def predict(self, question: Question, as_of: AsOf) -> Answer: ...

    async def verify(self, decision_id: str | None, record: bytes | None) -> Verification: ...


class Forgets(Protocol):
    """Erasing a key for good."""

    async def preview(self, agent: str, key: str) -> ForgetView: ...

    async def forget(self, agent: str, key: str) -> ForgetView: ...

    def get(self, control_id: str) -> ForgetView: ...
