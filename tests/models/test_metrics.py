"""Metrics equal River's; exact curves equal their definitions; baselines stand beside."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import metrics as river_metrics

from headrace.models.curves import WINDOW, ScoreWindow, average_precision, roc_auc
from headrace.models.memory_rows import MemoryRows
from headrace.models.metrics import PAIRS_MAX, Guess, Prequential, families, merge_views, works_with
from headrace.views import MetricView

PAIRS = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=60)


def by_family(family: str, kind: str) -> list[str]:
    return [name for name, f in families().items() if f == family and works_with(name, kind)]


def moved(judge: Prequential, names: list[str], kind: str) -> Prequential:
    """The metrics as a new process would find them in rows."""
    rows = MemoryRows()
    rows.rows.update(judge.changed())
    again = Prequential(names, kind)
    again.load(rows)
    return again


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_label_metrics_equal_river(kind: str) -> None:
    """Every metric of labels that River has gives River's value, also after a restart."""
    names = by_family("label", kind)
    assert len(names) >= (20 if kind == "binary" else 15)
    chance = random.Random(1)
    classes: Any = [True, False] if kind == "binary" else ["a", "b", "c", "d"]
    judge = Prequential(names, kind)
    theirs = {name: getattr(river_metrics, name)() for name in names}
    for n in range(400):
        truth = chance.choice(classes)
        label = chance.choice(classes)
        judge.update(truth, Guess(label=label, score=0.5, typical=0.5, latest=truth))
        for metric in theirs.values():
            metric.update(truth, label)
        if n == 200:
            judge = moved(judge, names, kind)
    for view in judge.views():
        assert view.value == pytest.approx(float(theirs[view.name].get()), abs=1e-9), view.name
        assert view.events == 400


def test_number_metrics_equal_river() -> None:
    """Every metric of numbers gives River's value, also after a restart."""
    names = by_family("number", "regressor")
    assert {"MAE", "MSE", "RMSE", "RMSLE", "R2", "MAPE", "SMAPE"} <= set(names)
    chance = random.Random(2)
    judge = Prequential(names, "regressor")
    theirs = {name: getattr(river_metrics, name)() for name in names}
    for n in range(300):
        truth, score = chance.uniform(1, 9), chance.uniform(1, 9)
        judge.update(truth, Guess(score=score, typical=5.0, latest=4.0))
        for metric in theirs.values():
            metric.update(truth, score)
        if n == 150:
            judge = moved(judge, names, "regressor")
    for view in judge.views():
        assert view.value == theirs[view.name].get(), view.name


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regressor", "anomaly", "ranker"])
def test_metrics_can_be_read_before_the_first_event(kind: str) -> None:
    """Every metric has a value at once, with no event and no baseline behind it."""
    names = [name for name in families() if works_with(name, kind)]
    assert names
    for view in Prequential(names, kind).views():
        assert (view.events, view.baseline) == (0, None)


def test_metric_without_a_value_passes_over_the_event() -> None:
    """RMSLE knows no labels below -1: such an event is left out and nothing is spoiled."""
    judge = Prequential(["RMSLE"], "regressor")
    guess = Guess(score=2.0, typical=2.0, latest=2.0)
    judge.update(3.0, guess)
    before = judge.views()[0].value
    judge.update(-5.0, guess)
    assert judge.views()[0].value == before


def test_event_without_prediction_is_passed_over() -> None:
    """As in River, a model that cannot say anything yet is not judged."""
    judge = Prequential(["Accuracy"], "multiclass")
    judge.update("a", Guess())
    assert judge.views()[0].events == 0


@given(PAIRS)
def test_roc_auc_is_the_chance_of_ranking_right(pairs: list[tuple[bool, int]]) -> None:
    """ROC AUC is the share of (positive, negative) pairs ranked right, ties counting half."""
    positives = [score for truth, score in pairs if truth]
    negatives = [score for truth, score in pairs if not truth]
    wins = sum((p > n) + (p == n) / 2 for p in positives for n in negatives)
    expected = wins / (len(positives) * len(negatives)) if positives and negatives else 0.0
    truth = np.array([truth for truth, _ in pairs])
    scores = np.array([float(score) for _, score in pairs])
    assert roc_auc(truth, scores) == pytest.approx(expected)


