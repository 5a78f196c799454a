"""What the guard makes of good events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.errors import RequestError
from headrace.models.guard import Event, Guard
from headrace.models.spec import load_spec
from tests.models.guarding import (
    ADJUST,
    GOOD,
    RANKER,
    event,
    refused,
    without,
)


def test_a_good_event() -> None:
    """Values come in declared order, encoded, with key, time and label; the rest is not seen."""
    got = event(GOOD)
    assert got == Event(
        offset=7,
        key="42",
        x={
            "amount": 9.5,
            "balance": -3.0,
            "hour": 23.0,
            "merchant#8": 1.0,
            "country=CH": 1.0,
            "online": True,
        },
        y=True,
        time_ms=1_700_000_000_000,
    )
    assert list(got.x) == ["amount", "balance", "hour", "merchant#8", "country=CH", "online"]
    assert type(got.x["balance"]) is float
    assert got.y is True


def test_order_in_the_event_does_not_matter() -> None:
    """`x` is in the spec's order whatever the producer's is."""
    assert list(event(dict(reversed(GOOD.items()))).x) == list(event(GOOD).x)


@pytest.mark.parametrize("absent", [{}, None])
def test_missing(absent: Any) -> None:
    """A missing field is refused, skipped or replaced as declared; null is missing."""
    document = GOOD | {"hour": None, "merchant": None, "country": None, "online": None}
    if absent is not None:
        for name in ("hour", "merchant", "country", "online"):
            del document[name]
    assert event(document).x == {"amount": 9.5, "balance": -3.0, "hour": 12.0, "country=unknown": 1}
    assert refused(without("balance")) == ("missing", "$.balance")
    assert refused(GOOD | {"balance": None}) == ("missing", "$.balance")
    assert refused(without("tx", "amount")) == ("missing", "$.tx.amount")
    assert refused(without("tx")) == ("missing", "$.tx.amount")
    assert refused(GOOD | {"tx": None}) == ("missing", "$.tx.amount")
    assert refused(without("card")) == ("key_missing", "$.card.id")
    assert refused(without("at")) == ("missing", "$.at")


@pytest.mark.parametrize("truth", [None, {}, {"fraud": None}])
def test_an_event_without_label(truth: Any) -> None:
    """An event may come unlabelled: without the field, or with null where its object belongs."""
    assert event(GOOD | {"truth": truth}).y is None
    assert event(without("truth")).y is None


@pytest.mark.parametrize(("value", "y"), [(True, True), (False, False), (1, True), (0, False)])
def test_boolean_labels_may_be_0_and_1(value: Any, y: bool) -> None:
    """A boolean label is a bool, also where producers write 0 and 1."""
    got = event(GOOD | {"truth": {"fraud": value}}).y
    assert got is y


def test_key() -> None:
    """The record's key is the text of the key in the event, and there must be one."""
    document = GOOD | {"card": {"id": "Zürich"}}
    assert event(document, "Zürich".encode()).key == "Zürich"
    assert refused(GOOD, b"042") == ("key_mismatch", "$.card.id")
    assert refused(GOOD, None) == ("key_missing", "")
    assert refused(GOOD, b"") == ("key_missing", "")
    assert refused(GOOD, b"\xff") == ("bad_utf8", "")


def test_an_empty_key_is_none() -> None:
    """Whatever the record's key is: nobody could be asked about it, forget it, or roll it back."""
    empty = GOOD | {"card": {"id": ""}}
    for key in (b"", b"42", None):
        assert refused(empty, key) == ("key_missing", "$.card.id")
    spoiled = empty | {"balance": "x"}
    assert refused(spoiled, b"") == ("key_missing", "$.card.id")
    ranked = {"user": "", "item": "a", "stars": 3}
    assert refused(ranked, b"", Guard(RANKER)) == ("key_missing", "$.user")


def test_a_wrong_key_comes_first() -> None:
    """Of several things wrong the key is told first: it says that the path is another field's."""
    assert refused(GOOD | {"balance": "x"}, b"43") == ("key_mismatch", "$.card.id")


@pytest.mark.parametrize(
    ("at", "milliseconds"),
    [
        (1_700_000_000, 1_700_000_000_000),
        (1_700_000_000.5, 1_700_000_000_500),
        (1_700_000_000_123, 1_700_000_000_123),
        (0, 0),
        (-86_400, -86_400_000),
        ("2023-11-14T23:13:20.5+01:00", 1_700_000_000_500),
        ("2023-11-14T22:13:20", 1_700_000_000_000),
    ],
)
def test_time(at: Any, milliseconds: int) -> None:
    """A time is seconds, milliseconds or RFC 3339; in the event it is milliseconds."""
    assert event(GOOD | {"at": at}).time_ms == milliseconds


