"""The step: exact numbers, exact replay, and what poison does not do."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import datasets, evaluate, linear_model, metrics, optim, preprocessing, tree

from headrace.errors import NotFoundError, RequestError
from headrace.models.decisions import Origin
from headrace.models.learner import Learner
from headrace.models.memory_rows import MemoryRows
from headrace.models.spec import Spec, load_spec
from headrace.views import Question
from tests.models.worlds import World, record, records, spec_of

LOGISTIC = """
model: [preprocessing.StandardScaler,
        {linear_model.LogisticRegression: {optimizer: {optim.SGD: {lr: 0.005}}}}]
label: {field: $.y}
decide: {verdict: {bad: 0.5, else: good}}
metrics: [Accuracy, F1, LogLoss]
"""
LINEAR = """
model: [preprocessing.StandardScaler, linear_model.LinearRegression]
label: {field: $.y}
metrics: [MAE, RMSE]
"""
TREE = """
model: [preprocessing.StandardScaler, tree.HoeffdingTreeRegressor]
label: {field: $.y}
metrics: [MAE]
"""


def events_of(dataset: Any) -> list[dict[str, Any]]:
    return [{"k": "one", "y": y, **x} for x, y in dataset]


def spec_for(text: str, events: list[dict[str, Any]]) -> Spec:
    return spec_of(text, [name for name in events[0] if name not in ("k", "y")])


def small_spec(extra: str = "") -> Spec:
    return spec_of(LOGISTIC + extra, ["u", "v"])


def stream(count: int, keys: int = 3) -> list[dict[str, Any]]:
    """Two features whose difference decides the label, for a few keys in turn."""
    return [
        {"k": f"k{n % keys}", "u": (n * 37 % 101) / 50, "v": (n * 53 % 97) / 50,
         "y": (n * 37 % 101) / 50 > (n * 53 % 97) / 50}
        for n in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("restarts", [0, 3])
def test_phishing_equals_river(restarts: int) -> None:
    """Accuracy, F1 and log loss on Phishing are River's, with and without restarts."""
    dataset = datasets.Phishing()
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005))
    loss = evaluate.progressive_val_score(dataset, model, metrics.LogLoss())
    events = events_of(dataset)
    world = World(spec_for(LOGISTIC, events))
    batch = records(events)
    size = len(batch) // (restarts + 1)
    for start in range(0, len(batch), size):
        world.run(batch[start : start + size]).restart()
    assert world.metric("Accuracy") == pytest.approx(0.887200, abs=5e-7)
    assert world.metric("F1") == pytest.approx(0.871233, abs=5e-7)
    assert world.metric("LogLoss") == pytest.approx(loss.get(), abs=1e-12)


@pytest.mark.parametrize(
    ("dataset", "text", "expected"),
    [
        (datasets.TrumpApproval, LINEAR, 1.314548),
        (datasets.ChickWeights, TREE, 23.16185),
    ],
)
def test_regressions_equal_river(dataset: Any, text: str, expected: float) -> None:
    """The MAE of TrumpApproval and ChickWeights is River's, restart in mid-stream included."""
    events = events_of(dataset())
    world = World(spec_for(text, events))
    for event in events:
        event["y"] = float(event["y"])
    batch = records(events)
    world.run(batch[:500]).restart().run(batch[500:])
    assert world.metric("MAE") == pytest.approx(expected, abs=5e-6)


def test_bananas_equal_river() -> None:
    """The accuracy of logistic regression on Bananas is River's .543208."""
    events = [{"k": "one", "y": y, "a": x["1"], "b": x["2"]} for x, y in datasets.Bananas()]
    batch = records(events)
    world = World(spec_for(LOGISTIC, events)).run(batch[:2000]).restart().run(batch[2000:])
    assert world.metric("Accuracy") == pytest.approx(0.543208, abs=5e-7)


