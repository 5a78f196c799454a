"""A second opinion that never objects is worth nothing: each of these wrongs is found."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import msgspec
import pytest

from headrace.models import codec
from tests.fold import oracles
from tests.fold.events import Row, log
from tests.fold.oracle import Oracle
from tests.fold.test_fold import Service, folded_of, pauses_of

COUNT = 240
PART = 20
Wrong = Callable[[Service, Sequence[Row], int], None]


def right(service: Service, batch: Sequence[Row], number: int) -> None:
    service.step(batch)


def learned_twice(service: Service, batch: Sequence[Row], number: int) -> None:
    service.step(batch)
    if number == 5:
        kept = len(service.decisions), len(service.quarantine)
        service.step(batch[:1])
        del service.decisions[kept[0] :], service.quarantine[kept[1] :]


def lost(service: Service, batch: Sequence[Row], number: int) -> None:
    service.step(batch[1:] if number == 5 else batch)


def out_of_order(service: Service, batch: Sequence[Row], number: int) -> None:
    service.step(batch[::-1] if number == 5 else batch)


def learned_in_a_pause(service: Service, batch: Sequence[Row], number: int) -> None:
    service.paused = False
    service.step(batch)


def never_expiring(service: Service, batch: Sequence[Row], number: int) -> None:
    service.learner._engine.slots._idle_ms = None
    service.step(batch)


def log_time_lost(service: Service, batch: Sequence[Row], number: int) -> None:
    service.step(batch)
    if number == 5:
        service.rows.flush(service.learner)
        del service.rows.rows[b"s/logtime"]
        service.restart()


def a_row_lost(service: Service, batch: Sequence[Row], number: int) -> None:
    service.step(batch)
    if number == 5:
        service.rows.flush(service.learner)
        name, _ = next(service.rows.scan(b"k/"))
        del service.rows.rows[name]
        service.restart()


def a_weight_moved(service: Service, batch: Sequence[Row], number: int) -> None:
    service.step(batch)
    if number == 5:
        service.rows.flush(service.learner)
        name, data = next(service.rows.scan(b"k/"))
        *head, model = msgspec.msgpack.decode(data[32:])
        river = codec.decode(model)
        river["StandardScaler"].means["v0"] += 2**-50
        body = msgspec.msgpack.encode([*head, codec.encode(river)])
        service.rows.rows[name] = hashlib.sha256(body).digest() + body
        service.restart()


def a_decision_lost(service: Service, batch: Sequence[Row], number: int) -> None:
    service.step(batch)
    if number == 5:
        service.decisions.pop()


def a_decision_contradicted(service: Service, batch: Sequence[Row], number: int) -> None:
    service.step(batch)
    if number == 5:
        told = msgspec.json.decode(service.decisions[-1])
        service.decisions.append(msgspec.json.encode({**told, "updates": told["updates"] + 1}))


def a_refusal_lost(service: Service, batch: Sequence[Row], number: int) -> None:
    service.step(batch)
    if number == 11:
        service.quarantine.pop()


def a_bad_event_mended(service: Service, batch: Sequence[Row], number: int) -> None:
    good = b'{"k": "1", "at": 0, ' + b", ".join(b'"v%d": 0.5' % n for n in range(10)) + b"}"
    service.step(
        [Row(row.offset, row.timestamp, b"1", good) if row.value is None else row for row in batch]
    )


def differences(wrong: Wrong, make: Callable[[], Oracle], seed: int) -> list[str]:
    """What the fold says of a service that does `wrong`."""
    oracle = make()
    records, pauses = log(seed, COUNT), dict(pauses_of(seed, COUNT // PART))
    service = Service(oracle, make.__name__)
    commands = []
    for number in range(COUNT // PART):
        if number in pauses:
            service.paused = pauses[number]
            commands.append((number * PART, pauses[number]))
        wrong(service, records[number * PART : (number + 1) * PART], number)
    return service.differences(folded_of(oracle, service, records, commands))


@pytest.mark.parametrize(
    "wrong",
    [
        learned_twice, lost, out_of_order, learned_in_a_pause, log_time_lost, a_row_lost,
        a_weight_moved, a_decision_lost, a_decision_contradicted, a_refusal_lost,
        a_bad_event_mended,
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(wrong: Wrong) -> None:
    """One event too often, too late, or too little; one bit of a row; one record of a topic."""
    seed = next(s for s in range(50) if _fits(s))
    assert differences(right, oracles.fraud, seed) == []
    assert differences(wrong, oracles.fraud, seed) != []


def test_keys_that_should_have_expired_are_found() -> None:
    """A key that goes on where it should have begun anew is seen."""
    assert differences(right, oracles.visits, 2) == []
    assert differences(never_expiring, oracles.visits, 2) != []


def _fits(seed: int) -> bool:
    """A log in which every wrong has something to spoil: part 5 learns, a value is missing."""
    paused = False
    for number, now in sorted(pauses_of(seed, COUNT // PART)):
        paused = now if number <= 5 else paused
    first = log(seed, COUNT)[5 * PART]
    plain = first.value is not None and first.value[:1] == b"{" and b'"y": ' in first.value
    some_null = any(row.value is None for row in log(seed, COUNT))
    return not paused and plain and some_null
