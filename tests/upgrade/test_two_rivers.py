"""An upgrade from River 0.25.0 to the present one, with real services of both."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.errors import ConflictError
from headrace.pipelines.broker import Broker
from headrace.pipelines.feeds import EventProducer, Outgoing
from headrace.serving.client import Client
from headrace.views import AgentView, Migration, MigrationPlan, RollbackRequest
from tests.service.conftest import make_topic
from tests.service.test_rollback import learner_over
from tests.upgrade.builds import Build, other_build
from tests.upgrade.worker import Life

KEYS = ("ada", "bob", "eve")
TOPIC = "two-rivers"
FIRST, LAST = 60, 75  # events below a snapshot, and all that the old build has learned
MODELS = {
    "leaves": "tree.HoeffdingTreeClassifier",
    "likes": "linear_model.LogisticRegression",
    "sums": "linear_model.BayesianLinearRegression",  # its fields have other names since
    "grows": "tree.HoeffdingTreeRegressor",  # it learns otherwise, and nothing else shows that
}
KEPT, REFUSED = ["leaves", "likes"], ["grows", "sums"]


class Told:
    """What the upgrade showed, step by step."""

    before: dict[str, dict[str, str]]  # digests of the old build's keys, by agent
    checked: tuple[int, Any]  # by the new build, while the old one runs
    table: str
    checked_by_itself: tuple[int, Any]
    views: dict[str, AgentView]  # of the new build
    after: dict[str, dict[str, str]]
    decided: dict[str, list[int]]  # the offsets of all decisions
    refusals: dict[str, str]
    rolled_back: dict[str, str]
    plan: MigrationPlan | None  # of its refold
    refolded: dict[str, str]  # of `sums`
    refolded_at: tuple[str, int, list[int]]  # state, epoch, and the offsets of all decisions
    back: dict[str, dict[str, str]]  # of the old build, started again


@pytest.fixture(scope="module")
def told(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The whole way, once: write, check, load, and back again."""
    place = tmp_path_factory.mktemp("two-rivers")
    old, new = other_build(place / "old"), Build(Path(sys.executable))
    state = str(place / "state")
    at = f"kafka://{broker.bootstrap}"
    service = ("--broker", at, "--app", "two-rivers", "--state-dir", state)
    up = Life(
        bootstrap=broker.bootstrap,
        transactions=broker.can_transactions,
        app="two-rivers",
        state_dir=state,
    )
    found = Told()
    asyncio.run(make_topic(broker, TOPIC))
    with old.up(up) as client:
        _write(client, broker, range(FIRST))
        for agent in MODELS:
            client.create_snapshot(agent, "before")
            _published(client, f"{agent}.before")
        _send(broker, range(FIRST, LAST))
        found.before = {agent: _digests(client, agent, LAST) for agent in MODELS}
        found.checked = new.json("upgrade", "--check", *service)
        found.table = new.command("upgrade", "--check", *service).stdout
        found.checked_by_itself = old.json("upgrade", "--check", *service)
    with new.up(up) as client:
        found.after = {agent: _digests(client, agent, LAST) for agent in KEPT}
        found.views = {agent: client.agent(agent) for agent in MODELS}
        found.decided = {agent: _decided(client, agent) for agent in KEPT}
        found.refusals = {agent: _refusal(client, agent) for agent in REFUSED}
        client.rollback(RollbackRequest(agent="likes", snapshot_id="likes.before"))
        found.rolled_back = _digests(client, "likes", LAST)
        refold = Migration(how="refold")
        found.plan = client.dry_run(_spec("sums"), refold).migration
        client.deploy(_spec("sums"), migration=refold)
        found.refolded = _digests(client, "sums", LAST)
        view = client.agent("sums")
        found.refolded_at = view.state, view.epoch, _decided(client, "sums")
    with old.up(up) as client:
        found.back = {agent: _digests(client, agent, LAST) for agent in MODELS}
    return found


def _spec(agent: str) -> bytes:
    # Without the ranges one River gets over the largest numbers on some processors only.
    number = {"type": "number", "range": [0, 20]}
    label = {"field": "$.good", "type": "boolean"} if agent in KEPT else {"field": "$.y", **number}
    return msgspec.json.encode(
        {
            "agent": agent,
            "source": {"topic": TOPIC, "key": "$.id", "start": "earliest"},
            "features": {"x": number, "z": number},
            "model": MODELS[agent],
            "label": label,
        }
    )


def _events(numbers: range) -> list[Outgoing]:
    return [
        Outgoing(
            TOPIC,
            KEYS[n % 3].encode(),
            msgspec.json.encode(
                {"id": KEYS[n % 3], "x": n % 7 / 7, "z": n % 11, "good": n % 5 < 2, "y": n % 13}
            ),
            1_700_000_000_000 + 1000 * n,
        )
        for n in numbers
    ]


