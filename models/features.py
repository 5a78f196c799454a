"""From a spec's feature values to the `x` that River models see. Pure, the same in every process.

numbers     float
booleans    bool, as River users have it: 0 or 1 to arithmetic and to trees
categories  `encode: value` the text itself, under the feature's name (for OneHotEncoder, trees,
            naive Bayes …); `onehot` `merchant=abc`: 1; `hash` `merchant#17`: 1, the bucket being
            CRC-32 of the text, begun with CRC-32 of the feature's name, modulo the buckets

Features stand in declared order. One that is missing and skipped is left out.
"""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from headrace.models.spec import Feature

X: TypeAlias = dict[str, float | str | bool]

EXTREME = 1e6  # beyond it a model is asked after learning whether it is still finite
_NAMES_KEPT = 4096  # names of buckets made ahead; of more, each is made when it comes


class Assembly:
    """Puts checked values, one per feature in declared order and None where missing, into an `x`.

    >>> assembly = Assembly({
    ...     "amount": Feature(path="$.amount", type="number"),
    ...     "shop": Feature(path="$.shop", type="category", encode="onehot", missing="skip"),
    ...     "night": Feature(path="$.night", type="boolean", missing="value", default=False),
    ... })
    >>> assembly.assemble((9.5, "abc", True))
    ({'amount': 9.5, 'shop=abc': 1.0, 'night': True}, False)
    >>> assembly.assemble((2e6, None, None))
    ({'amount': 2000000.0, 'night': False}, True)
    """

    def __init__(self, features: Mapping[str, Feature]) -> None:
        self._names = tuple(map(sys.intern, features))
        self._rules = [
            (name, feature.missing == "skip", feature.default, _placing(name, feature))
            for name, feature in zip(self._names, features.values(), strict=True)
        ]
        self._plain = all(f.type != "category" and f.missing == "reject" for f in features.values())
        numbers = {name: f for name, f in features.items() if f.type == "number"}
        self._wide = [n for n, f in numbers.items() if f.low < -EXTREME or f.high > EXTREME]

    def assemble(self, values: tuple[Any, ...]) -> tuple[X, bool]:
        """The `x`, and whether a number in it is beyond ±1e6."""
        if self._plain:
            x: X = dict(zip(self._names, values))  # noqa: B905 - strict costs half as much again
            # No number is larger than the norm of all: one call in C spares looking at each.
            if self._wide and math.hypot(*values) > EXTREME:
                return x, max(values) > EXTREME or min(values) < -EXTREME
            return x, False
        x = {}
        for value, (name, skip, default, place) in zip(values, self._rules, strict=True):
            if value is None and skip:
                continue
            present: Any = default if value is None else value
            if place is None:
                x[name] = present
            else:
                text = present if present.__class__ is str else str(present)
                at = place(text)
                if at is None:
                    x[name] = text
                else:
                    x[at] = 1.0
        for name in self._wide:
            if not -EXTREME <= x.get(name, 0.0) <= EXTREME:  # type: ignore[operator]
                return x, True
        return x, False


def _placing(name: str, feature: Feature) -> Callable[[str], str | None] | None:
    """The name under which a category stands with 1 (None: its text is the value); else None."""
    if feature.type != "category":
        return None
    if feature.encode == "onehot":
        return lambda text: f"{name}={text}"
    return bucket_of(name, feature.buckets) if feature.encode == "hash" else _as_it_is


def _as_it_is(_: str) -> None:
    return None


def bucket_of(name: str, buckets: int) -> Callable[[str], str]:
    """The name of a text's bucket: the same on every machine and in every release.

    >>> place = bucket_of("merchant", 32)
    >>> place("corner shop"), place("filling station")
    ('merchant#8', 'merchant#22')
    """
    begun = zlib.crc32(name.encode())
    if buckets > _NAMES_KEPT:
        return lambda text: f"{name}#{zlib.crc32(text.encode(), begun) % buckets}"
    names = [sys.intern(f"{name}#{bucket}") for bucket in range(buckets)]
    return lambda text: names[zlib.crc32(text.encode(), begun) % buckets]
