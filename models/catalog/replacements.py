"""Classes of ours that stand in for River's in the catalog, under River's names.

Five have an order in place of a set. The order of a set depends on hashes and on its history, and
no bytes can keep it: four classifiers list probabilities in that order, so that a tie would be
decided another way after a restore; Select lists features, and sums over them would round another
way. Here a dict holds what the set held; all numbers are River's. The sixth is a scaler that knows
what to say of a feature that it has not seen. docs/decisions/0005 tells when they can go.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from river import compose, dummy, forest, neighbors, preprocessing, tree

__all__ = [
    "AMFClassifier",
    "HoeffdingAdaptiveTree",
    "KNNClassifier",
    "MinMaxScaler",
    "NoChangeClassifier",
    "OrderedSet",
    "Select",
]


class OrderedSet:
    """What River asks of a set of classes, in order of first appearance.

    >>> classes = OrderedSet(["b"])
    >>> classes.add("a")
    >>> classes.add("b")
    >>> list(classes), len(classes), "a" in classes
    (['b', 'a'], 2, True)
    """

    def __init__(self, items: Iterable[Hashable] = ()) -> None:
        self.items = dict.fromkeys(items)

    def add(self, item: Hashable) -> None:
        self.items[item] = None

    def __contains__(self, item: Hashable) -> bool:
        return item in self.items

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


def _in_order(name: str) -> Any:
    """A property in place of River's attribute `name`, which River sets to a set."""
    held = f"_ordered{name}"

    def get(self: Any) -> OrderedSet:
        found: OrderedSet = getattr(self, held)
        return found

    def put(self: Any, items: Iterable[Hashable]) -> None:
        setattr(self, held, OrderedSet(items))

    return property(get, put)


class AMFClassifier(forest.AMFClassifier):
    """River's aggregated Mondrian forest (Mourtada, Gaïffas, Scornet 2021), in order."""

    _classes = _in_order("_classes")


class HoeffdingAdaptiveTree(tree.HoeffdingAdaptiveTreeClassifier):
    """River's Hoeffding adaptive tree (Bifet, Gavaldà 2009), in order."""

    classes = _in_order("classes")


class KNNClassifier(neighbors.KNNClassifier):
    """River's nearest neighbours, in order."""

    classes = _in_order("classes")


class NoChangeClassifier(dummy.NoChangeClassifier):
    """River's classifier that says the last label, in order."""

    classes = _in_order("classes")


class Select(compose.Select):
    """River's choice of features, in the order in which they were named."""

    keys = _in_order("keys")

    def __init__(self, *keys: Hashable) -> None:
        super().__init__()
        self.keys = keys


class MinMaxScaler(preprocessing.MinMaxScaler):
    """River's MinMaxScaler, except that a feature never seen before scales to 0.

    River's makes an entry for such a feature and says NaN, so that the first prediction of every
    key is NaN, and a key whose score is not finite would never come to learn. For all features that
    it has seen the numbers are River's.

    >>> scaler = MinMaxScaler()
    >>> scaler.learn_one({"x": 1.0})
    >>> scaler.learn_one({"x": 3.0})
    >>> scaler.transform_one({"x": 2.5, "new": 7.0})
    {'x': 0.75, 'new': 0.0}
    """

    def transform_one(self, x: dict[Any, Any]) -> dict[Any, float]:
        known = self.min.keys()
        seen = {name: value for name, value in x.items() if name in known}
        scaled: dict[Any, float] = super().transform_one(seen)  # type: ignore[no-untyped-call]
        if len(seen) == len(x):
            return scaled
        # In the event's order, because sums over features round by their order.
        return {name: scaled.get(name, 0.0) for name in x}