def _write(client: Client, broker: Broker, numbers: range) -> None:
    for agent in MODELS:
        client.deploy(_spec(agent))
    _send(broker, numbers)
    for agent in MODELS:
        _digests(client, agent, len(numbers))


def _send(broker: Broker, numbers: range) -> None:
    asyncio.run(_sent(broker, numbers))


async def _sent(broker: Broker, numbers: range) -> None:
    producer = EventProducer(broker.bootstrap)
    await producer.start()
    await producer.send_all(_events(numbers))
    await producer.stop()


def _digests(client: Client, agent: str, learned: int) -> dict[str, str]:
    """The keys' digests as soon as so many events were learned."""
    end = time.monotonic() + 30
    while sum(shard.accepted for shard in client.agent(agent).shards) < learned:
        assert time.monotonic() < end, client.agent(agent)
        time.sleep(0.05)
    return {key: client.key(agent, key).digest for key in KEYS}


def _published(client: Client, snapshot_id: str) -> None:
    end = time.monotonic() + 30
    while snapshot_id not in {view.snapshot_id for view in client.snapshots()}:
        assert time.monotonic() < end, snapshot_id
        time.sleep(0.05)


def _decided(client: Client, agent: str) -> list[int]:
    made = client.watch_decisions(agent, from_start=True, follow=False)
    return [decision["position"]["offset"] for decision in made]


def _refusal(client: Client, agent: str) -> str:
    """The code of the error with which a question to it ends."""
    with pytest.raises(ConflictError) as refused:
        client.predict(agent, key="ada", features={"x": 0.5, "z": 1.0})
    return refused.value.code


def test_the_check_says_who_keeps_its_state(told: Told) -> None:
    """Before anything is stopped: two keep it, two do not, and so the exit code is 1."""
    code, said = told.checked
    assert {one["agent"]: one["keeps"] for one in said["agents"]} == {
        **dict.fromkeys(KEPT, True),
        **dict.fromkeys(REFUSED, False),
    }
    assert code == 1
    assert {wrote["river"] for one in said["agents"] for wrote in one["wrote"]} == {"0.25.0"}


def test_the_check_says_why(told: Told) -> None:
    """Fields that another release names otherwise, and a model that learns otherwise."""
    why = {one["agent"]: " ".join(one["why"]) for one in told.checked[1]["agents"]}
    assert "BayesianLinearRegression has other fields" in why["sums"]
    assert "learns otherwise" in why["grows"]
    assert not why["likes"]


def test_the_table_says_what_to_do(told: Told) -> None:
    """The same for people."""
    assert "river 0.25.0" in told.table
    assert "must refold" in told.table
    assert "headrace deploy SPEC --migration refold" in told.table


def test_the_build_that_wrote_them_keeps_all(told: Told) -> None:
    """Asked of itself it says so, with exit code 0."""
    code, said = told.checked_by_itself
    assert (code, [one["why"] for one in said["agents"]]) == (0, [[]] * len(MODELS))


def test_what_is_kept_goes_on_bit_for_bit(told: Told) -> None:
    """Snapshot, and events since then learned again: the keys are what the old build had."""
    assert told.after == {agent: told.before[agent] for agent in KEPT}


def test_what_is_kept_decides_nothing_twice(told: Told) -> None:
    """The events that are learned again had their decisions."""
    assert told.decided == {agent: list(range(LAST)) for agent in KEPT}


def test_what_is_not_kept_is_refused_with_what_to_do(told: Told) -> None:
    """The agent has failed, says what differs, and every question to it fails as `other_build`."""
    for agent in REFUSED:
        assert told.views[agent].state == "failed"
        assert "river 0.25.0 (this is" in told.views[agent].note
        assert "headrace deploy SPEC --migration refold" in told.views[agent].note
        assert told.refusals[agent] == "other_build"


def test_a_rollback_goes_to_a_snapshot_of_the_old_build(told: Told) -> None:
    """Where its probes reproduce it is a base as any other."""
    assert told.rolled_back != told.after["likes"]


def test_what_is_refused_learns_again_when_somebody_says_so(told: Told) -> None:
    """`refold` of the very same spec: the keys are the fold of the log by this River, in a new
    epoch, and no decision is made again.
    """
    never = learner_over("sums", _spec("sums"), enumerate(_events(range(LAST))))
    assert told.plan is not None
    assert (told.plan.events, told.plan.changes) == (LAST, ())  # though no shard of it is open
    assert told.refolded == {key: never.describe(key, LAST).digest for key in KEYS}
    assert told.refolded_at == ("running", 2, list(range(LAST)))


def test_the_old_build_finds_its_state_again(told: Told) -> None:
    """Who goes back has what was refused, as it was."""
    assert {agent: told.back[agent] for agent in REFUSED} == {
        agent: told.before[agent] for agent in REFUSED
    }
    assert told.back["leaves"] == told.before["leaves"]
    assert told.back["likes"] == told.rolled_back
