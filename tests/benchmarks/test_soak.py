"""What a soak says of series that grow, and of those that do not."""

from __future__ import annotations

import pytest
from benchmarks.gates import Gate
from benchmarks.soak import LAG_MAX_S, Sample, judged

FLAT = [
    Sample(2.0 * n, 200.0 + n % 3, 50 + n % 2, 15, 0.02 * (n % 4), (1.0, 2.0)) for n in range(300)
]


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
    assert missed(judged(FLAT, 20_000.0)) == []
    warm = [s._replace(memory_mb=2.0 * n) for n, s in enumerate(FLAT[:100])] + FLAT[100:]
    assert missed(judged(warm, 20_000.0)) == []


@pytest.mark.parametrize(
    ("by", "name"),
    [
        ({"memory_mb": 0.06}, "soak.memory_rise"),
        ({"files": 1 / 20}, "soak.open_files_rise"),
        ({"lag_s": 0.002}, "soak.lag_rise_s"),
    ],
)
def test_what_grows_is_missed(by: dict[str, float], name: str) -> None:
    """A leak of a byte and a half per event, a file in forty seconds, a lag that stays."""
    assert missed(judged(grown(**by), 20_000.0)) == [name]


def test_a_long_lag_is_missed() -> None:
    """One that was made up for, too."""
    samples = [*FLAT[:200], FLAT[200]._replace(lag_s=LAG_MAX_S + 1), *FLAT[201:]]
    assert missed(judged(samples, 20_000.0)) == ["soak.longest_lag_s"]
