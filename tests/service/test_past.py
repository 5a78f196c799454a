"""Answers from states of the past, and decisions made again, over gRPC on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from headrace.clock import SystemClock
from headrace.errors import NotFoundError, OverloadError, RequestError
from headrace.pipelines.feeds import Outgoing
from headrace.pipelines.past import making, opened
from headrace.pipelines.past.reach import named
from headrace.serving.client import AsyncClient, Client
from headrace.views import Answer, AsOf, Exclusion, Question, RollbackRequest
from tests.service.conftest import Start
from tests.service.test_restore import published
from tests.service.test_rollback import learner_over, more, taught
from tests.service.test_rollback_answers import cut_at_30_of_60, to_half
from tests.service.test_service import KEYS, events, learned, spec
from tests.service.watched import decisions
from tests.serving.world import code_of

POWER = {"power": 3.0}


async def then(client: AsyncClient, agent: str, key: str = "ada", **state: Any) -> Answer:
    return await client.predict(agent, key=key, features=POWER, as_of=AsOf(**state))


def scores(agent: str, text: bytes, sent: Iterable[tuple[int, Outgoing]]) -> dict[str, float]:
    """What a learner says that has seen these events, by offset, and nothing else."""
    learner = learner_over(agent, text, sent)
    found = {}
    for key in KEYS:
        question = Question(agent=agent, key=key, features=POWER)
        found[key] = learner.predict(question, 0).score or 0.0
    return found


async def test_an_offset_answers_as_the_log_below_it(start: Start) -> None:
    """Bit for bit, whether a snapshot is near or not; the standing says which state it was."""
    text = spec("offsets", "t-offsets")
    async with start() as running:
        await cut_at_30_of_60(running, "offsets")
        sent = [*enumerate(events("t-offsets", range(60)))]
        for offset in (3, 29, 30, 31, 60):
            said = {key: await then(running.client, "offsets", key, offset=offset) for key in KEYS}
            assert {k: a.score for k, a in said.items()} == scores("offsets", text, sent[:offset])
            at = said["ada"].standing
            assert (at.agent, at.spec_version, at.epoch, at.offset) == ("offsets", 1, 1, offset)
            assert (at.topic, at.partition, at.behind) == ("t-offsets", 0, 60 - offset)
        assert (await then(running.client, "offsets", offset=0)).standing.cold


async def test_a_snapshot_answers_as_it_did(start: Start) -> None:
    """The snapshot before the rollback, the undo snapshot behind it: each in its own epoch."""
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "shots")
        before = await client.predict("shots", key="ada", features=POWER)
        done = await client.rollback(to_half("shots"))
        after = await client.predict("shots", key="ada", features=POWER)
        half = await then(client, "shots", snapshot_id="shots.half")
        await published(client, done.undo_snapshot_id)
        undo = await then(client, "shots", snapshot_id=done.undo_snapshot_id)
        assert (half.score, undo.score) == (after.score, before.score)
        assert [(a.standing.epoch, a.standing.offset) for a in (half, undo)] == [(1, 30), (1, 60)]
        both = await then(client, "shots", offset=60)
        assert (both.score, both.standing.epoch) == (after.score, 2)


async def test_a_time_answers_as_of_all_before_it(start: Start) -> None:
    """By the timestamps of the records; a time after all of them is now."""
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "times")
        stamp = events("t-times", [40])[0].timestamp_ms
        exact = await then(client, "times", time_ms=stamp)
        assert exact.standing.offset == 40
        assert (await then(client, "times", time_ms=stamp + 1)).standing.offset == 41
        assert (await then(client, "times", time_ms=stamp + 10**9)).standing.offset == 60
        assert exact.score == (await then(client, "times", offset=40)).score


async def test_a_time_before_a_rollback_answers_as_of_before_it(start: Start) -> None:
    """Also if no record has come since, so that both states stand at the same offset; and between
    a rollback and its undo.
    """
    async with start() as running:
        client = running.client

        async def now() -> tuple[int, float | None, int]:
            """A moment in which nothing happens, and what is said in it."""
            await asyncio.sleep(0.05)
            time_ms = int(SystemClock().time() * 1000)
            said = await client.predict("moments", key="ada", features=POWER)
            await asyncio.sleep(0.05)
            return time_ms, said.score, said.standing.epoch

        await cut_at_30_of_60(running, "moments")
        moments = [await now()]
        done = await client.rollback(to_half("moments"))
        moments.append(await now())
        await client.undo_rollback("moments", done.control_id)
        moments.append(await now())
        assert [epoch for *_, epoch in moments] == [1, 2, 3]
        assert moments[0][1] == moments[2][1] != moments[1][1]
        for time_ms, score, epoch in moments:
            found = await then(client, "moments", time_ms=time_ms)
            assert (found.score, found.standing.epoch) == (score, epoch)
            assert (found.standing.offset, found.standing.behind) == (60, 0)


async def test_a_time_before_the_agent_began_is_refused(start: Start) -> None:
    """It began with its deploy, or with the first event that it has learned if that is older."""
    year_ms = 365 * 86_400_000
    async with start() as running:
        client = running.client
        await taught(running, "begins", spec("begins", "t-begins"), 20)
        first_ms = events("t-begins", [0])[0].timestamp_ms
        assert (await then(client, "begins", time_ms=first_ms)).standing.offset == 0
        for time_ms in (first_ms - 1_000, first_ms - year_ms):
            with pytest.raises(RequestError, match="is before agent 'begins' began: it") as refused:
                await then(client, "begins", time_ms=time_ms)
            assert refused.value.code == "out_of_range"
            assert f"times from {named(first_ms)} on" in refused.value.text
        deploying_ms = int(SystemClock().time() * 1000)
        await client.deploy(spec("empty", "t-empty"))
        await learned(client, "empty", 0)
        assert (
            await code_of(then(client, "empty", time_ms=deploying_ms - year_ms)) == "out_of_range"
        )
        now_ms = int(SystemClock().time() * 1000)
        assert (await then(client, "empty", time_ms=now_ms)).standing.cold


async def test_across_a_rewind_and_a_pause(start: Start) -> None:
    """Behind the rewind the excluded events are unlearned, before it they are learned; what came
    in a pause is in neither.
    """
    text = spec("rewound", "t-rewound")
    async with start() as running:
        client = running.client
        sent = await taught(running, "rewound", text, 20)
        await client.create_snapshot("rewound", "good")
        await client.pause("rewound")
        await more(running, "rewound", sent, 30)
        await client.resume("rewound")
        await more(running, "rewound", sent, 50)
        ids = tuple(f"rewound/1/t-rewound/0/{offset}" for offset in (31, 33, 40))
        await client.rollback(
            RollbackRequest(
                agent="rewound",
                snapshot_id="rewound.good",
                mode="rewind",
                exclude=Exclusion(decisions=ids),
            )
        )
        async with asyncio.timeout(20):
            while not (await client.rollbacks("rewound"))[0].done:  # noqa: ASYNC110 - it is asked
                await asyncio.sleep(0.02)
        sent += events("t-rewound", range(50, 55))
        await running.service.events.send_all(sent[50:])
        await learned(client, "rewound", 52)
        taken = [pair for pair in enumerate(sent) if not 20 <= pair[0] < 30]
        kept = [pair for pair in taken if pair[0] not in (31, 33, 40)]
        before = await then(client, "rewound", "bob", offset=45)
        after = await then(client, "rewound", "bob", offset=53)
        assert before.score == scores("rewound", text, taken[:35])["bob"]
        assert after.score == scores("rewound", text, kept[:40])["bob"]
        assert (before.standing.epoch, after.standing.epoch) == (1, 2)


async def test_the_second_answer_learns_nothing_again(start: Start) -> None:
    """It is the same also when the log is there no more, as the state is still open."""
    async with start() as running:
        await cut_at_30_of_60(running, "asked-again")
        first = await then(running.client, "asked-again", offset=45)
        past = running.service.past
        (kept,) = past._opened._kept.values()
        assert (await then(running.client, "asked-again", offset=45)).score == first.score
        assert list(past._opened._kept.values()) == [kept]


async def test_a_few_states_stay_open_and_all_go_with_the_service(start: Start) -> None:
    """The one that was asked the longest ago goes first, and its files with it."""
    async with start() as running:
        await cut_at_30_of_60(running, "few")
        for offset in range(31, 31 + opened.KEPT_MAX + 1):
            await then(running.client, "few", offset=offset)
        kept = running.service.past._opened._kept
        assert [state.offset for state in kept] == [*range(32, 31 + opened.KEPT_MAX + 1)]
        drafts = running.service.worker.shards.site.directory.path / "drafts"
        async with asyncio.timeout(10):
            while len(list(drafts.iterdir())) > opened.KEPT_MAX:  # noqa: ASYNC110 - on a disk
                await asyncio.sleep(0.02)
    assert list(drafts.iterdir()) == []


async def test_more_than_a_few_at_a_time_are_shed(start: Start) -> None:
    """With when to try again; those that ask for the same state wait for it together."""
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "crowd")
        asked = [then(client, "crowd", key, offset=33) for key in KEYS * 4]
        assert len({a.standing.offset for a in await asyncio.gather(*asked)}) == 1
        offsets = range(34, 34 + 3 * making.MAKING_MAX)
        tried = await asyncio.gather(
            *(then(client, "crowd", offset=offset) for offset in offsets), return_exceptions=True
        )
        shed = [each for each in tried if isinstance(each, OverloadError)]
        assert len(shed) == len(offsets) - making.MAKING_MAX
        assert {each.retry_s for each in shed} == {making.RETRY_S}


async def test_what_there_never_was_is_refused(start: Start) -> None:
    """Each with its code."""
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "strict")
        await client.deploy(spec("other", "t-other"))
        await client.create_snapshot("other", "its")
        await client.create_snapshot("strict", "gone")
        await client.delete_snapshot("strict.gone")
        asked: dict[str, dict[str, Any]] = {
            "out_of_range": {"offset": 61},
            "unknown_snapshot": {"snapshot_id": "strict.never"},
            "snapshot_expired": {"snapshot_id": "strict.gone"},
            "spec_mismatch": {"snapshot_id": "other.its"},
        }
        for code, state in asked.items():
            assert await code_of(then(client, "strict", **state)) == code
        unknown = client.predict("strict", key="ada", features={"x": 1}, as_of=AsOf(offset=30))
        assert await code_of(unknown) == "unknown_feature"
        both = AsOf(offset=1, time_ms=1)
        asked_both = client.predict("strict", key="ada", features=POWER, as_of=both)
        assert await code_of(asked_both) == "invalid_request"


async def test_who_asks_beyond_is_told_what_can_be_asked_for(start: Start) -> None:
    """By offset, by time, and by snapshot; what is named can be asked."""
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "bounded")
        span = "what can be asked for are offsets 0 to 60 of t-bounded[0], times from "
        day_ms = 86_400_000
        now_ms = int(SystemClock().time() * 1000)
        beyond: list[dict[str, Any]] = [{"offset": 61}, {"time_ms": now_ms + day_ms}]
        for state in beyond:
            with pytest.raises(RequestError) as refused:
                await then(client, "bounded", **state)
            assert refused.value.code == "out_of_range"
            assert span in refused.value.text
            assert refused.value.text.endswith(", and the snapshots bounded.half")
        assert f"{named(now_ms + day_ms)} is not past: here it is" in refused.value.text
        assert (await then(client, "bounded", time_ms=now_ms)).standing.offset == 60
        await then(client, "bounded", offset=0)


async def test_a_state_too_many_events_away_is_refused(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how many, and from where; the snapshot itself still answers."""
    monkeypatch.setattr(making, "EVENTS_MAX", 20)
    async with start() as running:
        await cut_at_30_of_60(running, "far")
        assert (await then(running.client, "far", offset=50)).standing.offset == 50
        assert await code_of(then(running.client, "far", offset=51)) == "too_large"
        assert (await then(running.client, "far", snapshot_id="far.half")).standing.offset == 30


