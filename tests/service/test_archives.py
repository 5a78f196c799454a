"""Snapshots compared, and carried from one service to another, on a real broker."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from headrace.errors import ConflictError, OverloadError, RequestError, StateError
from headrace.models.spec import load_spec
from headrace.pipelines import archives, publisher, snapshot_commands
from headrace.pipelines.broker import MemoryBroker
from headrace.pipelines.snapshot_commands import SnapshotCommands
from headrace.state.catalogue import encode
from headrace.views import AsOf, Migration, RollbackRequest, RowCount
from tests.service.conftest import Start
from tests.service.test_migration import rated
from tests.service.test_not_published import away
from tests.service.test_rollback import digests, more, taught
from tests.service.test_service import KEYS, events, learned, spec
from tests.serving.world import code_of


async def test_a_snapshot_goes_into_another_app(start: Start, tmp_path: Path) -> None:
    """It is a named one there, and the agent of that name can be rolled back to it: each key is
    what it was here, and learning goes on from where the log of the other app stands.
    """
    text, file = spec("carried", "t-carried"), tmp_path / "good.tar"
    async with start() as here, start(app="elsewhere", state="other") as there:
        await taught(here, "carried", text, 30)
        made = await here.client.create_snapshot("carried", "good")
        before = await digests(here.client, "carried")
        digest = await here.client.export_snapshot("carried.good", file)
        await more(here, "carried", events("t-carried", range(30)), 50)
        await there.client.deploy(text)
        await learned(there.client, "carried", 50)
        found = await there.client.import_snapshot(file, digest)
        assert (found.kind, found.imported, found.complete) == ("named", True, True)
        assert found.shards[0].size_bytes == made.shards[0].size_bytes
        assert found.shards[0].new_bytes == found.shards[0].size_bytes
        assert await there.client.snapshots("carried") == [found]
        back = RollbackRequest(agent="carried", snapshot_id="carried.good")
        done = await there.client.rollback(back)
        assert [place.offset for place in done.positions] == [50]
        assert await digests(there.client, "carried") == before
        answer = await there.client.predict("carried", key=KEYS[0], features={"power": 3.0})
        assert (answer.standing.epoch, answer.standing.offset) == (done.epoch, 50)


async def test_an_archive_has_the_spec_that_a_migration_brought(
    start: Start, tmp_path: Path
) -> None:
    """Whoever gets it has to deploy that one; the log knows it."""
    text, file = spec("moved", "t-moved"), tmp_path / "moved.tar"
    new = rated("moved", 0.5)
    async with start() as running:
        await taught(running, "moved", text, 30)
        await running.client.deploy(new, Migration(how="keep"))
        await more(running, "moved", events("t-moved", range(30)), 50)
        await running.client.create_snapshot("moved", "new")
        await running.client.export_snapshot("moved.new", file)
    with tarfile.open(file) as archive:
        index = archive.extractfile(archive.getmembers()[0])
        assert index is not None
        found = msgspec.json.decode(index.read())
    assert load_spec(found["spec"].encode()).digest == load_spec(new).digest


async def test_the_state_after_a_restart_never_comes_from_an_import(
    start: Start, tmp_path: Path
) -> None:
    """It may have learned otherwise up to the same offset, so a lost disk is learned again."""
    text, file = spec("never-back", "t-never-back"), tmp_path / "good.tar"
    async with start(app="idle", state="other") as other:
        await other.client.deploy(text)
        await other.client.pause("never-back")
        await other.service.events.send_all(events("t-never-back", range(30)))
        await learned(other.client, "never-back", 30)
        await other.client.create_snapshot("never-back", "good")
        digest = await other.client.export_snapshot("never-back.good", file)
    kept = f"file://{tmp_path / 'kept'}"
    async with start(snapshots=kept) as running:
        await running.client.deploy(text)
        await learned(running.client, "never-back", 30)
        before = await digests(running.client, "never-back")
        assert (await running.client.import_snapshot(file, digest)).shards[0].next_offset == 30
    async with start(state="lost", snapshots=kept) as running:
        await learned(running.client, "never-back", 30)
        assert await digests(running.client, "never-back") == before


async def test_two_apps_never_share_a_repository(start: Start, tmp_path: Path) -> None:
    """Each would delete the other's files: the second is refused at its start, with what to do."""
    kept = f"file://{tmp_path / 'kept'}"
    async with start(snapshots=kept):
        pass
    async with start(snapshots=kept):
        pass
    with pytest.raises(StateError, match="name another place with --snapshots"):
        async with start(app="second", state="other", snapshots=kept):
            pass


