"""Prequential metrics of an agent: each event is predicted, scored, and only then learned.

Values are those of River's `evaluate.progressive_val_score` (Gama, Sebastião, Rodrigues 2013):
metrics of labels see the predicted label, metrics of probabilities all probabilities, and an event
without a prediction is passed over. Beside each stands what a baseline reaches on the same events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypeAlias

import msgspec
from river import metrics as river_metrics
from river.metrics import base as river_base

from headrace.models import codec
from headrace.models.baselines import Value
from headrace.models.curves import ScoreWindow
from headrace.ports import Rows
from headrace.views import MetricView

Family = Literal["label", "probability", "number", "curve", "hits"]
CURVES = ("ROCAUC", "AveragePrecision")
HITS = "HitRate"
PAIRS_MAX = 1_000
"""Pairs of a truth and a guess that a metric counts; others are left out of it. Labels that are all
different, as ids are, would make its row grow without end."""
FRESH_MAX = 4_096  # kinds of events between two readings: many classes make many kinds
ROW = b"s/metrics"


class Guess(msgspec.Struct, array_like=True, gc=False):
    """What was predicted of one label, by the model and by the baselines."""

    label: Value | None = None  # the most probable class
    score: float | None = None  # predicted number, probability of true, or anomaly score
    probabilities: dict[Any, float] | None = None
    typical: Value | None = None  # running mean (share of true for booleans), or majority class
    latest: Value | None = None


@cache
def families() -> Mapping[str, Family]:
    """Every metric that a spec may name, and what it looks at.

    >>> families()["F1"], families()["LogLoss"], families()["MAE"], families()["ROCAUC"]
    ('label', 'probability', 'number', 'curve')
    """
    found: dict[str, Family] = {}
    for name in dir(river_metrics):
        cls = getattr(river_metrics, name)
        if not isinstance(cls, type) or name in ("ClassificationReport", "ConfusionMatrix"):
            continue
        if issubclass(cls, river_base.MeanMetric) or name in ("R2", "RMSLE"):
            classify = issubclass(cls, river_base.ClassificationMetric)
            found[name] = "probability" if classify else "number"
        elif issubclass(cls, river_base.ClassificationMetric) and "eta" not in _required(cls):
            found[name] = "label"
    for name in ("RollingROCAUC", "RollingPRAUC"):  # ours are exact
        found.pop(name, None)
    found |= dict.fromkeys(CURVES, "curve")
    found[HITS] = "hits"
    return found


def _required(cls: type[Any]) -> str:
    """The names of a metric's parameters without a default: F-beta's beta cannot be guessed."""
    code = cls.__init__.__code__
    given = len(cls.__init__.__defaults__ or ())
    return " ".join(code.co_varnames[1 : code.co_argcount - given])


def works_with(name: str, kind: str) -> bool:
    """Whether a metric can judge an estimator of this kind (binary, multiclass, regressor, …).

    >>> works_with("F1", "binary"), works_with("F1", "multiclass"), works_with("MAE", "binary")
    (True, False, False)
    """
    family = families().get(name)
    if family in ("label", "probability"):
        if kind == "binary":
            return True
        binary_only = issubclass(getattr(river_metrics, name), river_base.BinaryMetric)
        return kind == "multiclass" and not binary_only
    if family == "curve":
        return kind in ("binary", "anomaly")
    return kind == "ranker" or (family == "number" and kind == "regressor")


Counts: TypeAlias = dict[tuple[Value, Value], int]
"""How often each (truth, guess) came: all that metrics of labels depend on, however many metrics
are read from it. In the order in which the pairs came first, as River sums in that order.
"""


class _Tallies:
    """The counts of the model's guesses, the typical one's and the latest one's.

    An event costs one dict access: the three are told apart only when somebody asks.
    """

    def __init__(self) -> None:
        self._told: tuple[Counts, Counts, Counts] = ({}, {}, {})
        self._fresh: dict[tuple[Value, Value | None, Value | None, Value | None], int] = {}

    def add(
        self, truth: Value, model: Value | None, typical: Value | None, latest: Value | None
    ) -> None:
        event = (truth, model, typical, latest)
        fresh = self._fresh
        fresh[event] = fresh.get(event, 0) + 1
        if len(fresh) > FRESH_MAX:
            self.counts()

    def counts(self) -> tuple[Counts, Counts, Counts]:
        for (truth, *guesses), count in self._fresh.items():
            for counts, guess in zip(self._told, guesses, strict=True):
                if guess is None:
                    continue
                pair = (truth, guess)
                if pair in counts or len(counts) < PAIRS_MAX:
                    counts[pair] = counts.get(pair, 0) + count
        self._fresh.clear()
        return self._told

    def load(self, tables: Iterable[list[list[Any]]]) -> None:
        one, two, three = ({(t, guess): count for t, guess, count in rows} for rows in tables)
        self._told = one, two, three


def _value(name: str, counts: Counts) -> float:
    metric = getattr(river_metrics, name)()
    for (truth, guess), count in counts.items():
        metric.update(truth, guess, w=float(count))
    # A weighted update counts as one sample, but each of these was one.
    metric.cm.n_samples = sum(counts.values())
    return float(metric.get())


class Prequential:
    """The metrics of one shard. `update` before each label is learned; rows as the learner's.

    >>> judge = Prequential(["Accuracy"], "binary")
    >>> for truth, said in ((True, True), (False, True), (True, True), (True, False)):
    ...     judge.update(truth, Guess(label=said, score=0.5, typical=0.6, latest=True))
    >>> [(view.name, view.value, view.baseline, view.baseline_name) for view in judge.views()]
    [('Accuracy', 0.5, 0.75, 'majority class')]
    """

    def __init__(self, names: Sequence[str], kind: str, *, k: int = 10) -> None:
        table = families()
        self._names = tuple(names)
        self._kind = kind
        self._k = k
        self.events = 0
        self._dirty = False
        self._binary = kind in ("binary", "anomaly")
        self._has_tally = any(table[name] == "label" for name in names)
        self._tallies = _Tallies()
        self._window = ScoreWindow() if any(table[name] == "curve" for name in names) else None
        # Three of each: one is told the model's guesses, the others the baselines'.
        self._rated = {
            name: tuple(getattr(river_metrics, name)() for _ in range(3))
            for name in names
            if table[name] in ("number", "probability")
        }
        self._probability = any(table[name] == "probability" for name in names)
        self._hits = [0, 0, 0]  # the model's, the most popular items', interactions
        self.wants_label = self._has_tally
        self.wants_hits = HITS in names

    def update(self, truth: Value, guess: Guess) -> None:
        """Take in one label with what was guessed before it was known."""
        if guess.label is None and guess.score is None:
            return
        self.events += 1
        self._dirty = True
        if self._has_tally:
            likely = guess.typical
            if self._binary and likely is not None:
                likely = likely > 0.5  # type: ignore[operator]
            self._tallies.add(truth, guess.label, likely, guess.latest)
        if self._window is not None and guess.score is not None:
            self._window.add(bool(truth), guess.score, float(guess.typical or 0.0))
        if self._rated:
            self._rate(truth, guess)

    def hit(self, model: bool, popular: bool) -> None:
        """Take in whether the item that came was among those recommended before it came."""
        self._dirty = True
        self._hits[0] += model
        self._hits[1] += popular
        self._hits[2] += 1

    def views(self) -> list[MetricView]:
        """Each metric in the spec's order, beside the better of its baselines."""
        return [self._view(name) for name in self._names]

    def changed(self) -> Iterator[tuple[bytes, bytes]]:
        """The rows that changed since the last `flushed`."""
        if not self._dirty:
            return
        rated = {
            name: [{key: v for key, v in vars(m).items() if key != "cm"} for m in metrics]
            for name, metrics in self._rated.items()
        }
        tallies = [
            [[*pair, count] for pair, count in counts.items()] for counts in self._tallies.counts()
        ]
        yield ROW, codec.encode([self.events, self._hits, tallies, rated])
        if self._window is not None:
            yield from self._window.changed()

    def flushed(self) -> None:
        """Those rows are durable now."""
        self._dirty = False
        if self._window is not None:
            self._window.flushed()

    def load(self, rows: Rows) -> None:
        """Continue from durable rows."""
        data = rows.get(ROW)
        if data is None:
            return
        self.events, self._hits, tallies, rated = codec.decode(data)
        self._tallies.load(tallies)
        for name, metrics in self._rated.items():
            for metric, state in zip(metrics, rated[name], strict=True):
                vars(metric).update(state)
        if self._window is not None:
            self._window.load(rows.scan(b"s/scores/"))

    def _rate(self, truth: Value, guess: Guess) -> None:
        for model, typical, latest in self._rated.values():
            if not self._probability:
                if guess.score is not None:
                    _try(model, truth, guess.score)
                    _try(typical, truth, guess.typical)
                    # None: nothing has been seen yet, or this event lacked the field.
                    _try(latest, truth, 0.0 if guess.latest is None else guess.latest)
            elif guess.probabilities:
                _try(model, truth, guess.probabilities)
                _try(typical, truth, self._shares(guess.typical))
                _try(latest, truth, self._shares(guess.latest))

    def _shares(self, guess: Value | None) -> dict[Value, float]:
        if self._binary:
            share = float(guess or 0.0)
            return {True: share, False: 1.0 - share}
        return {} if guess is None else {guess: 1.0}

    def _view(self, name: str) -> MetricView:
        values, names, bigger = self._read(name)
        better = max if bigger else min
        events = self._hits[2] if name == HITS else self.events
        if name in CURVES and self._window is not None and not self._window.measures(name):
            events = 0  # of one class only: its zero is no result
        baseline, baseline_name = better(zip(values[1:], names, strict=True), key=lambda b: b[0])
        return MetricView(
            name=f"recall@{self._k}" if name == HITS else name,
            value=values[0],
            baseline=baseline if events else None,
            baseline_name=baseline_name if events else None,
            bigger_is_better=bigger,
            events=events,
        )

    def _read(self, name: str) -> tuple[list[float], tuple[str, ...], bool]:
        family = families()[name]
        if family == "hits":
            *hits, events = self._hits
            return [count / max(events, 1) for count in hits], ("most popular",), True
        if family == "curve":
            assert self._window is not None
            return [self._window.value(name), self._window.baseline(name)], ("share of true",), True
        if family == "label":
            read = [_value(name, counts) for counts in self._tallies.counts()]
            return read, ("majority class", "last value"), True
        rated = self._rated[name]
        usual = "running mean" if family == "number" else "share of true"
        return [float(m.get()) for m in rated], (usual, "last value"), rated[0].bigger_is_better


