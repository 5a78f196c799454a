"""Predictions that the demonstration asks over gRPC, and how long each took."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping
from statistics import median

from headrace.clock import Clock
from headrace.demo.heaters import Plant
from headrace.demo.screen import Asked, spoken
from headrace.views import Answer

FIRST_USER = "405"  # the busiest of MovieLens-100K, until another has been seen


FEWEST, MOST = 1.0, 5.0  # stars that somebody can give in MovieLens-100K

Predict = Callable[..., Awaitable[Answer]]
"""`AsyncClient.predict`: agent, then by name what is asked."""


class Asker:
    """Asks three kinds of question in turn: what to watch, how good it is, how much to heat."""

    def __init__(
        self, predict: Predict, titles: Mapping[str, str], plant: Plant, clock: Clock
    ) -> None:
        self.user = FIRST_USER  # whom to ask about; the scene sets it to whoever was seen last
        self.latencies_ms: list[float] = []
        self._predict = predict
        self._titles = titles
        self._plant = plant
        self._clock = clock
        self._last = FIRST_USER, next(iter(titles))  # who was asked about last, and the best film
        self._machines = itertools.cycle(plant.machines)
        self._kinds = itertools.cycle((self._what, self._how_good, self._how_much))

    async def ask(self) -> Asked:
        """The next question's answer. Raises RequestError as the client does."""
        return await next(self._kinds)()

    def told(self) -> str:
        """How many answers there were and how long they took."""
        if not self.latencies_ms:
            return "no predictions asked"
        return (
            f"{len(self.latencies_ms)} predictions asked while it learned: median "
            f"{median(self.latencies_ms):.1f} ms, slowest {max(self.latencies_ms):.1f} ms"
        )

    async def _what(self) -> Asked:
        user = self.user
        answer, ms = await self._timed(lambda: self._predict("top10", key=user, k=2))
        if answer.items:
            self._last = user, answer.items[0].item
        films = "; ".join(spoken(self._titles[item.item]) for item in answer.items)
        return Asked(f"what next for user {user}?", films or "nothing is known yet", ms)

    async def _how_good(self) -> Asked:
        user, film = self._last
        answer, ms = await self._timed(lambda: self._predict("ratings", key=user, item=film))
        assert answer.score is not None
        told = f"{stars(answer.score)}, {spoken(self._titles[film])}"
        return Asked(f"and will user {user} like it?", told, ms)

    async def _how_much(self) -> Asked:
        reading = self._plant.reading(next(self._machines))
        answer, ms = await self._timed(
            lambda: self._predict(
                "heaters",
                key=reading["machine"],
                features={"t": reading["t"], "q": reading["q"]},
                setpoint=reading["setpoint"],
            )
        )
        assert answer.value is not None
        return Asked(
            f"what power for {reading['machine']}?",
            f"{answer.value:.0f} % ({reading['t']:.1f} °C, wants {reading['setpoint']:.0f})",
            ms,
        )

    async def _timed(self, ask: Callable[[], Awaitable[Answer]]) -> tuple[Answer, float]:
        since = self._clock.monotonic()
        answer = await ask()
        ms = (self._clock.monotonic() - since) * 1000
        self.latencies_ms.append(ms)
        return answer, ms


def stars(score: float) -> str:
    """A predicted rating, as far as the scale goes; what the model says beyond it is told apart.

    >>> stars(3.71), stars(5.46), stars(5.04)
    ('3.7 stars of 5', '5.0 stars of 5 (the model says 5.5)', '5.0 stars of 5')
    """
    said, shown = f"{score:.1f}", f"{min(max(score, FEWEST), MOST):.1f}"
    beyond = f" (the model says {said})" if said != shown else ""
    return f"{shown} stars of 5{beyond}"