async def test_what_an_import_cannot_be_used_for(start: Start, tmp_path: Path) -> None:
    """Not for a rewind, nor as the newest before a time, nor by an agent of another spec."""
    text, file = spec("limited", "t-limited"), tmp_path / "good.tar"
    async with start() as running:
        client = running.client
        await taught(running, "limited", text, 30)
        made = await client.create_snapshot("limited", "good")
        digest = await client.export_snapshot("limited.good", file)
        await client.delete_snapshot("limited.good")
        await client.import_snapshot(file, digest)
        to = RollbackRequest(agent="limited", snapshot_id="limited.good")
        rewind = msgspec.structs.replace(to, mode="rewind")
        assert await code_of(client.rollback(rewind)) == "log_too_short"
        before = RollbackRequest(agent="limited", before_ms=made.created_ms + 1)
        assert await code_of(client.rollback(before)) == "unknown_snapshot"
        await client.delete("limited")
        assert (await client.snapshot("limited.good")).imported
        other = text.replace(b"LinearRegression", b"PARegressor")
        assert load_spec(other).digest != load_spec(text).digest
        await client.deploy(other)
        with pytest.raises(ConflictError, match="deploy that spec first") as refused:
            await client.rollback(to)
        assert refused.value.code == "spec_mismatch"


async def test_an_import_is_asked_as_what_it_is(start: Start, tmp_path: Path) -> None:
    """Whatever life the agent has: epoch and offset are told as those of another log, and are not
    taken for a state of its own that stands there.
    """
    text, file = spec("abroad", "t-abroad"), tmp_path / "good.tar"
    power = {"power": 3.0}
    elsewhere = MemoryBroker(tmp_path / "elsewhere")
    await elsewhere.start()
    async with start(on=elsewhere, state="other") as other:
        await taught(other, "abroad", text, 30)
        expected = await other.client.predict("abroad", key="ada", features=power)
        await other.client.create_snapshot("abroad", "good")
        digest = await other.client.export_snapshot("abroad.good", file)
    await elsewhere.stop()
    async with start() as running:
        client = running.client
        await client.deploy(text)
        await running.service.events.send_all(events("t-abroad", range(100, 130)))
        await learned(client, "abroad", 30)
        await client.import_snapshot(file, digest)
        imported = AsOf(snapshot_id="abroad.good")
        for life in (1, 2):
            own, found = [
                await client.predict("abroad", key="ada", features=power, as_of=as_of)
                for as_of in (AsOf(offset=30), imported)
            ]
            assert found.score == expected.score != own.score
            at = found.standing
            assert (at.imported, at.offset, at.behind, at.spec_version) == (True, 30, None, life)
            assert not own.standing.imported
            if life == 1:
                await client.delete("abroad")
                await client.deploy(text)
                await learned(client, "abroad", 30)
        await client.delete("abroad")
        await client.deploy(text.replace(b"LinearRegression", b"PARegressor"))
        with pytest.raises(ConflictError, match="deploy that first") as refused:
            await client.predict("abroad", key="ada", features=power, as_of=imported)
        assert refused.value.code == "spec_mismatch"


async def test_an_import_of_another_topic_is_not_gone_back_to(start: Start, tmp_path: Path) -> None:
    """No export writes such an archive: somebody has made it."""
    async with start() as running:
        client, vault = running.client, running.service.worker.vault
        await taught(running, "elsewhere", spec("elsewhere", "t-elsewhere"), 30)
        await client.create_snapshot("elsewhere", "good")
        (vouched,) = vault.catalogue.shards("elsewhere.good").values()
        crafted = msgspec.structs.replace(
            vouched, snapshot_id="elsewhere.crafted", topic="t-other", imported=True
        )
        await vault._topic.append(crafted.key, encode(crafted))
        with pytest.raises(ConflictError, match="is of topic 't-other'") as refused:
            await client.rollback(
                RollbackRequest(agent="elsewhere", snapshot_id="elsewhere.crafted")
            )
        assert refused.value.code == "spec_mismatch"
        assert await client.rollbacks("elsewhere") == []