async def test_the_live_shard_goes_on_meanwhile(start: Start) -> None:
    """Its state after questions about the past is what it would be without them."""
    text = spec("calm", "t-calm")
    async with start() as running:
        await cut_at_30_of_60(running, "calm")
        sent = events("t-calm", range(60))
        asking = [asyncio.create_task(then(running.client, "calm", offset=o)) for o in (35, 55)]
        await more(running, "calm", sent, 90)
        await asyncio.gather(*asking)
        views = {key: await running.client.key("calm", key) for key in KEYS}
        learner = learner_over("calm", text, [*enumerate(sent)])
        for key in KEYS:
            assert views[key].digest == learner.describe(key, 0).digest


async def test_decisions_are_verified_by_their_ids(start: Start) -> None:
    """Of both epochs around a rollback; the replaced ones say who has withdrawn them."""
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "proof")
        sent = events("t-proof", range(60))
        done = await client.rollback(to_half("proof"))
        await more(running, "proof", sent, 70)
        made = {d["position"]["offset"]: d for d in await decisions(client, "proof")}
        for offset in (0, 29, 30, 59, 60, 69):
            found = await client.verify_decision(made[offset]["id"])
            assert (found.verdict, found.differences) == ("confirmed", ()), found
            assert found.snapshot_id != "" or offset < 30
            assert (done.control_id in found.note) == (30 <= offset < 60)


