"""What the parts of a run share: brokers that are started once, a scratch directory, a console."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.bare import Speed
from benchmarks.workload import Sent, events_for
from rich.console import Console

from headrace.pipelines.broker import Broker, MemoryBroker
from headrace.pipelines.localbroker import LocalBroker


class Place:
    """Order of calls: made, any part, `clean` after each part.

    The brokers run on the core of this process, which is another than that of what is measured.
    """

    def __init__(self, scratch: Path, console: Console) -> None:
        self.console = console
        self.end_to_end: Speed | None = None  # as it was measured in this run
        self._scratch = scratch
        self._number = 0
        self._taken = AsyncExitStack()

    def file(self, name: str) -> Path:
        """A path that nothing is at yet."""
        self._number += 1
        return self._scratch / f"{name}-{self._number}"

    def name(self, name: str) -> str:
        """A topic that nobody has used yet."""
        self._number += 1
        return f"{name}-{self._number}"

    def say(self, text: str) -> None:
        """Progress."""
        self.console.print(f"  {text}", highlight=False)

    def events(self, keys: Sequence[str]) -> list[Sent]:
        """Events for these keys."""
        return events_for(keys)

    async def memory(self) -> Broker:
        """An embedded broker that nobody has used yet."""
        broker = MemoryBroker(self.file("memory-broker"))
        await broker.start()
        self._taken.push_async_callback(broker.stop)
        return broker

    async def kafka(self) -> Broker:
        """An Apache Kafka that nobody has used yet."""
        broker = LocalBroker(self.file("kafka"))
        await broker.start()
        self._taken.push_async_callback(broker.stop)
        return broker

    async def clean(self) -> None:
        """End the brokers of a part."""
        await self._taken.aclose()
        self._taken = AsyncExitStack()
