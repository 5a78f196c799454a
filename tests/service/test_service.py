"""The whole service on a real broker: log → agent → state → decision → answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from headrace.errors import (
    ConflictError,
    ForeignStateError,
    LockedStateError,
    NotFoundError,
    RequestError,
    SpecError,
    StateError,
)
from headrace.models.decisions import Origin
from headrace.models.learner import Learner
from headrace.models.spec import load_spec
from headrace.pipelines import control
from headrace.pipelines.broker import Broker, MemoryBroker
from headrace.pipelines.feeds import Outgoing
from headrace.serving.client import AsyncClient
from headrace.state.memory import MemoryStore
from headrace.state.store import ShardMeta
from headrace.views import AgentView
from tests.pipelines.small_shard import Event
from tests.service.conftest import Start, make_topic
from tests.service.watched import decisions, quarantine
from tests.serving.world import code_of

KEYS = ("ada", "bob", "eve")


def spec(agent: str, topic: str, **more: Any) -> bytes:
    """Without `state` it takes no automatic snapshots, which come by the clock."""
    return msgspec.json.encode(
        {
            "agent": agent,
            "source": {"topic": topic, "key": "$.id", "start": "earliest"},
            "features": {"power": {"type": "number", "range": [0, 100]}},
            "model": ["preprocessing.StandardScaler", "linear_model.LinearRegression"],
            "label": {"field": "$.temp"},
            "emit": {"topic": f"decisions.{topic}.{agent}"},  # tests share a broker
            "state": {"snapshot_s": 86_400},
            **more,
        }
    )


def events(topic: str, numbers: Iterable[int]) -> list[Outgoing]:
    return [
        Outgoing(
            topic,
            KEYS[n % 3].encode(),
            msgspec.json.encode({"id": KEYS[n % 3], "power": n % 11, "temp": 20 + n % 7}),
            1_700_000_000_000 + 1000 * n,
        )
        for n in numbers
    ]


async def learned(client: AsyncClient, agent: str, count: int) -> AgentView:
    until = asyncio.get_running_loop().time() + 60
    while True:
        view = await client.agent(agent)
        if sum(s.accepted + s.quarantined for s in view.shards) >= count:
            return view
        assert asyncio.get_running_loop().time() < until, view
        await asyncio.sleep(0.02)


def fold(text: bytes, sent: list[Outgoing], agent: str, topic: str) -> MemoryStore:
    """What the log amounts to without any service: one learner over all events in order."""
    store = MemoryStore()
    learner = Learner(load_spec(text), Origin(agent, 1, 1, topic, 0), store)
    records = [Event(n, e.timestamp_ms, e.key, e.value) for n, e in enumerate(sent)]
    learner.step(records)
    rows = {row: data for row, data in learner.changed() if data is not None}
    assert rows
    store.write(
        rows.items(),
        ShardMeta(next_offset=len(sent), epoch=1, spec_digest="", control_offset=0, cluster_id=""),
    )
    return store


async def test_an_event_becomes_a_decision_and_an_answer(start: Start) -> None:
    """Deploy, send, predict: each answer names agent, spec version, epoch and offset."""
    async with start() as (service, client):
        effect = await client.deploy(spec("one", "t-one"))
        assert (effect.changed, effect.epoch, effect.spec_version) == (True, 1, 1)
        cold = await client.predict("one", key="ada", features={"power": 3.0})
        assert cold.standing.cold
        await service.events.send_all(events("t-one", range(30)))
        await learned(client, "one", 30)
        answer = await client.predict("one", key="ada", features={"power": 3.0})
        at = answer.standing
        assert (at.agent, at.spec_version, at.epoch, at.offset, at.cold, at.updates) == (
            "one", 1, 1, 30, False, 10,
        )  # fmt: skip
        made = await decisions(client, "one")
        assert [d["position"]["offset"] for d in made] == list(range(30))


async def test_a_restart_rebuilds_everything_and_goes_on_exactly(start: Start) -> None:
    """Agents come back from the control log, keys from disk; the rows in the end are those of
    one uninterrupted fold of the log.
    """
    text = spec("again", "t-again")
    sent = events("t-again", range(50))
    async with start() as (service, client):
        await client.deploy(text)
        await service.events.send_all(sent[:20])
        await learned(client, "again", 20)
    async with start() as (service, client):
        assert [a.name for a in await client.agents()] == ["again"]
        await service.events.send_all(sent[20:])
        await learned(client, "again", 50)
        views = {key: await client.key("again", key) for key in KEYS}
        ids = [d["id"] for d in await decisions(client, "again")]
    assert len(ids) == 50, "after a clean stop nothing is repeated"
    whole = fold(text, sent, "again", "t-again")
    learner = Learner(load_spec(text), Origin("again", 1, 1, "t-again", 0), whole)
    for key, view in views.items():
        assert view.digest == learner.describe(key, 50).digest
    assert sorted(set(ids)) == sorted(f"again/1/t-again/0/{n}" for n in range(50))


async def test_lost_state_is_learned_again_from_the_log(start: Start) -> None:
    """With an empty disk the agent starts where its deploy took effect; repeated decisions are
    byte-identical.
    """
    text = spec("lost", "t-lost")
    sent = events("t-lost", range(25))
    async with start() as (service, client):
        await client.deploy(text)
        await service.events.send_all(sent)
        await learned(client, "lost", 25)
        before = await client.key("lost", "bob")
        first = {d["id"]: d for d in await decisions(client, "lost")}
    async with start(state="empty") as (_, client):
        await learned(client, "lost", 25)
        assert (await client.key("lost", "bob")).digest == before.digest
        for decision in await decisions(client, "lost"):
            assert first[decision["id"]] == decision


async def test_bad_events_are_in_quarantine_and_nowhere_else(start: Start, broker: Broker) -> None:
    """Every bad event is kept with its reason; the good ones around it are learned."""
    bad: dict[str, tuple[bytes | None, bytes]] = {
        "bad_json": (b"ada", b"{"),
        "not_an_object": (b"ada", b"[1]"),
        "wrong_type": (b"ada", b'{"id":"ada","power":"hot","temp":1}'),
        "out_of_range": (b"ada", b'{"id":"ada","power":1e308,"temp":1}'),
        "missing": (b"ada", b'{"id":"ada","temp":1}'),
        "key_mismatch": (b"ada", b'{"id":"bob","power":1,"temp":1}'),
        "key_missing": (None, b'{"id":"ada","power":1,"temp":1}'),
        "too_deep": (b"ada", b"[" * 10_000 + b"]" * 10_000),
        "too_large": (b"ada", b'{"id":"ada","power":1,"temp":1,"x":"' + b"x" * (1 << 20) + b'"}'),
    }
    await make_topic(broker, "t-guarded", max_message_bytes=str(4 << 20))
    async with start() as (service, client):
        await client.deploy(spec("guarded", "t-guarded"))
        good = events("t-guarded", range(3))
        await service.events.send_all(good)
        await learned(client, "guarded", 3)
        before = {key: (await client.key("guarded", key)).digest for key in KEYS}
        for key, value in bad.values():
            await service.events.send("t-guarded", key, value)
        view = await learned(client, "guarded", 3 + len(bad))
        assert view.shards[0].quarantined == len(bad)
        assert {key: (await client.key("guarded", key)).digest for key in KEYS} == before
        kept = await quarantine(client, "guarded")
        assert [q["reason"] for q in kept] == list(bad)
        assert [q["position"]["offset"] for q in kept] == list(range(3, 3 + len(bad)))
        assert len(await decisions(client, "guarded")) == 3


async def test_an_empty_key_is_none(start: Start) -> None:
    """Its events are in quarantine, and nobody is answered about it."""
    async with start() as (service, client):
        await client.deploy(spec("keyless", "t-keyless"))
        empty = b'{"id":"","power":1,"temp":1}'
        await service.events.send("t-keyless", b"", empty)
        assert (await learned(client, "keyless", 1)).shards[0].quarantined == 1
        question = client.predict("keyless", key="", features={"power": 3.0})
        assert await code_of(question) == "invalid_request"
        assert await code_of(client.key("keyless", "")) == "invalid_request"
        assert await code_of(client.forget("keyless", "")) == "invalid_request"
        feedback = client.submit_feedback("keyless", key="", event=empty)
        assert await code_of(feedback) == "bad_event"


async def test_pause_and_resume_take_effect_at_logged_positions(start: Start) -> None:
    """While paused the agent decides and learns nothing; a restart keeps to the positions."""
    sent = events("t-pause", range(30))
    async with start() as (service, client):
        await client.deploy(spec("pausing", "t-pause"))
        await service.events.send_all(sent[:10])
        await learned(client, "pausing", 10)
        assert (await client.pause("pausing")).positions[0].offset == 10
        await service.events.send_all(sent[10:20])
        await learned(client, "pausing", 20)
        view = await client.agent("pausing")
        assert (view.state, view.shards[0].learned) == ("paused", 10)
        assert (await client.resume("pausing")).positions[0].offset == 20
        await service.events.send_all(sent[20:])
        await learned(client, "pausing", 30)
        digest = (await client.key("pausing", "ada")).digest
    async with start(state="empty") as (_, client):
        await learned(client, "pausing", 30)
        assert (await client.agent("pausing")).shards[0].learned == 20
        assert (await client.key("pausing", "ada")).digest == digest


async def test_deploy_again_is_a_no_op_and_another_spec_is_refused(start: Start) -> None:
    """The digest is the identity; a changed spec under an existing name is not taken over."""
    async with start() as (_, client):
        await client.deploy(spec("same", "t-same"))
        assert not (await client.deploy(spec("same", "t-same"))).changed
        with pytest.raises(ConflictError, match="runs another spec"):
            await client.deploy(spec("same", "t-same", metrics=["RMSE"]))


async def test_delete_and_deploy_again_begins_a_new_epoch(start: Start) -> None:
    """A deleted agent is gone with its state; under its name a new epoch starts cold."""
    async with start() as (service, client):
        await client.deploy(spec("gone", "t-gone"))
        await service.events.send_all(events("t-gone", range(9)))
        await learned(client, "gone", 9)
        await client.delete("gone")
        with pytest.raises(NotFoundError):
            await client.predict("gone", key="ada", features={"power": 1.0})
        effect = await client.deploy(spec("gone", "t-gone"))
        assert effect.epoch == 2
        await learned(client, "gone", 9)
        made = await decisions(client, "gone")
        assert {d["epoch"] for d in made} == {1, 2}
        assert len({d["id"] for d in made}) == 18


async def test_a_delete_that_a_crash_cut_short_is_finished_by_the_next_start(
    start: Start, broker: Broker, tmp_path: Path
) -> None:
    """Its effect is logged behind all that may have been decided, and its directory goes."""
    async with start() as (service, client):
        await client.deploy(spec("cut", "t-cut"))
        await service.events.send_all(events("t-cut", range(9)))
        shards = (await learned(client, "cut", 9)).shards
        control_topic = service.worker.control_topic
    left = list((tmp_path / "state").rglob("*@*"))
    assert left
    delete = control.Delete(id="cut short", agent="cut")
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        await producer.send_and_wait(control_topic, control.encode(delete), partition=0)
    async with start() as (service, client):
        assert await client.agents() == []
        deployment = service.worker.controls.registry.last("cut")
        assert deployment is not None
        assert sum(deployment.positions("cut short").values()) == 9
        assert len(deployment.positions("cut short")) == len(shards)
        assert not any(path.exists() for path in left)


async def test_deploy_refuses_a_topic_keyed_by_something_else(start: Start) -> None:
    """When most sampled records' keys differ from the spec's path, nothing is deployed."""
    async with start() as (service, client):
        await client.deploy(spec("right", "t-keyed"))
        await service.events.send_all(events("t-keyed", range(20)))
        wrong = msgspec.json.decode(spec("wrong", "t-keyed"))
        wrong["source"]["key"] = "$.temp"
        with pytest.raises(SpecError) as refused:
            await client.deploy(msgspec.json.encode(wrong))
        assert [v.path for v in refused.value.violations] == ["$.source.key"]
        assert [a.name for a in await client.agents()] == ["right"]


@pytest.mark.parametrize("name", ["control", "quarantine"])
async def test_the_services_own_topics_are_out_of_reach(start: Start, name: str) -> None:
    """Decisions in the control log would stop every worker; quarantine read back grows for ever."""
    async with start() as (service, client):
        own = f"{service.config.app}.{name}"
        for path, text in (
            ("$.source.topic", spec("loop", own)),
            ("$.emit.topic", spec("loop", "t-loop", emit={"topic": own})),
        ):
            with pytest.raises(SpecError) as refused:
                await client.deploy(text)
            assert [v.path for v in refused.value.violations] == [path]
        assert await client.agents() == []


async def test_feedback_is_an_event(start: Start) -> None:
    """SubmitFeedback appends a whole event and says where; a bad one is refused at once."""
    async with start() as (_, client):
        await client.deploy(spec("taught", "t-taught"))
        at = await client.submit_feedback(
            "taught", key="ada", event={"id": "ada", "power": 5, "temp": 21}
        )
        assert (at.topic, at.offset) == ("t-taught", 0)
        view = await learned(client, "taught", 1)
        assert view.shards[0].learned == 1
        with pytest.raises(RequestError, match="power"):
            await client.submit_feedback("taught", key="ada", event={"id": "ada", "temp": 21})


async def test_a_state_directory_has_one_worker(start: Start) -> None:
    """A second worker on the same directory is refused with what to do."""
    async with start():
        with pytest.raises(LockedStateError, match="--state-dir"):
            async with start():
                pass


async def test_state_of_another_log_is_refused(start: Start, tmp_path: Path) -> None:
    """A new embedded broker is a new log: state of the former one is not used, and not touched."""
    async with start() as (service, client):
        await client.deploy(spec("mine", "t-mine"))
        await service.events.send_all(events("t-mine", range(3)))
        await learned(client, "mine", 3)
    other = MemoryBroker(tmp_path / "other-broker")
    await other.start()
    try:
        with pytest.raises(ForeignStateError, match="--state-dir"):
            async with start(on=other):
                pass
    finally:
        await other.stop()
    async with start() as (_, client):
        assert (await client.agent("mine")).shards[0].accepted == 3


async def test_one_agents_bad_state_does_not_stop_the_others(start: Start, tmp_path: Path) -> None:
    """An agent whose state is damaged is `failed` and says why; delete and deploy heal it."""
    async with start() as (service, client):
        for agent in ("sound", "torn"):
            await client.deploy(spec(agent, "t-torn"))
        await service.events.send_all(events("t-torn", range(6)))
        for agent in ("sound", "torn"):
            await learned(client, agent, 6)
    for table in (tmp_path / "state" / "shards" / "torn").rglob("CURRENT"):
        table.write_bytes(b"garbage")
    async with start() as (service, client):
        await service.events.send_all(events("t-torn", range(6, 12)))
        await learned(client, "sound", 12)
        view = await client.agent("torn")
        assert view.state == "failed"
        assert view.note
        with pytest.raises(StateError):
            await client.predict("torn", key="ada", features={"power": 1.0})
        await client.delete("torn")
        await client.deploy(spec("torn", "t-torn"))
        assert (await learned(client, "torn", 12)).shards[0].learned == 12


async def test_a_watch_of_what_is_stored_ends_while_events_go_on(start: Start) -> None:
    """`follow=False` ends where the log ended when it was asked."""
    async with start() as (service, client):
        await client.deploy(spec("busy", "t-busy"))
        await service.events.send_all(events("t-busy", range(300)))
        await learned(client, "busy", 300)

        async def go_on() -> None:
            for begin in range(300, 100_000, 50):
                await service.events.send_all(events("t-busy", range(begin, begin + 50)))

        going = asyncio.create_task(go_on())
        async with asyncio.timeout(10):
            seen = await decisions(client, "busy")
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        assert len(seen) >= 300
