"""The control policy: what it chooses, and that no input takes it beyond its limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from headrace.models.adjust import Adjustment, AdjustPolicy, Situation
from headrace.models.spec import Adjust, Cold

NAN, INF = math.nan, math.inf


def policy(**changes: Any) -> AdjustPolicy:
    fields: dict[str, Any] = {
        "actuator": "q",
        "low": 0.0,
        "high": 100.0,
        "setpoint": 50.0,
        "search_step": 2.0,
        "cold": Cold(updates=0),
        "safe": 5.0,
    }
    return AdjustPolicy(Adjust(**fields | changes))


def at(**changes: Any) -> Situation:
    fields: dict[str, Any] = {"now": 40.0, "last": 30.0, "setpoint": 50.0, "updates": 50}
    return Situation(**fields | changes)


def rising(q: float) -> float:
    """A machine that gains a quarter degree per percent, and loses two."""
    return 0.25 * q - 2.0


def test_nearest_outcome_wins() -> None:
    """The candidate whose predicted outcome is nearest to the set-point is chosen."""
    assert policy().choose(rising, at()) == Adjustment(48.0, "model", 50.0)


def test_label_that_is_a_value() -> None:
    """With now = 0 the prediction is the outcome itself, as for a label that is a value."""
    assert policy().choose(lambda q: q, at(now=0.0)) == Adjustment(50.0, "model", 50.0)


@pytest.mark.parametrize(("last", "chosen"), [(30.0, 100.0), (70.0, 0.0), (50.0, 0.0)])
def test_ties_excite(last: float, chosen: float) -> None:
    """Of equally good values the farthest from the last is chosen; equally far, the lowest."""
    assert policy().choose(lambda q: 1.0, at(last=last)).value == chosen


def test_step_limit_holds_for_the_model() -> None:
    """The model moves the actuator by max_step at most, and by just that if it wants more."""
    assert policy(max_step=7.5).choose(rising, at()) == Adjustment(37.5, "model", 47.375)


def test_step_limit_finer_than_the_search() -> None:
    """A step limit below the search step still lets the actuator move."""
    assert policy(max_step=0.5).choose(rising, at(last=31.0)).value == 31.5


def test_search_reaches_the_upper_limit() -> None:
    """A search step that does not divide the range still tries the range's upper end."""
    assert policy(search_step=30.0).choose(lambda q: q, at(setpoint=1e6)).value == 100.0


def test_cold_is_open_loop() -> None:
    """Below cold.updates the declared open loop decides and the model is not asked."""

    def unasked(q: float) -> float:
        raise AssertionError

    cold = policy(cold=Cold(updates=20, bias=-30.0, slope=1.5))
    assert cold.choose(unasked, at(updates=19)) == Adjustment(45.0, "cold")
    assert cold.choose(unasked, at(updates=19, setpoint=10.0)) == Adjustment(0.0, "cold")
    assert cold.choose(rising, at(updates=20)).reason == "model"


def test_step_limit_holds_for_the_open_loop() -> None:
    """The open loop too moves the actuator by max_step at most."""
    cold = policy(cold=Cold(updates=20, bias=90.0), max_step=10.0)
    assert cold.choose(rising, at(updates=0)) == Adjustment(40.0, "cold")


def test_stale_gives_the_safe_value_at_once() -> None:
    """A stale model gives the safe value, beyond the step limit."""
    limited = policy(max_step=1.0)
    assert limited.choose(rising, at(stale=True)) == Adjustment(5.0, "stale")


@pytest.mark.parametrize("field", ["now", "last", "setpoint"])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_input_that_is_not_finite(field: str, value: float) -> None:
    """An input that is not finite gives the safe value, cold or warm."""
    for updates in (0, 50):
        cold = policy(cold=Cold(updates=20, bias=50.0), max_step=1.0)
        situation = at(**{"updates": updates, field: value})
        assert cold.choose(rising, situation) == Adjustment(5.0, "not_finite")


