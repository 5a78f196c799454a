"""Agents of six kinds, each as YAML and as what that YAML means."""

from __future__ import annotations

import hashlib
from typing import Any

from river import anomaly, compose, linear_model, naive_bayes, optim, preprocessing

from tests.fold.oracle import SKIP, Field, Oracle, Steering, Truth, Verdicts

COLUMNS = tuple(f"v{number}" for number in range(10))


def seed(agent: str, key: str, where: str) -> int:
    """The seed of a model's part, as the service promises: from agent, key and place."""
    whole = int.from_bytes(hashlib.sha256(f"{agent}\0{key}".encode()).digest()[:4], "big")
    return int.from_bytes(hashlib.sha256(f"{whole}\0{where}".encode()).digest()[:4], "big")


def fraud(agent: str = "fraud", topic: str = "payments", state: str = "") -> Oracle:
    """A verdict on ten numbers, the label in the event."""
    features = "\n".join(f"  {name}: {{type: number, range: [-1000, 1000]}}" for name in COLUMNS)

    def make(key: str) -> Any:
        return compose.Pipeline(
            preprocessing.StandardScaler(),
            linear_model.LogisticRegression(optimizer=optim.SGD(0.05)),
        )

    return Oracle(
        spec=f"""
agent: {agent}
source: {{topic: {topic}, key: $.k, time: $.at, start: earliest}}
features:
{features}
model:
  - preprocessing.StandardScaler
  - linear_model.LogisticRegression: {{optimizer: {{optim.SGD: {{lr: 0.05}}}}}}
label: {{field: $.y}}
decide: {{verdict: {{block: 0.7, review: 0.4, else: allow}}}}
state: {{{state}}}
""",
        make=make,
        kind="binary",
        key=("k",),
        features=tuple(Field(name=name, path=(name,), low=-1000, high=1000) for name in COLUMNS),
        label=Truth(path=("y",), type="boolean"),
        decide=Verdicts(thresholds=(("block", 0.7), ("review", 0.4)), otherwise="allow"),
        time=("at",),
    )


def heating(agent: str = "heating", topic: str = "readings", state: str = "") -> Oracle:
    """A machine is steered by what a later reading will say, as a change."""

    def make(key: str) -> Any:
        return compose.Pipeline(
            preprocessing.StandardScaler(), linear_model.LinearRegression(optimizer=optim.SGD(0.01))
        )

    return Oracle(
        spec=f"""
agent: {agent}
source: {{topic: {topic}, key: $.k, start: earliest}}
features: {{v0: number, v1: {{type: number, range: [-1000, 1000]}}}}
model:
  - preprocessing.StandardScaler
  - linear_model.LinearRegression: {{optimizer: {{optim.SGD: {{lr: 0.01}}}}}}
label: {{later: $.v0, after: 2s, as: change}}
decide:
  adjust:
    actuator: v1
    setpoint: 3
    range: [-10, 10]
    search_step: 2.5
    max_step: 6
    dead_band: 0.01
    cold: {{updates: 3, value: 5}}
    stale_after: 20s
    safe: 0
state: {{{state}}}
""",
        make=make,
        kind="regressor",
        key=("k",),
        features=(
            Field(name="v0", path=("v0",)),
            Field(name="v1", path=("v1",), low=-1000, high=1000),
        ),
        label=Truth(path=("v0",), type="number", later=True, after_ms=2_000, change=True),
        decide=Steering(
            actuator="v1", setpoint=3.0, low=-10.0, high=10.0, search_step=2.5, max_step=6.0,
            dead_band=0.01, cold_updates=3, cold_value=5.0, stale_after_ms=20_000, safe=0.0,
        ),
    )  # fmt: skip


