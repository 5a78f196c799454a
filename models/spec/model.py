"""What a spec asks of its model: does it build, which kind is it, is it light enough per key?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

from river import base, compose

from headrace.errors import Violation
from headrace.models.catalog import build_pipeline, catalog, name_of

Kind: TypeAlias = Literal["binary", "multiclass", "regressor", "anomaly", "ranker", "clusterer"]

_BY_ENTRY: dict[str, Kind] = {
    "binary": "binary",
    "multiclass": "binary",  # unless the label is a category
    "regressor": "regressor",
    "anomaly": "anomaly",
    "ranker": "ranker",
    "clusterer": "clusterer",
}


def seed_of(agent: str, key: str | None) -> int:
    """The seed of a model, 0 to 2³²-1: from the agent and its key; None: one shared model.

    >>> seed_of("card-fraud", "42"), seed_of("card-fraud", None)
    (3856395055, 3858810869)
    """
    text = agent if key is None else f"{agent}\0{key}"
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "big")


def build(model: Any, seed: int) -> tuple[Any, list[Violation]]:
    """The estimator, or None and why not. Paths begin with `$.model`."""
    return build_pipeline(model, seed=seed)


def last_step(estimator: Any) -> Any:
    """The estimator that predicts: a pipeline's last step."""
    while isinstance(estimator, compose.Pipeline):
        estimator = list(estimator.steps.values())[-1]
    return estimator


def kind_of(estimator: Any, label_type: str) -> Kind | None:
    """Which kind an estimator is; None if it is nothing that an agent can decide on.

    A classifier is multiclass where the label is declared as a category.
    """
    name = name_of(type(last_step(estimator)))
    kind = None if name is None else _BY_ENTRY.get(catalog()[name].kind)
    return "multiclass" if kind == "binary" and label_type == "category" else kind


def two_classes_only(estimator: Any) -> bool:
    """Whether a classifier cannot tell more than two classes apart."""
    return not getattr(last_step(estimator), "_multiclass", True)


def heavy_names(model: Any) -> list[str]:
    """Names in `$.model` of estimators too heavy to have one per key, each once."""
    return sorted({name for name in _texts(model) if _is_heavy(name)})


def is_light(model: Any) -> bool:
    """Whether all estimators in `$.model` are of the lightest class of cost.

    >>> is_light(["preprocessing.StandardScaler", "naive_bayes.GaussianNB"])
    False
    """
    entries = filter(None, map(catalog().get, _texts(model)))
    return all(entry.cost in (None, "light") for entry in entries)


def _is_heavy(name: str) -> bool:
    entry = catalog().get(name)
    # A wrapper weighs what is inside it, which has a name of its own.
    return entry is not None and entry.cost == "heavy" and not issubclass(entry.cls, base.Wrapper)


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, list):
        for part in data:
            yield from _texts(part)
    elif isinstance(data, dict):
        for name, part in data.items():
            yield name
            yield from _texts(part)
