"""What goes wrong, and how it is taken back: poisoned ratings, and a heater with a stuck sensor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.markup import escape

from headrace.clock import Clock
from headrace.demo.feeders import HEATERS_TOPIC, RATINGS_TOPIC, Producer, handled, learned
from headrace.demo.heaters import Plant, Reading
from headrace.demo.movielens import Rating
from headrace.errors import UnavailableError
from headrace.pipelines.feeds import Outgoing
from headrace.serving.client import AsyncClient
from headrace.views import Exclusion, RollbackPreview, RollbackRequest, RollbackView

SHARE = 5  # one poisoned rating for so many honest ones
GOOD = 4.0  # stars
STUCK = "h07"
SOUND = "h08"  # the machine beside it
STUCK_READINGS = 200
STUCK_PERIOD_S = 0.2  # so few seconds in all that no other machine falls silent in the meantime
WAIT_S = 60.0
LOOK_S = 0.02
INDENT, CONTINUED = "    ", " \\"  # of a command in several lines


def flood(ratings: Sequence[Rating], topic: str = RATINGS_TOPIC) -> list[Outgoing]:
    """The newest fifth of the ratings again, good films as bad ones, all within the second after.

    `ratings` is not empty.
    """
    at = ratings[-1].timestamp
    newest = ratings[-max(1, len(ratings) // SHARE) :]
    lies = (
        Rating(each.user, each.item, 1.0 if each.rating >= GOOD else 5.0, at) for each in newest
    )
    return [
        Outgoing(topic, lie.key, lie.value, at * 1000 + 1 + number % 999)
        for number, lie in enumerate(lies)
    ]


def without_flood(ratings: Sequence[Rating]) -> Exclusion:
    """What holds all of `flood`, and no honest rating: those are stamped at full seconds."""
    at_ms = ratings[-1].timestamp * 1000
    return Exclusion(from_ms=at_ms + 1, to_ms=at_ms + 1000)


def stuck_readings(reading: Reading) -> Iterator[Outgoing]:
    """The machine's sensor says the same for ever, whatever the power is."""
    for number in range(1, STUCK_READINGS + 1):
        at = reading["at"] + number * STUCK_PERIOD_S
        told = {**reading, "at": at, "q": float(number * 37 % 101)}
        name = reading["machine"].encode()
        yield Outgoing(HEATERS_TOPIC, name, msgspec.json.encode(told), round(at * 1000))


def flips(preview: RollbackPreview) -> str:
    """How many decisions become others, or why none was compared."""
    if not preview.decisions_compared:
        return preview.note
    flipped, of = preview.decisions_flipped, preview.decisions_compared
    return f"{flipped:,} of the newest {of:,} predictions come out otherwise, if only a little"


def typed(asked: RollbackRequest, width: int) -> str:
    r"""The command that asks for the same, in lines of at most so many characters, unless an option
    with its value is longer: none is broken. A shell takes the lines for one command.

    >>> asked = RollbackRequest(agent="heaters", snapshot_id="heaters.noon", keys=("h07",))
    >>> print(typed(asked, 80))
    headrace rollback heaters --to heaters.noon --key h07
    >>> print(typed(asked, 48))
    headrace rollback heaters --to heaters.noon \
        --key h07
    """
    words = [f"headrace rollback {asked.agent}", f"--to {asked.snapshot_id}"]
    if asked.mode != "revert":
        words.append(f"--mode {asked.mode}")
    words += [f"--key {key}" for key in asked.keys]
    left_out = asked.exclude or Exclusion()
    for option, ms in (("--exclude-from", left_out.from_ms), ("--exclude-to", left_out.to_ms)):
        if ms is not None:
            at = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
            words.append(f"{option} {at.replace('+00:00', 'Z')}")
    lines = [words.pop(0)]
    for word in words:
        if len(lines[-1]) + len(word) + len(CONTINUED) < width:
            lines[-1] += f" {word}"
        else:
            lines.append(INDENT + word)
    return f"{CONTINUED}\n".join(lines)