@given(PAIRS)
def test_average_precision_is_its_definition(pairs: list[tuple[bool, int]]) -> None:
    """Average precision is the sum over thresholds of recall gained × precision there."""
    total = sum(truth for truth, _ in pairs)
    expected, recall = 0.0, 0.0
    for threshold in sorted({score for _, score in pairs}, reverse=True):
        taken = [truth for truth, score in pairs if score >= threshold]
        now = sum(taken) / total if total else 0.0
        expected += (now - recall) * sum(taken) / len(taken)
        recall = now
    truth = np.array([truth for truth, _ in pairs])
    scores = np.array([float(score) for _, score in pairs])
    assert average_precision(truth, scores) == pytest.approx(expected)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, WINDOW), st.integers(1, 3_000))
def test_score_window_survives_in_segments(first: int, second: int) -> None:
    """A flush writes only the segments that changed, and they restore the window exactly."""
    window, rows = ScoreWindow(), MemoryRows()
    for n in range(first + second):
        window.add(n % 3 == 0, n / 7, 0.5)
        if n == first:
            rows.rows.update(window.changed())
            window.flushed()
    changed = list(window.changed())
    assert len(changed) <= second // 1_000 + 3
    rows.rows.update(changed)
    again = ScoreWindow()
    again.load(rows.scan(b"s/scores/"))
    assert again.count == window.count
    for name in ("ROCAUC", "AveragePrecision"):
        assert again.value(name) == window.value(name)


def test_window_forgets_the_oldest() -> None:
    """Beyond ten thousand events the oldest scores no longer count."""
    window = ScoreWindow()
    for n in range(WINDOW):
        window.add(n % 2 == 0, -(n % 2 == 0), 0.0)  # all wrong
    assert window.value("ROCAUC") == 0.0
    for n in range(WINDOW):
        window.add(n % 2 == 0, n % 2 == 0, 0.0)  # all right
    assert window.value("ROCAUC") == 1.0


def test_hits_are_counted_beside_the_most_popular() -> None:
    """recall@k is the share of hits; its baseline is what the most popular items would hit."""
    judge = Prequential(["HitRate"], "ranker", k=5)
    for model, popular in ((True, False), (True, True), (False, False), (True, False)):
        judge.hit(model, popular)
    (view,) = judge.views()
    assert (view.name, view.value, view.baseline, view.events) == ("recall@5", 0.75, 0.25, 4)


def shards() -> Iterator[list[MetricView]]:
    for value, events in ((1.0, 100), (4.0, 300), (9.0, 0)):
        yield [
            MetricView(name="MAE", value=value, baseline=2.0, baseline_name="last value",
                       bigger_is_better=False, events=events)
        ]  # fmt: skip


def test_merged_metrics_are_weighted_by_events() -> None:
    """A shard that saw three times the events counts three times; an empty one not at all."""
    (view,) = merge_views(shards())
    assert (view.value, view.events, view.baseline) == (3.25, 400, 2.0)
    assert merge_views([]) == []


def test_labels_that_are_all_different_do_not_grow_the_row() -> None:
    """A metric counts so many pairs at most; those it knows go on being counted."""
    judge = Prequential(["Accuracy"], "multiclass")
    for number in range(3 * PAIRS_MAX):
        judge.update(f"id-{number}", Guess("a", None, None, "a", "a"))
    (_, full), *_ = judge.changed()
    for number in range(PAIRS_MAX, 5 * PAIRS_MAX):
        judge.update(f"id-{number}", Guess("a", None, None, "a", "a"))
    (_, later), *_ = judge.changed()
    assert abs(len(later) - len(full)) < 100
    again = moved(judge, ["Accuracy"], "multiclass")
    judge.update("id-0", Guess("id-0", None, None, "a", "a"))
    again.update("id-0", Guess("id-0", None, None, "a", "a"))
    assert [data for _, data in judge.changed()] == [data for _, data in again.changed()]


def test_a_curve_of_one_class_is_no_result() -> None:
    """It counts no events until it has a value, and a shard without one is left out of the mean."""
    names = ["ROCAUC", "AveragePrecision"]
    one, both = Prequential(names, "binary"), Prequential(names, "binary")
    for truth, score in ((False, 0.2), (False, 0.9)):
        one.update(truth, Guess(label=False, score=score, typical=0.0))
    assert [(v.events, v.baseline) for v in one.views()] == [(0, None), (0, None)]
    for truth, score in ((False, 0.2), (True, 0.9)):
        both.update(truth, Guess(label=truth, score=score, typical=0.5))
    merged = merge_views([one.views(), both.views()])
    assert [(v.value, v.events) for v in merged] == [(1.0, 2), (1.0, 2)]
    one.update(True, Guess(label=True, score=0.5, typical=0.0))
    assert [v.events for v in one.views()] == [3, 3]