async def test_a_record_that_is_handed_in_is_held_against_the_log(start: Start) -> None:
    """One altered field is named with what it must be, for both clients."""
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "held")
        (record,) = [d for d in await decisions(client, "held") if d["position"]["offset"] == 44]
        found = await client.verify_decision(record=record)
        assert (found.verdict, found.snapshot_id, found.events) == ("confirmed", "held.half", 14)
        record["score"] += 0.5

        def blocking() -> Any:
            with Client(running.service.grpc_address) as other:
                return other.verify_decision(record=record)

        found = await asyncio.to_thread(blocking)
        assert found.verdict == "contradicted"
        (difference,) = found.differences
        assert difference.field == "score"
        assert float(difference.found) == float(difference.expected) + 0.5


async def test_it_needs_no_local_state(start: Start) -> None:
    """The worker's own checkpoint may have been altered: the repository's files are taken."""
    async with start() as running:
        await cut_at_30_of_60(running, "remote")
        await decisions(running.client, "remote")
        directory = running.service.worker.shards.site.directory
        for table in (directory.checkpoints / "remote.half").rglob("*.sst"):
            altered = table.with_suffix(".new")
            altered.write_bytes(bytes(table.stat().st_size))
            altered.rename(table)  # the shard has the same file under another name
        found = await running.client.verify_decision("remote/1/t-remote/0/40")
        assert (found.verdict, found.snapshot_id) == ("confirmed", "remote.half")


