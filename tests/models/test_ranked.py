"""Recommenders in the step: hits before learning, state in rows per user and item."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from headrace.errors import SpecError
from headrace.models.decisions import decode_decision, encode_decision
from headrace.models.spec import load_spec
from headrace.views import Question
from tests.models.worlds import World, records

TOP = """
agent: a
source: {topic: t, key: $.k}
item: {field: $.item}
model: headrace.ItemCooccurrence
scope: shared
decide: {recommend: {k: 5, exclude_seen: true}}
metrics: [HitRate]
"""
RATING = """
agent: a
source: {topic: t, key: $.k}
item: {field: $.item}
model: {reco.BiasedMF: {n_factors: 4}}
scope: shared
label: {field: $.stars}
metrics: [MAE]
"""


def interactions(count: int) -> list[dict[str, Any]]:
    """Users of two tastes take items of their own half, each once."""
    chance = np.random.RandomState(3)
    seen: set[tuple[int, int]] = set()
    events: list[dict[str, Any]] = []
    while len(events) < count:
        user = int(chance.randint(40))
        item = int(chance.randint(30)) + 30 * (user % 2)
        if (user, item) not in seen:
            seen.add((user, item))
            stars = float(3 + (item % 3 == 0) + (user % 4 == 0))
            events.append({"k": f"u{user}", "item": f"i{item}", "stars": stars})
    return events


@pytest.mark.parametrize("text", [TOP, RATING])
def test_replay_is_exact(text: str) -> None:
    """Batches, flushes and restarts leave the rows and the decisions as they were."""
    spec = load_spec(text + "state: {hot_keys_max: 5}\n")
    batch = records(interactions(400))
    whole = World(spec).run(batch)
    parts = World(spec).run(batch[:100]).restart().run(batch[100:250]).flush()
    parts.run(batch[250:300]).restart().run(batch[300:])
    assert parts.written() == whole.written()
    assert parts.state() == whole.state()
    assert parts.learner.metrics() == whole.learner.metrics()


def test_hits_are_counted_before_learning() -> None:
    """recall@5 counts an item only if it was recommended before it came."""
    world = World(load_spec(TOP))
    hits = 0
    batch = records(interactions(500))
    for n, row in enumerate(batch):
        world.run([row])
        item = interactions_item(row.value)
        items = world.decisions[n].items
        assert items is not None
        assert len(items) <= 5
        hits += item in [scored.item for scored in items]
    (view,) = world.learner.metrics()
    assert view.value == pytest.approx(hits / 500)
    assert view.value > (view.baseline or 0.0)
    assert world.decisions[-1].decision == "recommend"


def interactions_item(raw: bytes | None) -> str:
    item: str = json.loads(raw or b"")["item"]
    return item


def test_ratings_are_judged_like_river() -> None:
    """The MAE of BiasedMF in rows is River's, but for strangers, to whom River deals factors."""
    spec = load_spec(RATING)
    events = interactions(600)
    model = spec.build_model("")
    error = 0.0
    for event in events:
        error += abs(event["stars"] - model.predict_one(event["k"], event["item"]))
        model.learn_one(event["k"], event["item"], event["stars"])
    world = World(spec).run(records(events)[:300]).restart().run(records(events)[300:])
    assert world.metric("MAE") == pytest.approx(error / 600, abs=2e-3)
    assert world.decisions[-1].decision == "score"


def test_answers_recommend_without_learning() -> None:
    """A question is answered from the state as it is, for known and unknown users."""
    world = World(load_spec(TOP)).run(records(interactions(300)))
    before = world.state()
    known = world.learner.predict(Question(agent="a", key="u1", k=3), 300)
    stranger = world.learner.predict(Question(agent="a", key="who", k=3), 300)
    narrow = world.learner.predict(
        Question(agent="a", key="u1", candidates=("i1", "i30"), exclude=("i1",)), 300
    )
    assert (len(known.items), known.standing.cold) == (3, False)
    assert (len(stranger.items), stranger.standing.cold) == (3, True)
    assert {scored.item for scored in narrow.items} <= {"i30"}
    assert world.state() == before
    view = world.learner.describe("u1", 300)
    assert view.standing.updates == view.model["items_seen"] > 0


def test_idle_user_starts_anew() -> None:
    """A user who was idle too long is recommended to as a stranger, and takes no old row along."""
    world = World(load_spec(TOP + "state: {idle_ttl: 1s}\n"))
    events = interactions(300)
    world.run(records(events[:100])).flush()
    late = records(events[100:], every=1)
    world.run([row._replace(offset=100 + n, timestamp=9_000 + n) for n, row in enumerate(late)])
    world.flush()
    returned = {row.key for row in late}
    for name, _ in list(world.rows.scan(b"k/")):
        idle = name[2:] not in returned
        stranger = world.learner.predict(Question(agent="a", key=name[2:].decode()), 300)
        assert stranger.standing.cold == idle


def test_decisions_survive_the_topic() -> None:
    """A recommendation's record decodes to what it was."""
    world = World(load_spec(TOP)).run(records(interactions(50)))
    for decision in world.decisions:
        assert decode_decision(encode_decision(decision)) == decision


def test_ranker_without_rows_is_refused() -> None:
    """A ranker that cannot be kept in rows is refused with what to take instead."""
    text = RATING.replace("{reco.BiasedMF: {n_factors: 4}}", "reco.Baseline")
    with pytest.raises(SpecError, match="BiasedMF"):
        World(load_spec(text))
