"""A forgotten key stays forgotten in migrations, in the past, and on the disk that a shard left."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from headrace.models.slots import KEY_ROW
from headrace.pipelines import control, leftovers
from headrace.pipelines.leftovers import Leftovers
from headrace.pipelines.past.derivation import Derivation
from headrace.pipelines.past.timeline import Start
from headrace.state.tombstones import tombstone
from tests.pipelines.small_place import WHERE
from tests.pipelines.test_forgetting import GONE, HISTORY, OTHER, SECRET, forget, holding
from tests.pipelines.test_migrations import OTHER as OTHER_SPEC
from tests.pipelines.test_migrations import effect, migrate
from tests.pipelines.test_past import Lived
from tests.pipelines.test_rollback_laws import History, Two, lived

FORGOTTEN_AT = 12


async def keys_of(place: Lived, start: Start, offset: int) -> set[str]:
    """The keys of the agent's state at that offset, made again from there."""
    course = place.timeline("a").course(start, offset)
    derivation = Derivation(place.shards.site, place.vault, course)
    try:
        await derivation.begin()
        await derivation.learn(offset)
        await derivation.shard.flush()
        rows = (name for name, _ in derivation.shard.store.scan(KEY_ROW))
        return {row[len(KEY_ROW) :].decode() for row in rows}
    finally:
        await derivation.end()


def test_a_refold_learns_no_event_from_below_the_forget() -> None:
    """Under the new spec too the key begins with what came after it."""

    async def work(place: Two) -> None:
        await place.feed(FORGOTTEN_AT)
        await forget(place)
        place.command(migrate(place, "m", "refold", OTHER_SPEC))
        await place.until(lambda: place.shard("a").origin.epoch == 2)
        assert set(await place.digests("a")) == {OTHER}
        assert holding(place.directory.shard_path("a", 2, *WHERE)) == []
        await place.feed(24)
        assert set(await place.digests("a")) == {OTHER, GONE}

    lived(HISTORY, work)


def test_a_refold_after_later_events_of_the_key_knows_those_only() -> None:
    """It is what a refold of a log without the earlier ones makes of it."""
    found: list[str] = []

    async def work(place: Two) -> None:
        await place.feed(FORGOTTEN_AT)
        if not found:
            await forget(place)
        await place.feed(24)
        place.command(migrate(place, "m", "refold", OTHER_SPEC))
        await place.until(lambda: place.shard("a").origin.epoch == 2)
        found.append((await place.digests("a"))[GONE])

    lived(HISTORY, work)
    keys = enumerate(HISTORY.keys)
    cut = tuple("nobody" if at < FORGOTTEN_AT and key == GONE else key for at, key in keys)
    lived(History(3, cut, 0, 0), work)
    assert found[0] == found[1]


def test_the_past_knows_nothing_of_a_forgotten_key() -> None:
    """From a snapshot as from the deploy, before the forget; after it, what came after."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await place.feed(6)
        await place.cut("a", "s")
        await place.feed(FORGOTTEN_AT)
        await forget(place)
        await place.feed(24)
        starts = place.timeline("a").starts(FORGOTTEN_AT)
        assert len(starts) == 2
        for start in starts:
            assert await keys_of(place, start, FORGOTTEN_AT - 2) == {OTHER}
            assert await keys_of(place, start, 24) == {OTHER, GONE}

    lived(HISTORY, work, Lived)


def test_a_decision_on_a_forgotten_key_is_unverifiable() -> None:
    """It is not called contradicted; those on other keys, and later ones, are confirmed."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await place.cut("a", "s")
        await place.feed(FORGOTTEN_AT)
        await forget(place)
        await place.feed(24)
        for value in await place.decided("a"):
            record = msgspec.json.decode(value)
            found = await place.verifier().verify(record["id"], None)
            before = record["key"] == GONE and record["position"]["offset"] < FORGOTTEN_AT
            told = ("unverifiable", "forgotten") if before else ("confirmed", "")
            assert (found.verdict, found.reason) == told, record

    lived(HISTORY, work, Lived)