class Mishaps:
    """Order of calls: `before_flood` while all is well, then `poisoned` and `stuck`, once each."""

    def __init__(
        self, client: AsyncClient, events: Producer, console: Console, clock: Clock
    ) -> None:
        self._client = client
        self._events = events
        self._console = console
        self._clock = clock
        self._evening = ""

    async def before_flood(self, events: int) -> None:
        """A snapshot of the ratings' agent when it has learned so many: on a slow machine few are
        by now, and a preview learns only so many again.
        """
        await learned(self._client, "ratings", events)
        self._evening = await self._snapshot("ratings", "evening")

    async def poisoned(self, ratings: Sequence[Rating]) -> None:
        """Lies flood in; the agent learns the log again without them."""
        good, events = await self._metric("ratings"), handled(await self._client.agent("ratings"))
        lies = flood(ratings)
        await self._events.send_all(lies)
        await learned(self._client, "ratings", events + len(lies))
        bad = await self._metric("ratings")
        self._head("A bad batch: poisoned ratings flood in, and are learned")
        self._say(
            f"{len(lies):,} lies, one star for good films and five for bad: {good} → [red]{bad}[/]"
        )
        asked = RollbackRequest(
            agent="ratings",
            snapshot_id=self._evening,
            mode="rewind",
            exclude=without_flood(ratings),
        )
        preview = await self._client.preview_rollback(asked)
        self._say(
            f"preview: {preview.events_back:,} events since snapshot {self._evening} (made after "
            f"the heaters' hour), {preview.events_excluded:,} of them left out; "
            f"{flips(preview)}: all users share one model"
        )
        self._type(asked)
        done, seconds = await self._rollback(asked)
        self._say(
            f"rewind without them: {seconds:.1f} s; epoch {done.epoch}: "
            f"[green]{await self._metric('ratings')}[/]"
        )

    async def stuck(self, plant: Plant) -> None:
        """One heater learns that power has no effect; it alone goes back, as it was."""
        snapshot = await self._snapshot("heaters", "noon")
        events = handled(await self._client.agent("heaters"))
        before = [await self._power(plant, name) for name in (STUCK, SOUND)]
        await self._events.send_all(stuck_readings(plant.reading(STUCK)))
        await learned(self._client, "heaters", events + STUCK_READINGS)
        wrong = await self._power(plant, STUCK)
        self._head(f"A bad sensor: that of heater {STUCK} sticks, and its model learns from it")
        self._say(
            f"holding its set-point took {before[0]:.0f} % of power: now [red]{wrong:.0f} %[/]"
        )
        asked = RollbackRequest(agent="heaters", snapshot_id=snapshot, keys=(STUCK,))
        preview = await self._client.preview_rollback(asked)
        self._say(
            f"preview: {preview.keys_changed} model would change, that of {STUCK}: it forgets the "
            f"{preview.events_back:,} readings since snapshot {snapshot} (made before it stuck)"
        )
        self._type(asked)
        done, seconds = await self._rollback(asked)
        after = [await self._power(plant, name) for name in (STUCK, SOUND)]
        self._say(
            f"rollback of {STUCK} alone: {seconds * 1000:.0f} ms; epoch {done.epoch}: "
            f"[green]{after[0]:.0f} %[/] again, and {SOUND} beside it "
            f"{before[1]:.0f} % as before" + ("" if before[1] == after[1] else f", now {after[1]}")
        )

    async def _snapshot(self, agent: str, name: str) -> str:
        """A named snapshot, once it is complete; its id."""
        view = await self._client.create_snapshot(agent, name)
        since = self._clock.monotonic()
        while not view.complete:
            self._not_longer(since, f"snapshot {view.snapshot_id} is not complete")
            view = await self._client.snapshot(view.snapshot_id)
        return view.snapshot_id

    async def _rollback(self, asked: RollbackRequest) -> tuple[RollbackView, float]:
        """Ask for it and wait until it is done; also the seconds that took."""
        since = self._clock.monotonic()
        view = await self._client.rollback(asked)
        while not view.done:
            await asyncio.sleep(LOOK_S)
            self._not_longer(since, f"the rollback of {asked.agent} is not done")
            view = await self._client.get_rollback(view.control_id)
        return view, self._clock.monotonic() - since

    async def _metric(self, agent: str) -> str:
        metric = (await self._client.agent(agent)).metrics[0]
        return f"{metric.name} {metric.value:.4f}"

    async def _power(self, plant: Plant, machine: str) -> float:
        """What the agent gives a machine that is at its set-point, %."""
        reading = plant.reading(machine)
        answer = await self._client.predict(
            "heaters",
            key=machine,
            features={"t": reading["setpoint"], "q": reading["q"]},
            setpoint=reading["setpoint"],
        )
        assert answer.value is not None
        return answer.value

    def _not_longer(self, since: float, what: str) -> None:
        if self._clock.monotonic() - since > WAIT_S:
            raise UnavailableError("not_ready", f"{what} after {WAIT_S:g} s")

    def _head(self, text: str) -> None:
        self._console.print(f"\n[bold]{text}[/]", highlight=False)

    def _type(self, asked: RollbackRequest) -> None:
        command = typed(asked, self._console.width - len(INDENT)).replace("\n", f"\n{INDENT}")
        self._say("as by hand:")
        self._console.print(f"{INDENT}{escape(command)}", soft_wrap=True, highlight=False)

    def _say(self, text: str) -> None:
        self._console.print(f"  {text}", highlight=False)
