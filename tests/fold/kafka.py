"""The fold of what a real broker holds, against what the service left behind.

Order of calls: end the worker; open the stores that it had; `differences`.
"""

from __future__ import annotations

from collections.abc import Callable

from headrace.pipelines import reader
from headrace.views import Partition
from tests.fold import compare
from tests.fold.boundaries import boundaries
from tests.fold.control import Life, Where, lives
from tests.fold.fold import fold
from tests.fold.oracle import Oracle
from tests.fold.reading import Entry
from tests.fold.state import Folded

Opened = Callable[[Life, Where], compare.StoredRows | None]


async def lives_of(bootstrap: str, app: str, agent: str) -> list[Life]:
    """The agent's lives, as the control log of the app tells them."""
    values = await _values(bootstrap, Partition(f"{app}.control", 0))
    return [life for life in lives(values) if life.agent == agent]


async def folded(bootstrap: str, oracle: Oracle, life: Life, where: Where) -> Folded:
    """The fold of one partition in one life, up to where the log ends now."""
    records = await _records(bootstrap, Partition(*where))
    end = life.end(where)
    return fold(
        oracle,
        life.origin(where),
        [record for record in records if end is None or record.offset < end],
        life.course(where),
    )


async def differences(
    bootstrap: str, app: str, oracle: Oracle, agent: str, opened: Opened
) -> list[str]:
    """How decisions, quarantine and (where `opened` gives a store) rows differ from the fold.

    All lives and partitions of the agent. What a delete cut short need not have all its decisions.
    """
    found = []
    quarantine = await _values(bootstrap, Partition(f"{app}.quarantine", 0))
    for life in await lives_of(bootstrap, app, agent):
        for where in life.partitions():
            must = await folded(bootstrap, oracle, life, where)
            origin = life.origin(where)
            decided = await _values(bootstrap, Partition(life.emit_topic, where[1]))
            whole, epochs = not life.deleted, life.epochs
            told = compare.decisions(must, decided, origin, whole=whole, epochs=epochs)
            told += compare.quarantined(must, quarantine, origin, whole=whole, epochs=epochs)
            told += boundaries(life, where, decided)
            stored = None if life.deleted else opened(life, where)
            if stored is not None:
                told += compare.rows(must, stored)
            found += [f"epoch {life.epoch}, {where[0]}[{where[1]}]: {text}" for text in told]
    return found


async def _records(bootstrap: str, partition: Partition) -> list[Entry]:
    return [record async for record in reader.stored(bootstrap, [partition])]


async def _values(bootstrap: str, partition: Partition) -> list[bytes]:
    records = await _records(bootstrap, partition)
    return [record.value for record in records if record.value is not None]
