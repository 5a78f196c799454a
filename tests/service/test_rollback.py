"""Snapshots and rollbacks over gRPC, on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from headrace.errors import ConflictError, HeadraceError, NotFoundError, RequestError
from headrace.models.decisions import Origin
from headrace.models.learner import Learner
from headrace.models.spec import load_spec
from headrace.pipelines.feeds import Outgoing
from headrace.serving.client import AsyncClient
from headrace.state.memory import MemoryStore
from headrace.views import Exclusion, RollbackRequest
from tests.pipelines.small_shard import Event
from tests.service.conftest import Running, Start
from tests.service.test_service import KEYS, events, learned, spec
from tests.service.watched import decisions


def learner_over(agent: str, text: bytes, sent: Iterable[tuple[int, Outgoing]]) -> Learner:
    """A learner that has seen these events, by offset, and nothing else."""
    topic = load_spec(text).source.topic
    learner = Learner(load_spec(text), Origin(agent, 1, 1, topic, 0), MemoryStore())
    learner.step([Event(n, e.timestamp_ms, e.key, e.value) for n, e in sent])
    return learner


def code_of(error: HeadraceError) -> str:
    """Its code: what a caller can act upon."""
    return error.code if isinstance(error, RequestError) else ""


async def digests(client: AsyncClient, agent: str) -> dict[str, str]:
    return {key: (await client.key(agent, key)).digest for key in KEYS}


async def taught(running: Running, agent: str, text: bytes, count: int) -> list[Outgoing]:
    """Deploy the agent and let it learn so many events."""
    sent = events(load_spec(text).source.topic, range(count))
    await running.client.deploy(text)
    await running.service.events.send_all(sent)
    await learned(running.client, agent, count)
    return sent


async def more(running: Running, agent: str, sent: list[Outgoing], upto: int) -> None:
    """Send on until there are `upto` events, and wait until they are learned."""
    new = events(sent[0].topic, range(len(sent), upto))
    sent.extend(new)
    await running.service.events.send_all(new)
    await learned(running.client, agent, upto)


async def test_a_snapshot_is_there_until_it_is_deleted(start: Start) -> None:
    """Create, show, list, pin, delete: each answer says what the next one finds."""
    async with start() as running:
        client = running.client
        await taught(running, "kept", spec("kept", "t-kept"), 30)
        made = await client.create_snapshot("kept", "first")
        assert (made.snapshot_id, made.kind, made.complete) == ("kept.first", "named", True)
        assert [(s.partition, s.next_offset) for s in made.shards] == [(0, 30)]
        assert await client.snapshot("kept.first") == made
        assert [s.snapshot_id for s in await client.snapshots("kept")] == ["kept.first"]
        assert (await client.pin_snapshot("kept.first")).pinned
        assert (await client.snapshot("kept.first")).pinned
        assert not (await client.pin_snapshot("kept.first", pinned=False)).pinned
        with pytest.raises(ConflictError, match="already"):
            await client.create_snapshot("kept", "first")
        await client.delete_snapshot("kept.first")
        assert await client.snapshots("kept") == []
        with pytest.raises(NotFoundError, match="has been removed") as found:
            await client.snapshot("kept.first")
        assert found.value.code == "snapshot_expired"


async def test_an_unchanged_shard_brings_nothing_new(start: Start) -> None:
    """The second snapshot of a quiet agent has no bytes that the first had not."""
    async with start() as running:
        await taught(running, "quiet", spec("quiet", "t-quiet"), 30)
        first = await running.client.create_snapshot("quiet", "one")
        second = await running.client.create_snapshot("quiet", "two")
        assert first.shards[0].new_bytes > 0
        assert second.shards[0].new_bytes == 0


async def test_a_rollback_puts_back_every_key(start: Start) -> None:
    """By id: each key is what it was, the epoch is the next one, and learning goes on from there
    as if nothing had come between.
    """
    text = spec("back", "t-back")
    async with start() as running:
        client = running.client
        sent = await taught(running, "back", text, 30)
        before = await digests(client, "back")
        await client.create_snapshot("back", "good")
        await more(running, "back", sent, 60)
        done = await client.rollback(RollbackRequest(agent="back", snapshot_id="back.good"))
        assert (done.done, done.epoch, [p.offset for p in done.positions]) == (True, 2, [60])
        assert await digests(client, "back") == before
        await more(running, "back", sent, 75)
        without = [*enumerate(sent)]
        never = learner_over("back", text, without[:30] + without[60:])
        for key in KEYS:
            model = (await client.key("back", key)).model
            assert model == never.describe(key, 75).model


async def test_decisions_and_answers_say_the_new_epoch(start: Start) -> None:
    """Below the position of the rollback the old epoch has decided, from there on the new one."""
    async with start() as running:
        client = running.client
        sent = await taught(running, "era", spec("era", "t-era"), 20)
        await client.create_snapshot("era", "good")
        await client.rollback(RollbackRequest(agent="era", snapshot_id="era.good"))
        answer = await client.predict("era", key="ada", features={"power": 3.0})
        assert answer.standing.epoch == 2
        await more(running, "era", sent, 30)
        made = {d["position"]["offset"]: d["epoch"] for d in await decisions(client, "era")}
        assert made == {**dict.fromkeys(range(20), 1), **dict.fromkeys(range(20, 30), 2)}


async def test_a_time_chooses_the_newest_snapshot_before_it(start: Start) -> None:
    """The time of the second snapshot chooses the first, and a time before both finds none."""
    async with start() as running:
        client = running.client
        sent = await taught(running, "before", spec("before", "t-before"), 20)
        first = await client.create_snapshot("before", "one")
        await more(running, "before", sent, 40)
        second = await client.create_snapshot("before", "two")
        done = await client.rollback(RollbackRequest(agent="before", before_ms=second.created_ms))
        assert done.snapshot_id == "before.one"
        with pytest.raises(NotFoundError, match="no complete snapshot") as found:
            await client.rollback(RollbackRequest(agent="before", before_ms=first.created_ms))
        assert found.value.code == "unknown_snapshot"
        to_come = RollbackRequest(agent="before", before_ms=second.created_ms + 86_400_000)
        with pytest.raises(RequestError, match="is not past: here it is") as ahead:
            await client.preview_rollback(to_come)
        assert ahead.value.code == "out_of_range"


async def test_one_key_goes_back_alone(start: Start) -> None:
    """The model of that key is the snapshot's; the others' rows stay as they are."""
    async with start() as running:
        client = running.client
        sent = await taught(running, "alone", spec("alone", "t-alone"), 30)
        model = (await client.key("alone", "bob")).model
        await client.create_snapshot("alone", "good")
        await more(running, "alone", sent, 60)
        now = await digests(client, "alone")
        request = RollbackRequest(agent="alone", snapshot_id="alone.good", keys=("bob",))
        await client.rollback(request)
        assert (await client.key("alone", "bob")).model == model
        then = await digests(client, "alone")
        assert [key for key in KEYS if then[key] != now[key]] == ["bob"]


async def test_what_is_asked_twice_under_one_id_is_done_once(start: Start) -> None:
    """A caller who got no answer asks again; another thing under that id is refused."""
    async with start() as running:
        client = running.client
        sent = await taught(running, "asked", spec("asked", "t-asked"), 30)
        await client.create_snapshot("asked", "good")
        asked = RollbackRequest(agent="asked", snapshot_id="asked.good", keys=("bob",))
        mine, other = "0a" * 16, "1b" * 16
        done = await client.rollback(asked, mine)
        await more(running, "asked", sent, 60)
        learnt = await digests(client, "asked")
        again = await client.rollback(asked, mine)
        assert (again.control_id, again.epoch, again.positions) == (mine, 2, done.positions)
        whole = RollbackRequest(agent="asked", snapshot_id="asked.good")
        for wrong in (client.rollback(whole, mine), client.undo_rollback("asked", None, mine)):
            with pytest.raises(RequestError, match="another thing"):
                await wrong
        whole = RollbackRequest(agent="asked", snapshot_id="asked.good", mode="rewind")
        both = await asyncio.gather(
            *(client.rollback(each, "2c" * 16) for each in (asked, whole)), return_exceptions=True
        )
        (refused,) = [each for each in both if isinstance(each, RequestError)]
        assert "another thing" in str(refused) or "is being rolled back" in str(refused)
        await client.undo_rollback("asked", "2c" * 16)
        assert await digests(client, "asked") == learnt
        undo = await client.undo_rollback("asked", mine, other)
        assert (await client.undo_rollback("asked", mine, other)).epoch == undo.epoch == 5
        done_ids = [view.control_id for view in await client.rollbacks("asked")]
        assert (done_ids[0], done_ids[-1], len(done_ids)) == (other, mine, 4)


async def test_undo_gives_back_what_the_rollback_replaced(start: Start) -> None:
    """Every key's row is what it was; there is nothing left to undo, and both are listed."""
    async with start() as running:
        client = running.client
        sent = await taught(running, "undone", spec("undone", "t-undone"), 30)
        await client.create_snapshot("undone", "good")
        await more(running, "undone", sent, 60)
        before = await digests(client, "undone")
        done = await client.rollback(RollbackRequest(agent="undone", snapshot_id="undone.good"))
        assert await digests(client, "undone") != before
        undo = await client.undo_rollback("undone")
        assert (undo.undoes, undo.epoch) == (done.control_id, 3)
        assert await digests(client, "undone") == before
        listed = [each.control_id for each in await client.rollbacks("undone")]
        assert listed == [undo.control_id, done.control_id]
        assert (await client.get_rollback(done.control_id)).positions == done.positions
        with pytest.raises(NotFoundError, match="no rollback to undo"):
            await client.undo_rollback("undone")