def forecast(agent: str = "forecast", topic: str = "readings", state: str = "") -> Oracle:
    """The score of a later value; few events may wait, and numbers have no range."""

    def make(key: str) -> Any:
        return compose.Pipeline(preprocessing.StandardScaler(), linear_model.LinearRegression())

    return Oracle(
        spec=f"""
agent: {agent}
source: {{topic: {topic}, key: $.k, start: earliest}}
features: {{v0: number, v1: {{type: number, missing: 0.5}}}}
model: [preprocessing.StandardScaler, linear_model.LinearRegression]
label: {{later: $.v2, after: 1s}}
state: {{pending_max: 3, {state}}}
""",
        make=make,
        kind="regressor",
        key=("k",),
        features=(Field(name="v0", path=("v0",)), Field(name="v1", path=("v1",), missing=0.5)),
        label=Truth(path=("v2",), type="number", later=True, after_ms=1_000),
        pending_max=3,
    )


def visits(agent: str = "visits", topic: str = "clicks", state: str = "") -> Oracle:
    """Categories, what may be missing, keys that expire, a class as the decision."""

    def make(key: str) -> Any:
        return linear_model.LogisticRegression(optimizer=optim.SGD(0.1))

    return Oracle(
        spec=f"""
agent: {agent}
source: {{topic: {topic}, key: $.k, start: earliest}}
features:
  v0: {{type: number, range: [-1000, 1000], missing: skip}}
  shop: {{type: category, path: $.at_shop.name, encode: hash, buckets: 16, missing: skip}}
  land: {{type: category, encode: onehot, missing: {{value: nowhere}}}}
  night: {{type: boolean, missing: false}}
model: {{linear_model.LogisticRegression: {{optimizer: {{optim.SGD: {{lr: 0.1}}}}}}}}
label: {{field: $.y}}
state: {{idle_ttl: 5s, {state}}}
""",
        make=make,
        kind="binary",
        key=("k",),
        features=(
            Field(name="v0", path=("v0",), low=-1000, high=1000, missing=SKIP),
            Field(
                name="shop", path=("at_shop", "name"), type="category",
                encode="hash", buckets=16, missing=SKIP,
            ),
            Field(
                name="land", path=("land",), type="category", encode="onehot", missing="nowhere"
            ),
            Field(name="night", path=("night",), type="boolean", missing=False),
        ),
        label=Truth(path=("y",), type="boolean"),
        idle_ttl_ms=5_000,
    )  # fmt: skip


def strange(agent: str = "strange", topic: str = "payments", state: str = "") -> Oracle:
    """A seeded anomaly detector of which only one verdict is emitted."""
    where = "$.model.anomaly.LODA"

    def make(key: str) -> Any:
        return anomaly.LODA(n_bins=5, n_random_cuts=4, seed=seed(agent, key, where))

    return Oracle(
        spec=f"""
agent: {agent}
source: {{topic: {topic}, key: $.k, start: earliest}}
features: {{v0: {{type: number, range: [0, 1]}}, v1: {{type: number, range: [0, 1]}}}}
model: {{anomaly.LODA: {{n_bins: 5, n_random_cuts: 4}}}}
decide: {{verdict: {{strange: 0.55, else: usual}}}}
emit: {{when: [strange]}}
state: {{{state}}}
""",
        make=make,
        kind="anomaly",
        key=("k",),
        features=(
            Field(name="v0", path=("v0",), low=0, high=1),
            Field(name="v1", path=("v1",), low=0, high=1),
        ),
        label=None,
        decide=Verdicts(thresholds=(("strange", 0.55),), otherwise="usual"),
        emit=frozenset({"strange"}),
    )


def colours(agent: str = "colours", topic: str = "clicks", state: str = "") -> Oracle:
    """One class of several is named."""

    def make(key: str) -> Any:
        return naive_bayes.GaussianNB()

    return Oracle(
        spec=f"""
agent: {agent}
source: {{topic: {topic}, key: $.k, start: earliest}}
features: {{v0: {{type: number, range: [-1000, 1000]}}, v1: {{type: number, range: [-1000, 1000]}}}}
model: naive_bayes.GaussianNB
label: {{field: $.land, type: category}}
state: {{{state}}}
""",
        make=make,
        kind="multiclass",
        key=("k",),
        features=(
            Field(name="v0", path=("v0",), low=-1000, high=1000),
            Field(name="v1", path=("v1",), low=-1000, high=1000),
        ),
        label=Truth(path=("land",), type="category"),
    )


ALL = (fraud, heating, forecast, visits, strange, colours)
