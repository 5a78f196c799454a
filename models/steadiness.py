"""Does a model get over the largest event that its spec admits? Tried before it is deployed.

Some models (factorization machines with a squared loss, above all) grow without end from one large
number: it is learned, all is finite, and a few events later everything overflows. The guard then
refuses each event of that key for good. A range for the features and the label cures it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from headrace.errors import Violation
from headrace.models.decisions import Origin
from headrace.models.event_file import Row
from headrace.models.learner import Learner
from headrace.models.memory_rows import MemoryRows
from headrace.models.rehearsal import ordinary
from headrace.models.spec import Spec
from headrace.models.wants import Want, wants_of

BEFORE, AFTER = 20, 40  # ordinary events around the large one
STUCK = {"score_not_finite", "model_not_finite", "model_failed"}
KEY = "a key"


def unsteady(spec: Spec) -> Violation | None:
    """Why the model may get stuck; None if it takes ordinary events after the largest one.

    >>> from headrace.models.spec import load_spec
    >>> text = '''
    ... {agent: a, source: {topic: t, key: $.id}, features: {x: {type: number}, z: {type: number}},
    ...  model: facto.FMRegressor, label: {field: $.y}}'''
    >>> unsteady(load_spec(text)).text
    'one event with the largest numbers that the spec admits makes it refuse all later ones'
    """
    if spec.kind == "ranker":
        return None
    records = list(_records(spec))
    learner = Learner(spec, Origin(spec.agent, 1, 1, spec.source.topic, 0), MemoryRows())
    with np.errstate(all="ignore"):  # overflow is what is looked for
        before = learner.step(records[:BEFORE]).refusals
        refused = learner.step(records[BEFORE:]).refusals
    stuck = {r.offset for r in refused if r.code in STUCK}
    if before or not stuck >= {record.offset for record in records[-AFTER // 4 :]}:
        return None
    return Violation(
        "$.model",
        "one event with the largest numbers that the spec admits makes it refuse all later ones",
        "give the numbers among the features, and the label, a narrower range",
    )


def _records(spec: Spec) -> Iterator[Row]:
    wants = wants_of(spec)
    step_ms = 1_000 + (spec.label.after_ms if spec.label is not None else 0)
    for number in range(BEFORE + 1 + AFTER):
        document: dict[str, Any] = {}
        for position, want in enumerate(wants.values()):
            value = _value(want, number + position, largest=number == BEFORE)
            inner = document
            for name in want.path[:-1]:
                inner = inner.setdefault(name, {})
            inner[want.path[-1]] = value
        yield Row(number, number * step_ms, KEY.encode(), msgspec.json.encode(document))


def _value(want: Want, number: int, *, largest: bool) -> Any:
    if want.kind == "key":
        return KEY
    if want.kind == "number":
        if largest:
            return max(want.low, want.high, key=abs)
        return ordinary(want.low, want.high, number)
    if want.kind in ("boolean", "flag"):
        return number % 2 == 0
    if want.kind == "time":
        return 1_700_000_000 + number
    return ["a"] if want.kind == "texts" else "abc"[number % 3]
