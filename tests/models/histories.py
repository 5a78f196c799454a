"""Agents of every kind with made-up histories, for laws about their rows."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator

from headrace.models.decisions import Origin
from headrace.models.event_file import Row
from headrace.models.learner import Learner, Outcome
from headrace.models.memory_rows import MemoryRows
from headrace.models.spec import Spec, load_spec
from tests.fold import oracles
from tests.fold.events import bad, good

ORIGIN = Origin("a", 1, 0, "t", 0)
KEYS = ("ada", "bob", "42", "ünal", "eve")
BEGAN_MS = 1_764_000_000_000

_OTHERS = {
    "tree": """
features: {v0: number, v1: number}
model: [preprocessing.StandardScaler, tree.HoeffdingTreeRegressor: {grace_period: 10}]
label: {field: $.v2}
""",
    "later-shared": """
features: {v0: number, v1: number}
model: [preprocessing.StandardScaler, linear_model.LinearRegression]
scope: shared
label: {later: $.v2, after: 1s}
""",
    "shared": """
features: {v0: number, v1: number}
model: [preprocessing.StandardScaler, linear_model.LogisticRegression]
scope: shared
label: {field: $.y}
""",
    "later-seeded": """
features: {v0: {type: number, range: [0, 1]}, v1: {type: number, range: [0, 1]}}
model: {anomaly.LODA: {n_bins: 5, n_random_cuts: 4}}
label: {later: $.y, after: 1s, type: boolean}
""",
    "top": """
item: {field: $.item}
model: {headrace.ItemCooccurrence: {n_last: 3}}
scope: shared
decide: {recommend: {k: 5}}
""",
    "rating": """
item: {field: $.item}
model: {reco.BiasedMF: {n_factors: 3}}
scope: shared
label: {field: $.v3}
""",
}
SPECS: dict[str, Spec] = {make.__name__: load_spec(make().spec) for make in oracles.ALL} | {
    name: load_spec(f"agent: {name}\nsource: {{topic: t, key: $.k}}\n{text}")
    for name, text in _OTHERS.items()
}
OF_KEYS = [name for name, spec in SPECS.items() if not spec.shared]
LATER = [name for name, spec in SPECS.items() if spec.label is not None and spec.label.later]


def records(seed: int, count: int, *, first: int = 0, keys: Iterable[str] = KEYS) -> list[Row]:
    """`count` records from offset `first` on, 100 ms apart, of which one in twelve is bad."""
    chance = random.Random(f"{seed} {first}")
    names = list(keys)
    found = []
    for offset in range(first, first + count):
        key = chance.choice(names)
        at = BEGAN_MS + 100 * offset
        if chance.random() < 1 / 12:
            found.append(Row(offset, at, *bad(chance, key)))
            continue
        event = good(chance, key) | {"item": f"item {chance.randrange(20)}"}
        found.append(Row(offset, at, key.encode(), json.dumps(event).encode()))
    return found


def step(spec: Spec, rows: MemoryRows, batch: list[Row]) -> Outcome:
    """Let a new learner over the rows handle a batch, and make what changed durable."""
    learner = Learner(spec, ORIGIN, rows)
    outcome = learner.step(batch)
    rows.flush(learner)
    return outcome


def copied(rows: MemoryRows, writes: Iterable[tuple[bytes, bytes | None]] = ()) -> MemoryRows:
    """A copy of the rows, with the writes on top of it."""
    made = MemoryRows()
    made.rows = dict(rows.rows)
    for row, data in writes:
        if data is None:
            made.rows.pop(row, None)
        else:
            made.rows[row] = data
    return made


class Watched:
    """Rows that tell which of them were read."""

    def __init__(self, rows: MemoryRows) -> None:
        self._rows = rows
        self.read: list[bytes] = []

    def get(self, row: bytes) -> bytes | None:
        self.read.append(row)
        return self._rows.get(row)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for row, data in self._rows.scan(prefix):
            self.read.append(row)
            yield row, data
