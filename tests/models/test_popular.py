"""The most popular items, the baseline of recommenders."""

from __future__ import annotations

import pytest
from river import reco
from river.reco.base import Ranker

from headrace.models.memory_rows import MemoryRows
from headrace.models.recommend import ItemCooccurrence, MostPopular, popular
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
    model = row_model(MostPopular(), users_max=5)
    assert model is not None
    return model


def test_ranks_by_count_then_by_first_sight() -> None:
    """The same order for everybody; items never seen come last."""
    model = MostPopular()
    for item in ("b", "a", "c", "a"):
        model.learn_one("ann", item, 1.0)
    assert model.rank("bob", ["z", "c", "b", "a"]) == ["a", "b", "c", "z"]
    assert model.predict_one("bob", "a") == 0.5


def test_more_items_than_the_first_capacity_are_counted() -> None:
    """The table of counts grows."""
    model = MostPopular()
    for number in range(1000):
        model.learn_one("ann", f"i{number}", 1.0)
    assert model.popularity().tolist() == [0.001] * 1000


@pytest.mark.parametrize("estimator", [MostPopular(), ItemCooccurrence(), reco.BiasedMF(seed=1)])
def test_one_item_too_many_is_refused_whole(
    estimator: Ranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items are all in memory, so their number has a bound; known ones are learned as before."""
    monkeypatch.setattr(popular, "ITEMS_MAX", 2)
    model = row_model(estimator)
    assert model is not None
    fold(model, [("ann", "a", 1.0), ("bob", "b", 2.0)])
    before = list(model.changed())
    with pytest.raises(OverflowError, match="2 items are known already"):
        model.learn_one("ann", "c", 1.0)
    assert list(model.changed()) == before
    model.learn_one("ann", "b", 1.0)
    assert model.describe("ann")["last_items"] == ["b", "a"]


def test_it_keeps_the_laws_of_models_in_rows() -> None:
    """Restart, pure reads, limits of top, forgetting."""
    check_goes_on_from_its_rows(make)
    check_reading_changes_nothing(make)
    check_top_obeys_its_limits(make)
    check_forgets_a_user(make)


def test_every_model_in_rows_has_the_baseline_beside_it() -> None:
    """`popular` of a recommender is `top` of MostPopular on the same events."""
    model, rows = make(), MemoryRows()
    model.load(rows)
    fold(model, interactions(500))
    rows.flush(model)
    assert model.popular("u1", 10) == model.top("u1", 10)
    assert model.popular("u1", 10, exclude_seen=False) == model.top("u1", 10, exclude_seen=False)
