"""The demonstration's picture and its plain lines."""

from __future__ import annotations

import msgspec
import pytest
from rich.console import Console

from headrace.clock import ManualClock
from headrace.demo.asking import Asker
from headrace.demo.feeders import Adjustment
from headrace.demo.heaters import Plant, machines
from headrace.demo.race import Race
from headrace.demo.screen import Asked, FilmDecision, Screen, baseline, measured, summed_up
from headrace.views import AgentView, Answer, MetricView, ScoredItem, ShardView, Standing


def _metric(value: float, baseline: float | None, *, bigger: bool) -> MetricView:
    return MetricView(
        name="MAE",
        value=value,
        baseline=baseline,
        baseline_name=None if baseline is None else "running mean",
        bigger_is_better=bigger,
        events=10,
    )


def _agent(name: str, events: int, end: int | None = None) -> AgentView:
    shard = ShardView(
        topic=name,
        partition=0,
        next_offset=events,
        durable_offset=0,
        end_offset=end,
        keys_hot=943,
        accepted=events,
        quarantined=0,
        learned=events,
        paused=False,
    )
    return AgentView(
        name=name,
        spec_version=1,
        epoch=1,
        digest="",
        state="running",
        spec={},
        shards=(shard,),
        metrics=(_metric(0.7482, 0.8686, bigger=False),),
    )


@pytest.fixture
def screen() -> Screen:
    """A screen on which everything has happened."""
    race = Race(machines(), settle_s=0.0)
    race.plant.step()
    race.keep_up()
    full = Screen(race)
    full.tick(
        [Adjustment(name, 0, 10.0 * n, "model") for n, name in enumerate(race.plant.machines)]
    )
    for film in ("Contact (1997)", "Silence of the Lambs, The (1991)", "Fargo (1996)") * 3:
        full.film(FilmDecision("405", ("Pi (1998)", "Fargo (1996)"), film))
        full.asked(Asked("what next for user 405?", "x" * 200, 1.25))
    return full


def _shown(screen: Screen, agents: list[AgentView], width: int = 80) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(screen.draw(agents, 3.0))
    return captured.get()


def test_the_picture_fits_a_terminal_of_80_by_24(screen: Screen) -> None:
    """Nobody needs to enlarge a window, whatever has happened; no figure is cut."""
    agents = [_agent(name, 100_000, 200_000) for name in ("heaters", "ratings", "top10")]
    lines = _shown(screen, agents).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    (ratings,) = [line for line in lines if line.startswith(" ratings")]
    assert ratings.split() == [
        *("ratings", "100,000", "0", "100,000", "943", "MAE", "0.7482", "0.8686", "running"),
        "mean",
    ]


def test_nothing_below_jumps_when_things_begin_to_happen(screen: Screen) -> None:
    """An empty picture has as many lines as a full one."""
    agents = [_agent("ratings", 0)]
    empty = Screen(Race(machines()))
    assert len(_shown(empty, agents).splitlines()) == len(_shown(screen, agents).splitlines())


def test_a_hit_is_shown_with_its_place(screen: Screen) -> None:
    """A film that was recommended and then watched stands out; others are shown beside."""
    text = _shown(screen, [])
    assert "✓ no. 2 of the ten was watched next: Fargo (1996)" in text
    assert "Pi (1998) … but watched The Silence of the Lambs (1991)" in text


def test_the_decisions_that_change_most_are_shown(screen: Screen) -> None:
    """Of twelve machines, the three whose power moves most; from what to what."""
    text = _shown(screen, [])
    assert "0 → 110 %" in text
    assert "0 → 90 %" in text
    assert "→ 80 %" not in text
    screen.tick([Adjustment("h12", 0, 60.0, "model")])
    assert "110 → 60 %" in _shown(screen, [])


