"""How large a model a spec may ask for, looked at before anything is built.

A spec is data that anyone with the operator's role may deploy; a few digits too many in it must
not take the worker's memory. Bounds are far above what is sensible and far below what hurts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from headrace.errors import Violation
from headrace.models.catalog import catalog

# Whole-number parameters that decide how much is built or kept, by name, whatever the estimator.
LIMITS = {
    "code_size": 64,
    "degree": 6,
    "graph_k": 1_000,
    "height": 15,  # of trees that are built whole: 2^15 leaves
    "lam": 100,
    "lambda_value": 100,
    "max_candidates": 10_000,
    "max_iter_e_step": 1_000,
    "max_micro_clusters": 10_000,
    "maxlen": 100_000,
    "n_bins": 10_000,
    "n_clusters": 1_000,
    "n_components": 10_000,
    "n_estimators": 1_000,
    "n_factors": 1_000,
    "n_iters": 1_000,
    "n_models": 1_000,
    "n_neighbors": 10_000,
    "n_random_cuts": 10_000,
    "n_samples_init": 100_000,
    "n_splits": 10_000,
    "n_trees": 1_000,
    "size": 100_000,
    "w": 100,
    "window_size": 1_000_000,
}
COPIES = ("n_models", "n_trees", "n_estimators", "code_size")  # of what is inside
MAX_COPIES = 1_000  # of any part, ensembles inside ensembles included
MAX_NODES = 200_000  # of trees that are built whole
MAX_TERMS = 100_000  # of a polynomial of the declared features


def oversized(model: Any, features: int) -> list[Violation]:
    """What in `$.model` is too large; `features` is how many are declared.

    >>> print(oversized({"anomaly.HalfSpaceTrees": {"height": 40}}, 3)[0].text)
    40 is more than 15
    """
    return list(_look(model, "$.model", 1, features))


def _look(data: Any, path: str, copies: int, features: int) -> Iterator[Violation]:
    if isinstance(data, list):
        for index, part in enumerate(data):
            yield from _look(part, f"{path}[{index}]", copies, features)
    elif isinstance(data, dict):
        for name, part in data.items():
            where = f"{path}.{name}"
            inside = copies
            if name in catalog():
                given = part if isinstance(part, dict) else {}
                yield from _estimator(str(name), given, where, features)
                inside = copies * _copies(str(name), given)
                if inside > MAX_COPIES >= copies:
                    text = f"{inside:,} copies of what is inside; at most {MAX_COPIES:,}"
                    yield Violation(where, text)
            yield from _look(part, where, inside, features)


def _estimator(
    name: str, parameters: dict[str, Any], path: str, features: int
) -> Iterator[Violation]:
    for parameter, value in parameters.items():
        limit = LIMITS.get(parameter)
        if limit is not None and isinstance(value, (int, float)) and value > limit:
            yield Violation(f"{path}.{parameter}", f"{value:,} is more than {limit:,}")
    nodes = _whole(name, parameters, "n_trees") * 2 ** min(_whole(name, parameters, "height"), 64)
    if "height" in catalog()[name].parameters and nodes > MAX_NODES:
        yield Violation(path, f"{nodes:,} nodes in its trees; at most {MAX_NODES:,}")
    degree = _whole(name, parameters, "degree")
    if name.startswith("feature_extraction.") and degree <= LIMITS["degree"]:
        terms = math.comb(features + degree, degree)
        if terms > MAX_TERMS:
            text = f"{terms:,} terms of {features:,} features; at most {MAX_TERMS:,}"
            yield Violation(path, text, "a lower degree, or fewer features before it")


def _copies(name: str, parameters: dict[str, Any]) -> int:
    return math.prod(max(1, _whole(name, parameters, parameter)) for parameter in COPIES)


def _whole(name: str, parameters: dict[str, Any], parameter: str) -> int:
    """The parameter as given, else its default; 1 where there is none."""
    declared = catalog()[name].parameters.get(parameter)
    value = parameters.get(parameter, None if declared is None else declared.default)
    return value if isinstance(value, int) and not isinstance(value, bool) else 1
