"""From an event's values to the `x` that River models see. Pure, and the same in every process.

numbers    float
booleans   bool, as River users have it: a number that is 0 or 1 to arithmetic and to trees
categories `encode: value` the text itself, under the feature's name (for OneHotEncoder, trees,
           naive Bayes …); `onehot` `merchant=abc`: 1; `hash` `merchant#17`: 1, the bucket being
           CRC-32 of the text, begun with CRC-32 of the feature's name, modulo the buckets

Features stand in declared order. One that is missing and skipped is left out.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import TypeAlias

from headrace.models.spec_parts import Feature, Scalar

X: TypeAlias = dict[str, float | str | bool]
Encoder: TypeAlias = Callable[[str], str]

_NAMES_KEPT = 4096  # bucket names made ahead; beyond, they are made when they come


def encoder(name: str, feature: Feature) -> Encoder | None:
    """The name under which a category stands with value 1; None: its text is the value.

    >>> place = encoder("merchant", Feature(path="$.m", type="category", encode="hash", buckets=32))
    >>> place("corner shop"), place("filling station")
    ('merchant#8', 'merchant#22')
    """
    if feature.encode == "onehot":
        return f"{name}={{}}".format if "{" not in name and "}" not in name else _onehot(name)
    if feature.encode != "hash":
        return None
    start = zlib.crc32(name.encode("utf-8", "surrogatepass"))
    buckets = feature.buckets
    if buckets <= _NAMES_KEPT:
        names = [sys.intern(f"{name}#{bucket}") for bucket in range(buckets)]
        return lambda text: names[zlib.crc32(text.encode(), start) % buckets]
    return lambda text: f"{name}#{zlib.crc32(text.encode(), start) % buckets}"


def _onehot(name: str) -> Encoder:
    return lambda text: f"{name}={text}"


def encode(values: Mapping[str, Scalar], encoders: Mapping[str, Encoder]) -> X:
    """`values` by feature name, in declared order, as `x`.

    >>> shop = encoder("shop", Feature(path="$.shop", type="category", encode="onehot"))
    >>> encode({"amount": 9.5, "shop": "abc", "night": True}, {"shop": shop})
    {'amount': 9.5, 'shop=abc': 1.0, 'night': True}
    """
    x: X = {}
    for name, value in values.items():
        place = encoders.get(name)
        if place is None:
            x[name] = value
        else:
            assert isinstance(value, str)
            x[place(value)] = 1.0
    return x
