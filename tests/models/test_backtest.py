"""A backtest over files: the service's numbers, without a broker."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from river import datasets

from headrace.clock import ManualClock
from headrace.errors import RequestError
from headrace.models.backtest import Report, backtest
from headrace.models.event_file import EventFile
from headrace.models.spec import load_spec
from tests.models.test_learner import LOGISTIC, events_of, spec_for
from tests.models.worlds import World

EVENTS = events_of(datasets.Phishing())


def write_jsonl(path: Path, events: list[dict[str, Any]]) -> Path:
    data = "".join(json.dumps(event) + "\n" for event in events).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_csv(path: Path, events: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(events[0]))
        writer.writeheader()
        writer.writerows(events)
    return path


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.jsonl.gz"])
def test_files_give_rivers_numbers(tmp_path: Path, name: str) -> None:
    """Phishing as CSV, JSON lines and gzip: accuracy .887200 and F1 .871233, as River."""
    write = write_csv if name.endswith(".csv") else write_jsonl
    seen: list[tuple[int, int | None]] = []
    report = backtest(
        spec_for(LOGISTIC, EVENTS),
        write(tmp_path / name, EVENTS),
        progress=lambda done, total: seen.append((done, total)),
    )
    values = {view.name: view.value for view in report.metrics}
    assert values["Accuracy"] == pytest.approx(0.887200, abs=5e-7)
    assert values["F1"] == pytest.approx(0.871233, abs=5e-7)
    assert (report.events, report.accepted, report.keys, report.decisions) == (1250, 1250, 1, 1250)
    assert seen[-1] == (1250, 1250)
    assert seen[0] == (256, None if name.endswith(".gz") else 1250)


def test_it_equals_the_service() -> None:
    """The backtest's metrics are exactly those of a shard that got the records in batches."""
    spec = spec_for(LOGISTIC, EVENTS)
    batch = list(EventFile(spec, EVENTS))
    world = World(spec).run(batch[:700]).restart().run(batch[700:])
    assert list(backtest(spec, EVENTS).metrics) == world.learner.metrics()


def test_refused_events_are_grouped_with_examples() -> None:
    """The report counts what was refused by reason, most frequent first, with three rows each."""
    spec = spec_for(LOGISTIC, EVENTS)
    events = [dict(event) for event in EVENTS[:30]]
    for n in range(5):
        events[n]["https"] = "yes"
    del events[7]["popup_window"]
    report = backtest(spec, events)
    assert [(r.code, r.count) for r in report.refused] == [("wrong_type", 5), ("missing", 1)]
    assert [p.offset for p in report.refused[0].examples] == [0, 1, 2]
    assert "https" in report.refused[0].text
    assert report.to_dict()["refused"][1]["examples"][0]["offset"] == 7


def test_slowest_keys_are_told_by_the_clock() -> None:
    """Time is counted per key, by the clock that is handed in."""

    class Ticking(ManualClock):
        def monotonic(self) -> float:
            self.now += 0.5
            return self.now

    spec = spec_for(LOGISTIC, EVENTS)
    events = [{**event, "k": f"k{n % 3 % 2}"} for n, event in enumerate(EVENTS[:9])]
    report = backtest(spec, events, clock=Ticking())
    assert [(s.key, s.seconds, s.events) for s in report.slowest] == [
        ("k0", 3.0, 6), ("k1", 1.5, 3),
    ]  # fmt: skip


def test_limit_stops_early() -> None:
    """`limit` reads so many events and no more."""
    report = backtest(spec_for(LOGISTIC, EVENTS), EVENTS, limit=10)
    assert report.events == report.accepted == 10


def test_csv_values_are_typed_by_the_spec(tmp_path: Path) -> None:
    """Numbers, booleans, nested paths, numeric-looking texts; an empty cell is missing."""
    spec = load_spec("""
agent: a
source: {topic: t, key: $.card.id, time: $.at}
features:
  amount: {type: number, path: $.card.amount, missing: 0}
  shop: {type: category, encode: onehot}
  night: {type: boolean, missing: skip}
model: linear_model.LogisticRegression
label: {field: $.y}
""")
    path = tmp_path / "cards.csv"
    path.write_text(
        "at,card.id,$.card.amount,shop,night,y,more\n"
        "2026-11-23T10:00:00Z,007,1.5,12,TRUE,1,x\n"
        "1700000000000,8,,abc,,0,x\n"
        "soon,9,1,abc,,0,x\n"
    )
    rows = list(EventFile(spec, path))
    documents = [json.loads(row.value or b"") for row in rows]
    assert documents[0] == {
        "card": {"id": "007", "amount": 1.5}, "at": "2026-11-23T10:00:00Z", "shop": "12",
        "night": True, "y": 1,
    }  # fmt: skip
    assert documents[1] == {"at": 1700000000000, "card": {"id": "8"}, "shop": "abc", "y": 0}
    assert [row.timestamp for row in rows] == [1795428000000, 1700000000000, 1700000000000]
    report = backtest(spec, path)
    assert (report.accepted, [r.code for r in report.refused]) == (2, ["bad_time"])


def test_broken_lines_are_refused_one_by_one(tmp_path: Path) -> None:
    """A line that is no JSON is counted, and the rest is read."""
    path = tmp_path / "p.jsonl"
    lines = [json.dumps(event) for event in EVENTS[:3]]
    path.write_text(f"{lines[0]}\n{{oops\n\n{lines[1]}\n{lines[2]}")
    report: Report = backtest(spec_for(LOGISTIC, EVENTS), path)
    assert (report.events, report.accepted) == (4, 3)
    assert [(r.code, r.examples[0].offset) for r in report.refused] == [("bad_json", 1)]


@pytest.mark.parametrize("name", ["absent.csv", "events.parquet"])
def test_files_that_cannot_be_read_are_named(tmp_path: Path, name: str) -> None:
    """An absent file, or one of another kind, raises RequestError with its name."""
    with pytest.raises(RequestError, match=name):
        backtest(spec_for(LOGISTIC, EVENTS), str(tmp_path / name))
