"""Forgetting a key over gRPC, on a real broker: no file that is left has a byte of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from headrace.clock import new_id
from headrace.errors import NotFoundError
from headrace.pipelines.broker import Broker
from headrace.pipelines.feeds import Outgoing
from headrace.serving.client import AsyncClient
from headrace.state.manifest import decode, digest
from headrace.state.repositories import LocalRepository
from headrace.state.store import ShardStore
from headrace.views import ForgetView, RollbackRequest
from tests.service.conftest import Running, Start, administering
from tests.service.test_service import events, learned, spec

GONE = "customer-4711-no-longer"
SOON_S = 30.0


def named(sent: list[Outgoing]) -> list[Outgoing]:
    """The same events, those of `ada` as of the customer who is to be forgotten."""
    return [
        e._replace(key=GONE.encode(), value=e.value.replace(b'"ada"', f'"{GONE}"'.encode()))
        if e.key == b"ada"
        else e
        for e in sent
    ]


async def teach(running: Running, agent: str, begin: int, end: int) -> None:
    await running.service.events.send_all(named(events(f"t-{agent}", range(begin, end))))
    await learned(running.client, agent, end)


async def done(client: AsyncClient, begun: ForgetView) -> ForgetView:
    """The forget, when no snapshot holds the key any more."""
    async with asyncio.timeout(SOON_S):
        while not begun.done:
            await asyncio.sleep(0.2)
            begun = await client.get_forget(begun.control_id)
    return begun


def holding(place: Path) -> list[str]:
    """What below a directory holds the key: in plain bytes, as RocksDB's log writes it, or as the
    name of a row of a database, whose tables are compressed.
    """
    forms = (GONE.encode(), GONE.encode().hex().upper().encode())
    files = [path for path in place.rglob("*") if path.is_file()]
    plain = [str(path) for path in files if any(f in content(path) for f in forms)]
    return [*plain, *(name for name, rows in databases(place) if b"k/" + GONE.encode() in rows)]


def content(path: Path) -> bytes:
    """Of a file; what goes away meanwhile holds nothing."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def databases(place: Path) -> Iterator[tuple[str, set[bytes]]]:
    """All databases below a directory, and those that the manifests of a repository there make."""
    copies = place.parent / f"copies-{new_id()}"
    for number, current in enumerate(sorted(place.rglob("CURRENT"))):
        copy = copies / str(number)
        copy.mkdir(parents=True)
        with suppress(FileNotFoundError):  # what goes away meanwhile holds nothing
            for file in current.parent.iterdir():
                if file.name != "LOCK" and not file.name.startswith("."):
                    (copy / file.name).write_bytes(file.read_bytes())
            yield str(current.parent), names(copy)
    for path in place.rglob("manifests/*/*.json"):
        manifest = decode(path.read_bytes(), digest(path.read_bytes()))
        copy = copies / digest(path.read_bytes())
        LocalRepository(path.parents[2]).fetch(manifest.files, copy)
        yield str(path), names(copy)


def names(copy: Path) -> set[bytes]:
    store = ShardStore.open(copy, create=False)
    try:
        return set(store.names(b""))
    finally:
        store.close()


def blobs(repository: Path) -> list[str]:
    """Files of the repository, those that are set aside included, which hold the key plainly."""
    files = [path for path in repository.rglob("*") if path.is_file()]
    return [path.name for path in files if GONE.encode() in path.read_bytes()]


