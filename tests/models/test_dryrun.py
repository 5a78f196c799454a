"""What a dry run tells about recent records."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec

from headrace.models.dryrun import examine, key_violation
from headrace.models.spec import load_spec
from headrace.views import Position

SPEC = load_spec("""
agent: a
source: {topic: payments, key: $.id}
features: {amount: number}
model: linear_model.LogisticRegression
label: {field: $.fraud}
""")


class Rec(msgspec.Struct):
    """A record as the broker hands it over."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = 0


def records(total: int, bad: dict[int, object]) -> Iterator[tuple[int, Rec]]:
    """Good records but for those at the given numbers, on two partitions in turn."""
    for number in range(total):
        event = bad.get(number, {"id": "k", "amount": 1.0, "fraud": False})
        raw = event if isinstance(event, bytes) else json.dumps(event).encode()
        yield number % 2, Rec(offset=number // 2, key=b"k", value=raw)


def test_counts_and_examples() -> None:
    """Refused records are grouped by reason and field, with three positions at most."""
    bad: dict[int, object] = {number: {"id": "k"} for number in range(13)}
    bad |= {20: {"id": "k", "amount": "1"}, 21: b"{", 22: {"id": "k", "amount": None}}
    dry = examine(SPEC, "payments", records(200, bad))
    assert (dry.read, dry.accepted, dry.note) == (200, 184, "")
    assert [(r.code, r.text, r.count) for r in dry.refused] == [
        ("missing", "`amount` is missing", 14),
        ("bad_json", "the event is not JSON", 1),
        ("wrong_type", "`amount` is a text, not a number", 1),
    ]
    assert dry.refused[0].examples == tuple(Position("payments", i % 2, i // 2) for i in range(3))


def test_nothing_to_read() -> None:
    """An empty topic is said so."""
    dry = examine(SPEC, "payments", [])
    assert (dry.read, dry.accepted, dry.refused) == (0, 0, ())
    assert dry.note
    assert key_violation(dry) is None


def test_most_keys_differ() -> None:
    """A spec whose key path names another field than the topic's key must not be deployed."""
    bad: dict[int, object] = {n: {"id": f"k{n}", "amount": 1} for n in range(51)}
    violation = key_violation(examine(SPEC, "payments", records(100, bad)))
    assert violation is not None
    assert violation.path == "$.source.key"
    assert "51 of 100" in violation.text
    assert "payments/0/0" in violation.text


def test_some_keys_differ() -> None:
    """Half of the records or fewer: those few go to quarantine, the agent is deployed."""
    bad: dict[int, object] = {n: {"id": f"k{n}", "amount": 1} for n in range(50)}
    assert key_violation(examine(SPEC, "payments", records(100, bad))) is None


def test_records_without_key_count_as_differing() -> None:
    """A topic without keys cannot feed an agent."""
    unkeyed = [(0, Rec(offset=n, key=None, value=b'{"id": "k", "amount": 1}')) for n in range(9)]
    assert key_violation(examine(SPEC, "payments", unkeyed)) is not None


def test_a_label_path_that_names_nothing_is_told() -> None:
    """Events without a label are accepted, so only the note tells of a wrong path."""
    unlabelled: dict[int, object] = {n: {"id": "k", "amount": 1.0} for n in range(20)}
    dry = examine(SPEC, "payments", records(20, unlabelled))
    assert dry.accepted == 20
    assert dry.note == "none of them has a label at $.fraud: nothing would be learned"
