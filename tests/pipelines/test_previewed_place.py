"""A preview compares two states of one place of the log, however busy the agent is meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from headrace.pipelines import previewing, reader
from headrace.pipelines.order import Chunk
from headrace.pipelines.previewing import Preview
from headrace.pipelines.shard import Shard
from headrace.ports import Record
from headrace.state.store import ShardStore
from headrace.views import Partition, RollbackPreview
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import told
from tests.pipelines.test_previewing import worker
from tests.pipelines.test_rewind_without_room import drafts, rewind_to_fifty
from tests.simulation.broker import SimReplay

STANDS = 100  # where the shard is when the preview begins


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the newest events none have to be read besides those that the twin learns."""
    monkeypatch.setattr(previewing, "RECORDS", 20)


async def one_more(place: Place, shard: Shard) -> None:
    """An event comes, and the shard learns it."""
    log = place.broker.logs[WHERE]
    row = log.rows()[log.end % 50]
    log.append(row.key, row.value, row.timestamp)
    await shard.process(Chunk(*WHERE, log.rows(log.end - 1), log.end, log.end - 1))


def busy(place: Place, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on an event comes with each piece of the log that is learned again."""
    usual = SimReplay.upto

    async def upto(replay: SimReplay, offset: int) -> Chunk | None:
        await one_more(place, shard)
        return await usual(replay, offset)

    monkeypatch.setattr(SimReplay, "upto", upto)


def previewed(
    tmp_path: Path, work: Callable[[Place, Shard], Awaitable[RollbackPreview]]
) -> RollbackPreview:
    """What `work` previews at a place; nothing of it is left."""
    found: list[RollbackPreview] = []

    async def whole(place: Place, shard: Shard) -> None:
        found.append(await work(place, shard))
        assert shard.next_offset > STANDS
        assert drafts(place) == []

    told(tmp_path, whole)
    return found[0]


def test_what_comes_while_a_rewind_is_previewed_is_no_change_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that leaves out nothing makes the same state, also of an agent that learns meanwhile."""

    async def work(place: Place, shard: Shard) -> RollbackPreview:
        command = await rewind_to_fifty(place, shard)
        busy(place, shard, monkeypatch)
        return await Preview(worker(place), command).made()

    preview = previewed(tmp_path, work)
    assert (preview.keys_changed, preview.decisions_flipped) == (0, 0)
    assert (preview.events_back, preview.withdrawn_most) == (50, 50)
    assert preview.decisions_compared > 0
    assert {metric.then - metric.now for metric in preview.metrics} == {0.0}


def test_a_previewed_state_says_where_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its meta names the place up to which its twin has learned, not where the shard is by then."""

    async def work(place: Place, shard: Shard) -> None:
        command = await rewind_to_fifty(place, shard)
        at = shard.meta()
        seen: list[int] = []
        again = place.shards.works.rewind(
            command, lambda *split: seen.extend(row.offset for rows in split for row in rows)
        )
        busy(place, shard, monkeypatch)
        with ShardStore.open(await again.state(shard, at), create=False) as made:
            meta = made.meta
        await again.end()
        assert meta is not None
        assert shard.next_offset > STANDS
        assert (meta.next_offset, meta.applied, meta.epoch) == (STANDS, at.applied, 2)
        assert seen == list(range(50, STANDS))

    told(tmp_path, work)


def test_a_previewed_revert_asks_of_what_its_present_state_has_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that came after the copy is none to judge it by."""
    asked: list[int] = []

    async def work(place: Place, shard: Shard) -> RollbackPreview:
        command = await rewind_to_fifty(place, shard)
        base = place.vault.base

        async def slow(*given: object) -> Path:
            draft = await base(*given)  # type: ignore[arg-type]
            await one_more(place, shard)
            return draft

        async def below(_: str, at: Partition, offset: int, count: int) -> list[Record]:
            asked.append(offset)
            return [*place.broker.logs[at].rows(offset - count)[:count]]

        monkeypatch.setattr(place.vault, "base", slow)
        monkeypatch.setattr(reader, "below", below)
        command = msgspec.structs.replace(command, mode="revert")
        return await Preview(worker(place), command).made()

    preview = previewed(tmp_path, work)
    assert (preview.events_back, preview.withdrawn_most, asked) == (50, 50, [STANDS])
