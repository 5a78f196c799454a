"""The item co-occurrence ranker, as a River estimator and in rows."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from river.reco.base import Ranker

from headrace.errors import CorruptStateError
from headrace.models.memory_rows import MemoryRows
from headrace.models.recommend import NO_HISTORY, ItemCooccurrence
from headrace.models.recommend.row_model import RowModel, row_model
from tests.models.rowfold import (
    check_forgets_a_user,
    check_goes_on_from_its_rows,
    check_reading_changes_nothing,
    check_top_obeys_its_limits,
    fold,
    interactions,
)


def make() -> RowModel:
    model = row_model(ItemCooccurrence(n_last=4, n_neighbours=50, seen_max=30), users_max=7)
    assert model is not None
    return model


def by_hand(events: list[tuple[str, str, float]], user: str, model: ItemCooccurrence) -> list[str]:
    """The ranking by the formula of the docstring, with lists and dictionaries only."""
    last: dict[str, list[str]] = {}
    near: dict[str, list[str]] = {}
    for someone, item, _ in events:
        history = last.setdefault(someone, [])
        near.setdefault(item, [])
        for other in history[-model.n_last :]:
            if other != item:
                near[other].append(item)
                near[item].append(other)
        if item in history:
            history.remove(item)
        history.append(item)
    counts = {item: sum(event[1] == item for event in events) for item in near}
    scores = dict.fromkeys(near, 0.0)
    for q, item in enumerate(reversed(last[user][-model.n_last :])):
        neighbours = near[item][-model.n_neighbours :]
        for other in neighbours:
            scores[other] += model.recency**q / (len(neighbours) + model.prior)
    order = list(near)
    return sorted(near, key=lambda i: (-round(scores[i], 12), -counts[i], order.index(i)))


@pytest.mark.parametrize("params", [(10, 0.8, 1000, 50.0), (3, 0.5, 40, 1.0), (5, 1.0, 33, 10.0)])
def test_ranks_as_the_formula_says(params: tuple[int, float, int, float]) -> None:
    """Against the definition written with lists; rings that overflow included."""
    model = ItemCooccurrence(*params)
    events = interactions(900)
    for event in events:
        model.learn_one(*event)
    for user in ("u0", "u7", "u33"):
        assert model.rank(user, set(model.items)) == by_hand(events, user, model)


def test_is_a_ranker_of_river() -> None:
    """A notebook uses it as it uses reco.BiasedMF; clone gives an untrained one."""
    model = ItemCooccurrence(n_last=3)
    assert isinstance(model, Ranker)
    model.learn_one(user=1, item=2, y=True, x={"a": 1})
    assert model.clone().predict_one(1, 2) == 0.0
    assert model.clone().n_last == 3


def test_scores_are_probabilities_and_strangers_get_the_popular() -> None:
    """In [0, 1]; without a history the share of all interactions."""
    model = ItemCooccurrence()
    for event in interactions(500):
        model.learn_one(*event)
    for user in ("u1", "u2"):
        scores = model.scores(model._histories[user])
        assert 0.0 <= scores.min() <= scores.max() <= 1.0
        assert scores.sum() <= 1.0 + 1e-6
    assert (model.scores(NO_HISTORY) == model.popularity()).all()
    assert model.predict_one("u1", "nothing") == 0.0


def test_memory_is_bounded_by_its_parameters() -> None:
    """Neighbours per item and items per user stay within what was asked for."""
    model = ItemCooccurrence(n_last=4, n_neighbours=50, seen_max=30)
    for event in interactions(3000):
        model.learn_one(*event)
    assert max(len(ring) for ring in model._near) == 50
    assert max(len(history) for history in model._histories.values()) == 30
    assert all(len(set(h.tolist())) == len(h) for h in model._histories.values())


def test_goes_on_from_its_rows_bit_for_bit() -> None:
    """Restarts, flushes and evictions in mid-stream leave the rows of one uninterrupted fold."""
    check_goes_on_from_its_rows(make)


def test_in_rows_it_scores_as_the_estimator_does() -> None:
    """The same numbers with histories in rows as in the estimator itself."""
    model, rowed = ItemCooccurrence(), row_model(ItemCooccurrence())
    assert rowed is not None
    for user, item, y in interactions(800):
        assert rowed.predict_one(user, item) == model.predict_one(user, item)
        model.learn_one(user, item, y)
        rowed.learn_one(user, item, y)


def test_reading_changes_nothing() -> None:
    """No read leaves a trace, in rows or in what is learned later."""
    check_reading_changes_nothing(make)


def test_top_obeys_its_limits() -> None:
    """Order, k, seen, excluded and candidate items."""
    check_top_obeys_its_limits(lambda: row_model(ItemCooccurrence()) or make())


def test_forgets_a_user() -> None:
    """The row goes, and does not come back from what is in memory."""
    check_forgets_a_user(make)


def test_one_event_changes_a_handful_of_rows() -> None:
    """The user, the item, and the user's last items: not the table."""
    model, rows = make(), MemoryRows()
    model.load(rows)
    fold(model, interactions(600))
    rows.flush(model)
    last = model.describe("u1")["last_items"][:4]
    model.learn_one("u1", "brand new", 3.0)
    expected = {b"u/u1", b"i/brand new", *(b"i/" + item.encode() for item in last)}
    assert set(rows.flush(model)) == expected


