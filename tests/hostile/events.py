"""A hostile afternoon for the learner: bad events between good ones, and what must hold after.

The law: bad events leave what the same number of records without any value would leave, and while
nothing but bad events come, no key's digest changes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from headrace.models.decisions import Origin
from headrace.models.event_file import Row
from headrace.models.guard import REASONS
from headrace.models.learner import Learner
from headrace.models.memory_rows import MemoryRows
from tests.hostile.targets import Target, key_of, raw
from tests.hostile.wounds import Wounder

BATCH = 250
Progress = Callable[[int], None]
Hand = Callable[[Learner], None]  # what a negative control takes away


def nobody(count: int) -> None:
    """A progress that nobody sees."""


class Afternoon(NamedTuple):
    """What came of it: `findings` is empty if all laws held; each names the input to replay."""

    sent: int
    refused: Counter[str]
    findings: list[str]


class _Batch(NamedTuple):
    records: list[Row]
    must_refuse: set[int]
    how: dict[int, str]


def run_events(
    target: Target,
    count: int,
    seed: int | str,
    *,
    progress: Progress = nobody,
    hand: Hand | None = None,
) -> Afternoon:
    """`count` bad events through the real guard and learner, with good ones in between."""
    learner, rows = _learner(target)
    if hand is not None:
        hand(learner)
    twin, twin_rows = _learner(target)
    wounder = Wounder(target, seed)
    findings: list[str] = []
    refused: Counter[str] = Counter()
    offset = sent = 0
    while sent < count and len(findings) < 10:
        good = _good(target, offset, 40)
        batch = _bad(target, wounder, offset + len(good), min(BATCH, count - sent))
        offset += len(good) + len(batch.records)
        sent += len(batch.records)
        _step(learner, good, findings, must_accept=True)
        before = _digests(learner)
        codes, admitted = _hostile(learner, batch, target, findings)
        refused.update(codes)
        if not admitted and _digests(learner) != before:
            first = batch.records[0]
            findings.append(f"a key's digest changed between offset {first.offset} and {offset}")
        _step(twin, good, findings, must_accept=True)
        twin.step([r if r.offset in admitted else r._replace(value=None) for r in batch.records])
        progress(len(batch.records))
    rows.flush(learner)
    twin_rows.flush(twin)
    findings += [
        f"row {name!r} is not what the good events alone amount to"
        for name in sorted(rows.rows.keys() | twin_rows.rows.keys())
        if rows.rows.get(name) != twin_rows.rows.get(name)
    ]
    return Afternoon(sent, refused, findings)


def run_values(
    target: Target, count: int, number: int, *, progress: Progress = nobody
) -> Afternoon:
    """Events whose fields are whatever hypothesis thinks of: refused with a reason, or sound."""
    learner, _ = _learner(target)
    learner.step(_good(target, 0, 80))
    known = key_of(7)
    refused: Counter[str] = Counter()
    findings: list[str] = []
    sent = 0

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_documents(target))
    def one(document: dict[str, Any]) -> None:
        nonlocal sent
        offset = 100 + sent
        key = str(_at(document, target.key)).encode("utf-8", "surrogatepass")
        value = json.dumps(document).encode()
        record = Row(offset, offset, key, value)
        bad = {offset} if plainly_bad(target, key, value) else set()
        batch = _Batch([record], bad, {offset: "values"})
        before = learner.describe(known, 0).digest
        codes, admitted = _hostile(learner, batch, target, findings)
        refused.update(codes)
        if not admitted and learner.describe(known, 0).digest != before:
            findings.append(f"the digest changed by key {key!r}, value {value!r}")
        sent += 1
        progress(1)

    one()
    return Afternoon(sent, refused, findings)


def plainly_bad(target: Target, key: bytes | None, value: bytes | None) -> bool:
    """Whether Python alone sees that this is no event of the target. Knows nothing of the guard."""
    if value is None or len(value) > 1 << 20:
        return True
    try:
        document = json.loads(value.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return True
    if not isinstance(document, dict):
        return True
    said = _at(document, target.key)
    if isinstance(said, bool) or not isinstance(said, (str, int)):
        return True
    if str(said).encode("utf-8", "surrogatepass") != key:
        return True
    for path in target.numbers:
        number = _at(document, path)
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            return True
        if not -1e15 <= number <= 1e15:  # NaN too
            return True
    for path in target.texts:
        text = _at(document, path)
        if isinstance(text, bool) or not isinstance(text, (str, int)) or len(str(text)) > 256:
            return True
    return False


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _at(document: Any, path: Sequence[str]) -> Any:
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _learner(target: Target) -> tuple[Learner, MemoryRows]:
    rows, spec = MemoryRows(), target.spec
    return Learner(spec, Origin(spec.agent, 1, 1, spec.source.topic, 0), rows), rows


def _good(target: Target, begin: int, count: int) -> list[Row]:
    found = []
    for number in range(begin, begin + count):
        document = target.good(number)
        key = str(_at(document, target.key)).encode()
        found.append(Row(number, 1_000 * number, key, raw(document)))
    return found


# Log time must not be led astray either; what it makes of these is the same in the twin.
TIMESTAMPS = (-1, 0, 1, 2**63 - 1, -(2**63), 253_402_300_799_999, 4_070_908_800_000)


def _bad(target: Target, wounder: Wounder, begin: int, count: int) -> _Batch:
    batch = _Batch([], set(), {})
    for offset in range(begin, begin + count):
        bad = wounder.spoilt(offset) if offset % 4 == 0 else wounder.bad(offset)
        at = TIMESTAMPS[offset % len(TIMESTAMPS)] if offset % 50 == 0 else 1_000 * offset
        batch.records.append(Row(offset, at, bad.key, bad.value))
        batch.how[offset] = bad.how
        if bad.how != "spoilt" or plainly_bad(target, bad.key, bad.value):
            batch.must_refuse.add(offset)
    return batch


def _step(learner: Learner, records: list[Row], findings: list[str], *, must_accept: bool) -> None:
    refusals = learner.step(records).refusals
    if must_accept:
        findings += [f"good event {r.offset} was refused: {r.code} {r.text}" for r in refusals]


def _hostile(
    learner: Learner, batch: _Batch, target: Target, findings: list[str]
) -> tuple[Counter[str], set[int]]:
    """Step through bad events: the reasons, and the offsets that were admitted."""
    outcome = learner.step(batch.records)
    refused = [refusal.offset for refusal in outcome.refusals]
    decided = {decision.position.offset for decision in outcome.decisions}
    by_offset = {record.offset: record for record in batch.records}
    if len(refused) != len(set(refused)) or set(refused) | decided != set(by_offset):
        findings.append(f"refused or decided twice, or not at all: {min(by_offset)} and on")
    unknown = {refusal.code for refusal in outcome.refusals} - set(REASONS)
    findings += [f"reason {code!r} is not in the table" for code in sorted(unknown)]
    for offset in sorted(decided & (batch.must_refuse | set(refused))):
        record = by_offset[offset]
        findings.append(
            f"{target.spec.agent}: accepted ({batch.how[offset]}) key={record.key!r} "
            f"value={record.value!r}"
        )
    return Counter(refusal.code for refusal in outcome.refusals), decided


def _digests(learner: Learner) -> dict[str, str]:
    keys = sorted({key_of(number) for number in range(40)})
    return {key: learner.describe(key, 0).digest for key in keys}


_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(["", "NaN", "x" * 300, "\ud800", 2**64, 1e308, -0.0, 5e-324, 1e15, -1e15]),
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


def _documents(target: Target) -> st.SearchStrategy[dict[str, Any]]:
    """Good events of which one field or more is any JSON value."""
    good = target.good(7)
    return st.dictionaries(st.sampled_from(sorted(good)), _VALUES, min_size=1).map(
        lambda odd: {**good, **odd}
    )


def counted(afternoons: Iterator[Afternoon]) -> Afternoon:
    """Several as one."""
    total = Afternoon(0, Counter(), [])
    for each in afternoons:
        total.refused.update(each.refused)
        total.findings.extend(each.findings)
        total = total._replace(sent=total.sent + each.sent)
    return total
