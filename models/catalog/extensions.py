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

# One line each: the name in specs, and where in `headrace.models` the class is. Those of River's
# names stand for River's own class there.
OURS: Final = {
    "compose.Select": "catalog.replacements:Select",
    "dummy.NoChangeClassifier": "catalog.replacements:NoChangeClassifier",
    "forest.AMFClassifier": "catalog.replacements:AMFClassifier",
    "headrace.ItemCooccurrence": "recommend.cooccurrence:ItemCooccurrence",
    "headrace.MostPopular": "recommend.popular:MostPopular",
    "preprocessing.MinMaxScaler": "catalog.replacements:MinMaxScaler",
    "neighbors.KNNClassifier": "catalog.replacements:KNNClassifier",
    "tree.HoeffdingAdaptiveTreeClassifier": "catalog.replacements:HoeffdingAdaptiveTree",
}


@functools.cache
def own_classes() -> dict[str, type]:
    """Names in specs and their classes. Loads other packages, once."""
    found: dict[str, type] = {}
    for name, where in OURS.items():
        module, _, attribute = where.partition(":")
        found[name] = getattr(importlib.import_module(f"headrace.models.{module}"), attribute)
    for point in importlib.metadata.entry_points(group=GROUP):
        assert "." in point.name, f"entry point {point.name!r}: write it as package.Estimator"
        assert point.name not in found, f"two estimators are called {point.name!r}"
        found[point.name] = point.load()
    return found
