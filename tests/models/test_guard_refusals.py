"""What the guard refuses, and that it always says why."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import EventError, RequestError
from headrace.models.depth import deeper_than
from headrace.models.guard import LONG_LOOK_BYTES, MAX_EVENT_BYTES, Event, Guard, Refusal
from headrace.models.spec import load_spec
from headrace.models.wants import checked, wants_of
from tests.models.guarding import (
    GOOD,
    GUARD,
    SPEC,
    Rec,
    admit,
    refused,
)


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"balance": "3"}, "wrong_type", "$.balance"),
        ({"balance": True}, "wrong_type", "$.balance"),
        ({"balance": [1]}, "wrong_type", "$.balance"),
        ({"balance": {"a": 1}}, "wrong_type", "$.balance"),
        ({"balance": math.nan}, "not_finite", "$.balance"),
        ({"balance": math.inf}, "not_finite", "$.balance"),
        ({"balance": 1e308}, "out_of_range", "$.balance"),
        ({"balance": 2**60}, "out_of_range", "$.balance"),
        ({"balance": 10**400}, "not_finite", "$.balance"),
        ({"balance": -1.1e15}, "out_of_range", "$.balance"),
        ({"tx": {"amount": -1}}, "out_of_range", "$.tx.amount"),
        ({"tx": {"amount": 1e6 + 1}}, "out_of_range", "$.tx.amount"),
        ({"tx": [1]}, "wrong_type", "$.tx.amount"),
        ({"truth": True}, "wrong_type", "$.truth.fraud"),
        ({"hour": "noon"}, "wrong_type", "$.hour"),
        ({"merchant": 1.5}, "wrong_type", "$.merchant"),
        ({"merchant": False}, "wrong_type", "$.merchant"),
        ({"merchant": 10**30}, "out_of_range", "$.merchant"),
        ({"merchant": "x" * 257}, "too_long", "$.merchant"),
        ({"merchant": "\ud800"}, "bad_utf8", "$.merchant"),
        ({"online": 1}, "wrong_type", "$.online"),
        ({"online": "true"}, "wrong_type", "$.online"),
        ({"truth": {"fraud": "yes"}}, "wrong_type", "$.truth.fraud"),
        ({"truth": {"fraud": 2}}, "wrong_type", "$.truth.fraud"),
        ({"card": {"id": 42.0}}, "key_mismatch", "$.card.id"),
        ({"card": {"id": True}}, "key_mismatch", "$.card.id"),
        ({"card": {"id": "x" * 513}}, "too_long", "$.card.id"),
        ({"card": {"id": "43"}}, "key_mismatch", "$.card.id"),
        ({"at": "yesterday"}, "bad_time", "$.at"),
        ({"at": True}, "bad_time", "$.at"),
        ({"at": [1]}, "bad_time", "$.at"),
        ({"at": 1e18}, "bad_time", "$.at"),
        ({"at": math.nan}, "bad_time", "$.at"),
        ({"not listed": math.nan}, "bad_json", ""),
    ],
)
def test_bad_fields(fields: dict[str, Any], code: str, path: str) -> None:
    """Each way in which a field can be bad has its reason and names the field."""
    assert refused(GOOD | fields) == (code, path)


def test_half_a_surrogate_where_nobody_looks() -> None:
    """A text that is not UTF-8 once decoded is refused where it would be read."""
    raw = json.dumps(GOOD).encode().replace(b"corner shop", b"corner \\ud83d shop")
    assert refused(raw) == ("bad_utf8", "$.merchant")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b'{"a": 1,}', "bad_json"),
        (b"{'a': 1}", "bad_json"),
        (b"\x00", "bad_json"),
        (b"\xef\xbb\xbf{}", "bad_json"),
        (b"\xff", "bad_utf8"),
        (b'{"balance": "\xff"}', "bad_utf8"),
        (json.dumps(GOOD).encode().replace(b"not listed", b"not \xff listed"), "bad_utf8"),
        (json.dumps(GOOD).encode().replace(b"EUR", b"E\xc0\x80"), "bad_utf8"),
        (b"[]", "not_an_object"),
        (b"1", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
        (b"{}", "key_missing"),
        (b"[" * 10_000, "too_deep"),
        (b"[" * 10_000 + b"]" * 10_000, "too_deep"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "too_deep"),
        (b'{"not listed":' + b"[" * 64 + b"]" * 64 + b"}", "too_deep"),
        (b'{"a": "' + b"x" * MAX_EVENT_BYTES + b'"}', "too_large"),
        (b"9" * 5_000, "not_an_object"),
        (None, "null_value"),
    ],
)
def test_bad_bytes(raw: bytes | None, code: str) -> None:
    """Whatever is not a JSON object of bounded size and depth is refused with a reason."""
    admitted = GUARD.admit(Rec(raw))
    assert isinstance(admitted, Refusal)
    assert admitted.code == code


def test_large_values_are_read_once() -> None:
    """A megabyte in a field that nobody reads is no obstacle; neither are wide lists."""
    assert isinstance(admit(GOOD | {"not listed": "x" * 1_000_000}), Event)
    assert isinstance(admit(GOOD | {"not listed": [{"a": [1]}] * 80_000}), Event)
    assert refused(GOOD | {"merchant": "x" * 1_000_000}) == ("too_long", "$.merchant")


NESTED = b"[" * 50 + b"]" * 50


@pytest.mark.parametrize(
    ("field", "code"),
    [
        (b'"more": [' + NESTED + b"," + b"1," * 200_000 + b"]", "bad_json"),
        (b'"more": [' + (NESTED + b",") * 5_000 + b"1]", "key_missing"),
        (b'"more": [' + b"NaN," * 20_000 + b"1]", "bad_json"),
        (b'"card": {"id": 42, "more": [' + b"1," * 100_000 + b"1]}", "missing"),
        (b'"card": [' + b"{}," * 100_000 + b"1]", "wrong_type"),
    ],
)
def test_large_and_bad(field: bytes, code: str) -> None:
    """Of a large event that is refused only the fields that somebody wants are read."""
    assert len(field) > LONG_LOOK_BYTES
    assert refused(b"{" + field + b"}")[0] == code
    assert refused(b"[" + b"1," * 100_000 + b"1]")[0] == "not_an_object"


QUESTION = {"amount": 9.5, "balance": 1, "merchant": "corner shop", "online": False}


def test_question() -> None:
    """A request's features give the `x` that an event with the same values gives."""
    x = GUARD.question(QUESTION)
    assert x == {
        "amount": 9.5, "balance": 1.0, "hour": 12.0, "merchant#8": 1.0, "country=unknown": 1.0,
        "online": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"colour": 1}, "unknown_feature"),
        ({"balance": None}, "missing_feature"),
        ({"balance": "1"}, "wrong_type"),
        ({"balance": True}, "wrong_type"),
        ({"balance": math.nan}, "not_finite"),
        ({"balance": -math.inf}, "not_finite"),
        ({"balance": 1e16}, "out_of_range"),
        ({"merchant": "x" * 257}, "too_long"),
        ({"merchant": "\ud800"}, "bad_utf8"),
        ({"online": 1.0}, "wrong_type"),
    ],
)
def test_bad_questions(fields: dict[str, Any], code: str) -> None:
    """What an event would be refused for, a request is told."""
    with pytest.raises(RequestError) as caught:
        GUARD.question(QUESTION | fields)
    assert caught.value.code == code


