"""What is answered before, while and after a rollback happens, over gRPC on a real broker."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.errors import BadDiskError, HeadraceError
from headrace.pipelines.feeds import Outgoing
from headrace.pipelines.revert import Revert
from headrace.pipelines.rewind import Rewind
from headrace.serving.client import AsyncClient
from headrace.views import Answer, RollbackRequest
from tests.service.conftest import Running, Start
from tests.service.test_rollback import digests, more, taught
from tests.service.test_service import KEYS, events, learned, spec
from tests.service.watched import decisions
from tests.serving.world import code_of

NEW = b'{"id": "new", "power": 1, "temp": 20}'
Told = dict[str, tuple[int, dict[str, Any]]]


async def told(client: AsyncClient, agent: str) -> Told:
    """How often each key has learned, and its model."""
    views = {key: await client.key(agent, key) for key in KEYS}
    return {key: (view.standing.updates, view.model) for key, view in views.items()}


async def cut_at_30_of_60(running: Running, agent: str) -> Told:
    """Deploy, learn 30 events, take the snapshot `half`, learn 30 more; the keys at 30."""
    sent = await taught(running, agent, spec(agent, f"t-{agent}"), 30)
    half = await told(running.client, agent)
    await running.client.create_snapshot(agent, "half")
    await more(running, agent, sent, 60)
    return half


def to_half(agent: str, **more: Any) -> RollbackRequest:
    return RollbackRequest(agent=agent, snapshot_id=f"{agent}.half", **more)


async def asked(client: AsyncClient, agent: str, sent: list[Outgoing]) -> list[Answer]:
    """What the agent says of these events now."""
    found = []
    for event in sent:
        body = msgspec.json.decode(event.value or b"")
        features = {"power": body["power"]}
        found.append(await client.predict(agent, key=body["id"], features=features))
    return found


async def test_a_rollback_of_one_agent_leaves_the_others(start: Start) -> None:
    """One that reads the same topic has not moved."""
    async with start() as running:
        await running.client.deploy(spec("next-door", "t-moved"))
        half = await cut_at_30_of_60(running, "moved")
        await learned(running.client, "next-door", 60)
        before = await digests(running.client, "next-door")
        await running.client.rollback(to_half("moved"))
        assert await told(running.client, "moved") == half
        assert await digests(running.client, "next-door") == before
        assert (await running.client.agent("next-door")).epoch == 1


async def test_a_key_that_the_snapshot_has_not_is_forgotten(start: Start) -> None:
    """Keys that were not asked for stay as they are."""
    async with start() as running:
        client = running.client
        half = await cut_at_30_of_60(running, "some")
        await running.service.events.send("t-some", b"new", NEW)
        await learned(client, "some", 61)
        before = await told(client, "some")
        await client.rollback(to_half("some", keys=("ada", "new")))
        assert await told(client, "some") == {**before, "ada": half["ada"]}
        assert (await client.predict("some", key="new", features={"power": 1.0})).standing.cold


async def test_a_preview_says_what_is_answered_afterwards(start: Start) -> None:
    """Flipped decisions and metrics are those that are found when both states are asked."""
    sent = events("t-seen", range(60))
    async with start() as running:
        client = running.client
        half = await cut_at_30_of_60(running, "seen")
        sent += [events("t-seen", [60])[0]._replace(key=b"new", value=NEW)]
        await running.service.events.send_all(sent[60:])
        await learned(client, "seen", 61)
        preview = await client.preview_rollback(to_half("seen"))
        assert (preview.events_back, preview.keys_changed, preview.keys_total) == (31, 4, 4)
        before = await asked(client, "seen", sent)
        await client.rollback(to_half("seen"))
        assert await told(client, "seen") == half
        after = await asked(client, "seen", sent)
        flips = [one.score != other.score for one, other in zip(before, after, strict=True)]
        assert (preview.decisions_compared, preview.decisions_flipped) == (61, sum(flips))
        truths = [msgspec.json.decode(event.value or b"")["temp"] for event in sent]
        (mae,) = [metric for metric in preview.metrics if metric.name == "MAE"]
        assert (mae.now, mae.then) == pytest.approx((_mae(before, truths), _mae(after, truths)))


def _mae(answers: list[Answer], truths: list[float]) -> float:
    pairs = zip(answers, truths, strict=True)
    return sum(abs((answer.score or 0.0) - truth) for answer, truth in pairs) / len(truths)


async def test_a_preview_of_keys_counts_these_only(start: Start) -> None:
    """Of the two that are asked for one has not learned since."""
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "counting")
        await client.create_snapshot("counting", "later")
        await running.service.events.send("t-counting", b"ada", NEW.replace(b"new", b"ada"))
        await learned(client, "counting", 61)
        preview = await client.preview_rollback(
            RollbackRequest(agent="counting", snapshot_id="counting.later", keys=("ada", "bob"))
        )
        assert (preview.keys_changed, preview.keys_total, preview.events_back) == (1, 2, 1)


async def test_an_undo_of_keys_concerns_these_keys(start: Start) -> None:
    """What others have learned since stays."""
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "slim")
        before = await told(client, "slim")
        await client.rollback(to_half("slim", keys=("ada",)))
        await running.service.events.send_all(events("t-slim", range(60, 66)))
        await learned(client, "slim", 66)
        since = await told(client, "slim")
        await client.undo_rollback("slim")
        assert await told(client, "slim") == {**since, "ada": before["ada"]}


async def test_an_undo_can_be_undone(start: Start) -> None:
    """By its id: what was learned between the rollback and its undo is back, and the rollback
    stands again, until it is taken back once more.
    """
    async with start() as running:
        client = running.client
        half = await cut_at_30_of_60(running, "regret")
        done = await client.rollback(to_half("regret"))
        await running.service.events.send_all(events("t-regret", range(60, 66)))
        await learned(client, "regret", 66)
        undone = await client.undo_rollback("regret")
        again = await client.undo_rollback("regret", undone.control_id)
        assert (again.undoes, again.epoch) == (undone.control_id, 4)
        assert (await told(client, "regret"))["ada"][0] == half["ada"][0] + 2
        assert (await client.undo_rollback("regret")).undoes == done.control_id
        assert await code_of(client.undo_rollback("regret")) == "unknown_rollback"


async def test_answers_never_mix_epochs(start: Start) -> None:
    """While the agent goes back and forth, each answer is that of its epoch's state, and no answer
    is of an older epoch than one before it.
    """
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "swift")
        by_epoch: dict[int, set[tuple[int, float | None]]] = {}
        over = asyncio.Event()

        async def ask() -> None:
            epoch = 0
            while not over.is_set():
                answer = await client.predict("swift", key="ada", features={"power": 3.0})
                at = answer.standing
                assert at.epoch >= epoch
                epoch = at.epoch
                by_epoch.setdefault(epoch, set()).add((at.updates, answer.score))

        askers = [asyncio.create_task(ask()) for _ in range(4)]
        for _ in range(3):
            await client.rollback(to_half("swift"))
            await client.undo_rollback("swift")
        over.set()
        await asyncio.gather(*askers)
        assert len(by_epoch) > 3
        odd, even = (
            {state for epoch, states in by_epoch.items() if epoch % 2 == rest for state in states}
            for rest in (1, 0)
        )
        assert (len(odd), len(even)) == (1, 1)
        assert odd != even


async def test_the_border_of_epochs_is_where_the_rollback_says(start: Start) -> None:
    """Also while events come all the time: each is decided once, in one epoch."""
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "loaded")

        async def go_on() -> None:
            for begin in range(60, 1_060, 20):
                batch = events("t-loaded", range(begin, begin + 20))
                await running.service.events.send_all(batch)

        going = asyncio.create_task(go_on())
        done = await client.rollback(to_half("loaded"))
        undone = await client.undo_rollback("loaded")
        await going
        await learned(client, "loaded", 1_060)
        made = await decisions(client, "loaded")
        borders = (done.positions[0].offset, undone.positions[0].offset)
        assert [d["position"]["offset"] for d in made] == list(range(1_060))
        for offset, decision in enumerate(made):
            assert decision["epoch"] == 1 + sum(offset >= border for border in borders)


async def test_it_is_done_when_the_new_epoch_answers(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not yet when the control log knows where it counts: what is asked then is of the old state,
    and the agent says so.
    """
    goes_on, new_state = asyncio.Event(), Rewind._new_state

    async def held_up(rewind: Rewind, *given: Any) -> Path:
        await goes_on.wait()
        return await new_state(rewind, *given)

    monkeypatch.setattr(Rewind, "_new_state", held_up)
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "held-up")
        asked = asyncio.create_task(client.rollback(to_half("held-up", mode="rewind")))
        registry = running.service.worker.controls.registry
        async with asyncio.timeout(20):
            while not registry.get("held-up").rollbacks():  # noqa: ASYNC110 - not told
                await asyncio.sleep(0.02)
            (accepted,) = registry.get("held-up").rollbacks()
            while not registry.get("held-up").positions(accepted.control_id):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        view = await client.get_rollback(accepted.control_id)
        assert (view.positions, view.done) == ((), False)
        answer = await client.predict("held-up", key="ada", features={"power": 3.0})
        agent = await client.agent("held-up")
        assert (answer.standing.epoch, agent.epoch) == (1, 2)
        assert agent.note == "epoch 2 is on its way: 0 of 1 partition here answers from it"
        goes_on.set()
        done = await asked
        assert (done.done, [position.offset for position in done.positions]) == (True, [60])
        answer = await client.predict("held-up", key="ada", features={"power": 3.0})
        assert (answer.standing.epoch, (await client.agent("held-up")).note) == (2, "")


async def test_it_is_not_done_where_the_shard_is_lost_on_the_way(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control log knows where it counts, and nobody answers from the new epoch: it says why."""

    async def bad_disk(*_: Any) -> Path:
        raise BadDiskError("the disk cannot be trusted")

    monkeypatch.setattr(Revert, "_new_state", bad_disk)
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "given-up")
        with suppress(HeadraceError):  # whether it answers before the agent is given up
            assert not (await client.rollback(to_half("given-up"))).done
        (view,) = await client.rollbacks("given-up")
        async with asyncio.timeout(10):
            while not view.note:
                assert not view.done
                (view,) = await client.rollbacks("given-up")
        assert (view.done, view.failed) == (False, 0)
        assert view.note == "the agent has failed: the disk cannot be trusted"