@pytest.mark.parametrize(
    ("fields", "extreme"), [({}, False), ({"balance": 2e6}, True), ({"balance": -2e6}, True)]
)
def test_extreme(fields: dict[str, Any], extreme: bool) -> None:
    """A number beyond a million is marked: the model is looked at after learning it."""
    assert event(GOOD | fields).extreme is extreme


@pytest.mark.parametrize("value", [1e7, -1e7])
def test_extreme_of_plain_numbers_and_of_labels(value: float) -> None:
    """The mark is the same where all features are plain numbers, and for labels."""
    guard = Guard(ADJUST)
    calm = {"id": "a", "T": 1, "q": 2, "want": 3}
    assert event(calm, b"a", guard).extreme is False
    assert event(calm | {"T": value}, b"a", guard).extreme is True


def test_adjust_and_later_label() -> None:
    """The set-point comes along, and `y` is what the label's field is now."""
    got = event({"id": "a", "T": 20, "q": 50, "want": 40}, b"a", Guard(ADJUST))
    assert (got.x, got.y, got.setpoint) == ({"T": 20.0, "q": 50.0}, 20.0, 40.0)
    assert refused({"id": "a", "T": 20, "q": 50}, b"a", Guard(ADJUST)) == ("missing", "$.want")


def test_a_question_without_its_setpoint() -> None:
    """Nothing could be adjusted to it: the answer would be the safe value, as if models failed."""
    guard = Guard(ADJUST)
    assert guard.question({"T": 20.0, "q": 50.0}, 40.0) == {"T": 20.0, "q": 50.0}
    with pytest.raises(RequestError, match=r"give it as `setpoint` \(events have it at \$\.want\)"):
        guard.question({"T": 20.0, "q": 50.0})


def test_ranker() -> None:
    """A ranker's event has an item, and may bring candidates and exclusions."""
    guard = Guard(RANKER)
    base = {"user": 5, "item": 50, "stars": 4}
    got = event(base, b"5", guard)
    assert (got.item, got.y, got.x, got.candidates, got.exclude) == ("50", 4.0, {}, None, ())
    got = event(base | {"shown": [1, "b"], "hidden": ["c"]}, b"5", guard)
    assert (got.candidates, got.exclude) == (("1", "b"), ("c",))
    assert refused({"user": 5}, b"5", guard) == ("missing", "$.item")
    assert refused(base | {"shown": "b"}, b"5", guard) == ("wrong_type", "$.shown")
    assert refused(base | {"shown": [1.5]}, b"5", guard) == ("wrong_type", "$.shown")
    assert refused(base | {"shown": ["x"] * 10_001}, b"5", guard) == ("too_long", "$.shown")
    assert refused(base | {"stars": 9}, b"5", guard) == ("out_of_range", "$.stars")


def test_one_field_for_several_purposes() -> None:
    """The key may be a feature, and the time a number feature, each by its own rules."""
    guard = Guard(
        load_spec("""
agent: a
source: {topic: t, key: $.id, time: $.at}
features: {id: {type: category}, at: number, small: {type: number, path: $.v, range: [0, 1]},
           v: number}
model: tree.HoeffdingTreeClassifier
label: {field: $.y}
""")
    )
    good = {"id": 7, "at": 1e9, "v": 0.5}
    got = event(good, b"7", guard)
    assert got.x == {"id": "7", "at": 1e9, "small": 0.5, "v": 0.5}
    assert got.time_ms == 10**12
    assert refused(good | {"at": "2023-11-14T22:13:20Z"}, b"7", guard) == ("wrong_type", "$.at")
    assert refused(good | {"v": 2}, b"7", guard) == ("out_of_range", "$.v")
    assert refused(good | {"at": None}, b"7", guard) == ("missing", "$.at")
    assert refused(good | {"id": "x" * 300}, b"x" * 300, guard) == ("too_long", "$.id")


def test_odd_names() -> None:
    """Any text can name a field: dots, spaces, quotes, words of Python."""
    names = ["petal length (cm)", "a.b", "it's", "class", "f0", "_", "日本", "decode"]
    data = {
        "agent": "a",
        "source": {"topic": "t", "key": "$['the key']"},
        "features": dict.fromkeys(names, "number"),
        "model": "linear_model.LinearRegression",
        "label": {"field": "$.y"},
    }
    guard = Guard(load_spec(json.dumps(data)))
    document = {"the key": "k", **{name: i for i, name in enumerate(names)}}
    assert event(document, b"k", guard).x == {name: float(i) for i, name in enumerate(names)}


def test_no_features() -> None:
    """An agent without features sees an empty `x`."""
    assert event({"user": 1, "item": 2}, b"1", Guard(RANKER)).x == {}
