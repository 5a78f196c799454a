"""Made-up events that a spec's model must take before it is deployed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import compose, linear_model, preprocessing, tree

from headrace.models.catalog import build_pipeline, catalog
from headrace.models.rehearsal import EVENTS, made_up, rehearse
from headrace.models.spec import Feature
from headrace.models.spec.model import Kind, kind_of
from headrace.models.spec.parts import LARGEST

NUMBERS = {name: Feature(path=f"$.{name}", type="number") for name in ("a", "b")}
SHOP = Feature(path="$.shop", type="category")


def test_ordinary_estimators_take_numbers() -> None:
    """Whatever the catalog builds without parameters takes numbers, so nobody is refused."""
    kinds: tuple[Kind, ...] = ("binary", "regressor", "anomaly", "clusterer")
    tried = 0
    for name in catalog():
        estimator, violations = build_pipeline(name, seed=1)
        if violations:
            continue
        kind = kind_of(estimator, "")
        if kind in kinds:
            assert rehearse(estimator, NUMBERS, kind) is None, name
            tried += 1
    assert tried >= 45


@pytest.mark.parametrize(
    "model",
    [
        linear_model.LinearRegression(),
        preprocessing.StandardScaler() | linear_model.LinearRegression(),
    ],
)
def test_texts_in_models_of_numbers(model: Any) -> None:
    """A text where a number is needed is found, with the feature's name."""
    failure = rehearse(model, NUMBERS | {"shop": SHOP}, "regressor")
    assert failure is not None
    assert failure.path == "$.model"
    assert "`shop`" in failure.hint


@pytest.mark.parametrize(
    "model",
    [
        tree.HoeffdingTreeRegressor(leaf_prediction="mean"),
        preprocessing.OneHotEncoder() | linear_model.LinearRegression(),
        compose.SelectType(float) | linear_model.LinearRegression(),
    ],
)
def test_texts_in_models_that_take_them(model: Any) -> None:
    """Trees, encoders and selections take texts as they are."""
    assert rehearse(model, NUMBERS | {"shop": SHOP}, "regressor") is None


BOUND = st.floats(-LARGEST, LARGEST)


@given(BOUND, BOUND, st.sampled_from(["reject", "skip"]))
def test_made_up_numbers_are_within_the_range(one: float, other: float, missing: Any) -> None:
    """No made-up event is one that the guard would refuse."""
    low, high = min(one, other), max(one, other)
    feature = Feature(path="$.a", type="number", low=low, high=high, missing=missing)
    events = made_up({"a": feature}, "regressor")
    assert len(events) == EVENTS
    assert all(low <= x["a"] <= high for x, _ in events[:-1])
    assert ("a" in events[-1][0]) == (missing == "reject")


def test_selecting_an_encoded_category_by_its_own_name() -> None:
    """The event has `shop#3` in place of `shop`, so the refusal tells the name and the remedy."""
    shop = Feature(path="$.shop", type="category", encode="hash", buckets=8)
    model = compose.Select("a", "shop") | linear_model.LogisticRegression()
    violation = rehearse(model, {**NUMBERS, "shop": shop}, "binary")
    assert violation is not None
    assert violation.text == "finds no feature `shop`"
    assert "called like `shop#17`: declare encode: value" in violation.hint