async def test_a_rewind_without_a_key_is_as_if_it_had_not_come(start: Start) -> None:
    """All keys are those of the log since the snapshot without that key's events."""
    text = spec("clean", "t-clean")
    async with start() as running:
        client = running.client
        sent = await taught(running, "clean", text, 30)
        await client.create_snapshot("clean", "good")
        await more(running, "clean", sent, 90)
        request = RollbackRequest(
            agent="clean",
            snapshot_id="clean.good",
            mode="rewind",
            exclude=Exclusion(keys=("eve",)),
        )
        preview = await client.preview_rollback(request)
        assert (preview.events_back, preview.events_excluded) == (60, 20)
        # Of the 90 events the excluded ones are none to be judged by.
        assert preview.decisions_compared == 70
        assert {metric.events for metric in preview.metrics} <= {70}
        assert (preview.keys_changed, preview.keys_total) == (1, 3)
        done = await client.rollback(request)
        assert (done.done, done.mode, done.epoch) == (True, "rewind", 2)
        kept = [(n, e) for n, e in enumerate(sent) if n < 30 or e.key != b"eve"]
        never = learner_over("clean", text, kept)
        for key in KEYS:
            assert (await client.key("clean", key)).digest == never.describe(key, 90).digest
        assert len(await decisions(client, "clean")) == 90