async def test_no_byte_of_a_forgotten_key_is_left(start: Start, tmp_path: Path) -> None:
    """Not in the shard, nor in a checkpoint or a snapshot, whoever took it, nor, when what no
    manifest names has been collected, in any file of the repository.
    """
    state = tmp_path / "state"
    text = spec("erased", "t-erased", state={"snapshot_s": 1})
    async with start() as running:
        client = running.client
        await client.deploy(text)
        await teach(running, "erased", 0, 30)
        await client.create_snapshot("erased", "kept")
        await teach(running, "erased", 30, 60)
        rolled = await client.rollback(RollbackRequest(agent="erased", snapshot_id="erased.kept"))
        await teach(running, "erased", 60, 90)
        assert holding(state)
        published = running.service.worker.vault.catalogue.shards
        async with asyncio.timeout(20):
            while not published(rolled.undo_snapshot_id):  # noqa: ASYNC110 - not told
                await asyncio.sleep(0.05)
        planned = await client.preview_forget("erased", GONE)
        assert planned.known
        assert "erased.kept" in planned.rewriting
        assert rolled.undo_snapshot_id in planned.deleting
        assert planned.rollbacks == (rolled.control_id,)
        assert (await client.preview_forget("erased", "mistyped")).known is False
        begun = await client.forget("erased", GONE)
        assert [p.offset for p in begun.positions] == [90]
        with pytest.raises(NotFoundError):
            await client.key("erased", GONE)
        told = await done(client, begun)
        assert "t-erased" in told.note
        assert (await client.preview_forget("erased", GONE)).rollbacks == ()
        with pytest.raises(NotFoundError, match="has been removed"):
            await client.undo_rollback("erased")
        vault = running.service.worker.vault
        await vault.collect(older_than_ms=0)
        await vault.collect(older_than_ms=0)
        assert [s.snapshot_id for s in await client.snapshots("erased") if s.kind == "named"] == [
            "erased.kept"
        ]
    async with asyncio.timeout(10):  # what is on its way out when the service stops goes by itself
        while holding(state):  # noqa: ASYNC110 - a thread does it
            await asyncio.sleep(0.1)
    assert holding(state) == []
    assert blobs(state / "snapshots") == []


async def test_a_snapshot_from_before_the_control_log_was_made_anew_forgets_too(
    start: Start, broker: Broker, tmp_path: Path
) -> None:
    """Up to which command it has forgotten, it says by a place in a log that is gone. Once it has,
    it is not written anew at each look.
    """
    text, kept = spec("outlived", "t-outlived"), tmp_path / "kept"
    async with start(state="first", snapshots=f"file://{kept}") as running:
        app = running.service.config.app
        client = running.client
        await client.deploy(text)
        await teach(running, "outlived", 0, 30)
        for _ in range(3):
            await client.pause("outlived")
            await client.resume("outlived")
        await done(client, await client.forget("outlived", "bob"))
        await client.create_snapshot("outlived", "former")
        assert holding(kept)
    async with administering(broker) as admin:
        await admin.delete_topics([f"{app}.control"])
    async with start(state="second", app=app, snapshots=f"file://{kept}") as running:
        client = running.client
        await client.deploy(text)
        await learned(client, "outlived", 30)
        planned = await client.preview_forget("outlived", GONE)
        assert planned.rewriting == ("outlived.former",)
        await done(client, await client.forget("outlived", GONE))
        vault = running.service.worker.vault
        (vouched,) = vault.catalogue.shards("outlived.former").values()
        assert len(vouched.replaces) == 1
        draft = await vault.fetch(vouched.shard, vouched.snapshot_id, vouched.digest)
        assert b"k/" + GONE.encode() not in names(draft)
        assert not vault.holds_forgotten(vouched)
        await vault.collect(older_than_ms=0)
        await vault.collect(older_than_ms=0)
    assert holding(kept) == []
    assert blobs(kept) == []


async def test_a_decision_on_a_forgotten_key_says_that_it_is(start: Start) -> None:
    """Also where there is no snapshot from before it; those of other keys are confirmed."""
    async with start() as running:
        client = running.client
        await client.deploy(spec("proven", "t-proven"))
        await teach(running, "proven", 0, 9)
        await client.forget("proven", GONE)
        found = [await client.verify_decision(f"proven/1/t-proven/0/{n}") for n in range(3)]
        gone = next(
            n for n, event in enumerate(events("t-proven", range(3))) if event.key == b"ada"
        )
        for number, each in enumerate(found):
            told = ("unverifiable", "forgotten") if number == gone else ("confirmed", "")
            assert (each.verdict, each.reason) == told, each
        assert found[gone].text == "what it was made from is forgotten for good"
        assert found[gone].differences == ()
