"""Reads that change no state, and give River's numbers."""

from __future__ import annotations

from typing import Any

import pytest
from river import (
    anomaly,
    compose,
    ensemble,
    evaluate,
    linear_model,
    metrics,
    preprocessing,
    reco,
    tree,
)

from headrace.models import pure
from headrace.models.catalog import build_pipeline
from headrace.models.catalog.read_conditions import how
from headrace.models.codec import encode
from headrace.models.exercise import ask, events_for, learn


@pytest.mark.parametrize("options", [{}, {"with_std": False}, {"window_size": 5}])
def test_the_scalers_twin_gives_rivers_bits(options: dict[str, Any]) -> None:
    """The written-out StandardScaler says what River's says, for known and for unseen features."""
    scaler: Any = preprocessing.StandardScaler(**options)
    for x, _ in events_for(scaler, 60):
        ours = pure.transform_one(scaler, {**x, "unseen": 2.0})
        before = encode(scaler)
        assert ours == pure.transform_one(scaler, {**x, "unseen": 2.0})
        assert encode(scaler) == before
        theirs = scaler.transform_one({**x, "unseen": 2.0})
        assert repr(ours) == repr(theirs)
        scaler.learn_one(x)


@pytest.mark.parametrize(
    "model",
    [
        ["preprocessing.StandardScaler", "linear_model.LogisticRegression"],
        ["preprocessing.MinMaxScaler", "linear_model.LogisticRegression"],
        ["preprocessing.StandardScaler", {"feature_extraction.RBFSampler": {"n_components": 8}},
         "linear_model.LogisticRegression"],
        [{"compose.TransformerUnion": ["preprocessing.StandardScaler",
                                       "preprocessing.MinMaxScaler"]},
         "linear_model.LogisticRegression"],
        [{"compose.TransformerUnion": [
            [{"compose.Discard": ["hour"]}, "preprocessing.StandardScaler"],
            [{"compose.Discard": ["amount"]}, "preprocessing.RobustScaler"]]},
         "linear_model.LogisticRegression"],
        [["preprocessing.RobustScaler", "preprocessing.StandardScaler"],
         "linear_model.LogisticRegression"],
        {"ensemble.BaggingClassifier": {"n_models": 2, "model": [
            "preprocessing.StandardScaler", "linear_model.LogisticRegression"]}},
        ["preprocessing.StandardScaler", "naive_bayes.GaussianNB"],
        "tree.HoeffdingTreeClassifier",
    ],
)  # fmt: skip
def test_predict_then_learn_by_pure_reads_is_rivers_own_score(model: Any) -> None:
    """A backtest's accuracy equals `evaluate.progressive_val_score` on the same events."""
    ours, wrong = build_pipeline(model, seed=1)
    theirs, _ = build_pipeline(model, seed=1)
    assert not wrong
    events = [(x, isinstance(y, str) and y < "c") for x, y in events_for(tree.LASTClassifier(), 80)]
    metric: Any = metrics.LogLoss()
    for x, y in events:
        shares = pure.predict_proba(ours, x)
        if shares:  # as River's own evaluation does
            metric.update(y, shares)
        ours.learn_one(x, y)
    expected = evaluate.progressive_val_score(events, theirs, metrics.LogLoss())
    assert metric.get() == expected.get()
    assert encode(ours) == encode(theirs)


def test_no_read_writes_into_any_part_of_a_pipeline() -> None:
    """Known, unseen and missing features in a pipeline with a scaler, a union and a filter."""
    scaled: Any = preprocessing.StandardScaler() | linear_model.LinearRegression()
    model: Any = compose.Pipeline(
        preprocessing.StandardScaler(),
        anomaly.QuantileFilter(anomaly.OneClassSVM(), q=0.9),
        compose.TransformerUnion(preprocessing.MinMaxScaler(), compose.Discard("hour")),
        ensemble.BaggingRegressor(scaled, n_models=2, seed=1),
    )
    for x, y in events_for(linear_model.LinearRegression(), 40):
        before = encode(model)
        for probe in (x, {**x, "unseen": 1.0}, dict(list(x.items())[2:]), {}):
            pure.predict_one(model, probe)
            assert encode(model) == before
        model.learn_one(x, y)


def test_a_rating_for_an_unknown_user_draws_nothing() -> None:
    """BiasedMF draws factors for a user it has not seen; the read gives River's number and none."""
    ours, theirs = (reco.BiasedMF(n_factors=3, seed=1) for _ in range(2))
    for x, y in events_for(ours, 50):
        said = pure.rate(ours, **x)
        assert said == pure.rate(ours, **x) == theirs.predict_one(**x)
        learn(ours, x, y)
        learn(theirs, x, y)
    assert encode(ours) == encode(theirs)
    known = len(ours.u_latents)
    pure.rate(ours, "nobody", "nothing")
    assert len(ours.u_latents) == known


def test_an_anomaly_score_is_rivers() -> None:
    """Half-space trees behind a scaler score the same as by River's call."""
    model, _ = build_pipeline(["preprocessing.MinMaxScaler", "anomaly.HalfSpaceTrees"], seed=5)
    for x, y in events_for(model, 30):
        assert pure.score_one(model, x) == ask(model, x)
        learn(model, x, y)
    assert pure.score_one(model, x) == model.score_one(x)


def test_how_an_estimator_is_read_is_said_in_words() -> None:
    """The catalog's page says which reads cost a copy."""
    assert how(linear_model.LogisticRegression) == "directly"
    assert how(preprocessing.StandardScaler) == "by a twin that makes no entries"
    assert how(preprocessing.MinMaxScaler).startswith("directly once it knows the features")
    assert how(preprocessing.GaussianRandomProjector) == "from a copy"
    assert how(ensemble.BaggingClassifier).startswith("directly if all inside is")
