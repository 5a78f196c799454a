"""Controllers side by side on equal machines."""

from __future__ import annotations

import math

from headrace.demo.controllers import OpenLoop, Pi
from headrace.demo.heaters import Plant, drive, machines
from headrace.demo.race import Race


def test_nobody_has_a_figure_before_the_machines_have_settled() -> None:
    """The first two minutes do not count for anyone."""
    race = Race(machines(2))
    race.plant.step()
    race.keep_up()
    assert all(math.isnan(error) for _, error in race.standings())


def test_the_others_drive_equal_machines_to_the_same_time() -> None:
    """Each figure is what the controller reaches alone on the same park in the same time."""
    race = Race(machines(3))
    for _ in range(60):
        race.plant.step()
    race.keep_up()
    race.keep_up()  # nothing left to do
    ours, pi, open_loop = race.standings()
    unheated = drive(Plant(machines(3)), lambda _: 0.0, seconds=300)
    assert ours == ("Headrace", unheated)
    assert pi.error == drive(Plant(machines(3)), Pi(), seconds=300)
    assert open_loop.error == drive(Plant(machines(3)), OpenLoop(), seconds=300)
