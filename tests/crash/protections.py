"""The protections, each of which can be taken away in the worker's process of a test.

Production code has no switch for any of it: here the methods that protect are replaced by ones
that do not. The campaigns must notice each of them; a harness that does not is worth nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from headrace.models.guard import Event, Guard, Refusal
from headrace.models.spec import Spec
from headrace.models.spec.parts import LARGEST
from headrace.pipelines.emit import Emitter
from headrace.pipelines.order import PartitionOrder
from headrace.pipelines.seams import Chunk
from headrace.pipelines.shard import Shard
from headrace.ports import Record
from tests.crash.life import Protection, RollbackProtection
from tests.crash.rollback_protections import TAKING as OF_ROLLBACKS


def take_away(protection: Protection | RollbackProtection | None) -> None:
    """Leave this process without one protection."""
    if protection is not None:
        TAKING[protection]()


def without_acknowledgement() -> None:
    """A flush does not wait until Kafka has the decisions."""

    async def drain(emitter: Emitter) -> None:
        await emitter.send()

    setattr(Emitter, "drain", drain)  # noqa: B010 - a method is replaced on purpose


def without_skip() -> None:
    """Records that a shard has learned are learned again when they come again."""
    real = Shard.process

    async def process(shard: Shard, chunk: Chunk, flowing: Callable[[], bool]) -> None:
        shard.next_offset = min(shard.next_offset, chunk.records[0].offset)
        await real(shard, chunk, flowing)

    setattr(Shard, "process", process)  # noqa: B010


def without_gap_guard() -> None:
    """Records missing before a chunk are not noticed."""

    def missing(order: PartitionOrder, chunk: Chunk) -> bool:
        return False

    setattr(PartitionOrder, "missing", missing)  # noqa: B010


def without_quarantine() -> None:
    """Numbers outside their range reach the model."""
    make, admit = Guard.__init__, Guard.admit
    lenient: dict[int, Guard] = {}

    def init(guard: Guard, spec: Spec) -> None:
        make(guard, spec)
        bare: Guard = object.__new__(Guard)
        make(bare, _unbounded(spec))
        lenient[id(guard)] = bare

    def admitted(guard: Guard, record: Record) -> Event | Refusal:
        found = admit(guard, record)
        if isinstance(found, Refusal) and found.code == "out_of_range":
            return admit(lenient[id(guard)], record)
        return found

    setattr(Guard, "__init__", init)  # noqa: B010
    setattr(Guard, "admit", admitted)  # noqa: B010


def _unbounded(spec: Spec) -> Spec:
    features = {
        name: msgspec.structs.replace(feature, low=-LARGEST, high=LARGEST)
        for name, feature in spec.features.items()
    }
    return msgspec.structs.replace(spec, features=features)


TAKING: dict[str, Callable[[], None]] = {
    "acknowledgement": without_acknowledgement,
    "skip": without_skip,
    "gap-guard": without_gap_guard,
    "quarantine": without_quarantine,
    **dict(OF_ROLLBACKS.items()),
}