def test_many_classes_equal_river() -> None:
    """A multiclass tree's accuracy is River's, and its decisions are class names."""
    dataset = [(x, str(y)) for x, y in datasets.ImageSegments().take(600)]
    expected = evaluate.progressive_val_score(
        dataset, tree.HoeffdingTreeClassifier(), metrics.Accuracy()
    )
    names = {name: name.replace("-", "_") for name in dataset[0][0]}
    text = """
model: tree.HoeffdingTreeClassifier
label: {field: $.y, type: category}
metrics: [Accuracy, MacroF1]
"""
    events = [
        {"k": "one", "y": y, **{names[n]: float(v) for n, v in x.items()}} for x, y in dataset
    ]
    batch = records(events)
    world = World(spec_of(text, names.values())).run(batch[:300]).restart().run(batch[300:])
    assert world.metric("Accuracy") == pytest.approx(expected.get(), abs=1e-9)
    assert world.decisions[-1].decision in {y for _, y in dataset}


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 80), max_size=8),
    flushes=st.lists(st.booleans(), min_size=9, max_size=9),
    restarts=st.lists(st.booleans(), min_size=9, max_size=9),
)
def test_replay_is_exact(cuts: list[int], flushes: list[bool], restarts: list[bool]) -> None:
    """However records are batched, flushed and restarted: the same rows, the same decisions."""
    batch = records(stream(80, keys=5), every=40)
    spec = small_spec("state: {hot_keys_max: 2, idle_ttl: 1s}\n")
    whole = World(spec).run(batch)
    parts = World(spec)
    edges = [0, *sorted(cuts), len(batch)]
    for index, (start, end) in enumerate(pairwise(edges)):
        parts.run(batch[start:end])
        if restarts[index]:
            parts.restart()
        elif flushes[index]:
            parts.flush()
    assert parts.written() == whole.written()
    assert parts.state() == whole.state()


def test_shared_model_learns_from_all_keys() -> None:
    """With scope shared there is one model row, and a new key is not cold."""
    batch = records(stream(60))
    world = World(small_spec("scope: shared\n")).run(batch[:40]).restart().run(batch[40:])
    whole = World(small_spec("scope: shared\n")).run(batch)
    assert world.state() == whole.state()
    assert world.written() == whole.written()
    stranger = world.learner.predict(
        Question(agent="a", key="new", features={"u": 1.0, "v": 0.0}), 60
    )
    assert (stranger.standing.updates, stranger.standing.cold) == (60, False)


def test_decision_record_names_its_event() -> None:
    """A decision carries id, position, key, how often the model had learned, and its score."""
    world = World(small_spec()).run(records(stream(7)))
    last = world.decisions[6]
    assert (last.id, last.position.offset, last.key) == ("a/0/t/0/6", 6, "k0")
    assert (last.updates, last.cold, last.propensity) == (2, False, 1.0)
    assert world.decisions[0].cold
    assert last.score is not None
    assert last.decision == ("bad" if last.score >= 0.5 else "good")


def test_emit_when_selects_verdicts() -> None:
    """Only the verdicts that the spec emits become decisions; all events are learned."""
    world = World(small_spec("emit: {when: [bad]}\n")).run(records(stream(90)))
    assert {decision.decision for decision in world.decisions} == {"bad"}
    assert world.learner.learned == 90 > len(world.decisions) > 0


def test_predict_changes_nothing() -> None:
    """Predictions for hot, cold, unknown and expired keys leave rows and decisions as they are."""
    spec = small_spec("state: {hot_keys_max: 1, idle_ttl: 60s}\n")
    batch = records(stream(60))
    asked, quiet = World(spec), World(spec)
    for part in (batch[:20], batch[20:40], batch[40:]):
        quiet.run(part).flush()
        asked.run(part)
        for key in ("k0", "k1", "k2", "nobody"):
            question = Question(agent="a", key=key, features={"u": 1.5, "v": 0.5})
            answers = [asked.learner.predict(question, 1) for _ in range(2)]
            assert answers[0] == answers[1]
            assert answers[0].standing.cold == (key == "nobody")
        asked.flush()
    assert asked.state() == quiet.state()
    assert asked.learner.keys_hot == quiet.learner.keys_hot == 1