async def test_a_damaged_repository_is_not_believed(start: Start) -> None:
    """Bytes that nobody vouches for confirm nothing; an older start does."""
    async with start() as running:
        await cut_at_30_of_60(running, "broken")
        await decisions(running.client, "broken")
        (manifest,) = (running.service.worker.shards.site.directory.path / "snapshots").rglob(
            "*broken.half*/*.json"
        )
        manifest.write_bytes(manifest.read_bytes().replace(b"30", b"31"))
        found = await running.client.verify_decision("broken/1/t-broken/0/40")
        assert (found.verdict, found.snapshot_id) == ("confirmed", "")
        assert running.service.worker.vault.refusals == 1


async def test_what_was_never_decided_says_why(start: Start) -> None:
    """Not that its event may have been refused, where there was no such event."""
    told = {
        "1/t-never/0/7500": "the log t-never[0] ends at offset 60",
        "9/t-never/0/40": "the agent has had no epoch 9: its newest is 2",
        "2/t-never/0/40": "in epoch 1, so its decision would be 'never/1/t-never/0/40'",
        "1/t-never/7/40": "the agent has not begun in partition 7 of 't-never'",
        "1/t-other/0/40": "the agent reads the topic 't-never'",
    }
    async with start() as running:
        await cut_at_30_of_60(running, "never")
        await running.client.rollback(to_half("never"))
        for wrong, why in told.items():
            with pytest.raises(NotFoundError) as refused:
                await running.client.verify_decision(f"never/{wrong}")
            assert refused.value.code == "unknown_decision"
            assert refused.value.text.endswith(why)
