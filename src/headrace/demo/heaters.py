"""Twelve heaters that nobody tuned: a simulator on the digital twin of PyPI's `tclab`.

Each machine is one `tclab.TCLabModel`, stepped by hand (`synced=False`, so no real time passes):
heater 1 is the actuator, thermistor 1 the reading, heater 2 stays off and takes heat away through
the coupling. What the twin gives all of them alike, a plant does not: every machine has an ambient
temperature and a heater gain of its own, an element that ages, and at some time of the hour a cold
draught. Set-points change four times an hour. All of it follows from (seed, name of the machine).

>>> plant = Plant(machines(2))
>>> plant.reading("h01")["setpoint"], plant.reading("h01")["q"]
(40.0, 0.0)
>>> plant.apply("h01", 140.0)  # beyond what the element takes
100.0
>>> plant.step(60.0)
>>> plant.reading("h01")["t"] > plant.reading("h02")["t"] + 5.0
True
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TypedDict

import tclab

START = 1_750_000_000.0  # when the simulated hour begins, epoch seconds; any fixed time would do
PERIOD = 5.0  # seconds between two readings of a machine
HOUR = 3600.0

NOMINAL_AMBIENT = 21.0  # °C, the twin's own
NOMINAL_POWER = 200.0  # the twin's own maximum power of heater 1
# °C per % at rest: P/5720 = x/20 + (5/6)x/100, where heater 2, off, sits at a sixth of the rise.
NOMINAL_GAIN = NOMINAL_POWER / 5720 / (1 / 20 + 5 / 600)

NOISE = NormalDist(0.0, 0.043)  # the twin's own measurement noise, °C
# °C. Each can be held by each machine of the park that has it, old and in the draught too.
SETPOINTS = ((40.0, 50.0, 38.0, 46.0), (45.0, 35.0, 48.0, 40.0), (38.0, 50.0, 44.0, 36.0))


class Reading(TypedDict):
    """One event: °C, % of power as applied since the reading before, epoch seconds."""

    machine: str
    at: float
    t: float
    q: float
    setpoint: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What is particular to one machine. No controller is told any of it but the set-points."""

    name: str
    seed: int = 0
    ambient: float = NOMINAL_AMBIENT  # °C
    gain: float = 1.0  # heater power, as a share of the nominal
    ageing: float = 0.0  # share of the gain that is lost over an hour
    draught_at: float = HOUR  # seconds after the start
    draught_for: float = 0.0  # seconds
    draught: float = 0.0  # °C below the ambient
    setpoints: tuple[float, ...] = SETPOINTS[0]  # °C, a quarter of an hour each, then again

    def setpoint(self, elapsed: float) -> float:
        return self.setpoints[int(elapsed // (HOUR / 4)) % len(self.setpoints)]

    def ambient_at(self, elapsed: float) -> float:
        cold = self.draught_at <= elapsed < self.draught_at + self.draught_for
        return self.ambient - (self.draught if cold else 0.0)

    def power_at(self, elapsed: float) -> float:
        return NOMINAL_POWER * self.gain * math.pow(1.0 - self.ageing, elapsed / HOUR)


def machines(count: int = 12, seed: int = 0) -> list[Machine]:
    """The park: `count` machines named h01, h02, …, each with its own nature, from the seed."""

    def one(number: int) -> Machine:
        name = f"h{number + 1:02d}"

        def between(low: float, high: float, what: str) -> float:
            return low + (high - low) * _unit(seed, name, what)

        return Machine(
            name=name,
            seed=seed,
            ambient=between(15.0, 29.0, "ambient"),
            gain=between(0.75, 1.3, "gain"),
            ageing=between(0.02, 0.1, "ageing"),
            draught_at=between(0.3, 0.8, "draught at") * HOUR,
            draught_for=between(240.0, 600.0, "draught for"),
            draught=between(3.0, 5.5, "draught"),
            setpoints=SETPOINTS[number % len(SETPOINTS)],
        )

    return [one(number) for number in range(count)]


class Plant:
    """Machines that run side by side in simulated time.

    Order of calls: `reading` of each machine, `apply` for those that got a decision, `step`; again.
    A machine without a decision keeps the value it has. Reading twice gives the same twice.
    """

    def __init__(
        self, park: Sequence[Machine], *, start: float = START, settle_s: float = 120.0
    ) -> None:
        """`settle_s`: how many seconds from the start do not count as error."""
        self.machines = tuple(machine.name for machine in park)
        self.elapsed = 0.0
        self.asked: tuple[float, float] | None = None  # lowest and highest value ever asked for
        self._start = start
        self._settle_s = settle_s
        self._stations = {machine.name: _Station(machine) for machine in park}

    @property
    def now(self) -> float:
        """Simulated time, epoch seconds."""
        return self._start + self.elapsed

    def reading(self, machine: str) -> Reading:
        """What the machine would publish now."""
        station = self._stations[machine]
        return {
            "machine": machine,
            "at": self.now,
            "t": round(float(station.twin.T1), 4),
            "q": float(station.twin.Q1()),
            "setpoint": station.machine.setpoint(self.elapsed),
        }

    def apply(self, machine: str, q: float) -> float:
        """Set the heater, in %, from now on. Returns what the element takes: 0..100."""
        low, high = self.asked or (q, q)
        self.asked = min(low, q), max(high, q)
        return float(self._stations[machine].twin.Q1(q))

    def step(self, dt: float = PERIOD) -> None:
        """Let `dt` seconds pass for every machine, then take down how far each is off."""
        before = self.elapsed
        self.elapsed = before + dt
        for station in self._stations.values():
            machine, twin = station.machine, station.twin
            twin.Ta = machine.ambient_at(before)
            twin.P1 = machine.power_at(before)
            twin.update(self.elapsed)
            twin.tick += 1
            if self.elapsed > self._settle_s:
                station.error += abs(float(twin.T1) - machine.setpoint(self.elapsed))
                station.steps += 1

    def mean_error(self, machine: str | None = None) -> float:
        """Mean |T − set-point| in °C of one machine or of all; NaN before the first that counts."""
        chosen = list(self._stations.values()) if machine is None else [self._stations[machine]]
        steps = sum(station.steps for station in chosen)
        return sum(station.error for station in chosen) / steps if steps else float("nan")


def drive(
    plant: Plant, decide: Callable[[Reading], float], *, seconds: float = HOUR, late: int = 0
) -> float:
    """Close the loop without a broker: a decision every `PERIOD`, applied `late` readings later.

    Returns the plant's mean error. `decide` sees the readings machine by machine, as a log would.
    """
    waiting: list[dict[str, float]] = [{} for _ in range(late)]
    for _ in range(round(seconds / PERIOD)):
        waiting.append({name: decide(plant.reading(name)) for name in plant.machines})
        for name, q in waiting.pop(0).items():
            plant.apply(name, q)
        plant.step()
    return plant.mean_error()


class _Twin(tclab.TCLabModel):  # type: ignore[misc]  # tclab carries no types
    """The digital twin, with time from 0 and noise that follows from the seed and the tick.

    tclab draws its noise from the process-wide generator; then the same machine would read
    differently with every other one beside it, and with every further look at it.
    """

    def __init__(self, machine: Machine) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # it greets on standard output
            super().__init__(synced=False)
        self.tlast = 0.0  # it would start at tclab's own clock
        self.tick = 0
        self._chance = (machine.seed, machine.name)

    def measurement(self, temperature: float) -> float:
        chance = _unit(*self._chance, f"noise {self.tick}")
        return float(self.quantize(temperature + NOISE.inv_cdf(chance)))


@dataclass
class _Station:
    machine: Machine
    twin: _Twin = field(init=False)
    error: float = 0.0  # sum over the steps that count
    steps: int = 0

    def __post_init__(self) -> None:
        self.twin = _Twin(self.machine)


def _unit(seed: int, name: str, what: str) -> float:
    """A number in the open interval (0, 1) that follows from its arguments alone."""
    digest = hashlib.sha256(f"{seed}/{name}/{what}".encode()).digest()
    return (int.from_bytes(digest[:6], "big") + 0.5) / 2**48
