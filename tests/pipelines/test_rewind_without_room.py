"""A rewind on a disk without room: nobody waits behind it who could make room, or must stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from headrace.errors import AwayStateError, DiskFullError, StateError, UnavailableError
from headrace.pipelines import control, rewind
from headrace.pipelines.replacement import ROOM_PAUSE_S, Replacement
from headrace.pipelines.rewind import Again
from headrace.pipelines.shard import Shard
from headrace.pipelines.vault import Vault
from headrace.state.catalogue import Vouched, encode
from headrace.state.store import ShardStore
from headrace.state.tombstones import Secret, tombstone
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import more, taken, told

LONG_S = 600.0  # in virtual time
SECRET = Secret(value="5e" * 32)


def no_room(monkeypatch: pytest.MonkeyPatch, place: str = "drafts") -> None:
    """No draft can be written, which is what a rewind learns in; the shard itself can. Or nothing
    below another directory.
    """
    write, recover = ShardStore.write, ShardStore.recover

    def full(real: Callable[..., None]) -> Callable[..., None]:
        def call(store: ShardStore, *given: Any) -> None:
            if place in store.path.parts:
                raise DiskFullError("no space left on device")
            real(store, *given)

        return call

    monkeypatch.setattr(ShardStore, "write", full(write))
    monkeypatch.setattr(ShardStore, "recover", full(recover))


def to_fifty(vouched: Vouched) -> control.Rollback:
    """A rewind of the agent, of one partition, to that snapshot."""
    base = control.Base(partition=0, epoch=1, next_offset=50, digest=vouched.digest)
    return control.Rollback(
        id="r", agent="a", life=1, snapshot_id="a.s1", bases=(base,), mode="rewind"
    )


async def rewind_to_fifty(place: Place, shard: Shard) -> control.Rollback:
    """The command; the snapshot lies fifty records back."""
    vouched = await taken(place, shard)
    await more(place, shard)
    return to_fifty(vouched)


async def rewound(place: Place, shard: Shard) -> None:
    """Have the control log say so."""
    place.command(await rewind_to_fifty(place, shard))


async def counted(place: Place, shard: Shard, *, flush: bool) -> None:
    """A rewind counts from 100 on, and the worker goes before it is done: its shard stands there,
    or, if it is not flushed, at 50.
    """
    command = to_fifty(await taken(place, shard))
    for row in place.broker.logs[WHERE].rows():
        place.broker.logs[WHERE].append(row.key, row.value, row.timestamp)
    await shard.process(place.chunk())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Replacement, "work", lambda *_: asyncio.sleep(0, result=False))
        place.command(command)
        while place.deployment.effect("r", WHERE) is None:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)
        await place.shards.close(shard, flush=flush)
    while place.tasks:  # what was prepared beside it is put away
        await asyncio.gather(*place.tasks, return_exceptions=True)


async def counted_above(place: Place, shard: Shard) -> Shard:
    """The shard, opened anew at 50."""
    await counted(place, shard, flush=False)
    again = await place.shards.open(place.deployment, WHERE)
    assert (again.origin.epoch, again.next_offset) == (1, 50)
    return again


async def forgotten(place: Place, shard: Shard) -> None:
    """A key of the shard is."""
    await place.catalogue.append(SECRET.key, encode(SECRET))
    key = tombstone(SECRET, "a", "nobody")
    place.command(control.Forget(id="f", agent="a", secret_id=SECRET.id, tombstone=key))
    while shard.forgotten.newest < 0:  # noqa: ASYNC110 - not told
        await asyncio.sleep(0.05)


def drafts(place: Place) -> Sequence[Path]:
    return list((place.directory.path / "drafts").iterdir())


async def closed(place: Place, shard: Shard) -> None:
    """It is, and nothing is left of what was prepared beside it."""
    await place.shards.close(shard, flush=True)
    while place.tasks:  # noqa: ASYNC110 - not told
        await asyncio.sleep(0.05)
    assert drafts(place) == []


def test_a_shard_is_not_opened_while_its_rewind_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails for want of room, as any other opening does, and is opened again later: a delete
    waits until all are open, and may be what makes room.
    """

    async def work(place: Place, shard: Shard) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Replacement, "work", lambda *_: asyncio.sleep(0, result=False))
            await rewound(place, shard)  # it counts, and the worker goes before it is done
            while place.deployment.effect("r", WHERE) is None:  # noqa: ASYNC110 - not told
                await asyncio.sleep(0.05)
            await place.shards.close(shard, flush=True)
        with monkeypatch.context() as patched:
            no_room(patched)
            with pytest.raises(DiskFullError):
                async with asyncio.timeout(LONG_S):
                    await place.shards.open(place.deployment, WHERE)
            assert drafts(place) == []
        again = await place.shards.open(place.deployment, WHERE)
        assert (again.origin.epoch, again.next_offset) == (2, 100)

    told(tmp_path, work)