def _try(metric: Any, truth: Value, guess: Any) -> None:
    # Some metrics have no value at some labels (the logarithmic ones below zero): such an event is
    # left out of them. River's compute before they write, so nothing is left half-updated.
    try:
        metric.update(truth, guess)
    except (ValueError, ArithmeticError):
        return


def merge_views(shards: Iterable[Sequence[MetricView]]) -> list[MetricView]:
    """One list of metrics for an agent: each value is the shards' mean, weighted by events.

    >>> one = MetricView(
    ...     name="MAE", value=1.0, baseline=2.0, baseline_name="last value",
    ...     bigger_is_better=False, events=30,
    ... )
    >>> merged = merge_views([[one], [msgspec.structs.replace(one, value=2.0, events=10)]])
    >>> merged[0].value, merged[0].baseline, merged[0].events
    (1.25, 2.0, 40)
    """
    by_name: dict[str, list[MetricView]] = {}
    for views in shards:
        for view in views:
            by_name.setdefault(view.name, []).append(view)
    return [_merge(views) for views in by_name.values()]


def _merge(views: list[MetricView]) -> MetricView:
    seen = [view for view in views if view.events] or views[:1]
    events = sum(view.events for view in seen)
    if len(seen) == 1:
        return seen[0]
    names = {view.baseline_name for view in seen}
    return msgspec.structs.replace(
        seen[0],
        value=sum(view.value * view.events for view in seen) / events,
        baseline=sum((view.baseline or 0.0) * view.events for view in seen) / events,
        baseline_name=names.pop() if len(names) == 1 else "best baseline of each shard",
        events=events,
    )