def test_bad_questions_name_everything() -> None:
    """All violations of a request come at once, with hints."""
    with pytest.raises(RequestError) as caught:
        GUARD.question({"amout": 1, "hour": "noon"})
    found = {v.path: v.hint for v in caught.value.violations}
    assert list(found) == [
        "features.amout", "features.amount", "features.balance", "features.hour",
    ]  # fmt: skip
    assert found["features.amout"] == "did you mean amount?"


@settings(max_examples=300)
@given(st.one_of(st.none(), st.binary(), st.text('[]{}:,"\\0eE+-. nulltrfasNI').map(str.encode)))
def test_any_bytes(raw: bytes | None) -> None:
    """Whatever the bytes are, the guard answers with an event or a refusal."""
    assert isinstance(GUARD.admit(Rec(raw)), Event | Refusal)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.just("x" * 300),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["id", "amount", "fraud", "a"]), inner)
    ),
    max_leaves=4,
)


@settings(max_examples=500)
@given(st.dictionaries(st.sampled_from(list(GOOD)), VALUES))
def test_the_fast_and_the_slow_look_agree(fields: dict[str, Any]) -> None:
    """The typed decoder accepts exactly what the rule in Python accepts, with the same values."""
    document = json.loads(json.dumps(GOOD | fields))
    slow: dict[str, Any] = {}
    reason = None
    for role, want in wants_of(SPEC).items():
        value = document
        try:
            for name in want.path:
                if value is not None and not isinstance(value, dict):
                    raise want.fail("wrong_type", "")
                value = None if value is None else value.get(name)
            if value is None and want.required:
                raise want.missing()
            slow[role] = None if value is None else checked(want, value)
        except EventError as error:
            reason = error.code
            break
    if slow.get("key") == "":  # which tells more than what else is wrong
        reason = "key_missing"
    key = str(slow.get("key", "")).encode()
    admitted = admit(document, key)
    if reason is not None:
        assert isinstance(admitted, Refusal)
        assert admitted.code == reason
    elif isinstance(admitted, Refusal):
        assert admitted.code == "key_missing"
    else:
        assert admitted.x["balance"] == slow["features.balance"]
        assert admitted.y == slow["label"]


@given(st.integers(0, 80), st.integers(0, 80), st.text('[]{}"\\', max_size=10))
def test_depth(arrays: int, objects: int, text: str) -> None:
    """Nesting is counted exactly, whatever brackets stand in texts."""
    inner = "[" * arrays + json.dumps(text) + "]" * arrays
    raw = ('{"a":' * objects + inner + "}" * objects + "  ").encode()
    assert deeper_than(raw, 64) is (arrays + objects > 64)
    assert deeper_than(b"[" + b"[],{}," * 200 + raw + b"]", 64) is (arrays + objects > 63)


@pytest.mark.parametrize("shop", ['{"name": "x"}', "{}", "null"])
def test_what_is_no_json_is_refused_whatever_may_be_missing_before_it(shop: str) -> None:
    """A null in an optional object's place changes nothing about NaN where nobody reads it."""
    guard = Guard(
        load_spec(
            "agent: a\nsource: {topic: t, key: $.id}\nmodel: cluster.DBSTREAM\n"
            "features: {n: number, m: {type: number, path: $.shop.size, missing: skip}}\n"
        )
    )
    raw = f'{{"id": 42, "n": 1, "shop": {shop}, "unread": NaN}}'.encode()
    assert refused(raw, guard=guard)[0] == "bad_json"


def test_a_key_is_not_cut_inside_a_letter() -> None:
    """A long record key of two-byte letters differs from the event's; it is UTF-8 all the same."""
    assert refused(GOOD, ("x" + "é" * 40).encode())[0] == "key_mismatch"