def test_what_was_refused_before_is_not_taken_for_what_was_decided_on() -> None:
    """An event of another key, between the snapshot and that of the decision: its refusal says
    nothing of the decision.
    """

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await place.cut("a", "s")
        place.rows[3] = replace(place.rows[3], value=b"no event at all")
        await place.feed(FORGOTTEN_AT)
        await forget(place)
        found = await place.verifier().verify(f"a/1/events/0/{FORGOTTEN_AT - 2}", None)
        assert (found.verdict, found.reason) == ("unverifiable", "forgotten")

    assert (HISTORY.keys[3], HISTORY.keys[FORGOTTEN_AT - 2]) == (OTHER, GONE)
    lived(HISTORY, work, Lived)


@pytest.mark.parametrize("key", [GONE, OTHER])
def test_an_altered_decision_is_contradicted_for_all_that_was_forgotten(key: str) -> None:
    """Also one on the forgotten key from after its forget, and one that is given its name."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await place.cut("a", "s")
        await place.feed(FORGOTTEN_AT)
        await forget(place)
        await place.feed(24)
        records = [msgspec.json.decode(value) for value in await place.decided("a")]
        record = next(
            r for r in records if r["key"] == key and r["position"]["offset"] >= FORGOTTEN_AT
        )
        other = next(r for r in records if r["key"] == OTHER)
        for altered in ({**record, "score": 0.123}, {**other, "key": GONE}):
            found = await place.verifier().verify(None, msgspec.json.encode(altered))
            assert found.verdict == "contradicted"

    lived(HISTORY, work, Lived)


def test_what_a_rebalance_has_left_on_the_disk_forgets_too() -> None:
    """Another worker holds the shard, and the forget counts there; opened here again, it is what it
    was but for the key.
    """

    async def work(place: Two) -> None:
        await place.feed(FORGOTTEN_AT)
        before = await place.digests("a")
        await place.shards.close(place.shard("a"), flush=True)
        await place.vault.note(SECRET)
        mark = tombstone(SECRET, "a", GONE)
        place.command(control.Forget(id="f", agent="a", secret_id=SECRET.id, tombstone=mark))
        place.command(effect("f", FORGOTTEN_AT, 1))
        await place.until(lambda: place.deployment.effect("f", WHERE) == FORGOTTEN_AT)
        path = place.directory.shard_path("a", 1, *WHERE)
        assert holding(path)
        registry = place.controls.registry
        await Leftovers(place.shards, place.vault, registry, asyncio.Lock()).look()
        assert holding(path) == []
        await place.shards.open(place.deployment, WHERE)
        assert await place.digests("a") == {OTHER: before[OTHER]}

    lived(HISTORY, work)


async def test_no_shard_is_opened_while_a_thread_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if what looks there is cancelled: RocksDB's lock would fail the agent."""
    begun, go_on = threading.Event(), threading.Event()

    def cleansing(*_: Any) -> None:
        begun.set()
        assert go_on.wait(10)

    monkeypatch.setattr(leftovers, "_cleansed", cleansing)
    forget = SimpleNamespace(control_id="f")
    deployment = SimpleNamespace(
        agent="a", epoch=1, forgets=lambda: [forget], positions=lambda _: {WHERE: 5}
    )
    site = SimpleNamespace(
        directory=SimpleNamespace(epochs=lambda *_: [1]),
        shard_path=lambda *_: Path("a shard"),
        stores=None,
    )
    shards: Any = SimpleNamespace(find=lambda *_: None, site=site)
    vault: Any = SimpleNamespace(forgotten=lambda *_: SimpleNamespace(newest=7))
    registry: Any = SimpleNamespace(live=lambda: [deployment])
    opening = asyncio.Lock()
    looking = asyncio.create_task(Leftovers(shards, vault, registry, opening).look())
    assert await asyncio.to_thread(begun.wait, 10)
    looking.cancel()
    await asyncio.sleep(0.05)
    assert opening.locked()
    go_on.set()
    await asyncio.gather(looking, return_exceptions=True)
    assert not opening.locked()
