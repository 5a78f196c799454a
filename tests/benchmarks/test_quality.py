"""What `make quality` measures with: River alone, the specs, and the baseline of films."""

from __future__ import annotations

import pytest
from benchmarks.quality import (
    BENCHES,
    Bench,
    bare_loop,
    events_of,
    five_star_spec,
    main,
    popular_hits,
    spec_of,
)

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


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt name is not a run of nothing that passes."""
    assert main(["heater"]) == 2
    assert "heaters" in capsys.readouterr().err
