"""What a spec needs to know about its model: does it build, which kind is it, what does it weigh?"""

from __future__ import annotations

import hashlib
from typing import Any, Literal, TypeAlias

from river import base, compose
from river.reco.base import Ranker

from headrace.errors import Violation

Kind: TypeAlias = Literal["binary", "multiclass", "regressor", "anomaly", "ranker", "clusterer"]

# One instance of these grows to megabytes (HalfSpaceTrees 171 KB, a forest 5 to 25 MB).
SHARED_ONLY = frozenset(
    {"HalfSpaceTrees", "ARFClassifier", "ARFRegressor", "AMFClassifier", "AMFRegressor"}
)


def seed_of(agent: str, key: str | None) -> int:
    """The seed of a model, 0 to 2³²-1: from the agent and its key; None: one shared model.

    >>> seed_of("card-fraud", "42"), seed_of("card-fraud", None)
    (3856395055, 3858810869)
    """
    text = agent if key is None else f"{agent}\0{key}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big")


def build(model: Any, seed: int) -> tuple[Any, list[Violation]]:
    """The estimator, or None and why not. Paths begin with `$.model`."""
    try:
        from headrace.models.catalog import build_pipeline
    except ModuleNotFoundError:  # until the catalog stands
        return _stand_in(model), []
    return build_pipeline(model, seed=seed)


def _stand_in(model: Any) -> Any:
    import importlib

    if isinstance(model, list):
        return compose.Pipeline(*[_stand_in(step) for step in model])
    ((name, params),) = model.items() if isinstance(model, dict) else ((model, {}),)
    module, _, cls_name = name.rpartition(".")
    cls = getattr(importlib.import_module(f"river.{module}"), cls_name)
    return cls(**{k: _stand_in(v) if isinstance(v, dict) else v for k, v in params.items()})


def last_step(estimator: Any) -> Any:
    """The estimator that predicts: a pipeline's last step."""
    while isinstance(estimator, compose.Pipeline):
        estimator = list(estimator.steps.values())[-1]
    return estimator


def kind_of(estimator: Any, label_type: str) -> Kind | None:
    """Which kind an estimator is; None if it is nothing that an agent can be.

    A classifier is multiclass where the label is declared as a category.
    """
    last = last_step(estimator)
    kinds: list[tuple[type[Any], Kind]] = [
        (base.Classifier, "multiclass" if label_type == "category" else "binary"),
        (base.Regressor, "regressor"),
        (base.AnomalyDetector, "anomaly"),
        (base.SupervisedAnomalyDetector, "anomaly"),
        (Ranker, "ranker"),
        (base.Clusterer, "clusterer"),
    ]
    return next((kind for cls, kind in kinds if isinstance(last, cls)), None)


def heavy_parts(estimator: Any) -> list[str]:
    """Names of the estimators inside that are too heavy to have one per key."""
    steps = estimator.steps.values() if isinstance(estimator, compose.Pipeline) else [estimator]
    return [type(step).__name__ for step in steps if type(step).__name__ in SHARED_ONLY]
