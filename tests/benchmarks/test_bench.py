"""What `make bench` measures with: events, latencies, stages, ratios, and what is refused."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.bare import Speed, new_model, run
from benchmarks.bench import PARTS, PROFILES, main
from benchmarks.endtoend import Run
from benchmarks.latency import Latency, percentile
from benchmarks.meters import Flushes, Heartbeat
from benchmarks.processes import CoreUse
from benchmarks.stages import OTHER, stage_of
from benchmarks.workload import (
    each_key,
    events_for,
    save,
    saved,
    spec_for,
    uniform_keys,
    zipf_keys,
)

from headrace.models.decisions import Origin
from headrace.models.guard import Event, Guard
from headrace.models.learner import Learner
from headrace.models.memory_rows import MemoryRows
from headrace.models.spec import load_spec
from headrace.state.store import ShardMeta, ShardStore


class Record:
    """An event in a log."""

    timestamp = 0

    def __init__(self, offset: int, key: bytes, value: bytes) -> None:
        self.offset = offset
        self.key = key
        self.value = value


# -- events ----------------------------------------------------------------------------------------


def test_zipf_keys_fall_with_their_rank() -> None:
    """The tenth key comes a tenth as often as the first, and a seed gives the same keys again."""
    keys = zipf_keys(50_000, 1_000)
    counts = Counter(keys)
    assert counts["k0"] / counts["k9"] == pytest.approx(10, rel=0.15)
    assert keys == zipf_keys(50_000, 1_000)
    assert keys != zipf_keys(50_000, 1_000, seed=1)


def test_uniform_keys_are_as_likely_as_each_other() -> None:
    """No key comes much more often than another."""
    counts = Counter(uniform_keys(50_000, 10))
    assert len(counts) == 10
    assert max(counts.values()) / min(counts.values()) < 1.1


def test_each_key_comes_in_turn() -> None:
    """All keys come before one of them comes again."""
    assert each_key(3, 2) == ["k0", "k1", "k2", "k0", "k1", "k2"]


def test_the_service_accepts_every_event() -> None:
    """The spec that is deployed reads the events that are sent: key, ten features and a truth."""
    guard = Guard(load_spec(spec_for("bench", "events", hot_keys_max=10)))
    for offset, (key, value) in enumerate(events_for(zipf_keys(200, 10))):
        event = guard.admit(Record(offset, key, value))
        assert isinstance(event, Event)
        assert len(event.x) == 10
        assert isinstance(event.y, bool)


def test_there_is_something_to_learn() -> None:
    """River alone gets better than guessing, so no branch of the work is left out."""
    events = events_for(["one"] * 2_000)
    models = {"one": new_model()}
    run([value for _, value in events], models)
    guard = Guard(load_spec(spec_for("bench", "events")))
    hits = 0
    for offset, (key, value) in enumerate(events):
        event = guard.admit(Record(offset, key, value))
        assert isinstance(event, Event)
        hits += models["one"].predict_one(event.x) == event.y
    assert hits / len(events) > 0.75


def test_events_are_read_as_they_were_written(tmp_path: Path) -> None:
    """A process that is started later gets the same events."""
    events = events_for(["a", "b"])
    save(events, tmp_path / "events")
    assert saved(tmp_path / "events") == events


# -- latencies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "expected"), [(0.01, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_a_percentile_is_one_of_the_values(share: float, expected: int) -> None:
    """The nearest rank: nothing is interpolated, in whatever order the values come."""
    assert percentile(range(100, 0, -1), share) == expected


def test_a_late_question_counts_from_when_it_was_due() -> None:
    """A load that falls behind makes latencies worse, never better; and it is told."""
    punctual = Latency.of([0.0, 1.0], [0.0, 1.0], [0.1, 1.1])
    late = Latency.of([0.0, 1.0], [0.0, 1.4], [0.1, 1.5])
    assert punctual.p99_ms == pytest.approx(100)
    assert late.p99_ms == pytest.approx(500)
    assert (punctual.late_p99_ms, late.late_p99_ms) == pytest.approx((0, 400))


# -- ratios and stages -----------------------------------------------------------------------------


def test_a_ratio_is_to_the_mean_time_of_both_bare_runs() -> None:
    """Half as quick as one run and as quick as the other is three quarters as quick as both."""
    measured = Run(Speed(100, 2.0, 0.5), (Speed(100, 1.0, 0.5), Speed(100, 2.0, 0.5)), {}, Path())
    assert (measured.by_clock, measured.by_cpu) == pytest.approx((0.75, 1.0))
    assert measured.ratio == pytest.approx(0.75)


def test_a_slowed_bare_loop_makes_no_ratio_better() -> None:
    """Where others took the core from the bare loop alone, its CPU time is what counts."""
    slowed = Speed(100, 4.0, 0.5)
    measured = Run(Speed(100, 1.0, 1.0), (slowed, slowed), {}, Path())
    assert measured.by_clock == pytest.approx(4.0)
    assert measured.ratio == pytest.approx(0.5)


def test_the_core_that_others_use_is_seen() -> None:
    """A core that was busy for longer than the process that is measured has served others."""
    before, after = CoreUse(100.0, 50.0, 10.0), CoreUse(110.0, 54.0, 11.0)
    assert before.others_until(after) == pytest.approx(0.3)
    assert before.others_until(CoreUse(110.0, 51.0, 11.0)) == 0


class Watched(Record):
    """Notes in which stage it is read."""

    def __init__(self, key: bytes, value: bytes) -> None:
        super().__init__(0, key, value)
        self.stages: list[str] = []

    def __getattribute__(self, name: str) -> object:
        if name in ("timestamp", "value"):
            self.stages.append(stage_of(sys._getframe().f_back))
        return super().__getattribute__(name)


def test_the_innermost_stage_counts() -> None:
    """What the guard reads counts for the guard, although the step has called it."""
    learner = Learner(
        load_spec(spec_for("bench", "events")), Origin("bench", 1, 0, "events", 0), MemoryRows()
    )
    record = Watched(*events_for(["one"])[0])
    learner.step([record])
    assert record.stages[:2] == ["step around the event", "decode and guard"]
    assert stage_of(None) == OTHER


# -- meters ----------------------------------------------------------------------------------------


async def test_the_heartbeat_sees_a_loop_that_stands_still() -> None:
    """A task that keeps the loop for 30 ms shows as a stop of 30 ms."""
    async with Heartbeat.running() as meter:
        await asyncio.sleep(0.01)
        until = asyncio.get_running_loop().time() + 0.03
        while asyncio.get_running_loop().time() < until:
            pass
        await asyncio.sleep(0.01)
    assert meter.figures()["longest_ms"] >= 29


async def test_flushes_are_counted_and_left_as_they_were(tmp_path: Path) -> None:
    """Each changed row counts once, its bytes are written, and the methods are put back."""
    changed = Learner.changed
    store = ShardStore.open(tmp_path / "shard", create=True)
    spec = load_spec(spec_for("bench", "events"))
    learner = Learner(spec, Origin("bench", 1, 0, "events", 0), store)
    sent = events_for(["a", "b", "a"])
    learner.step([Record(offset, *event) for offset, event in enumerate(sent)])
    async with Flushes.running() as meter:
        rows = list(learner.changed())
        meta = ShardMeta(next_offset=3, epoch=0, spec_digest="", control_offset=0, cluster_id="")
        store.write(rows, meta)
    learner.flushed()
    assert meter.figures()["rows"] == len(rows) > 2
    assert meter.figures()["writes"] == 1
    assert store.get(b"k/a") == dict(rows)[b"k/a"]
    assert Learner.changed is changed
    store.close()


# -- the command -----------------------------------------------------------------------------------


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt name is not a run of nothing that passes."""
    assert main(["end-to-end"]) == 2
    assert "end_to_end" in capsys.readouterr().err


def test_a_profile_is_run_by_name_only() -> None:
    """The sampler slows the service down, so `make bench` does without."""
    assert not set(PARTS) & set(PROFILES)
