"""The simulated heaters, the controllers to compare with, and the learning loop over them."""

from __future__ import annotations

from collections import deque
from importlib.resources import files
from typing import Any

import pytest

from headrace.demo.controllers import OpenLoop, Pi
from headrace.demo.heaters import HOUR, NOMINAL_GAIN, Plant, Reading, drive, machines
from headrace.models.adjust import AdjustPolicy, Situation
from headrace.models.spec import Adjust, Spec, load_spec

MACHINES = machines()


@pytest.fixture(scope="module")
def spec() -> Spec:
    return load_spec(files("headrace.pipelines.agents").joinpath("heaters.yaml").read_bytes())


class Learned:
    """The shipped agent as a plain River loop: learn what is due, choose, park the event."""

    def __init__(self, spec: Spec) -> None:
        assert isinstance(spec.decide, Adjust)
        assert spec.label is not None
        self.spec = spec
        self.after_s = spec.label.after_ms / 1000
        self.policy = AdjustPolicy(spec.decide)
        self.models: dict[str, Any] = {}
        self.updates: dict[str, int] = {}
        self.parked: dict[str, deque[Reading]] = {}

    def __call__(self, reading: Reading) -> float:
        name = reading["machine"]
        model = self.models.setdefault(name, self.spec.build_model(name))
        parked = self.parked.setdefault(name, deque())
        while parked and reading["at"] - parked[0]["at"] >= self.after_s:
            then = parked.popleft()
            model.learn_one({"t": then["t"], "q": then["q"]}, reading["t"] - then["t"])
            self.updates[name] = self.updates.get(name, 0) + 1
        parked.append(reading)
        situation = Situation(
            now=reading["t"],
            last=reading["q"],
            setpoint=reading["setpoint"],
            updates=self.updates.get(name, 0),
        )

        def predict(q: float) -> float:
            return float(model.predict_one({"t": reading["t"], "q": q}))

        return self.policy.choose(predict, situation).value


def test_a_machine_is_the_same_in_any_company() -> None:
    """What a machine reads follows from seed and name, not from what runs or reads beside it."""
    alone, among = Plant(MACHINES[:1]), Plant(MACHINES[:3])
    for tick in range(50):
        assert alone.reading("h01") == among.reading("h01") == among.reading("h01")
        alone.apply("h01", tick)
        among.apply("h01", tick)
        among.apply("h02", 100.0 - tick)
        alone.step()
        among.step()


def test_another_seed_is_another_park() -> None:
    """The seed decides the machines' nature."""
    assert machines(seed=1) != machines(seed=0) == MACHINES


def test_no_two_machines_are_alike() -> None:
    """Each machine has an ambient temperature and a gain of its own."""
    assert len({machine.ambient for machine in MACHINES}) == 12
    assert len({machine.gain for machine in MACHINES}) == 12


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_setpoint_can_be_held(machine: Any) -> None:
    """At every moment of the hour some power within 0..100 % would hold the set-point."""
    for second in range(0, int(HOUR), 5):
        per_percent = NOMINAL_GAIN * machine.power_at(second) / 200.0
        needed = (machine.setpoint(second) - machine.ambient_at(second)) / per_percent
        assert 0.0 < needed < 100.0, second


def test_the_element_takes_0_to_100_and_the_plant_remembers_what_was_asked() -> None:
    """A value out of range is clipped at the heater, and can still be told afterwards."""
    plant = Plant(MACHINES[:1])
    assert (plant.apply("h01", 130.0), plant.apply("h01", -5.0)) == (100.0, 0.0)
    assert plant.asked == (-5.0, 130.0)


def test_a_machine_without_a_decision_keeps_its_value() -> None:
    """The heater stays where it was put."""
    plant = Plant(MACHINES[:1])
    plant.apply("h01", 42.0)
    for _ in range(3):
        plant.step()
    assert plant.reading("h01")["q"] == 42.0


def test_the_first_two_minutes_do_not_count() -> None:
    """The mean error begins after the settling time, with NaN before."""
    plant = Plant(MACHINES[:1], settle_s=10.0)
    plant.step()
    plant.step()
    assert plant.mean_error() != plant.mean_error()
    plant.step()
    reading = plant.reading("h01")
    assert plant.mean_error() == pytest.approx(abs(reading["t"] - reading["setpoint"]))


def test_baselines() -> None:
    """Over the hour nominal open loop is 5.92 °C off, the hand-tuned PI 0.63 °C."""
    assert drive(Plant(MACHINES), OpenLoop()) == pytest.approx(5.92, abs=0.02)
    assert drive(Plant(MACHINES), Pi()) == pytest.approx(0.63, abs=0.01)


def test_learning_beats_open_loop_early(spec: Spec) -> None:
    """After 20 minutes on 3 machines the learned loop is at most a third as far off."""
    error = drive(Plant(MACHINES[:3]), Learned(spec), seconds=1200)
    assert error < drive(Plant(MACHINES[:3]), OpenLoop(), seconds=1200) / 3


@pytest.mark.parametrize("late", [0, 1])
def test_learning_beats_the_pi(spec: Spec, late: int) -> None:
    """Over the hour the learned loop is nearer than the PI, in time and one reading late, and
    asks for nothing beyond 0..100.
    """
    plant = Plant(MACHINES)
    error = drive(plant, Learned(spec), late=late)
    assert error < drive(Plant(MACHINES), Pi(), late=late) < 1.0
    assert plant.asked is not None
    assert 0.0 <= plant.asked[0] <= plant.asked[1] <= 100.0


def test_decisions_that_are_not_obeyed(spec: Spec) -> None:
    """Where two of three decisions are lost the loop still holds the set-points within a degree."""
    plant, learned = Plant(MACHINES[:3]), Learned(spec)
    for tick in range(720):
        for number, name in enumerate(plant.machines):
            q = learned(plant.reading(name))
            if (tick + number) % 3 == 0:
                plant.apply(name, q)
        plant.step()
    assert plant.mean_error() < 1.0


def test_the_open_loop_of_the_spec_is_the_nominal_one(spec: Spec) -> None:
    """What the shipped agent does while cold is the nominal open loop, to a tenth of a percent."""
    assert isinstance(spec.decide, Adjust)
    cold = spec.decide.cold
    for setpoint in (35.0, 50.0):
        reading: Reading = {"machine": "h", "at": 0.0, "t": 0.0, "q": 0.0, "setpoint": setpoint}
        assert cold.bias + cold.slope * setpoint == pytest.approx(OpenLoop()(reading), abs=0.1)
