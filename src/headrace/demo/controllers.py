"""What the learning controller is measured against, on the same machines in the same run."""

from __future__ import annotations

from headrace.demo.heaters import NOMINAL_AMBIENT, NOMINAL_GAIN, PERIOD, Reading

LOW, HIGH = 0.0, 100.0  # %, what a heater takes


class OpenLoop:
    """The power that holds the set-point on a machine of nominal ambient and gain. Reads nothing.

    >>> round(OpenLoop()({"machine": "h", "at": 0.0, "t": 20.0, "q": 0.0, "setpoint": 51.0}), 2)
    50.05
    """

    slope = 1.0 / NOMINAL_GAIN  # % per °C
    bias = -NOMINAL_AMBIENT / NOMINAL_GAIN  # %

    def __call__(self, reading: Reading) -> float:
        return min(HIGH, max(LOW, self.bias + self.slope * reading["setpoint"]))


class Pi:
    """A proportional-integral controller per machine, with one tuning for all of them.

    `kc` in % per °C, `tau` in seconds. The integral stands still while the output is at a limit
    and the error would push it further (conditional integration: Åström, Hägglund, "Advanced PID
    Control", 2006, ch. 3), so that a long climb is not paid for with a long overshoot.
    """

    def __init__(self, kc: float = 6.0, tau: float = 120.0) -> None:
        self.kc = kc
        self.tau = tau
        self._integral: dict[str, float] = {}

    def __call__(self, reading: Reading) -> float:
        error = reading["setpoint"] - reading["t"]
        integral = self._integral.get(reading["machine"], 0.0)
        grown = integral + self.kc / self.tau * error * PERIOD
        wanted = self.kc * error + grown
        if LOW <= wanted <= HIGH or (wanted - LOW) * error < 0:
            self._integral[reading["machine"]] = grown
        return min(HIGH, max(LOW, wanted))
