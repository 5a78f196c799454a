"""Estimators that are not River's: ours, and those of installed packages.

A package adds its own by the entry-point group `headrace.estimators`; the entry point's name is
the name in specs, with a dot in it (`acme.Forest`). Only whoever builds the image can add them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from typing import Final

__all__ = ["own_classes"]

GROUP: Final = "headrace.estimators"

# One line each: the name in specs, and where the class is. Those of River's names stand for
# River's own class there.
OURS: Final = {
    "compose.Select": "headrace.models.ordered:Select",
    "dummy.NoChangeClassifier": "headrace.models.ordered:NoChangeClassifier",
    "forest.AMFClassifier": "headrace.models.ordered:AMFClassifier",
    "headrace.ItemCooccurrence": "headrace.models.cooccurrence:ItemCooccurrence",
    "headrace.MostPopular": "headrace.models.popular:MostPopular",
    "preprocessing.MinMaxScaler": "headrace.models.scaled:MinMaxScaler",
    "neighbors.KNNClassifier": "headrace.models.ordered:KNNClassifier",
    "tree.HoeffdingAdaptiveTreeClassifier": "headrace.models.ordered:HoeffdingAdaptiveTree",
}


@functools.cache
def own_classes() -> dict[str, type]:
    """Names in specs and their classes. Loads other packages, once."""
    found: dict[str, type] = {}
    for name, where in OURS.items():
        module, _, attribute = where.partition(":")
        found[name] = getattr(importlib.import_module(module), attribute)
    for point in importlib.metadata.entry_points(group=GROUP):
        assert "." in point.name, f"entry point {point.name!r}: write it as package.Estimator"
        assert point.name not in found, f"two estimators are called {point.name!r}"
        found[point.name] = point.load()
    return found
