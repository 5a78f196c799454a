"""What a spec means, written out by hand beside its YAML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Path: TypeAlias = tuple[str, ...]
Type: TypeAlias = Literal["number", "boolean", "category"]
Kind: TypeAlias = Literal["binary", "multiclass", "regressor", "anomaly"]

LARGEST = 1e15  # a number without a range passes within this
REJECT, SKIP = "reject", "skip"


@dataclass(frozen=True, kw_only=True)
class Field:
    """A feature. `missing`: REJECT, SKIP, or the value that stands in."""

    name: str
    path: Path
    type: Type = "number"
    low: float = -LARGEST
    high: float = LARGEST
    missing: Any = REJECT
    encode: Literal["value", "onehot", "hash"] = "value"
    buckets: int = 0


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The label: in the event, or `later`, after `after_ms`, as a value or as a `change`."""

    path: Path
    type: Type
    low: float = -LARGEST
    high: float = LARGEST
    later: bool = False
    after_ms: int = 0
    change: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """Names with thresholds, from the highest down; below all of them `otherwise`."""

    thresholds: tuple[tuple[str, float], ...]
    otherwise: str


@dataclass(frozen=True, kw_only=True)
class Steering:
    """`decide: adjust` with a fixed set-point. The open loop is one value."""

    actuator: str
    setpoint: float
    low: float
    high: float
    search_step: float
    max_step: float | None
    dead_band: float
    cold_updates: int
    cold_value: float
    stale_after_ms: int | None
    safe: float


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """One agent: the YAML that is deployed, and what it means.

    `make` gives a key's new model, of River's classes, seeded as the service promises. `decide` is
    None for the plain score (or class). `emit` names the verdicts that are emitted; None: all.
    """

    spec: str
    make: Callable[[str], Any]
    kind: Kind
    key: Path
    features: tuple[Field, ...]
    label: Truth | None
    decide: Verdicts | Steering | None = None
    emit: frozenset[str] | None = None
    time: Path | None = None
    idle_ttl_ms: int | None = None
    pending_max: int = 1024
    # What was learned under one spec can go on under another of the same shape, when `tune` has
    # given the model the parameters of that.
    shape: str = ""
    tune: Callable[[Any], None] | None = None


@dataclass(frozen=True)
class Origin:
    """Whose records are folded: the agent in one epoch, and its partition."""

    agent: str
    spec_version: int
    epoch: int
    topic: str
    partition: int

    def id_of(self, offset: int) -> str:
        """The name of the decision on the record at `offset`."""
        return f"{self.agent}/{self.epoch}/{self.topic}/{self.partition}/{offset}"
