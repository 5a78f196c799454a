"""Which decisions stand: those that were made by a state from which the present one descends.

Of each event there is one decision that is not void: that of the epoch in which the event was
handled. So what stands of a key is a set of offsets, and it follows from the control log alone. A
rollback, a rewind, too, takes it back to what stood in its base; a migration changes nothing of it.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple

from headrace.models.decisions import Boundary, Decision
from headrace.pipelines import control
from headrace.views import Partition

Fate = Literal["withdrawn", "reinstated"]


Naming = frozenset[int]
"""The epochs of the rollbacks that name a key: of all keys with the same the same stands."""
UNNAMED: Naming = frozenset()


class Span(NamedTuple):
    """Offsets of events, `end` excluded."""

    begin: int
    end: int


class Prospect(NamedTuple):
    """Of how many events a rollback would change the decision's fate: with many keys at most."""

    withdrawn: int
    reinstated: int


class _Epoch(NamedTuple):
    number: int
    begin: int  # the offset from which on it counts
    base: control.Base | None = None  # what it goes back to; None: it goes on with what stood
    keys: tuple[str, ...] = ()  # only these go back; empty: all do


class Validity:
    """Of one life of an agent, in one partition, as far as its commands have counted there."""

    def __init__(self, deployment: control.Deployment, partition: Partition) -> None:
        began = deployment.effect(deployment.commands[0].control_id, partition)
        assert began is not None
        found = [_Epoch(deployment.life, began)]
        for accepted in deployment.replacements():
            offset = deployment.effect(accepted.control_id, partition)
            if offset is not None:
                failed = partition in deployment.failed(accepted.control_id)
                found.append(_epoch(accepted, partition, offset, failed=failed))
        self._epochs = {epoch.number: epoch for epoch in found}
        self._numbers = [epoch.number for epoch in found]
        self._begins = [epoch.begin for epoch in found]
        self._range = range(deployment.life, deployment.epoch + 1)
        self.agent = deployment.agent
        self._where = (deployment.agent, *partition)

    def spans(self, epoch: int, upto: int, naming: Naming) -> list[Span]:
        """What stood of a key in the state of that epoch and next offset, the newest first."""
        found: list[Span] = []
        while (at := self._epochs.get(epoch)) is not None:
            if at.begin < upto:
                if found and found[-1].begin == upto:
                    upto = found.pop().end
                found.append(Span(at.begin, upto))
            upto = min(upto, at.begin)
            if at.base is None or (at.keys and epoch not in naming):
                epoch -= 1
            else:
                epoch, upto = at.base.epoch, min(upto, at.base.next_offset)
        return found

    def stands(self, key: str, offset: int, epoch: int) -> bool:
        """Whether the decision on that event of a key stood where the epoch began."""
        naming = frozenset(n for n, each in self._epochs.items() if key in each.keys)
        return _in(self.spans(epoch, self.begin(epoch), naming), offset)

    def prospect(self, base: control.Base, keys: tuple[str, ...], upto: int) -> Prospect:
        """What a rollback of these keys (of none: of all) would do that counts at offset `upto`.

        Of the events of a span some may have no decision, or be another key's.
        """
        newest = self._numbers[-1]
        named = self.namings(newest)
        groups = {named.get(k, UNNAMED) for k in keys} if keys else {UNNAMED, *named.values()}
        gone: list[Span] = []
        back: list[Span] = []
        for naming in groups:
            before = self.spans(newest, upto, naming)
            after = self.spans(base.epoch, min(upto, base.next_offset), naming)
            gone += _without(before, after)
            back += _without(after, before)
        return Prospect(_events(gone), _events(back))

    def begin(self, epoch: int) -> int:
        """The offset from which on it counts."""
        return self._epochs[epoch].begin

    def namings(self, epoch: int) -> dict[str, Naming]:
        """Of the keys that rollbacks up to that epoch name."""
        found: dict[str, Naming] = {}
        for at in self._epochs.values():
            if at.number > epoch:
                break
            grown: dict[Naming, Naming] = {}  # keys share them: there are few
            for key in at.keys:
                before = found.get(key, UNNAMED)
                found[key] = grown.get(before) or grown.setdefault(before, before | {at.number})
        return found

    def keys(self, epoch: int) -> frozenset[str]:
        """Those that went back where the epoch began; empty: all."""
        return frozenset(self._epochs[epoch].keys)

    def rank(self, record: Decision | Boundary) -> int | None:
        """Where a record stands in its topic among those that are not void: the offset of its
        event, less for those of former lives, more for later ones; None: it is none of them.
        """
        place = (record.agent, record.position.topic, record.position.partition)
        if isinstance(record, Boundary) or place != self._where:
            return None
        if record.epoch not in self._range:
            return -1 if record.epoch < self._range.start else 1 << 63
        offset = record.position.offset
        at = bisect_right(self._begins, offset) - 1
        return offset if at >= 0 and self._numbers[at] == record.epoch else None