async def test_a_preview_that_can_compare_nothing_says_why(start: Start) -> None:
    """All that could be judged by is left out, say: that is no figure, but a reason."""
    async with start() as running:
        client = running.client
        await client.deploy(spec("blind", "t-blind"))
        await client.create_snapshot("blind", "empty")
        await running.service.events.send_all(events("t-blind", range(9)))
        await learned(client, "blind", 9)
        rewind = RollbackRequest(
            agent="blind",
            snapshot_id="blind.empty",
            mode="rewind",
            exclude=Exclusion(keys=tuple(KEYS)),
        )
        preview = await client.preview_rollback(rewind)
        assert (preview.decisions_compared, preview.events_excluded) == (0, 9)
        assert preview.note == "no decision was compared: of the newest 9 events 9 are left out"
        assert (preview.keys_changed, preview.keys_total) == (3, 3)


async def test_a_preview_says_what_happens_and_changes_nothing(start: Start) -> None:
    """So many keys change as it says, and until the rollback nothing does."""
    async with start() as running:
        client = running.client
        sent = await taught(running, "shown", spec("shown", "t-shown"), 30)
        await client.create_snapshot("shown", "good")
        await more(running, "shown", sent, 60)
        now = await digests(client, "shown")
        request = RollbackRequest(agent="shown", snapshot_id="shown.good")
        preview = await client.preview_rollback(request)
        assert (preview.events_back, preview.keys_total) == (30, 3)
        assert await digests(client, "shown") == now
        assert (await client.agent("shown")).epoch == 1
        await client.rollback(request)
        then = await digests(client, "shown")
        assert preview.keys_changed == sum(now[key] != then[key] for key in KEYS)
        again = await client.preview_rollback(request)
        assert (again.keys_changed, again.decisions_flipped) == (0, 0)


