"""The parts of a spec, checked and with their defaults filled. All paths are canonical text.

Times are milliseconds. `headrace.models.spec.load_spec` makes these; docs/spec.md explains each
field to people.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from headrace.models.timestamps import parse_rfc3339

LARGEST = 1e15  # the bound of a number that declares no range: epoch milliseconds pass
MAX_CATEGORY = 256  # characters of a category or an item
Scalar: TypeAlias = float | str | bool
ValueType: TypeAlias = Literal["number", "category", "boolean"]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The input log: `key` and `time` are paths; `start` latest, earliest or a timestamp."""

    topic: str
    key: str
    time: str | None = None
    start: str = "latest"

    @property
    def start_ms(self) -> int | None:
        """Where to start, when that is a timestamp; None for latest and earliest."""
        return None if self.start in ("latest", "earliest") else parse_rfc3339(self.start)


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One thing the model sees. `low` and `high` are inclusive and concern numbers."""

    path: str
    type: ValueType
    low: float = -LARGEST
    high: float = LARGEST
    missing: Literal["reject", "skip", "value"] = "reject"
    default: Scalar | None = None  # stands in where missing == "value"
    encode: Literal["value", "onehot", "hash"] = "value"  # of categories
    buckets: int = 0  # of encode == "hash"


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """Where the truth comes from: from the event (`after_ms` is 0), or from a later one."""

    path: str
    type: ValueType
    later: bool = False
    after_ms: int = 0
    change: bool = False  # later only: the truth is the difference since the event
    low: float = -LARGEST
    high: float = LARGEST


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The first name whose threshold the score reaches, from the highest; else `otherwise`."""

    thresholds: tuple[tuple[str, float], ...]
    otherwise: str

    @property
    def names(self) -> tuple[str, ...]:
        """Every verdict that can come out, in the order of its threshold."""
        return (*(name for name, _ in self.thresholds), self.otherwise)


class Score(msgspec.Struct, frozen=True):
    """Publish the score as it is."""


class Recommend(msgspec.Struct, frozen=True, kw_only=True):
    """The top `k` items: of the event's `candidates` (a path) or of all known ones."""

    k: int = 10
    exclude_seen: bool = True
    candidates: str | None = None
    exclude: str | None = None


class Cold(msgspec.Struct, frozen=True, kw_only=True):
    """Open loop below `updates` updates: actuator = bias + slope × set-point."""

    updates: int = 20
    bias: float = 0.0
    slope: float = 0.0


class Adjust(msgspec.Struct, frozen=True, kw_only=True):
    """One-step control of `actuator`, within `low`..`high`. Exactly one set-point is not None."""

    actuator: str
    low: float
    high: float
    setpoint: float | None = None
    setpoint_path: str | None = None
    search_step: float
    max_step: float | None = None  # None: no limit but the range
    dead_band: float = 0.0
    cold: Cold
    stale_after_ms: int | None = None
    safe: float


Decide: TypeAlias = Verdict | Score | Recommend | Adjust


class Emit(msgspec.Struct, frozen=True, kw_only=True):
    """Where decisions go (None: `decisions.<agent>`) and which (None: every one)."""

    topic: str | None = None
    when: tuple[str, ...] | None = None


class StateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of an agent's state, each per shard."""

    hot_keys_max: int = 50_000
    idle_ttl_ms: int | None = None  # None: keys never expire
    flush_ms: int = 1_000
    flush_keys: int = 5_000
    snapshot_s: int = 30
    pending_max: int = 1_024  # labels one key may wait for
    row_bytes_max: int = 1_048_576