def test_the_rate_is_that_of_the_last_interval(screen: Screen) -> None:
    """Events per second between two lines, and the lag behind the log's end."""
    screen.line([_agent("ratings", 1_000)], 2.0)
    line = screen.line([_agent("ratings", 4_000, 4_500)], 4.0)
    assert line.startswith(
        "  4 s | ratings 4,000 events (1,500/s, lag 500) MAE 0.748 against 0.869"
    )
    assert "PI Kc=6 τ=120 s" in line
    assert line.endswith("last answer in 1.2 ms")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("value", "against", "bigger", "colour"),
    [
        (0.7, 0.8, False, "green"),
        (0.9, 0.8, False, "red"),
        (0.9, 0.8, True, "green"),
        (0.7, 0.8, True, "red"),
        (0.8, 0.8, True, ""),
        (0.8, None, True, ""),
    ],
)
def test_a_metric_is_green_where_it_beats_its_baseline(
    value: float, against: float | None, bigger: bool, colour: str
) -> None:
    """Better may be more or less; without a difference there is no colour."""
    text = measured(_metric(value, against, bigger=bigger))
    assert text == (f"[{colour}]MAE {value:.4f}[/]" if colour else f"MAE {value:.4f}")


def test_a_metric_of_no_event_is_a_dash(screen: Screen) -> None:
    """Zero would be a result."""
    nothing = msgspec.structs.replace(_metric(0.0, 0.0, bigger=True), events=0)
    assert (measured(nothing), baseline(nothing)) == ("MAE –", "–")
    assert summed_up(nothing) == "MAE – (nothing was measured)"
    agent = msgspec.structs.replace(_agent("ratings", 0), metrics=(nothing,))
    assert "MAE – |" in screen.line([agent], 1.0)


def test_the_summary_says_what_is_better() -> None:
    """The baseline's name stands before its figure; recall is told in cases."""
    lower = _metric(0.3278, 0.4242, bigger=False)
    assert summed_up(lower) == "[green]MAE 0.328[/] (running mean: 0.424; lower is better)"
    recall = msgspec.structs.replace(_metric(0.069, 0.042, bigger=True), name="recall@10")
    assert summed_up(recall).endswith(
        "higher is better): in 7 of 100 cases the next film was among the ten"
    )


def test_a_metric_without_a_baseline_says_so() -> None:
    """A dash, not a zero."""
    assert baseline(_metric(0.5, None, bigger=True)) == "–"
    assert baseline(_metric(0.5, 0.25, bigger=True)) == "0.2500 running mean"


async def test_three_kinds_of_question_are_asked_in_turn() -> None:
    """What to watch, whether it will be liked, how much to heat; each with the time it took."""
    clock, asked = ManualClock(), []

    async def predict(agent: str, **question: object) -> Answer:
        asked.append((agent, question))
        clock.advance(0.002)
        standing = Standing(
            agent=agent, spec_version=1, epoch=1, partition=0, offset=5, cold=False, updates=3
        )
        items = (ScoredItem("2", 0.5), ScoredItem("1", 0.25)) if agent == "top10" else ()
        return Answer(standing=standing, score=3.74, value=52.0, items=items)

    plant = Plant(machines(2))
    asker = Asker(predict, {"1": "Contact (1997)", "2": "Game, The (1997)"}, plant, clock)
    assert asker.told() == "no predictions asked"
    asker.user = "7"
    told = [await asker.ask() for _ in range(4)]
    assert [agent for agent, _ in asked] == ["top10", "ratings", "heaters", "top10"]
    assert asked[1][1] == {"key": "7", "item": "2"}
    assert asked[2][1]["features"] == {"t": plant.reading("h01")["t"], "q": 0.0}
    assert told[0].answer == "The Game (1997); Contact (1997)"
    assert told[1].answer == "3.7 stars of 5, The Game (1997)"
    assert told[2].answer.startswith("52 % (")
    assert {round(each.ms, 6) for each in told} == {2.0}
    assert asker.told().endswith("median 2.0 ms, slowest 2.0 ms")
