"""How an estimator of any kind is taught and asked, and made-up events to do it with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

from river import base, compose, feature_extraction, preprocessing
from river.reco.base import Ranker

from headrace.models import pure

__all__ = ["Event", "ask", "ask_river", "events_for", "learn"]

Event = tuple[Any, Any]  # features (a recommender's: user and item), label

FEATURES: Final = ("amount", "hour", "speed", "level", "pressure", "age")
_TEXT: Final = (
    feature_extraction.BagOfWords,
    feature_extraction.TFIDF,
    preprocessing.GapEncoder,
)
_CLASSES: Final = ("allow", "block", "review", "hold", "wait")


def learn(model: Any, x: Any, y: Any) -> None:
    """One `learn_one`, with the arguments that this kind of estimator takes.

    A transformer also transforms, as it does when the pipeline around it learns.
    """
    if isinstance(model, Ranker):
        model.learn_one(**x, y=y)
    elif model._supervised:
        model.learn_one(x, y)
    else:
        model.learn_one(x)
    if isinstance(model, base.BaseTransformer):
        model.transform_one(x)


def ask(model: Any, x: Any) -> Any:
    """What the estimator says of `x`, through reads that write nothing."""
    if isinstance(model, Ranker):
        return pure.rate(model, **x)
    return _asked(
        model, x, pure.predict_one, pure.predict_proba, (pure.score_one, pure.transform_one)
    )


def ask_river(model: Any, x: Any) -> Any:
    """The same by River's own calls, which may write."""
    if isinstance(model, Ranker):
        return model.predict_one(**x)
    return _asked(
        model,
        x,
        lambda m, x: m.predict_one(x),
        lambda m, x: m.predict_proba_one(x),
        (lambda m, x: m.score_one(x), lambda m, x: m.transform_one(x)),
    )


def _asked(model: Any, x: Any, predict: Any, shares: Any, others: tuple[Any, Any]) -> Any:
    last: Any = _last(model)
    labels = isinstance(last, base.MultiLabelClassifier)
    if isinstance(last, base.Classifier) and not labels:
        if type(last).predict_proba_one is base.Classifier.predict_proba_one:
            return predict(model, x)
        try:
            return dict(shares(model, x))
        except NotImplementedError:  # an ensemble of classifiers without probabilities
            return predict(model, x)
    if isinstance(last, base.AnomalyDetector | base.AnomalyFilter | base.SupervisedAnomalyDetector):
        return others[0](model, x)
    if isinstance(last, base.BaseTransformer):
        return others[1](model, x)
    return predict(model, x)


def _last(model: Any) -> Any:
    while isinstance(model, compose.Pipeline):
        model = list(model.steps.values())[-1]
    return model


def events_for(model: Any, count: int, *, seed: int = 1, gaps: bool = True) -> Sequence[Event]:
    """Made-up events that suit the estimator: the same for the same count and seed.

    Six numbers in [0, 1) of two decimals, with `gaps` sometimes one missing and, later, a new one;
    a text where a part takes one. The label hangs on the numbers, drifts, and has noise.
    Recommenders get interactions of 12 users and 15 items.
    """
    chance = random.Random(seed)
    last = _last(model)
    if isinstance(last, Ranker):
        return [
            (
                {"user": f"user{chance.randrange(12)}", "item": f"item{chance.randrange(15)}"},
                float(chance.randrange(1, 6)),
            )
            for _ in range(count)
        ]
    many = isinstance(last, base.Classifier) and bool(getattr(last, "_multiclass", False))
    text = getattr(last, "on", None) if isinstance(last, _TEXT) else None
    events = []
    for number in range(count):
        x: dict[str, Any] = {name: round(chance.random(), 2) for name in FEATURES}
        if gaps and number % 9 == 8:
            x.pop(chance.choice(FEATURES))
        if gaps and number > count // 2:
            x["late"] = round(chance.random(), 2)
        if text is not None:
            x[text] = f"{chance.choice(_CLASSES)} the {chance.choice(_CLASSES)} {number % 7}"
        value = (
            2 * x.get("amount", 0.5) - x.get("hour", 0.5) + chance.gauss(0, 0.2) + number / count
        )
        events.append((x, _label(last, value, many=many)))
    return events


def _label(last: Any, value: float, *, many: bool) -> Any:
    if isinstance(last, base.MultiTargetRegressor):
        return {"one": value, "two": -value}
    if isinstance(last, base.MultiLabelClassifier):
        return {"one": value > 0.5, "two": value < 1}
    if isinstance(last, base.Classifier):
        return _CLASSES[min(4, max(0, int(value * 2) + 1))] if many else value > 1
    return value
