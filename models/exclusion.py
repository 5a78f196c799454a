"""Which records a `rewind` leaves out: the predicate of a `views.Exclusion`.

The parts given are joined by *or*: a record is left out if its decision is named, or its key, or if
its timestamp lies in the range, or if it has the header. The two ends of the range are one part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias, cast

from headrace.errors import Violation
from headrace.models.spec.sections import AGENT, TOPIC
from headrace.models.wants import MAX_KEY
from headrace.ports import Record
from headrace.views import Exclusion

__all__ = ["DecisionId", "Headed", "Predicate", "decision_id_of", "matcher", "matches", "problems"]

NAMED_MAX: Final = 10_000
"""Decisions, and keys, that one exclusion may name."""

NAMED_CHARS_MAX: Final = 1 << 19
"""Characters of all decision ids and keys together: the exclusion is part of a control record."""

HEADER_CHARS_MAX: Final = 1_024  # of a header's name, and of its value

Predicate: TypeAlias = Callable[[Record], bool]
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class Headed(Protocol):
    """A record with headers, as aiokafka's ConsumerRecord is one. Other records may have none."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class DecisionId(NamedTuple):
    """The parts of a decision's id, which name its event."""

    agent: str
    epoch: int
    topic: str
    partition: int
    offset: int


def decision_id_of(text: str) -> DecisionId | None:
    """The parts of an id `agent/epoch/topic/partition/offset`; None for another text.

    >>> decision_id_of("card-fraud/2/transactions/3/17").offset
    17
    >>> decision_id_of("card-fraud/2/transactions/3/017") is None
    True
    """
    parts = text.split("/")
    if len(parts) != 5:
        return None
    agent, epoch, topic, partition, offset = parts
    named = AGENT.fullmatch(agent) and TOPIC.fullmatch(topic)
    if not named or not all(map(_NUMBER.fullmatch, (epoch, partition, offset))):
        return None
    return DecisionId(agent, int(epoch), topic, int(partition), int(offset))


def matches(exclusion: Exclusion, record: Record, *, topic: str, partition: int) -> bool:
    """Whether the record, of this partition, is left out. Of many records ask a `matcher`."""
    return matcher(exclusion, topic=topic, partition=partition)(record)


def matcher(exclusion: Exclusion, *, topic: str, partition: int) -> Predicate:
    """The predicate for the records of one partition: quick, and asked once per record.

    An id names its event whatever agent and epoch decided on it. Texts that are no id match
    nothing (`problems` says so beforehand), nor does a record without a timestamp (below zero) lie
    in a range. A record that has no headers at all matches none.

    >>> from types import SimpleNamespace as Record
    >>> left_out = matcher(
    ...     Exclusion(decisions=("a/1/t/0/7",), keys=("eve",), from_ms=500), topic="t", partition=0
    ... )
    >>> [left_out(Record(offset=offset, timestamp=at, key=key, value=b"{}"))
    ...  for offset, at, key in ((7, 1, b"ada"), (8, 2, b"eve"), (9, 500, b"ada"), (10, 3, b"bob"))]
    [True, True, True, False]
    """
    named = filter(None, map(decision_id_of, exclusion.decisions))
    offsets = frozenset(i.offset for i in named if (i.topic, i.partition) == (topic, partition))
    keys = frozenset(key.encode() for key in exclusion.keys)
    timed = exclusion.from_ms is not None or exclusion.to_ms is not None
    begin = max(exclusion.from_ms or 0, 0)
    end = exclusion.to_ms
    header = None
    if exclusion.header is not None:
        header = (exclusion.header[0], exclusion.header[1].encode())

    def left_out(record: Record) -> bool:
        if record.offset in offsets or record.key in keys:
            return True
        if timed and begin <= record.timestamp and (end is None or record.timestamp < end):
            return True
        return header is not None and _has(record, header)

    return left_out


def _has(record: Record, header: tuple[str, bytes]) -> bool:
    try:
        headers = cast("Headed", record).headers
    except AttributeError:
        return False  # a record of a file: to ask beforehand costs more than all else here
    return any((name, value) == header for name, value in headers)


def problems(exclusion: Exclusion) -> list[Violation]:
    """What is wrong with an exclusion; paths begin at it. Empty: nothing.

    >>> print(*(found.path for found in problems(Exclusion(decisions=("17",), from_ms=5, to_ms=5))))
    $.decisions[0] $.to_ms
    """
    return [
        *_nothing(exclusion),
        *_too_many(exclusion),
        *_ids(exclusion),
        *_keys(exclusion),
        *_range(exclusion),
        *_header(exclusion),
    ]


def _nothing(exclusion: Exclusion) -> Iterator[Violation]:
    if exclusion == Exclusion():
        yield Violation("$", "names no events", "leave it out to learn all of them again")


def _too_many(exclusion: Exclusion) -> Iterator[Violation]:
    hint = "name a range of time, or a header"
    for part, named in (("decisions", exclusion.decisions), ("keys", exclusion.keys)):
        if len(named) > NAMED_MAX:
            yield Violation(f"$.{part}", f"{len(named):,} are more than {NAMED_MAX:,}", hint)
    characters = sum(map(len, (*exclusion.decisions, *exclusion.keys)))
    if characters > NAMED_CHARS_MAX:
        text = f"decisions and keys have {characters:,} characters; at most {NAMED_CHARS_MAX:,}"
        yield Violation("$", text, hint)


def _ids(exclusion: Exclusion) -> Iterator[Violation]:
    for index, text in enumerate(exclusion.decisions[:NAMED_MAX]):
        if decision_id_of(text) is None:
            wrong = f"{text[:80]!r} is no decision's id"
            yield Violation(f"$.decisions[{index}]", wrong, "agent/epoch/topic/partition/offset")


def _keys(exclusion: Exclusion) -> Iterator[Violation]:
    for index, key in enumerate(exclusion.keys[:NAMED_MAX]):
        if not key or len(key) > MAX_KEY:
            yield Violation(f"$.keys[{index}]", f"a key has 1 to {MAX_KEY} characters")
        elif not _is_unicode(key):
            yield Violation(f"$.keys[{index}]", "holds half of a surrogate pair")


def _range(exclusion: Exclusion) -> Iterator[Violation]:
    begin, end = exclusion.from_ms, exclusion.to_ms
    for name, at in (("from_ms", begin), ("to_ms", end)):
        if at is not None and at < 0:
            yield Violation(f"$.{name}", "is before 1970", "milliseconds since 1970")
    if begin is not None and end is not None and end <= begin:
        yield Violation("$.to_ms", f"no time lies from {begin} to before {end}")


def _header(exclusion: Exclusion) -> Iterator[Violation]:
    if exclusion.header is None:
        return
    name, value = exclusion.header
    if not name:
        yield Violation("$.header[0]", "a header has a name")
    for index, text in enumerate((name, value)):
        if len(text) > HEADER_CHARS_MAX:
            yield Violation(f"$.header[{index}]", f"has more than {HEADER_CHARS_MAX:,} characters")
        elif not _is_unicode(text):
            yield Violation(f"$.header[{index}]", "holds half of a surrogate pair")


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
