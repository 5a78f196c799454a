"""Which records an exclusion leaves out, and which exclusions are malformed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.models.decisions import Origin
from headrace.models.event_file import Row
from headrace.models.exclusion import (
    HEADER_CHARS_MAX,
    NAMED_CHARS_MAX,
    NAMED_MAX,
    decision_id_of,
    matcher,
    matches,
    problems,
)
from headrace.views import Exclusion


@dataclass
class Headed:
    """A record with headers, as the broker's client hands it over."""

    offset: int = 0
    timestamp: int = 0
    key: bytes | None = b"ada"
    value: bytes | None = b"{}"
    headers: tuple[tuple[str, bytes | None], ...] = ()


def left_out(exclusion: Exclusion, record: Row | Headed) -> bool:
    return matches(exclusion, record, topic="t", partition=3)


@pytest.mark.parametrize(
    ("decision", "offset", "expected"),
    [
        ("a/0/t/3/17", 17, True),
        ("a/9/t/3/17", 17, True),  # whatever epoch decided on it
        ("a/0/t/3/17", 18, False),
        ("a/0/t/4/17", 17, False),
        ("a/0/u/3/17", 17, False),
        ("17", 17, False),
        ("a/0/t/3/017", 17, False),
        ("a/0/t/3/-17", 17, False),
        ("a/0/t/3/17/", 17, False),
    ],
)
def test_a_decision_names_its_event(decision: str, offset: int, expected: bool) -> None:
    """An id leaves out the record at its topic, partition and offset, and no other."""
    assert left_out(Exclusion(decisions=(decision,)), Row(offset, 0, b"ada", b"{}")) is expected


def test_the_ids_of_decisions_are_read() -> None:
    """What names a decision in its topic is an id here."""
    assert decision_id_of(Origin("card-fraud", 1, 2, "in.put_1", 3).decision_id(17)) == (
        "card-fraud", 2, "in.put_1", 3, 17,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("begin", "end", "at", "expected"),
    [
        (100, 200, 99, False),
        (100, 200, 100, True),
        (100, 200, 199, True),
        (100, 200, 200, False),
        (None, 200, 0, True),
        (None, 200, 200, False),
        (100, None, 10**15, True),
        (100, None, 99, False),
        (None, 200, -1, False),  # the record has no timestamp
        (0, None, -1, False),
        (None, None, 5, False),
    ],
)
def test_a_range_begins_at_and_ends_before(
    begin: int | None, end: int | None, at: int, expected: bool
) -> None:
    """The two ends of the range are one part, either of which may be open."""
    assert left_out(Exclusion(from_ms=begin, to_ms=end), Row(0, at, b"ada", b"{}")) is expected


def test_a_header_matches_by_name_and_value() -> None:
    """One of several headers is enough; another value or none at all is not."""
    exclusion = Exclusion(header=("source", "café"))
    assert left_out(exclusion, Headed(headers=(("trace", None), ("source", "café".encode()))))
    assert not left_out(exclusion, Headed(headers=(("source", b"cafe"), ("source", None))))
    assert not left_out(exclusion, Headed())
    assert not left_out(exclusion, Row(0, 0, b"ada", b"{}"))


def test_a_record_without_a_key_matches_no_key() -> None:
    """Keys are compared as the record has them, in UTF-8."""
    exclusion = Exclusion(keys=("ünal",))
    assert left_out(exclusion, Row(0, 0, "ünal".encode(), b"{}"))
    assert not left_out(exclusion, Row(0, 0, None, b"{}"))


PARTS = (
    Exclusion(decisions=("a/0/t/3/1", "a/0/t/3/4")),
    Exclusion(keys=("bob", "eve")),
    Exclusion(from_ms=20, to_ms=40),
    Exclusion(header=("bad", "1")),
)
RECORDS = st.builds(
    Headed,
    offset=st.integers(0, 5),
    timestamp=st.integers(-1, 60),
    key=st.sampled_from([None, b"ada", b"bob", b"eve"]),
    headers=st.sampled_from([(), (("bad", b"1"),), (("bad", b"0"),)]),
)


@settings(max_examples=60, deadline=None)
@given(RECORDS, st.lists(st.booleans(), min_size=4, max_size=4))
def test_parts_are_joined_by_or(record: Headed, given_parts: list[bool]) -> None:
    """An exclusion of several parts leaves out what any of its parts alone would."""
    chosen = [part for part, taken in zip(PARTS, given_parts, strict=True) if taken]
    joined = Exclusion(
        decisions=tuple(name for part in chosen for name in part.decisions),
        keys=tuple(key for part in chosen for key in part.keys),
        from_ms=next((p.from_ms for p in chosen if p.from_ms is not None), None),
        to_ms=next((p.to_ms for p in chosen if p.to_ms is not None), None),
        header=next((p.header for p in chosen if p.header is not None), None),
    )
    assert matcher(joined, topic="t", partition=3)(record) == any(
        left_out(part, record) for part in chosen
    )


@pytest.mark.parametrize(
    ("exclusion", "paths"),
    [
        (Exclusion(), ["$"]),
        (Exclusion(decisions=("a/0/t/3/1", "x", "A/0/t/3/1")),
         ["$.decisions[1]", "$.decisions[2]"]),
        (Exclusion(decisions=("a/0/t/3/99999999999999999999",)), ["$.decisions[0]"]),
        (Exclusion(keys=("", "k" * 513, "\ud800")), ["$.keys[0]", "$.keys[1]", "$.keys[2]"]),
        (Exclusion(from_ms=-1), ["$.from_ms"]),
        (Exclusion(from_ms=7, to_ms=6), ["$.to_ms"]),
        (Exclusion(header=("", "x")), ["$.header[0]"]),
        (Exclusion(header=("n", "v" * (HEADER_CHARS_MAX + 1))), ["$.header[1]"]),
        (Exclusion(header=("n", "\udfff")), ["$.header[1]"]),
        (Exclusion(keys=("k",) * (NAMED_MAX + 1)), ["$.keys"]),
        (Exclusion(keys=("k" * 512,) * (NAMED_CHARS_MAX // 512 + 1)), ["$"]),
    ],
)  # fmt: skip
def test_what_is_malformed_is_named(exclusion: Exclusion, paths: list[str]) -> None:
    """Every mistake is found at once, each with its path."""
    assert [violation.path for violation in problems(exclusion)] == paths


@pytest.mark.parametrize("part", PARTS)
def test_what_is_sound_has_no_problems(part: Exclusion) -> None:
    """Each part alone is a whole exclusion."""
    assert problems(part) == []
