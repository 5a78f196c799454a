"""Snapshots and rollbacks over gRPC on a real broker, while the agent learns and answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest

from headrace.pipelines import control
from headrace.pipelines.feeds import Outgoing
from headrace.service import Service
from headrace.serving import snapshot_pb2, snapshot_pb2_grpc
from headrace.serving.client import AsyncClient
from headrace.state.catalogue import Vouched, encode
from headrace.views import Answer, Position, RollbackRequest, SnapshotView
from tests.service.conftest import Start
from tests.service.test_service import KEYS, decisions, events, learned, spec
from tests.serving.world import code_of

SELDOM = {"snapshot_s": 86_400}  # no automatic snapshots in a test
NEW = b'{"id": "new", "power": 1, "temp": 20}'
Told = dict[str, tuple[int, dict[str, Any]]]


async def told(client: AsyncClient, agent: str) -> Told:
    """How often each key has learned, and its model."""
    views = {key: await client.key(agent, key) for key in KEYS}
    return {key: (view.standing.updates, view.model) for key, view in views.items()}


async def cut_at_30_of_60(service: Service, client: AsyncClient, agent: str) -> Told:
    """Deploy, learn 30 events, take the snapshot `half`, learn 30 more; the keys at 30."""
    topic = f"t-{agent}"
    await client.deploy(spec(agent, topic, state=SELDOM))
    await service.events.send_all(events(topic, range(30)))
    await learned(client, agent, 30)
    half = await told(client, agent)
    await client.create_snapshot(agent, "half")
    await service.events.send_all(events(topic, range(30, 60)))
    await learned(client, agent, 60)
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


async def test_a_snapshot_is_made_listed_shown_pinned_and_removed(start: Start) -> None:
    """It is complete when it is there; its name is taken until it is removed, and then it is told
    that there was one.
    """
    async with start() as (service, client):
        await cut_at_30_of_60(service, client, "kept")
        made = await client.snapshot("kept.half")
        assert (made.kind, made.epoch, made.complete, made.pinned) == ("named", 1, True, False)
        assert [(s.partition, s.next_offset) for s in made.shards] == [(0, 30)]
        assert made.shards[0].size_bytes >= made.shards[0].new_bytes > 0
        assert await client.snapshots("kept") == [made]
        assert (await client.pin_snapshot("kept.half")).pinned
        assert await client.pin_snapshot("kept.half", pinned=False) == made
        assert await code_of(client.create_snapshot("kept", "half")) == "snapshot_exists"
        await client.delete_snapshot("kept.half")
        assert await client.snapshots("kept") == []
        assert await code_of(client.snapshot("kept.half")) == "snapshot_expired"
        assert await code_of(client.snapshot("kept.never")) == "unknown_snapshot"


async def test_a_rollback_puts_all_keys_back_and_nobody_else(start: Start) -> None:
    """Answers and decisions are in the new epoch; another agent on the topic has not moved."""
    async with start() as (service, client):
        await client.deploy(spec("beside", "t-back", state=SELDOM))
        half = await cut_at_30_of_60(service, client, "back")
        await learned(client, "beside", 60)
        beside = {key: (await client.key("beside", key)).digest for key in KEYS}
        done = await client.rollback(to_half("back"))
        assert (done.done, done.epoch, done.mode) == (True, 2, "revert")
        assert done.positions == (Position("t-back", 0, 60),)
        assert await told(client, "back") == half
        answer = await client.predict("back", key="ada", features={"power": 3.0})
        assert (answer.standing.epoch, answer.standing.offset, answer.standing.updates) == (
            *(2, 60, 10),
        )
        assert {key: (await client.key("beside", key)).digest for key in KEYS} == beside
        await service.events.send_all(events("t-back", range(60, 66)))
        await learned(client, "back", 66)
        assert (await told(client, "back"))["ada"][0] == 12
        made = await decisions(client, "back")
        assert [d["epoch"] for d in made] == [1] * 60 + [2] * 6
        assert made[60]["id"] == "back/2/t-back/0/60"
        assert await client.get_rollback(done.control_id) == done


async def test_a_rollback_to_a_time_takes_the_newest_complete_one_before_it(start: Start) -> None:
    """Undo snapshots are not meant; before the first there is nothing to go back to."""
    async with start() as (service, client):
        half = await cut_at_30_of_60(service, client, "timed")
        first = await client.snapshot("timed.half")
        later = await client.create_snapshot("timed", "later")
        asked_for = RollbackRequest(agent="timed", before_ms=later.created_ms)
        done = await client.rollback(asked_for)
        assert done.snapshot_id == "timed.half"
        assert await told(client, "timed") == half
        newest = RollbackRequest(agent="timed", before_ms=later.created_ms + 3_600_000)
        assert (await client.rollback(newest)).snapshot_id == "timed.later"
        nothing = RollbackRequest(agent="timed", before_ms=first.created_ms)
        assert await code_of(client.rollback(nothing)) == "unknown_snapshot"


async def test_a_rollback_of_keys_leaves_all_others(start: Start) -> None:
    """One that the snapshot has not is forgotten."""
    async with start() as (service, client):
        half = await cut_at_30_of_60(service, client, "some")
        await service.events.send("t-some", b"new", NEW)
        await learned(client, "some", 61)
        before = await told(client, "some")
        done = await client.rollback(to_half("some", keys=("ada", "new")))
        assert done.keys == ("ada", "new")
        assert await told(client, "some") == {**before, "ada": half["ada"]}
        assert (await client.predict("some", key="new", features={"power": 1.0})).standing.cold


async def test_a_preview_says_what_then_happens(start: Start) -> None:
    """Keys, decisions and metrics are those that are found after the rollback; the preview itself
    changes nothing.
    """
    sent = events("t-seen", range(60))
    async with start() as (service, client):
        half = await cut_at_30_of_60(service, client, "seen")
        new = events("t-seen", [60])[0]._replace(key=b"new", value=NEW)
        await service.events.send_all([new])
        await learned(client, "seen", 61)
        sent.append(new)
        preview = await client.preview_rollback(to_half("seen"))
        assert (preview.events_back, preview.events_excluded) == (31, 0)
        assert (preview.keys_changed, preview.keys_total) == (4, 4)
        before = await asked(client, "seen", sent)
        assert {answer.standing.epoch for answer in before} == {1}
        assert await client.rollbacks("seen") == []
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
    async with start() as (service, client):
        await cut_at_30_of_60(service, client, "counted")
        await client.create_snapshot("counted", "later")
        await service.events.send("t-counted", b"ada", b'{"id": "ada", "power": 1, "temp": 20}')
        await learned(client, "counted", 61)
        asked_for = RollbackRequest(
            agent="counted", snapshot_id="counted.later", keys=("ada", "bob")
        )
        preview = await client.preview_rollback(asked_for)
        assert (preview.keys_changed, preview.keys_total, preview.events_back) == (1, 2, 1)


async def test_an_undo_gives_back_what_was(start: Start) -> None:
    """The last rollback's, or a named one's: also that of an undo. In between the agent learns."""
    async with start() as (service, client):
        half = await cut_at_30_of_60(service, client, "regret")
        before = await told(client, "regret")
        done = await client.rollback(to_half("regret"))
        await service.events.send_all(events("t-regret", range(60, 66)))
        await learned(client, "regret", 66)
        undone = await client.undo_rollback("regret")
        assert (undone.undoes, undone.epoch) == (done.control_id, 3)
        assert undone.snapshot_id == done.undo_snapshot_id
        assert await told(client, "regret") == before
        assert await code_of(client.undo_rollback("regret")) == "unknown_rollback"
        again = await client.undo_rollback("regret", undone.control_id)
        assert (await told(client, "regret"))["ada"][0] == half["ada"][0] + 2
        assert await client.rollbacks("regret") == [again, undone, done]


async def test_an_undo_of_keys_concerns_these_keys(start: Start) -> None:
    """What others have learned since stays."""
    async with start() as (service, client):
        await cut_at_30_of_60(service, client, "narrow")
        before = await told(client, "narrow")
        await client.rollback(to_half("narrow", keys=("ada",)))
        await service.events.send_all(events("t-narrow", range(60, 66)))
        await learned(client, "narrow", 66)
        since = await told(client, "narrow")
        await client.undo_rollback("narrow")
        assert await told(client, "narrow") == {**since, "ada": before["ada"]}


async def test_what_cannot_be_rolled_back_is_refused(start: Start) -> None:
    """Unknown, of another agent, half published, removed; and a mode that there is not."""
    async with start() as (service, client):
        await cut_at_30_of_60(service, client, "firm")
        await cut_at_30_of_60(service, client, "other")
        half = await client.snapshot("firm.half")
        await service.worker.vault._topic.append(*_half_published(service, half))

        async def refusal(snapshot_id: str, **more: Any) -> str:
            request = RollbackRequest(agent="firm", snapshot_id=snapshot_id, **more)
            assert await code_of(client.preview_rollback(request)) == await code_of(
                client.rollback(request)
            )
            return await code_of(client.rollback(request))

        assert await refusal("firm.never") == "unknown_snapshot"
        assert await refusal("other.half") == "spec_mismatch"
        assert await refusal("firm.torn") == "snapshot_incomplete"
        await client.delete_snapshot("firm.half")
        assert await refusal("firm.half") == "snapshot_expired"
        assert await code_of(client.get_rollback("0" * 32)) == "unknown_rollback"
        assert await code_of(client.undo_rollback("firm")) == "unknown_rollback"
        assert (await client.agent("firm")).epoch == 1


def _half_published(service: Service, half: SnapshotView) -> tuple[bytes, bytes]:
    """What the catalogue has of a snapshot of which a second partition is missing."""
    (vouched,) = service.worker.vault.catalogue.shards(half.snapshot_id).values()
    torn: Vouched = msgspec.structs.replace(vouched, snapshot_id="firm.torn", partitions=2)
    return torn.key, encode(torn)


async def test_keys_of_a_shared_model_cannot_go_back_alone(start: Start) -> None:
    """The model has learned from all of them; the whole agent can."""
    async with start() as (service, client):
        await client.deploy(spec("joint", "t-joint", scope="shared", state=SELDOM))
        await service.events.send_all(events("t-joint", range(30)))
        await learned(client, "joint", 30)
        await client.create_snapshot("joint", "half")
        at_half = (await client.predict("joint", key="ada", features={"power": 3.0})).score
        await service.events.send_all(events("t-joint", range(30, 60)))
        await learned(client, "joint", 60)
        assert await code_of(client.rollback(to_half("joint", keys=("ada",)))) == "not_per_key"
        await client.rollback(to_half("joint"))
        answer = await client.predict("joint", key="ada", features={"power": 3.0})
        assert answer.score == at_half


async def test_one_rollback_of_an_agent_at_a_time(start: Start) -> None:
    """While another worker has yet to roll back its partition, others are refused."""
    async with start() as (service, client):
        await cut_at_30_of_60(service, client, "once")
        (vouched,) = service.worker.vault.catalogue.shards("once.half").values()
        base = control.Base(partition=0, epoch=1, next_offset=30, digest=vouched.digest)
        elsewhere = msgspec.structs.replace(base, partition=1)
        await service.worker.controls.append(
            control.Rollback(
                id="another-worker",
                agent="once",
                life=1,
                snapshot_id="once.half",
                bases=(base, elsewhere),
            )
        )
        async with asyncio.timeout(10):
            while True:
                running = await client.get_rollback("another-worker")
                if running.positions:
                    break
                await asyncio.sleep(0.02)
        assert not running.done
        assert await code_of(client.rollback(to_half("once"))) == "rollback_running"
        assert await code_of(client.preview_rollback(to_half("once"))) == "rollback_running"


async def test_a_snapshot_that_a_rollback_stands_on_is_kept(start: Start) -> None:
    """Until there is one of what came of it, a restore would need it."""
    async with start() as (service, client):
        await cut_at_30_of_60(service, client, "stands")
        await client.rollback(to_half("stands"))
        assert await code_of(client.delete_snapshot("stands.half")) == "snapshot_in_use"
        await client.create_snapshot("stands", "after")
        await client.delete_snapshot("stands.half")
        assert {s.snapshot_id for s in await client.snapshots("stands") if s.kind == "named"} == {
            "stands.after"
        }


async def test_an_agent_deployed_anew_does_not_go_back_behind_its_deploy(start: Start) -> None:
    """The same spec under the same name, and yet another agent: its epoch is higher."""
    async with start() as (service, client):
        await cut_at_30_of_60(service, client, "anew")
        await client.delete("anew")
        effect = await client.deploy(spec("anew", "t-anew", state=SELDOM))
        assert effect.epoch == 2
        await learned(client, "anew", 60)
        assert await code_of(client.rollback(to_half("anew"))) == "spec_mismatch"
        assert (await client.agent("anew")).epoch == 2


async def test_answers_never_mix_epochs(start: Start) -> None:
    """While the agent goes back and forth, each answer is that of its epoch's state, and no answer
    is of an older epoch than one before it.
    """
    async with start() as (service, client):
        await cut_at_30_of_60(service, client, "swift")
        seen: list[tuple[int, int, float | None]] = []
        over = asyncio.Event()

        async def ask() -> None:
            epoch = 0
            while not over.is_set():
                answer = await client.predict("swift", key="ada", features={"power": 3.0})
                at = answer.standing
                assert at.epoch >= epoch
                epoch = at.epoch
                seen.append((at.epoch, at.updates, answer.score))

        askers = [asyncio.create_task(ask()) for _ in range(4)]
        for _ in range(3):
            await client.rollback(to_half("swift"))
            await client.undo_rollback("swift")
        over.set()
        await asyncio.gather(*askers)
        by_epoch: dict[int, set[tuple[int, float | None]]] = {}
        for epoch, updates, score in seen:
            by_epoch.setdefault(epoch, set()).add((updates, score))
        assert len(by_epoch) > 3
        assert all(len(states) == 1 for states in by_epoch.values())
        odd = {state for epoch, states in by_epoch.items() if epoch % 2 for state in states}
        even = {state for epoch, states in by_epoch.items() if not epoch % 2 for state in states}
        assert (len(odd), len(even)) == (1, 1)
        assert odd != even


async def test_decisions_count_their_epoch_under_load(start: Start) -> None:
    """Events that come all the time: each is decided in exactly one epoch, the border being where
    the rollback says.
    """
    async with start() as (service, client):
        await cut_at_30_of_60(service, client, "loaded")

        async def go_on() -> None:
            for begin in range(60, 1_060, 20):
                await service.events.send_all(events("t-loaded", range(begin, begin + 20)))

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


async def test_a_damaged_manifest_leaves_as_data_loss(start: Start, tmp_path: Path) -> None:
    """Nothing is in the control log then, and the agent goes on."""
    repository = tmp_path / "repository"
    kept = {"snapshots": f"file://{repository}"}
    async with start(**kept) as (service, client):
        await cut_at_30_of_60(service, client, "spoilt")
    async with start(state="empty", **kept) as (service, client):
        await learned(client, "spoilt", 60)
        for manifest in (repository / "manifests" / "spoilt.half").iterdir():
            text = manifest.read_bytes()
            manifest.write_bytes(text.replace(b'"next_offset":30', b'"next_offset":31'))
        assert await code_of(client.rollback(to_half("spoilt"))) == "snapshot_damaged"
        async with grpc.aio.insecure_channel(service.grpc_address) as channel:
            stub = snapshot_pb2_grpc.SnapshotServiceStub(channel)
            plan = snapshot_pb2.RollbackPlan(agent="spoilt", snapshot_id="spoilt.half")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Rollback(snapshot_pb2.RollbackRequest(plan=plan))
        assert refused.value.code() is grpc.StatusCode.DATA_LOSS
        assert await client.rollbacks("spoilt") == []
        assert (await client.agent("spoilt")).state == "running"