async def test_what_cannot_be_gone_back_to_is_refused(start: Start) -> None:
    """Each refusal has its code, and the agent's epoch stays."""
    async with start() as running:
        client = running.client
        await taught(running, "one-of-two", spec("one-of-two", "t-one-of-two"), 10)
        await taught(running, "one-model", spec("one-model", "t-one-model", scope="shared"), 10)
        await client.create_snapshot("one-of-two", "a")
        await client.create_snapshot("one-model", "a")
        refused = {
            "unknown_snapshot": RollbackRequest(agent="one-of-two", snapshot_id="mine.none"),
            "spec_mismatch": RollbackRequest(agent="one-of-two", snapshot_id="one-model.a"),
            "not_per_key": RollbackRequest(
                agent="one-model", snapshot_id="one-model.a", keys=("ada",)
            ),
            "unknown_agent": RollbackRequest(agent="nobody", snapshot_id="mine.a"),
        }
        for code, request in refused.items():
            with pytest.raises(HeadraceError) as error:
                await client.rollback(request)
            assert code_of(error.value) == code
            own = "`headrace snapshot ls one-of-two` lists those of 'one-of-two'"
            assert (own in str(error.value)) == (code == "spec_mismatch")
        with pytest.raises(NotFoundError) as unknown:
            await client.get_rollback("none")
        assert unknown.value.code == "unknown_rollback"
        assert {a.name: a.epoch for a in await client.agents()} == {"one-of-two": 1, "one-model": 1}


async def test_a_damaged_manifest_is_refused(start: Start, tmp_path: Path) -> None:
    """One byte of it changed, and no copy on the disk: `snapshot_damaged`, nothing counts."""
    repository = tmp_path / "repository"
    text = spec("hurt", "t-hurt")
    async with start(snapshots=f"file://{repository}") as running:
        await taught(running, "hurt", text, 20)
        await running.client.create_snapshot("hurt", "a")
    [manifest] = repository.glob("manifests/hurt.a/*")
    manifest.write_bytes(manifest.read_bytes().replace(b"20", b"21"))
    async with start(state="empty", snapshots=f"file://{repository}") as running:
        await learned(running.client, "hurt", 20)
        with pytest.raises(HeadraceError) as error:
            await running.client.rollback(RollbackRequest(agent="hurt", snapshot_id="hurt.a"))
        assert code_of(error.value) == "snapshot_damaged"
        assert (await running.client.agent("hurt")).epoch == 1


async def test_another_life_refuses_the_snapshots_of_the_former(start: Start) -> None:
    """Deleted and deployed anew, even by the same spec: another agent with another log position."""
    text = spec("revived", "t-revived")
    async with start() as running:
        client = running.client
        await taught(running, "revived", text, 20)
        await client.create_snapshot("revived", "old")
        await client.delete("revived")
        await client.deploy(text)
        await learned(client, "revived", 20)
        with pytest.raises(ConflictError, match="former life") as error:
            await client.rollback(RollbackRequest(agent="revived", snapshot_id="revived.old"))
        assert code_of(error.value) == "spec_mismatch"


async def test_a_rolled_back_agent_stays_so_over_a_restart(start: Start) -> None:
    """The keys and the epoch come back from the disk, and the undo is still possible."""
    async with start() as running:
        sent = await taught(running, "firm", spec("firm", "t-firm"), 30)
        await running.client.create_snapshot("firm", "good")
        await more(running, "firm", sent, 60)
        before = await digests(running.client, "firm")
        await running.client.rollback(RollbackRequest(agent="firm", snapshot_id="firm.good"))
        after = await digests(running.client, "firm")
    async with start() as running:
        await learned(running.client, "firm", 60)
        assert await digests(running.client, "firm") == after
        assert (await running.client.agent("firm")).epoch == 2
        await running.client.undo_rollback("firm")
        assert await digests(running.client, "firm") == before


async def test_two_rollbacks_at_once_leave_one_refused_or_two_done(start: Start) -> None:
    """Whichever comes second is either told that one is running or counts after it."""
    async with start() as running:
        client = running.client
        await taught(running, "both", spec("both", "t-both"), 20)
        await client.create_snapshot("both", "good")
        request = RollbackRequest(agent="both", snapshot_id="both.good")
        came = await asyncio.gather(
            client.rollback(request), client.rollback(request), return_exceptions=True
        )
        refused = [one for one in came if isinstance(one, BaseException)]
        assert all(isinstance(e, ConflictError) and e.code == "rollback_running" for e in refused)
        assert (await client.agent("both")).epoch == 3 - len(refused)