@pytest.mark.parametrize("value", [NAN, INF, -INF, None])
def test_prediction_that_is_not_finite(value: float | None) -> None:
    """One prediction that is not finite, or missing, gives the safe value."""
    spoilt = policy().choose(lambda q: value if q == 98.0 else rising(q), at())
    assert spoilt == Adjustment(5.0, "not_finite")


def test_outcome_beyond_floats() -> None:
    """A finite prediction whose sum with the present value overflows gives the safe value."""
    assert policy().choose(lambda q: 1e308, at(now=1.5e308)).reason == "not_finite"


def test_dead_band_moves_nothing() -> None:
    """While the last value is predicted to end within the dead band, it stays."""
    calm = policy(dead_band=0.5)
    assert calm.choose(rising, at(last=46.5)) == Adjustment(46.5, "dead_band", 49.625)
    assert calm.choose(rising, at(last=44.0)) == Adjustment(48.0, "model", 50.0)


def test_dead_band_does_not_keep_what_is_out_of_range() -> None:
    """A last value beyond the range is brought back into it even within the dead band."""
    calm = policy(dead_band=100.0)
    assert calm.choose(rising, at(last=250.0)) == Adjustment(100.0, "dead_band", 63.0)


ANY = st.floats(allow_nan=True, allow_infinity=True)
FINITE = st.floats(-1e12, 1e12)


@st.composite
def limits(draw: st.DrawFn) -> Adjust:
    low, high = sorted((draw(FINITE), draw(FINITE)))
    assume(low < high)
    return Adjust(
        actuator="q",
        low=low,
        high=high,
        setpoint=0.0,
        search_step=(high - low) / draw(st.floats(1.0, 60.0)),
        max_step=draw(st.none() | st.floats(1e-9, 1e13)),
        dead_band=draw(st.sampled_from([0.0, 1.0, 1e6])),
        cold=Cold(updates=draw(st.integers(0, 2)), bias=draw(FINITE), slope=draw(FINITE)),
        safe=draw(st.floats(low, high)),
    )


@st.composite
def models(draw: st.DrawFn) -> Callable[[float], float | None]:
    bias, slope, bend = draw(ANY), draw(ANY), draw(st.sampled_from([0.0, 1e-3, 1e300]))
    silent = draw(st.none() | FINITE)
    return lambda q: None if silent is not None and q > silent else bias + slope * q + bend * q * q


@given(
    adjust=limits(),
    predict=models(),
    numbers=st.tuples(ANY, ANY, ANY),
    updates=st.integers(0, 3),
    stale=st.booleans(),
)
@example(
    adjust=Adjust(
        actuator="q",
        low=0.1,
        high=0.7,
        search_step=0.1,
        max_step=0.2,
        cold=Cold(updates=0),
        safe=0.3,
    ),
    predict=lambda q: q,
    numbers=(0.0, 0.3, 1.0),
    updates=3,
    stale=False,
)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_nothing_takes_it_beyond_its_limits(
    adjust: Adjust,
    predict: Callable[[float], float | None],
    numbers: tuple[float, float, float],
    updates: int,
    stale: bool,
) -> None:
    """Whatever the model and the event say, the value is finite, in range, within the step limit
    unless it is the safe value, and the same when asked again.
    """
    now, last, setpoint = numbers
    situation = Situation(now=now, last=last, setpoint=setpoint, updates=updates, stale=stale)
    chosen = AdjustPolicy(adjust).choose(predict, situation)
    assert adjust.low <= chosen.value <= adjust.high
    if chosen.reason in ("stale", "not_finite"):
        assert chosen.value == adjust.safe
    elif adjust.max_step is not None:
        inside = min(max(last, adjust.low), adjust.high)
        assert inside - adjust.max_step <= chosen.value <= inside + adjust.max_step
    assert AdjustPolicy(adjust).choose(predict, situation) == chosen
