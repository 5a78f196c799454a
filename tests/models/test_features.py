"""From values to the `x` that models see."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.features import Assembly, bucket_of
from headrace.models.spec import Feature


def category(**fields: Any) -> Feature:
    """A category feature."""
    return Feature(path="$.c", type="category", **fields)


NUMBER = Feature(path="$.n", type="number")


def test_buckets_are_the_same_for_ever() -> None:
    """The bucket of a text is fixed: state on disk holds weights under its name."""
    place = bucket_of("merchant", 32)
    assert [place(text) for text in ("", "a", "corner shop", "日本")] == [
        "merchant#1", "merchant#8", "merchant#8", "merchant#23",
    ]  # fmt: skip


def test_buckets_do_not_depend_on_the_process() -> None:
    """Another hash seed, the same buckets."""
    code = "from headrace.models.features import bucket_of as b; print(b('m', 10**6)('abc'))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert printed == {bucket_of("m", 10**6)("abc")}


@given(st.text(), st.integers(1, 10_000))
def test_buckets_are_within_bounds(text: str, buckets: int) -> None:
    """A hash encoding has as many names as it has buckets, few or many."""
    name, _, bucket = bucket_of("c", buckets)(text).rpartition("#")
    assert name == "c"
    assert 0 <= int(bucket) < buckets


def test_two_features_hash_apart() -> None:
    """The same text in two features need not share its bucket's number."""
    texts = [str(number) for number in range(100)]
    one, two = bucket_of("a", 64), bucket_of("b", 64)
    assert [one(t).partition("#")[2] for t in texts] != [two(t).partition("#")[2] for t in texts]


@pytest.mark.parametrize(
    ("encoding", "x"),
    [
        ({"encode": "value"}, {"c": "abc", "n": 1.0}),
        ({"encode": "onehot"}, {"c=abc": 1.0, "n": 1.0}),
        ({"encode": "hash", "buckets": 1}, {"c#0": 1.0, "n": 1.0}),
    ],
)
def test_encodings(encoding: dict[str, Any], x: dict[str, Any]) -> None:
    """A category is its text, or a name with the value 1, in its declared place."""
    assembled, _ = Assembly({"c": category(**encoding), "n": NUMBER}).assemble(("abc", 1.0))
    assert assembled == x
    assert list(assembled) == list(x)


def test_whole_numbers_as_categories() -> None:
    """A category that comes as a whole number is its text."""
    assert Assembly({"c": category()}).assemble((5,))[0] == {"c": "5"}


def test_x_is_made_anew() -> None:
    """Two events never share an `x`: a model may keep it."""
    assembly = Assembly({"n": NUMBER})
    assert assembly.assemble((1.0,))[0] is not assembly.assemble((1.0,))[0]


@pytest.mark.parametrize("missing", [{}, {"missing": "value", "default": 5.0}])
@pytest.mark.parametrize(
    ("values", "extreme"),
    [
        ((1.0, 1e6), False),
        ((1.0, -1e6), False),
        ((1.0, 1e6 + 1), True),
        ((-1e6 - 1, 1.0), True),
        ((9e5, 9e5), False),
    ],
)
def test_extreme(missing: dict[str, Any], values: tuple[float, ...], extreme: bool) -> None:
    """A number beyond a million is told, on either way through the assembly."""
    number = Feature(path="$.n", type="number", **missing)
    assert Assembly({"a": number, "b": NUMBER}).assemble(values)[1] is extreme


def test_no_features() -> None:
    """No features, an empty `x`."""
    assert Assembly({}).assemble(()) == ({}, False)