class Withdrawal:
    """What one rollback does to the decisions of one partition. `concerned`: the events between the
    first and the last of them; None: there is none. With many keys it takes long to make.
    """

    def __init__(self, validity: Validity, epoch: int) -> None:
        self.validity = validity
        self.epoch = epoch
        self._only = validity.keys(epoch)
        self._namings = namings = _among(validity.namings(epoch), self._only)
        groups = {*namings.values()} if self._only else {UNNAMED, *namings.values()}
        upto, spans = validity.begin(epoch), validity.spans
        self._spans = {
            naming: (spans(epoch - 1, upto, naming), spans(epoch, upto, naming))
            for naming in groups
        }
        ranges = [_differing(*pair) for pair in self._spans.values()]
        there = [found for found in ranges if found is not None]
        self.concerned = (
            Span(min(s.begin for s in there), max(s.end for s in there)) if there else None
        )

    def fate(self, decision: Decision) -> Fate | None:
        """What becomes of a decision that is not void; None: nothing."""
        if self._only and decision.key not in self._only:
            return None
        offset = decision.position.offset
        before, after = self._spans[self._namings.get(decision.key, UNNAMED)]
        stood, stands = _in(before, offset), _in(after, offset)
        if stood == stands:
            return None
        return "reinstated" if stands else "withdrawn"

    def is_behind(self, record: Decision | Boundary, rank: int | None) -> bool:
        """Whether all that is concerned has come before that record in the topic."""
        assert self.concerned is not None
        if rank is not None:
            return rank >= self.concerned.end
        own = isinstance(record, Boundary) and record.agent == self.validity.agent
        return own and record.epoch >= self.epoch


def _among(namings: Mapping[str, Naming], keys: frozenset[str]) -> Mapping[str, Naming]:
    return {key: namings[key] for key in keys} if keys else namings


def _epoch(
    accepted: control.Accepted, partition: Partition, offset: int, *, failed: bool
) -> _Epoch:
    command = accepted.command
    if failed or not isinstance(command, control.Rollback):
        return _Epoch(accepted.epoch, offset)
    base = command.base(partition.partition)
    return _Epoch(accepted.epoch, offset, base, command.keys)


def _differing(one: list[Span], other: list[Span]) -> Span | None:
    """From where to where the two differ.

    >>> _differing([Span(0, 9)], [Span(7, 9), Span(0, 5)]), _differing([Span(0, 9)], [Span(0, 9)])
    (Span(begin=5, end=7), None)
    """
    edges = Counter(edge for span in (*one, *other) for edge in span)
    changed = [edge for edge, count in edges.items() if count % 2]  # in both there is no change
    return Span(min(changed), max(changed)) if changed else None


def _without(one: list[Span], other: list[Span]) -> list[Span]:
    """What is in one alone.

    >>> _without([Span(0, 9)], [Span(7, 8), Span(0, 5)])
    [Span(begin=5, end=7), Span(begin=8, end=9)]
    """
    edges = sorted({edge for span in (*one, *other) for edge in span})
    between = itertools.starmap(Span, itertools.pairwise(edges))
    return [span for span in between if _in(one, span.begin) and not _in(other, span.begin)]


def _events(spans: list[Span]) -> int:
    """How many are in any of them.

    >>> _events([Span(4, 9), Span(0, 5), Span(12, 14)])
    11
    """
    count = end = 0
    for span in sorted(spans):
        count += max(span.end - max(span.begin, end), 0)
        end = max(end, span.end)
    return count


def _in(spans: list[Span], offset: int) -> bool:
    return any(span.begin <= offset < span.end for span in spans)
