"""What a shard learns from and what it writes to, as Protocols; a sink of which nothing comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headrace.ports import Record
from headrace.views import Partition


class Chunk(Protocol):
    """Records of one partition in offset order: all that there are from `begins` on; the next chunk
    begins at `next_offset`.
    """

    @property
    def begins(self) -> int: ...

    @property
    def records(self) -> Sequence[Record]: ...

    @property
    def next_offset(self) -> int: ...


class Sink(Protocol):
    """Where decisions and quarantined events go; see `pipelines.emit.Emitter`."""

    def append(self, to: Partition, key: bytes | None, value: bytes) -> None: ...

    async def flow(self) -> None: ...

    async def send(self) -> None: ...

    async def drain(self) -> None: ...


class Muted:
    """A sink of which nothing comes."""

    def append(self, to: Partition, key: bytes | None, value: bytes) -> None:
        """It was decided before."""

    async def flow(self) -> None:
        """Never full."""

    async def send(self) -> None:
        """Nothing."""

    async def drain(self) -> None:
        """Nothing."""