def test_a_shard_is_closed_although_its_rewind_waits_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop or a rebalance ends it; it counted, and is done when the shard is opened again."""

    async def work(place: Place, shard: Shard) -> None:
        with monkeypatch.context() as patched:
            draft = Again._closed

            async def filled(*given: Any) -> Path:
                no_room(patched)
                return await draft(*given)

            patched.setattr(Again, "_closed", filled)
            await rewound(place, shard)
            while place.deployment.effect("r", WHERE) is None:  # noqa: ASYNC110 - not told
                await asyncio.sleep(0.05)
            await asyncio.sleep(5.0)
            assert shard.origin.epoch == 1
            assert shard._turn.locked()
            async with asyncio.timeout(LONG_S):
                await place.shards.close(shard, flush=True)
            while drafts(place):  # noqa: ASYNC110 - not told
                await asyncio.sleep(0.05)
        again = await place.shards.open(place.deployment, WHERE)
        assert (again.origin.epoch, again.next_offset) == (2, 100)

    told(tmp_path, work)


@pytest.mark.parametrize("stands", [70, 100])
def test_a_shard_is_closed_although_its_twin_has_no_room_to_forget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stands: int
) -> None:
    """A key was forgotten at 100 while the twin learned; nothing of the twin is left. It comes to
    the forget within a piece of the log, or begins the next piece with it.
    """
    monkeypatch.setattr(rewind, "NEAR_RECORDS", 5)
    learns = asyncio.Event()
    usual = Again._learn_some

    async def held(again: Again, shard: Shard) -> None:
        await usual(again, shard)
        if again._stands() >= stands:
            await learns.wait()

    monkeypatch.setattr(Again, "_learn_some", held)

    async def work(place: Place, shard: Shard) -> None:
        await rewound(place, shard)
        while not drafts(place):  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)
        await forgotten(place, shard)
        await more(place, shard)
        with monkeypatch.context() as patched:
            no_room(patched)
            learns.set()
            await asyncio.sleep(5.0)
            assert place.tasks
            async with asyncio.timeout(LONG_S):
                await closed(place, shard)
        again = await place.shards.open(place.deployment, WHERE)
        while again.origin.epoch == 1:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)
        assert again.next_offset == 200

    told(tmp_path, work)


def test_a_twin_that_has_not_forgotten_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard is closed while its twin, which has learned all, waits for room to forget a key;
    there may be room again before it would be taken over.
    """

    async def work(place: Place, shard: Shard) -> None:
        again = place.shards.works.rewind(await rewind_to_fifty(place, shard), lambda *_: None)
        await again.ready(shard)
        await forgotten(place, shard)
        with monkeypatch.context() as patched:
            no_room(patched)
            readying = asyncio.create_task(again.ready(shard))
            await asyncio.sleep(5.0)
            assert not readying.done()
            shard.leave()
            with pytest.raises(UnavailableError):
                async with asyncio.timeout(LONG_S):
                    await readying
        await again.end()
        assert drafts(place) == []

    told(tmp_path, work)


@pytest.mark.parametrize("where", ["drafts", "shards"])
def test_a_stop_waits_for_no_chunk_that_waits_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The rewind counts between two events; the flow is stopped before the shards are closed."""

    async def work(place: Place, shard: Shard) -> None:
        again = await counted_above(place, shard)
        flowing = True
        with monkeypatch.context() as patched:
            no_room(patched, where)
            processing = asyncio.create_task(again.process(place.chunk(), lambda: flowing))
            await asyncio.sleep(5.0)
            assert (processing.done(), again.next_offset) == (False, 100)
            flowing = False
            async with asyncio.timeout(LONG_S):
                await processing
                await place.shards.close(again, flush=True)
            assert drafts(place) == []
        later = await place.shards.open(place.deployment, WHERE)
        if where == "shards":  # what it had learned was not flushed
            await later.process(place.chunk())
        assert (later.origin.epoch, later.next_offset) == (2, 100)

    told(tmp_path, work)


@pytest.mark.parametrize("mode", ["revert", "rewind"])
def test_what_found_no_room_for_a_moment_is_made_ready_beside_the_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: control.Mode
) -> None:
    """Not under its turn, where a rewind would hold up all events until it has learned the log;
    and what it finds then, a repository that is away, is waited for as ever.
    """
    failures: list[StateError] = [
        DiskFullError("no space left on device"),
        AwayStateError("Connection refused"),
    ]

    async def work(place: Place, shard: Shard) -> None:
        command = structs.replace(await rewind_to_fifty(place, shard), mode=mode)
        base, busy = Vault.base, list[bool]()

        async def failing(vault: Vault, *given: Any) -> Path:
            busy.append(shard._turn.locked())
            if failures:
                raise failures.pop(0)
            return await base(vault, *given)

        monkeypatch.setattr(Vault, "base", failing)
        place.command(command)
        async with asyncio.timeout(2 * ROOM_PAUSE_S):
            while shard.origin.epoch < 2:  # noqa: ASYNC110 - not told
                await asyncio.sleep(0.05)
        assert (place.deployment.failed("r"), busy) == ({}, [False] * 3)

    told(tmp_path, work)
