"""The learning controller beside those that do not learn, on equal machines at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from headrace.demo.controllers import OpenLoop, Pi
from headrace.demo.heaters import PERIOD, Machine, Plant, Reading, drive


class Standing(NamedTuple):
    """How far a controller's machines are off their set-points: mean |T − set-point| so far, °C."""

    name: str
    error: float  # NaN before the first step that counts


class Race:
    """`plant` is driven by decisions from outside; the others follow when told to `keep_up`.

    >>> from headrace.demo.heaters import machines
    >>> race = Race(machines(2), settle_s=0.0)
    >>> race.plant.step()
    >>> race.keep_up()
    >>> [name for name, _ in race.standings()]
    ['Headrace', 'PI Kc=6 τ=120 s', 'open loop']
    """

    def __init__(self, park: Sequence[Machine], *, settle_s: float = 120.0) -> None:
        self.plant = Plant(park, settle_s=settle_s)
        self._others: list[tuple[str, Callable[[Reading], float], Plant]] = [
            ("PI Kc=6 τ=120 s", Pi(), Plant(park, settle_s=settle_s)),
            ("open loop", OpenLoop(), Plant(park, settle_s=settle_s)),
        ]

    def keep_up(self) -> None:
        """Bring the other controllers' machines to the plant's time."""
        for _, decide, plant in self._others:
            while plant.elapsed < self.plant.elapsed:
                drive(plant, decide, seconds=PERIOD)

    def standings(self) -> list[Standing]:
        """The learning controller first."""
        others = [Standing(name, plant.mean_error()) for name, _, plant in self._others]
        return [Standing("Headrace", self.plant.mean_error()), *others]