@pytest.mark.parametrize("y", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_is_refused_whole(y: float) -> None:
    """Nothing is counted of it."""
    model, rows = make(), MemoryRows()
    with pytest.raises(ArithmeticError):
        model.learn_one("ann", "up", y)
    assert rows.flush(model) == []


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (b"i/up", b"\xc1"),
        (b"i/up", msgspec.msgpack.encode((0, 1, b"\0" * 7))),
        (b"i/up", msgspec.msgpack.encode((0, 1, b"\7\0\0\0"))),
        (b"i/\xff", msgspec.msgpack.encode((0, 1, b""))),
        (b"s/model", b"\x90"),
    ],
)
def test_rows_of_something_else_are_refused(name: bytes, row: bytes) -> None:
    """Garbage, cut neighbours, neighbours that are not there, a name that is none, other models."""
    rows = MemoryRows()
    rows.rows[name] = row
    with pytest.raises(CorruptStateError):
        make().load(rows)


def test_a_cut_history_is_refused_when_it_is_read() -> None:
    """Users' rows are read when they are needed, and named when they are not right."""
    rows = MemoryRows()
    rows.rows[b"u/ann"] = msgspec.msgpack.encode((b"\0" * 7,))
    model = make()
    model.load(rows)
    with pytest.raises(CorruptStateError, match="u/ann"):
        model.top("ann", 3)


def test_many_equal_scores_are_ordered_by_first_sight() -> None:
    """Ties are broken the same way in every run, at the edge of k too."""
    model = row_model(ItemCooccurrence())
    assert model is not None
    for number in range(100):
        model.learn_one(f"u{number}", f"i{number}", 1.0)
    top = model.top("nobody", 10)
    assert [scored.item for scored in top] == [f"i{number}" for number in range(10)]
    assert np.ptp([scored.score for scored in top]) == 0.0


@pytest.mark.parametrize(
    "params",
    [
        {"n_last": 0},
        {"n_last": 1001},
        {"recency": 0.0},
        {"recency": 1.5},
        {"n_neighbours": 5},
        {"n_neighbours": 10**9},
        {"prior": -1.0},
        {"prior": math.nan},
        {"seen_max": 0},
        {"seen_max": 10**9},
    ],
)
def test_parameters_out_of_range_are_refused_by_name(params: dict[str, float]) -> None:
    """A spec cannot make a ranker that keeps everything or nothing."""
    (name,) = params
    with pytest.raises(ValueError, match=name):
        ItemCooccurrence(**params)  # type: ignore[arg-type]
