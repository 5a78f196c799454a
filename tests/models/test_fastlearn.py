"""Learning without River's loop leaves River's bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import anomaly, compose, feature_extraction, linear_model, naive_bayes, preprocessing

from headrace.models import codec
from headrace.models.fastlearn import learning_of

NUMBERS = st.floats(-1e15, 1e15) | st.booleans() | st.integers(-3, 3)
EVENTS = st.lists(
    st.tuples(st.dictionaries(st.sampled_from("abcd"), NUMBERS, min_size=1), st.booleans()),
    min_size=1,
    max_size=12,
)


def pipelines() -> list[Any]:
    scaler = preprocessing.StandardScaler
    return [
        linear_model.LogisticRegression(),
        scaler() | linear_model.LogisticRegression(),
        scaler(with_std=False) | linear_model.LogisticRegression(),
        scaler(window_size=3) | linear_model.LogisticRegression(),
        scaler() | preprocessing.MinMaxScaler() | linear_model.Perceptron(),
        compose.Select("a", "b") | scaler() | naive_bayes.GaussianNB(),
        (scaler() + feature_extraction.PolynomialExtender()) | linear_model.LogisticRegression(),
        preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(n_trees=2, height=3, seed=1),
        scaler(),
    ]


@pytest.mark.parametrize("index", range(len(pipelines())))
@settings(max_examples=15, deadline=None)
@given(events=EVENTS)
def test_bytes_are_rivers(index: int, events: list[tuple[dict[str, Any], bool]]) -> None:
    """After every event the model's bytes are those after River's own `learn_one`."""
    ours, theirs = pipelines()[index], pipelines()[index]
    learn = learning_of(ours)
    for x, y in events:
        errors = []
        for model, teach in ((ours, learn), (theirs, River.learn)):
            try:
                teach(model, dict(x), y)
            except (ArithmeticError, ValueError, TypeError, LookupError) as error:
                errors.append(type(error))
        if errors:
            assert len(errors) == 2
            return
        assert codec.encode(ours) == codec.encode(theirs)


class River:
    """River's own way."""

    @staticmethod
    def learn(model: Any, x: dict[str, Any], y: Any) -> None:
        if model._supervised:
            model.learn_one(x, y)
        else:
            model.learn_one(x)
