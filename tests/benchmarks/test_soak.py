"""What a soak says of series that grow, and of those that do not."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from benchmarks.gates import Gate
from benchmarks.growth import LAG_MAX_S, Counts, Sample, counted, judged
from benchmarks.soak import main, taken
from benchmarks.topics import append, lengths, make_topic
from benchmarks.workload import events_for

from headrace.errors import StateError
from headrace.pipelines.broker import Broker

FLAT = [
    Sample(2.0 * n, 200.0 + n % 3, 50 + n % 2, 15, 0.02 * (n % 4), (1.0, 2.0)) for n in range(300)
]
KEPT = Counts(sent=12_000_000, accepted=12_000_000, refused=0, decided=12_000_000)


def missed(gates: list[Gate]) -> list[str]:
    """Their names."""
    return [gate.name for gate in gates if not gate.met]


def grown(**by: float) -> list[Sample]:
    """The flat series, but for these fields, which rise with the number of the sample."""
    return [
        sample._replace(**{name: getattr(sample, name) + rise * n for name, rise in by.items()})
        for n, sample in enumerate(FLAT)
    ]


def test_what_is_flat_is_met() -> None:
    """Noise is no growth, and what happens in the first third is not judged."""
    assert missed(judged(FLAT)) == []
    warm = [s._replace(memory_mb=2.0 * n) for n, s in enumerate(FLAT[:100])] + FLAT[100:]
    assert missed(judged(warm)) == []


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ({"memory_mb": 0.07}, ["soak.memory_rise"]),
        ({"files": 1 / 20}, ["soak.open_files_rise", "soak.most_open_files_rise"]),
        ({"lag_s": 0.002}, ["soak.lag_rise_s"]),
    ],
)
def test_what_grows_is_missed(by: dict[str, float], names: list[str]) -> None:
    """A leak of two bytes per event, a file in forty seconds, a lag that is not made up for."""
    assert missed(judged(grown(**by))) == names


@pytest.mark.parametrize("seconds", [40, 400, 1100])
def test_tables_that_fill_and_are_freed_are_no_growth(seconds: int) -> None:
    """Four shards' tables of 16 MiB, each in 40 to 60 s, at any phase, in a soak of any length."""
    draw = random.Random(seconds)
    for _ in range(10):
        teeth = [(draw.random(), draw.uniform(40, 60)) for _ in range(4)]
        series = [
            sample._replace(
                at_s=2.0 * n,
                memory_mb=190 + sum(16 * ((2 * n / length + phase) % 1) for phase, length in teeth),
            )
            for n, sample in enumerate((FLAT * 3)[: seconds * 3 // 4])
        ]
        assert missed(judged(series)) == []


def test_files_that_are_opened_late_are_missed() -> None:
    """They are few samples of all, which leave the median of the slopes where it is."""
    late = [*FLAT[:280], *(s._replace(files=s.files + 6) for s in FLAT[280:])]
    assert missed(judged(late)) == ["soak.most_open_files_rise"]


def test_a_long_lag_is_missed() -> None:
    """One that was made up for, too."""
    samples = [*FLAT[:200], FLAT[200]._replace(lag_s=LAG_MAX_S + 1), *FLAT[201:]]
    assert missed(judged(samples)) == ["soak.longest_lag_s"]


def test_a_question_without_an_answer_is_missed() -> None:
    """At any time: in the first third, too, and when there was no answer at all."""
    early = [FLAT[0]._replace(unanswered=1), *FLAT[1:]]
    assert missed(judged(early)) == ["soak.unanswered"]
    silent = [sample._replace(answer_ms=(), unanswered=10) for sample in FLAT]
    assert missed(judged(silent)) == ["soak.unanswered"]


def test_all_events_in_time_are_met() -> None:
    """Each was sent when it was due, learned, and has one decision."""
    assert missed(counted(KEPT, 20_000.0, 600.0)) == []


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"accepted": 11_999_999}, ["soak.events_learned"]),
        ({"refused": 1}, ["soak.events_refused"]),
        ({"decided": 11_999_999}, ["soak.decisions"]),
        ({"decided": 12_000_001}, ["soak.decisions"]),
    ],
)
def test_an_event_that_is_lost_is_missed(change: dict[str, int], names: list[str]) -> None:
    """Of twelve million, one that was not learned, was refused, or has no decision or two."""
    assert missed(counted(KEPT._replace(**change), 20_000.0, 600.0)) == names


def test_a_load_that_falls_behind_is_missed() -> None:
    """A soak at less than the rate that it tells is none."""
    assert missed(counted(KEPT, 20_000.0, 640.0)) == ["soak.rate_kept"]


@pytest.mark.parametrize("seconds", ["5", "ten"])
def test_too_short_a_soak_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A series of a few samples says nothing of growth."""
    assert main([seconds]) == 2
    assert "SECONDS" in capsys.readouterr().err


def test_a_process_is_read_from_outside() -> None:
    """Memory, files and threads while it lives; an error when it has ended, waited for or not."""
    memory_mb, files, threads = taken(os.getpid())
    assert memory_mb > 1
    assert files >= 3
    assert threads >= 1
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ended.kill()
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(StateError, match="has ended"):
        taken(ended.pid)
    ended.communicate()
    with pytest.raises(StateError, match="has ended"):
        taken(ended.pid)


async def test_a_topic_tells_how_much_was_appended(kafka: Broker) -> None:
    """All partitions together, and nothing before the first event."""
    topic = "benched-lengths"
    await make_topic(kafka, topic)
    async with lengths(kafka) as length:
        assert await length(topic) == 0
        await append(kafka, topic, events_for("abcde"))
        assert await length(topic) == 5
