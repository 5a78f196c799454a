"""The gates themselves: what meets them, what misses them, and how they are reported."""

from __future__ import annotations

import math

import pytest
from benchmarks.quality import (
    BENCHES,
    Bench,
    Gate,
    bare_loop,
    events_of,
    five_star_spec,
    flat,
    main,
    popular_hits,
    spec_of,
    table,
)
from rich.console import Console

from headrace.demo.movielens import Rating
from headrace.models.guard import Guard, Refusal
from headrace.models.spec import load_spec


class Sent:
    """An event in a log."""

    offset = 0
    timestamp = 0

    def __init__(self, key: bytes, value: bytes) -> None:
        self.key = key
        self.value = value


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


@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.name)
def test_the_bare_loop_gives_the_published_figures(bench: Bench) -> None:
    """River alone reaches what its own tables say, so the gates compare with the right thing."""
    found, scores = bare_loop(bench)
    assert len(scores) == len(events_of(bench))
    for name, digits in bench.published.items():
        assert round(found[name], len(digits.partition(".")[2])) == float(digits)


@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.name)
def test_every_event_of_a_data_set_is_admitted(bench: Bench) -> None:
    """The spec that is deployed fits the data: nothing would go to quarantine."""
    guard = Guard(load_spec(spec_of(bench)))
    refused = [
        admitted
        for event in events_of(bench)
        if isinstance(admitted := guard.admit(Sent(event.key, event.value)), Refusal)
    ]
    assert refused == []


def test_the_five_star_agent_is_the_shipped_one_elsewhere() -> None:
    """Only name, topics and thus the digest differ from the shipped `top10`."""
    spec = load_spec(five_star_spec())
    assert (spec.agent, spec.source.topic) == ("top10-five-stars", "five-stars")
    assert spec.emit.topic == "decisions.top10-five-stars"


def test_popularity_counts_what_is_known_before_and_not_seen() -> None:
    """A hit is a film that others rated before, among the ten most rated that are new to one."""
    ratings = [Rating("a", "up", 5.0, 1), Rating("b", "up", 5.0, 2), Rating("b", "up", 5.0, 3)]
    many = [Rating(f"u{n}", f"film {film}", 3.0, 4) for n in range(2) for film in range(10)]
    assert popular_hits(ratings) == [False, True, False]
    # Ten films with two ratings each stand before the one with one; then it is the eleventh.
    last = [Rating("a", "pi", 3.0, 5), Rating("c", "pi", 3.0, 6)]
    assert popular_hits([*many, *last])[-2:] == [False, False]
    assert popular_hits([*many[:9], *last])[-1] is True


def test_the_report_names_what_was_missed() -> None:
    """People see MISSED beside the figure, machines get flat JSON with what stands beside it."""
    gates = [
        Gate("a.good", 0.5, "<=", 1.0, "other 2.0", (("other", 2.0),)),
        Gate("a.bad", 0.5, ">=", 1.0),
    ]
    console = Console(width=100, record=True, quiet=True)
    with console.capture() as captured:
        console.quiet = False
        console.print(table(gates))
    good, bad = captured.get().splitlines()[-2:]
    assert "met" in good
    assert "MISSED" in bad
    assert flat(gates) == {"a.good": 0.5, "a.good.other": 2.0, "a.bad": 0.5}


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt name is not a run of nothing that passes."""
    assert main(["heater"]) == 2
    assert "heaters" in capsys.readouterr().err
