"""`headrace demo`: film ratings and heaters, learned live by a real service over a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from headrace.clock import SystemClock
from headrace.config import Config
from headrace.demo.asking import Asker
from headrace.demo.feeders import (
    PACE,
    Adjustment,
    handled,
    learned,
    rate_films,
    run_heaters,
    running,
)
from headrace.demo.heaters import HOUR, machines
from headrace.demo.mishaps import Mishaps
from headrace.demo.movielens import MovieLens, Rating, cached, load
from headrace.demo.race import Race
from headrace.demo.screen import FilmDecision, Screen, summed_up
from headrace.errors import HeadraceError, UnavailableError
from headrace.service import Service
from headrace.serving.client import AsyncClient

AHEAD = (
    "Films to recommend, heaters to control: two to four minutes. Only when most of it is learned "
    "poisoned ratings flood in, then the sensor of a heater sticks; both are taken back. "
    "Ctrl-C ends it."
)
BESIDE = (
    "Beside it two others run equal heaters. PI is a controller tuned by hand, which acts on how "
    "far off a heater is (its gain Kc) and has been (within its time τ); open loop sets the power "
    "that a usual heater needs and never looks."
)
AGENTS = ("ratings", "top10", "heaters")
FRAME_S = 0.25
ASK_S = 0.5
NAME_WIDTH = 10  # characters of the summary's first column
LINE_S = 5.0  # between two lines where there is no terminal
FILM_S = 0.7  # between two films on the screen: they are to be read

T = TypeVar("T")


def shipped_spec(agent: str) -> bytes:
    """The spec of an agent that comes with Headrace (`ratings`, `top10`, `heaters`)."""
    return files("headrace.pipelines.agents").joinpath(f"{agent}.yaml").read_bytes()


class Rush(NamedTuple):
    """What came at full speed."""

    events: int
    seconds: float

    def told(self) -> str:
        return (
            f"the last {self.events:,} ratings at {self.events / self.seconds:,.0f} events/s, each "
            "learned, decided and written by two agents in one process"
        )


class Demo:
    """Two scenes at once on one service, then what goes wrong in each and how it is taken back.

    It brings its own embedded broker, whatever `config` says, so that nothing is left of it.
    `on_frame` gets every picture that is drawn. Raises HeadraceError when something fails.
    """

    def __init__(
        self,
        config: Config,
        console: Console,
        cache: Path,
        *,
        ratings: int | None = None,
        on_frame: Callable[[RenderableType], None] | None = None,
    ) -> None:
        self.race = Race(machines())
        self._config = dataclasses.replace(config, broker="memory:", state_dir=None)
        self._console = console
        self._cache = cache
        self._limit = ratings
        self._on_frame = on_frame
        self._clock = SystemClock()
        self._on_terminal = console.is_terminal
        self._screen = Screen(self.race)
        self._movies: MovieLens
        self._ratings: Sequence[Rating] = ()
        self._rushed = Rush(0, 0.0)
        self._asker: Asker
        self._began = 0.0

    async def run(self) -> None:
        """Play both scenes. SIGTERM ends it as Ctrl-C does: all is stopped and removed first.

        Raises UnavailableError `stopping` after a SIGTERM.
        """
        playing = asyncio.ensure_future(self._run())
        terminated: list[bool] = []

        def terminate() -> None:
            terminated.append(True)
            playing.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        try:
            await playing
        except asyncio.CancelledError:
            if not terminated:
                raise
            raise UnavailableError("stopping", "the demonstration was terminated") from None

    async def _run(self) -> None:
        self._console.print(AHEAD, highlight=False)
        folder = self._cache / "movielens"
        there = cached(folder)
        what = f"MovieLens-100K{'' if there else ': 2 MB are fetched, this once'}"
        self._movies = await self._step(what, asyncio.to_thread(load, folder))
        self._ratings = self._movies.events[: self._limit]
        service = Service(self._config)
        await self._step("an embedded broker, a worker and a gRPC server", service.start())
        try:
            async with AsyncClient(service.grpc_address) as client:
                self._asker = Asker(
                    client.predict, self._movies.titles, self.race.plant, self._clock
                )
                for agent in AGENTS:
                    await self._step(f"agent {agent}", client.deploy(shipped_spec(agent)))
                for agent in AGENTS:
                    await running(client, agent)
                self._console.print(BESIDE, highlight=False)
                self._began = self._clock.monotonic()
                mishaps = Mishaps(client, service.events, self._console, self._clock)
                await self._play(service, client, mishaps)
                await self._summary(client)
                await mishaps.poisoned(self._ratings)
                await mishaps.stuck(self.race.plant)
        finally:
            await self._step("everything stopped and removed", service.stop())

    async def _step(self, what: str, work: Awaitable[T]) -> T:
        """Wait for a part of the start, and tell what it was and how long it took."""
        since = self._clock.monotonic()
        with self._console.status(what):
            done = await work
        seconds = self._clock.monotonic() - since
        self._console.print(f"[green]✓[/] {what} [dim]{seconds:.1f} s[/]", highlight=False)
        return done

    @property
    def _now(self) -> float:
        return self._clock.monotonic() - self._began

    # -- the scenes --------------------------------------------------------------------------

    async def _play(self, service: Service, client: AsyncClient, mishaps: Mishaps) -> None:
        hurry = asyncio.Event()
        screen = self._screen
        live = Live(console=self._console, refresh_per_second=4) if self._on_terminal else None
        try:
            with live or contextlib.nullcontext():
                async with asyncio.TaskGroup() as scenes:
                    watching = scenes.create_task(self._watch_films(client))
                    beside = [
                        watching,
                        scenes.create_task(self._ask()),
                        scenes.create_task(self._show(client, live)),
                        scenes.create_task(_alive(service)),
                    ]
                    screen.note = f"heaters in a closed loop; ratings at {PACE:,} a second"
                    films = scenes.create_task(rate_films(self._ratings, service.events, hurry))
                    await self._heat(service, client)
                    # Decisions come too fast to be watched now, and watching them costs time.
                    screen.note = "the heaters' hour is over; the other ratings at full speed"
                    watching.cancel()
                    hurry.set()
                    await mishaps.before_flood(len(self._ratings) * 2 // 5)
                    await self._rush(client, films)
                    for task in beside:
                        task.cancel()
                screen.note = "all events are learned"
                frame = screen.draw(await client.agents(), self._now)
                if live is not None:
                    live.update(frame)
            if live is None:
                self._console.print(frame)
        except* HeadraceError as failed:
            raise failed.exceptions[0] from None

    async def _rush(self, client: AsyncClient, films: asyncio.Task[None]) -> None:
        """Wait until the rest of the ratings is learned, and take down how fast that went."""
        since, total = self._now, len(self._ratings)
        already = handled(await client.agent("top10"))
        await films
        for agent in ("ratings", "top10"):
            await learned(client, agent, total)
        self._rushed = Rush(total - already, self._now - since)

    async def _heat(self, service: Service, client: AsyncClient) -> None:
        def on_tick(adjustments: Sequence[Adjustment]) -> None:
            self._screen.tick(adjustments)
            self.race.keep_up()

        decisions = client.watch_decisions("heaters", from_start=True)
        async with contextlib.aclosing(decisions):
            await run_heaters(
                self.race.plant, service.events, decisions, seconds=HOUR, on_tick=on_tick
            )

    async def _watch_films(self, client: AsyncClient) -> None:
        """Show a decision now and then, whatever came of it: every fifth or so is a hit."""
        shown = -FILM_S
        titles = self._movies.titles
        async for decision in client.watch_decisions("top10", from_start=True):
            rated = self._ratings[decision["position"]["offset"]]  # the topic holds nothing else
            ten = [item["item"] for item in decision["items"] or ()]
            if self._now - shown > FILM_S:
                shown = self._now
                self._screen.film(
                    FilmDecision(
                        rated.user, tuple(titles[item] for item in ten), titles[rated.item]
                    )
                )
                self._asker.user = rated.user

    async def _ask(self) -> None:
        while True:
            await asyncio.sleep(ASK_S)
            self._screen.asked(await self._asker.ask())

    # -- what is seen ------------------------------------------------------------------------

    async def _show(self, client: AsyncClient, live: Live | None) -> None:
        """Keep the picture up to date; where there is no terminal, print a line now and then."""
        next_line = 1.0
        while True:
            agents, now = await client.agents(), self._now
            if live is not None or self._on_frame is not None:
                frame = self._screen.draw(agents, now)
                if live is not None:
                    live.update(frame)
                if self._on_frame is not None:
                    self._on_frame(frame)
            if live is None and now >= next_line:
                next_line = now + LINE_S
                self._console.print(self._screen.line(agents, now), soft_wrap=True, highlight=False)
            await asyncio.sleep(FRAME_S)

    async def _summary(self, client: AsyncClient) -> None:
        agents = await client.agents()
        rows = [(agent.name, summed_up(metric)) for agent in agents for metric in agent.metrics]
        off = ", ".join(f"{name} {error:.2f}" for name, error in self.race.standings())
        rows.append(("heaters", f"°C off the set-point on average: {off}"))
        if self._rushed.events:
            rows.append(("films", self._rushed.told()))
        rows.append(("gRPC", self._asker.told()))
        table = Table.grid(padding=(0, 1))  # folds between words, the rest below its own column
        table.add_column(min_width=NAME_WIDTH)
        for name, said in rows:
            table.add_row(f"  {name}", said)
        head = f"\n[bold]What happened[/] in {self._now:.0f} s, through broker, models and state"
        self._console.print(head, table, sep="\n", highlight=False)


async def _alive(service: Service) -> None:
    """Raises what has failed inside the service; otherwise waits for ever."""
    await asyncio.wait([service.failed])
    error = service.failed.exception()
    if isinstance(error, HeadraceError):
        raise error
    raise UnavailableError("stopping", f"the service has failed: {error!r}") from error
