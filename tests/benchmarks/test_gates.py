"""The gates themselves: what meets them, what misses them, and how they are reported."""

from __future__ import annotations

import math

import pytest
from benchmarks.gates import Gate, flat, number, table, told
from rich.console import Console


@pytest.mark.parametrize(
    ("value", "relation", "bound", "met"),
    [
        (0.8872004, "=", 0.8872, True),
        (0.8872006, "=", 0.8872, False),
        (1.0, "<=", 1.0, True),
        (1.0001, "<=", 1.0, False),
        (0.155, ">=", 0.155, True),
        (0.1549, ">=", 0.155, False),
    ],
)
def test_a_gate_is_met_at_its_bound(value: float, relation: str, bound: float, met: bool) -> None:
    """Bounds belong to what is allowed; equal means to six decimals."""
    assert Gate("x", value, relation, bound).met is met


@pytest.mark.parametrize("relation", ["=", "<=", ">="])
def test_what_is_not_a_number_meets_no_gate(relation: str) -> None:
    """A figure that could not be taken is a gate that is missed."""
    assert not Gate("x", math.nan, relation, 1.0).met


def test_the_report_names_what_was_missed() -> None:
    """People see MISSED beside the figure, machines get flat JSON with what stands beside it."""
    gates = [
        Gate("a.good", 0.5, "<=", 1.0, "other 2.0", (("other", 2.0),)),
        Gate("a.bad", 0.5, ">=", 1.0),
    ]
    console = Console(width=100, record=True, quiet=True)
    with console.capture() as captured:
        console.quiet = False
        console.print(table(gates, "figures"))
    good, bad = captured.get().splitlines()[-2:]
    assert "met" in good
    assert "MISSED" in bad
    assert flat(gates) == {"a.good": 0.5, "a.good.other": 2.0, "a.bad": 0.5}


def test_an_aim_is_shown_and_not_asked() -> None:
    """A figure between its bound and its aim passes, and people see what it should become."""
    far, near = (Gate("a.ratio", value, ">=", 0.6, aim=0.85) for value in (0.7, 0.9))
    assert (far.met, far.aim_met, near.met, near.aim_met) == (True, False, True, True)
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table([far, near], "figures"))
    first, second = captured.get().splitlines()[-2:]
    assert "0.85" in first
    assert "✓" not in first
    assert "✓" in second


def test_a_figure_without_a_bound_cannot_be_missed() -> None:
    """What is only told passes, even where nothing could be measured."""
    assert told("a.speed", 123.0).met
    assert told("a.speed", math.nan).met


@pytest.mark.parametrize(
    ("value", "text"), [(23_456.7, "23,457"), (1234.5, "1,234"), (45.0638, "45.06"), (0.5, "0.5")]
)
def test_people_read_four_digits(value: float, text: str) -> None:
    """No digits are shown beyond what a clock can tell."""
    assert number(value, 4) == text