async def test_an_import_writes_over_nothing(start: Start, tmp_path: Path) -> None:
    """The same archive again changes nothing; another one under an id that is there is refused."""
    text, file = spec("twice", "t-twice"), tmp_path / "good.tar"
    async with start() as running:
        client = running.client
        sent = await taught(running, "twice", text, 30)
        made = await client.create_snapshot("twice", "good")
        digest = await client.export_snapshot("twice.good", file)
        assert await client.import_snapshot(file, digest) == made
        await client.delete_snapshot("twice.good")
        await more(running, "twice", sent, 40)
        second = await client.create_snapshot("twice", "good")
        async with asyncio.timeout(10):
            while running.service.worker.vault.owes("twice.good"):  # noqa: ASYNC110 - not told
                await asyncio.sleep(0.02)
        with pytest.raises(ConflictError, match="another snapshot") as refused:
            await client.import_snapshot(file, digest)
        assert refused.value.code == "snapshot_exists"
        assert await client.snapshots("twice") == [second]


async def test_another_digest_is_refused_and_leaves_nothing(start: Start, tmp_path: Path) -> None:
    """Also one byte of the file that was altered, whichever it is of."""
    text, file = spec("forged", "t-forged"), tmp_path / "good.tar"
    async with start() as running:
        client = running.client
        await taught(running, "forged", text, 30)
        await client.create_snapshot("forged", "good")
        digest = await client.export_snapshot("forged.good", file)
        await client.delete_snapshot("forged.good")
        content = file.read_bytes()
        for place in (600, len(content) // 2):
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            assert await code_of(client.import_snapshot(file, digest)) == "snapshot_damaged"
        file.write_bytes(content)
        with pytest.raises(RequestError, match="another archive"):
            await client.import_snapshot(file, "ab" * 32)
        assert await client.snapshots("forged") == []
        assert (await client.import_snapshot(file, digest)).complete


async def test_what_differs_between_two_snapshots_and_now(start: Start) -> None:
    """New keys are added, taught ones changed, and a snapshot differs from itself in nothing."""
    async with start() as running:
        client = running.client
        sent = await taught(running, "apart", spec("apart", "t-apart"), 1)
        await client.create_snapshot("apart", "one")
        await more(running, "apart", sent, 30)
        await client.create_snapshot("apart", "two")
        found = await client.diff_snapshots("apart.one", "apart.two")
        keys = RowCount(kind="key", added=len(KEYS) - 1, removed=0, changed=1)
        assert found.counts[0] == keys
        assert {row.name for row in found.first if row.kind == "key"} == set(KEYS)
        assert {row.how for row in found.first if row.kind == "key"} == {"added", "changed"}
        assert (await client.diff_snapshots("apart.one")).counts[0] == keys
        assert (await client.diff_snapshots("apart.two")).counts == ()
        back = await client.diff_snapshots("apart.two", "apart.one")
        assert (back.counts[0].removed, back.counts[0].changed) == (len(KEYS) - 1, 1)
        assert await code_of(client.diff_snapshots("apart.two", "apart.no")) == "unknown_snapshot"
        await taught(running, "aside", spec("aside", "t-aside"), 1)
        await client.create_snapshot("aside", "one")
        with pytest.raises(ConflictError, match="are of different agents: 'apart' and 'aside'"):
            await client.diff_snapshots("apart.one", "aside.one")


async def test_few_archives_are_under_way_at_a_time(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are shed with a time to come again, and each that ends makes room."""
    async with start() as running:
        client = running.client
        await taught(running, "shed", spec("shed", "t-shed"), 30)
        await client.create_snapshot("shed", "good")
        for number in range(archives.TRANSFERS_MAX + 1):
            digest = await client.export_snapshot("shed.good", tmp_path / f"{number}.tar")
            await client.import_snapshot(tmp_path / f"{number}.tar", digest)
        monkeypatch.setattr(archives, "TRANSFERS_MAX", 0)
        with pytest.raises(OverloadError):
            await client.export_snapshot("shed.good", tmp_path / "more.tar")
        with pytest.raises(OverloadError):
            await client.import_snapshot(tmp_path / "0.tar", digest)


async def test_an_archive_with_an_id_of_the_services_own_is_refused(
    start: Start, tmp_path: Path
) -> None:
    """Another state may be given that id here one day: a name is what is carried elsewhere."""
    text, file = spec("own-ids", "t-own-ids"), tmp_path / "undo.tar"
    async with start() as running:
        client = running.client
        await taught(running, "own-ids", text, 30)
        await client.create_snapshot("own-ids", "good")
        done = await client.rollback(RollbackRequest(agent="own-ids", snapshot_id="own-ids.good"))
        undo = await SnapshotCommands(running.service.worker).published(done.undo_snapshot_id)
        digest = await client.export_snapshot(undo.snapshot_id, file)
        with pytest.raises(RequestError, match="gives itself") as refused:
            await client.import_snapshot(file, digest)
        assert refused.value.code == "invalid_request"
    async with start(app="far-away", state="other") as there:
        assert await code_of(there.client.import_snapshot(file, digest)) == "invalid_request"


async def test_an_import_while_a_snapshot_of_that_name_is_made_is_refused(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken, and not published yet; what is published then is the one that was made here."""
    monkeypatch.setattr(snapshot_commands, "PUBLISH_WAIT_S", 0.1)
    monkeypatch.setattr(publisher, "PUBLISH_AGAIN_S", 0.02)
    text, file = spec("making", "t-making"), tmp_path / "good.tar"
    async with start() as running:
        client = running.client
        sent = await taught(running, "making", text, 30)
        monkeypatch.setattr(snapshot_commands, "PUBLISH_WAIT_S", 20.0)
        await client.create_snapshot("making", "good")
        digest = await client.export_snapshot("making.good", file)
        await client.delete_snapshot("making.good")
        await more(running, "making", sent, 40)
        switch = away(running)
        monkeypatch.setattr(snapshot_commands, "PUBLISH_WAIT_S", 0.1)
        assert await code_of(client.create_snapshot("making", "good")) == "snapshot_incomplete"
        assert await code_of(client.import_snapshot(file, digest)) == "snapshot_exists"
        switch(False)
        monkeypatch.setattr(snapshot_commands, "PUBLISH_WAIT_S", 20.0)
        made = await SnapshotCommands(running.service.worker).published("making.good")
        assert (made.imported, made.shards[0].next_offset) == (False, 40)


async def test_a_snapshot_cannot_have_the_name_of_one_that_an_import_brings(
    start: Start, tmp_path: Path
) -> None:
    """Nor can a second import: who came first goes on."""
    text, file = spec("bringing", "t-bringing"), tmp_path / "good.tar"
    async with start() as running:
        client, worker = running.client, running.service.worker
        await taught(running, "bringing", text, 30)
        await client.create_snapshot("bringing", "good")
        digest = await client.export_snapshot("bringing.good", file)
        await client.delete_snapshot("bringing.good")
        snapshots = SnapshotCommands(worker)
        incoming = archives.Archives(worker, snapshots)
        goes_on = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            content = file.read_bytes()
            yield content[:5000]
            await goes_on.wait()
            yield content[5000:]

        bringing = asyncio.create_task(incoming.import_(digest, slow()))
        async with asyncio.timeout(10):
            while not snapshots.coming:  # noqa: ASYNC110 - its index is read in a thread
                await asyncio.sleep(0.02)
        assert await code_of(snapshots.create("bringing", "good")) == "snapshot_exists"
        async with asyncio.timeout(10):
            assert await code_of(incoming.import_(digest, slow())) == "snapshot_exists"
        goes_on.set()
        assert (await bringing).imported
        assert snapshots.coming == set()