def test_expired_key_starts_anew() -> None:
    """A key that was idle for longer than the spec allows by log time answers and learns as new."""
    spec = small_spec("state: {idle_ttl: 1s}\n")
    world = World(spec).run(records(stream(3, keys=1)))
    rest = [record(3 + n, {"k": "b", "u": 1, "v": 2, "y": True}, at=5000 + n) for n in range(200)]
    world.run(rest).flush()
    question = Question(agent="a", key="k0", features={"u": 1.0, "v": 0.0})
    assert world.learner.predict(question, 203).standing.cold
    with pytest.raises(NotFoundError):
        world.learner.describe("k0", 203)
    idle = world.learner.sweep(world.rows.scan(b"k/"))
    assert idle == [b"k/k0"]
    world.run([record(203, {"k": "k0", "u": 1, "v": 2, "y": True}, at=6000)])
    assert world.decisions[-1].cold
    assert world.learner.sweep(world.rows.scan(b"k/")) == []  # it is back


def test_pause_decides_but_learns_nothing() -> None:
    """While learning is paused decisions go on, and models and metrics stay as they are."""
    world = World(small_spec()).run(records(stream(30)))
    before = world.learner.describe("k0", 30)
    value = world.metric("Accuracy")
    batch = records(stream(60))[30:]
    world.run(batch, learning=False)
    assert len(world.decisions) == 60
    assert world.learner.describe("k0", 60).model == before.model
    assert (world.learner.learned, world.metric("Accuracy")) == (30, value)


def test_answers_name_the_state() -> None:
    """An answer says which shard, offset and how many updates it stands on; bad features raise."""
    world = World(small_spec()).run(records(stream(30)))
    question = Question(agent="a", key="k1", features={"u": 1.5, "v": 0.5})
    answer = world.learner.predict(question, 30)
    standing = answer.standing
    assert (standing.agent, standing.topic, standing.offset) == ("a", "t", 30)
    assert (standing.updates, standing.cold) == (10, False)
    assert answer.score == pytest.approx(answer.probabilities["true"])
    assert answer.decision in ("bad", "good")
    with pytest.raises(RequestError):
        world.learner.predict(Question(agent="a", key="k1", features={"w": 1.0}), 30)


def test_key_view_shows_the_key() -> None:
    """The view of a key has its updates, size, digest and the model's learned weights."""
    world = World(small_spec()).run(records(stream(30)))
    view = world.learner.describe("k2", 30)
    assert view.standing.updates == 10
    assert (
        view.last_learned_ms
        == world.learner.predict(
            Question(agent="a", key="k2", features={"u": 0, "v": 0}), 30
        ).standing.updates
        + 4
    )  # log time: the median of 0..29 when offset 29 came
    assert set(view.model["LogisticRegression"]["learned"]["weights"]) == {"u", "v"}
    assert world.flush().learner.describe("k2", 30).digest == view.digest


@pytest.mark.parametrize("unread", [b"1e999", b"9" * 5_000])
def test_a_broken_model_is_made_again_from_events_with_odd_unread_fields(unread: bytes) -> None:
    """The guard skips fields that the spec does not name; so must the replay after a failure."""
    learner = Learner(
        load_spec(
            "agent: a\nsource: {topic: t, key: $.id}\nfeatures: {x: {type: number}}\n"
            "model: linear_model.LinearRegression\nlabel: {field: $.y}\n"
        ),
        Origin("a", 1, 1, "t", 0),
        MemoryRows(),
    )
    value = b'{"id":"a","x":1,"y":1,"z":' + unread + b"}"
    learner.step([SimpleNamespace(offset=0, timestamp=0, key=b"a", value=value)])
    before = learner.describe("a", 1).digest
    learner._engine.undo(learner._engine.slots.touch("a", 0))
    assert learner.describe("a", 1).digest == before


def test_nothing_expires_before_log_time_is_settled() -> None:
    """Log time may fall at the head of a log; a row swept by then would have come back."""
    learner = Learner(
        load_spec(
            "agent: a\nsource: {topic: t, key: $.id}\nfeatures: {x: {type: number}}\n"
            "model: linear_model.LinearRegression\nlabel: {field: $.y}\nstate: {idle_ttl: 1h}\n"
        ),
        Origin("a", 1, 1, "t", 0),
        rows := MemoryRows(),
    )
    for n, stamp in enumerate((0, 4_102_444_800_000, 4_102_444_800_000)):
        value = b'{"id":"%d","x":1,"y":1}' % n
        key = str(n).encode()
        learner.step([SimpleNamespace(offset=n, timestamp=stamp, key=key, value=value)])
        rows.flush(learner)
    assert learner.log_time > 3_600_000
    assert learner.sweep(list(rows.scan(b"k/"))) == []
