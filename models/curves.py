"""Exact ROC AUC and average precision over a bounded window of scores.

River's `metrics.ROCAUC` counts scores in ten buckets, which on rare positives is off by 0.05.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.errors import CorruptStateError

WINDOW = 10_000  # scores kept; older ones leave as new ones come
SEGMENT = 1_000  # scores in one row, so that a flush writes what changed and not the whole window
ROW = b"s/scores/"


class _Header(msgspec.Struct, array_like=True):
    count: int


_HEADER = msgspec.msgpack.Decoder(_Header)


def roc_auc(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """The probability that a positive scores above a negative, ties counting half (Mann-Whitney).

    Both arrays have shape (n,). Zero when there are only positives or only negatives, as River
    says it.

    >>> roc_auc(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return 0.0
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    rank = last - (counts - 1) / 2.0  # the mean rank, from one, of those that tie
    above = float(rank[inverse][truth].sum()) - positives * (positives + 1) / 2.0
    return above / (positives * negatives)


def average_precision(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """The mean of precision over recall steps, as scikit-learn's `average_precision_score`.

    Both arrays have shape (n,). Zero when there is no positive.

    >>> average_precision(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.8333333333333333
    """
    positives = int(truth.sum())
    if not positives:
        return 0.0
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(truth[order])
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # last of each tie
    found = hits[ends]
    precision = found / (ends + 1.0)
    return float((np.diff(found, prepend=0) / positives * precision).sum())


class ScoreWindow:
    """The last 10,000 (truth, score, baseline score) of a shard, as a ring in rows.

    >>> window = ScoreWindow()
    >>> for truth, score in ((False, 0.1), (False, 0.4), (True, 0.35), (True, 0.8)):
    ...     window.add(truth, score, 0.5)
    >>> window.value("ROCAUC"), window.baseline("ROCAUC")
    (0.75, 0.5)
    """

    def __init__(self) -> None:
        self.count = 0
        self._truth = bytearray(WINDOW)
        self._scores = array("d", bytes(8 * WINDOW))
        self._base = array("d", bytes(8 * WINDOW))
        self._dirty: set[int] = set()
        self._fresh: list[float] = []  # truth, score, baseline, truth …: not in the ring yet

    def add(self, truth: bool, score: float, baseline: float) -> None:
        """Take in one event's outcome; the oldest leaves a full window."""
        self._fresh += (truth, score, baseline)
        if len(self._fresh) == 3 * SEGMENT:
            self._settle()

    def value(self, name: str) -> float:
        """ROCAUC or AveragePrecision of the scores in the window."""
        return self._measure(name, self._scores)

    def baseline(self, name: str) -> float:
        """The same of the baseline's scores."""
        return self._measure(name, self._base)

    def measures(self, name: str) -> bool:
        """Whether the curve has a value: ROC AUC needs both classes, the other one a positive."""
        self._settle()
        truth = self._truth[: min(self.count, WINDOW)]
        return 1 in truth and (name != "ROCAUC" or 0 in truth)

    def changed(self) -> Iterator[tuple[bytes, bytes]]:
        """The rows that changed since the last `flushed`."""
        self._settle()
        if not self._dirty:
            return
        yield ROW + b"head", msgspec.msgpack.encode(_Header(self.count))
        for segment in sorted(self._dirty):
            part = slice(segment * SEGMENT, (segment + 1) * SEGMENT)
            truth, scores, base = self._truth[part], self._scores[part], self._base[part]
            yield ROW + b"%02d" % segment, bytes(truth) + scores.tobytes() + base.tobytes()

    def flushed(self) -> None:
        """Those rows are durable now."""
        self._dirty.clear()

    def load(self, rows: Iterator[tuple[bytes, bytes]]) -> None:
        """Continue from the rows under `s/scores/`. Raises CorruptStateError for other bytes."""
        for row, data in rows:
            name = row[len(ROW) :]
            if name == b"head":
                self.count = _HEADER.decode(data).count
                continue
            if not name.isdigit() or len(data) != 17 * SEGMENT:
                raise CorruptStateError(f"the row {row!r} cannot be read")
            part = slice(int(name) * SEGMENT, (int(name) + 1) * SEGMENT)
            self._truth[part] = data[:SEGMENT]
            self._scores[part] = array("d", data[SEGMENT : 9 * SEGMENT])
            self._base[part] = array("d", data[9 * SEGMENT :])

    def _settle(self) -> None:
        while self._fresh:
            first = self.count % WINDOW
            part = self._fresh[: 3 * (WINDOW - first)]  # up to the ring's end
            del self._fresh[: len(part)]
            slots = slice(first, first + len(part) // 3)
            self._truth[slots] = bytes(map(bool, part[::3]))
            self._scores[slots] = array("d", part[1::3])
            self._base[slots] = array("d", part[2::3])
            self._dirty.update(range(first // SEGMENT, (slots.stop - 1) // SEGMENT + 1))
            self.count += len(part) // 3

    def _measure(self, name: str, scores: array[float]) -> float:
        self._settle()
        filled = min(self.count, WINDOW)
        truth = np.frombuffer(self._truth, dtype=np.bool_)[:filled]
        values = np.frombuffer(scores, dtype=np.float64)[:filled]
        return (roc_auc if name == "ROCAUC" else average_precision)(truth, values)
