"""What a soak asks of its samples: nothing may grow, nothing may be lost, nobody may go unanswered.

The first third of the samples is for filling caches and windows and is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.gates import Gate, told
from benchmarks.latency import percentile
from benchmarks.series import change, higher, sparkline

HOUR_S = 3600.0
TABLES_MAX = 0.3
"""RocksDB's tables in memory: each of the four shards fills one of 16 MiB in some 50 s and frees it
again, which is so large a share of the worker's memory, and all of it may be in one short soak."""
TOOTH_S = 20.0
"""What these teeth do to a slope falls with the time that is judged: four of them at any phase make
0.24 in 40 s, 0.03 in the 400 s of ten minutes, 0.02 in 700 s. A rise of 20 s ÷ the time is above
all of these: 0.05 in ten minutes. At 20,000 events a second and 250 MB that is a leak of one and a
half bytes per event, or half the memory in an hour; a longer soak finds smaller ones."""
FILES_MAX = 4.0
"""RocksDB's own files come and go."""
LAG_RISE_MAX_S = 0.25
LAG_MAX_S = 5.0
"""In seconds of events; a stop of the machine may take as long."""
RATE_MIN = 0.95
"""Of the rate that was asked for: a load that falls behind would soak less than it says."""


class Sample(NamedTuple):
    """The worker, seen from outside."""

    at_s: float
    memory_mb: float
    files: int
    threads: int
    lag_s: float  # events not learned yet, in seconds of the rate
    answer_ms: tuple[float, ...]
    unanswered: int = 0  # questions


class Counts(NamedTuple):
    """Events, when all of them are durable."""

    sent: int
    accepted: int
    refused: int
    decided: int  # records in the decision topic


def counted(counts: Counts, rate: float, seconds: float) -> list[Gate]:
    """Every event was sent in time, was learned, and has its decision."""
    per_s = counts.sent / seconds
    beside = f"{per_s:,.0f} events/s for {seconds:.0f} s, half of the top rate"
    return [
        Gate("soak.rate_kept", per_s / rate, ">=", RATE_MIN, beside, (("events_per_s", per_s),)),
        Gate("soak.events_learned", counts.accepted, "=", counts.sent, "of those that were sent"),
        Gate("soak.events_refused", counts.refused, "=", 0),
        Gate("soak.decisions", counts.decided, "=", counts.sent, "one for each event"),
    ]


def judged(samples: Sequence[Sample]) -> list[Gate]:
    """What the samples say, without the first third of them."""
    kept = samples[len(samples) // 3 :]
    return [*_memory(samples, kept), *_files(kept), *_lag(kept), *_answers(samples, kept)]


def memory_max(seconds: float) -> float:
    """By how much the memory may rise in the time that is judged, as a share of it.

    >>> memory_max(400), memory_max(4000), memory_max(20)
    (0.05, 0.005, 0.3)
    """
    return round(min(TOOTH_S / seconds, TABLES_MAX), 3)


def _memory(samples: Sequence[Sample], kept: Sequence[Sample]) -> list[Gate]:
    at, memory = [sample.at_s for sample in kept], [sample.memory_mb for sample in kept]
    typical = percentile(memory, 0.5)
    seconds = at[-1] - at[0]
    rise = change(at, memory) / typical
    hourly = rise / seconds * HOUR_S
    beside = f"of it, in {seconds:.0f} s; {hourly:.2f} in an hour"
    return [
        told("soak.memory_mb", typical, sparkline([sample.memory_mb for sample in samples])),
        Gate("soak.memory_rise", rise, "<=", memory_max(seconds), beside, (("hourly", hourly),)),
    ]


def _files(kept: Sequence[Sample]) -> list[Gate]:
    at, files = [sample.at_s for sample in kept], [float(sample.files) for sample in kept]
    threads = [float(sample.threads) for sample in kept]
    return [
        told("soak.open_files", percentile(files, 0.5), sparkline(files)),
        Gate("soak.open_files_rise", change(at, files), "<=", FILES_MAX),
        Gate("soak.most_open_files_rise", higher(files), "<=", FILES_MAX, "last third to middle"),
        told("soak.threads", threads[-1], sparkline(threads)),
    ]


def _lag(kept: Sequence[Sample]) -> list[Gate]:
    at, lag = [sample.at_s for sample in kept], [sample.lag_s for sample in kept]
    return [
        told("soak.lag_s", percentile(lag, 0.5), sparkline(lag)),
        Gate("soak.lag_rise_s", change(at, lag), "<=", LAG_RISE_MAX_S),
        Gate("soak.longest_lag_s", max(lag), "<=", LAG_MAX_S),
    ]


def _answers(samples: Sequence[Sample], kept: Sequence[Sample]) -> list[Gate]:
    answers = [ms for sample in kept for ms in sample.answer_ms]
    each = [percentile(sample.answer_ms, 0.5) for sample in kept if sample.answer_ms]
    unanswered = sum(sample.unanswered for sample in samples)
    gates = [Gate("soak.unanswered", unanswered, "=", 0, "questions")]
    if answers:
        beside = f"one after the other; {sparkline(each)}"
        gates.append(told("soak.predict_p50_ms", percentile(answers, 0.5), beside))
        beside = f"{len(answers):,} answers"
        gates.append(told("soak.predict_p99_ms", percentile(answers, 0.99), beside))
    return gates
