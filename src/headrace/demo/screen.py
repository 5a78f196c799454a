"""What the demonstration shows: a live picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from headrace.demo.feeders import Adjustment, handled
from headrace.demo.heaters import HOUR
from headrace.demo.race import Race
from headrace.views import AgentView, MetricView

FILMS_SHOWN = 4
ANSWERS_SHOWN = 3  # with these the picture fits into 24 lines
BAR = 12  # characters of the longest bar


class Pace:
    """Events per second, from counts taken at two moments.

    >>> pace = Pace()
    >>> pace.at(0, 10.0), pace.at(500, 10.5)
    (0.0, 1000.0)
    """

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self.rate = 0.0

    def at(self, count: int, now: float) -> float:
        """The rate since the call before; `now` in seconds."""
        if self._last is not None and now > self._last[1]:
            self.rate = (count - self._last[0]) / (now - self._last[1])
        self._last = (count, now)
        return self.rate


class FilmDecision(NamedTuple):
    """Ten films for a user, decided before it was known what the user would watch."""

    user: str
    films: tuple[str, ...]  # best first
    watched: str


class Asked(NamedTuple):
    """A prediction asked over gRPC, in words."""

    question: str
    answer: str
    ms: float


class Screen:
    """Order of calls: `tick`, `film` and `asked` as things happen; `draw` or `line` to show them.

    `now` is in seconds of a monotonic clock whose zero is the start of the scenes.
    """

    def __init__(self, race: Race) -> None:
        self.race = race
        self.note = ""
        self.answers: deque[Asked] = deque(maxlen=ANSWERS_SHOWN)
        self._films: deque[FilmDecision] = deque(maxlen=FILMS_SHOWN)
        self._paces: dict[str, Pace] = {}
        self._powers: dict[str, float] = {}
        self._moves: list[str] = []

    def tick(self, adjustments: Sequence[Adjustment]) -> None:
        """The heaters' decisions of one moment; those that change most are shown."""
        changes = sorted(
            adjustments, key=lambda a: abs(a.value - self._powers.get(a.key, 0.0)), reverse=True
        )
        self._moves = [self._move(adjustment) for adjustment in changes[:3]]
        self._powers.update({a.key: a.value for a in adjustments})

    def film(self, decision: FilmDecision) -> None:
        self._films.append(decision)

    def asked(self, asked: Asked) -> None:
        self.answers.append(asked)

    def draw(self, agents: Sequence[AgentView], now: float) -> RenderableType:
        """The picture at this moment."""
        return Group(
            Text.assemble(
                (" Headrace ", "bold reverse cyan"), f"  {now:.0f} s  ", (self.note, "dim")
            ),
            self._agents(agents, now),
            self._heaters(),
            self._recommended(),
            _panel("asked over gRPC while it learns", map(_asked, self.answers), ANSWERS_SHOWN),
        )

    def line(self, agents: Sequence[AgentView], now: float) -> str:
        """The same in one line, for logs."""
        parts = [f"{now:3.0f} s"]
        for agent in agents:
            rate = self._paces.setdefault(agent.name, Pace()).at(handled(agent), now)
            metric = agent.metrics[0]
            against = f"{metric.value:.3f} against {metric.baseline or 0.0:.3f}"
            parts.append(
                f"{agent.name} {handled(agent):,} events ({rate:,.0f}/s, lag {_lag(agent):,}) "
                f"{metric.name} {against if metric.events else '–'}"
            )
        errors = ", ".join(f"{name} {_degrees(error)}" for name, error in self.race.standings())
        parts.append(f"off the set-point: {errors}")
        if self.answers:
            parts.append(f"last answer in {self.answers[-1].ms:.1f} ms")
        return " | ".join(parts)

    def _agents(self, agents: Sequence[AgentView], now: float) -> Table:
        table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1, 0, 0), header_style="dim")
        table.add_column("agent", style="bold")
        for name in ("events", "events/s", "lag", "keys"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("metric", justify="right", no_wrap=True)
        table.add_column("baseline", style="dim", no_wrap=True)
        for agent in agents:
            rate = self._paces.setdefault(agent.name, Pace()).at(handled(agent), now)
            table.add_row(
                agent.name,
                f"{handled(agent):,}",
                f"{rate:,.0f}",
                f"{_lag(agent):,}",
                f"{sum(s.keys_hot for s in agent.shards):,}",
                *((measured(m), baseline(m)) if (m := next(iter(agent.metrics), None)) else ()),
            )
        return table

    def _heaters(self) -> Panel:
        standings = self.race.standings()
        worst = max((e for _, e in standings if not math.isnan(e)), default=1.0)
        grid = Table.grid(padding=(0, 1), expand=True)
        for ratio in (None, None, None, 1):
            grid.add_column(ratio=ratio, no_wrap=True)
        for place, (name, error) in enumerate(standings):
            style = "green" if place == 0 else "dim"
            move = self._moves[place] if place < len(self._moves) else ""
            bar = "" if math.isnan(error) else "━" * max(1, round(BAR * error / worst))
            grid.add_row(
                f"[{style}]{name}[/]",
                f"[{style}]{_degrees(error):>7}[/]",
                f"[{style}]{bar:<{BAR}}[/]",
                move,
            )
        minutes = self.race.plant.elapsed / 60
        title = f"12 heaters, mean |T − set-point|, minute {minutes:.0f} of {HOUR / 60:.0f}"
        return Panel(grid, title=title, title_align="left", border_style="dim", box=box.ROUNDED)

    def _move(self, adjustment: Adjustment) -> str:
        reading = self.race.plant.reading(adjustment.key)
        before = self._powers.get(adjustment.key, 0.0)
        return (
            f"[bold]{adjustment.key}[/] {reading['t']:.1f} °C, wants {reading['setpoint']:.0f}: "
            f"{before:.0f} → [bold]{adjustment.value:.0f} %[/]"
        )

    def _recommended(self) -> Panel:
        return _panel(
            "ten films for a user, before it was known", map(_film, self._films), FILMS_SHOWN
        )


def measured(metric: MetricView, *, digits: int = 4) -> str:
    """A metric as people read it, green where it beats its baseline; a dash without any event."""
    if not metric.events:
        return f"{metric.name} –"
    text = f"{metric.name} {metric.value:.{digits}f}"
    if metric.baseline is None or metric.value == metric.baseline:
        return text
    better = (metric.value > metric.baseline) == metric.bigger_is_better
    return f"[{'green' if better else 'red'}]{text}[/]"


def baseline(metric: MetricView) -> str:
    """The baseline's figure and its name."""
    if metric.baseline is None or not metric.events:
        return "–"
    return f"{metric.baseline:.4f} {metric.baseline_name or ''}"


def summed_up(metric: MetricView) -> str:
    """A metric as a sentence for who has not met it before.

    >>> summed_up(MetricView(name="recall@10", value=0.069, baseline=0.042, events=1000,
    ...                      baseline_name="most popular", bigger_is_better=True))[:41]
    '[green]recall@10 0.069[/] (most popular: '
    """
    text = measured(metric, digits=3)
    if not metric.events:
        return f"{text} (nothing was measured)"
    better = "higher" if metric.bigger_is_better else "lower"
    beside = "" if metric.baseline is None else f"{metric.baseline_name}: {metric.baseline:.3f}; "
    text += f" ({beside}{better} is better)"
    if metric.name.startswith("recall@"):
        count = metric.name.removeprefix("recall@")
        among = {"10": "ten"}.get(count, count)
        text += f": in {metric.value * 100:.0f} of 100 cases the next film was among the {among}"
    return text


def spoken(title: str) -> str:
    """A catalogue's title as one says it.

    >>> spoken("Silence of the Lambs, The (1991)"), spoken("Contact (1997)")
    ('The Silence of the Lambs (1991)', 'Contact (1997)')
    """
    return _ARTICLE.sub(r"\2 \1\3", title)


_ARTICLE = re.compile(r"^([^()]+), (The|An?|L[ae]s?|Il|D[ae]r)( \(.*)$")


def _film(decision: FilmDecision) -> tuple[str, str]:
    user, watched = f"user [bold]{escape(decision.user)}[/]", escape(spoken(decision.watched))
    if decision.watched in decision.films:
        place = decision.films.index(decision.watched) + 1
        return user, f"[green]✓ no. {place} of the ten was watched next: {watched}[/]"
    said = "; ".join(map(spoken, decision.films[:1])) or "nothing is known yet"
    return user, f"{escape(said)} … [dim]but watched {watched}[/]"


def _asked(asked: Asked) -> tuple[str, str, str]:
    return escape(asked.question), f"[bold]{escape(asked.answer)}[/]", f"[cyan]{asked.ms:.1f} ms[/]"


def _panel(title: str, rows: Iterable[tuple[str, ...]], height: int) -> Panel:
    """Rows under a title, always `height` of them, so that nothing below jumps."""
    grid = Table.grid(padding=(0, 1), expand=True)
    shown = list(rows)
    columns = max(map(len, shown), default=1)
    for column in range(columns):
        grid.add_column(
            no_wrap=True,
            ratio=1 if column == 1 else None,
            justify="right" if column == 2 else "left",
        )
    for row in shown:
        grid.add_row(*row)
    for _ in range(height - len(shown)):
        grid.add_row("")
    return Panel(grid, title=title, title_align="left", border_style="dim", box=box.ROUNDED)


def _degrees(error: float) -> str:
    return "…" if math.isnan(error) else f"{error:.2f} °C"


def _lag(agent: AgentView) -> int:
    return sum(max((s.end_offset or 0) - s.next_offset, 0) for s in agent.shards)
