"""A revert puts back what is model, and lets what is measured and what waits go on."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import CorruptStateError, RequestError
from headrace.models import codec
from headrace.models.learner import Learner
from headrace.models.memory_rows import MemoryRows
from headrace.models.reverting import can_revert_keys, of_keys, whole
from headrace.models.spec import Spec
from headrace.models.stored import key_digest, read
from tests.models.histories import (
    KEYS,
    LATER,
    OF_KEYS,
    ORIGIN,
    SPECS,
    Watched,
    copied,
    records,
    step,
)  # fmt: skip

LAWS = settings(max_examples=6, deadline=None)
EACH = pytest.mark.parametrize("name", sorted(SPECS))
SEEDS = st.integers(0, 10_000)
COUNTS = st.integers(0, 60)


class Lived(NamedTuple):
    """An agent's rows at a snapshot and some records later."""

    spec: Spec
    base: MemoryRows
    now: MemoryRows


def lived(name: str, seed: int, before: int, since: int) -> Lived:
    spec = SPECS[name]
    base = MemoryRows()
    step(spec, base, records(seed, before))
    now = copied(base)
    step(spec, now, records(seed, since, first=before))
    return Lived(spec, base, now)


def digests(rows: MemoryRows) -> dict[bytes, str]:
    """What is model in the rows: all but what is under `s/`, and `s/model`."""
    found = {}
    for row, data in rows.rows.items():
        if row.startswith(b"k/") or (row == b"s/model" and b"i/" not in {*map(_room, rows.rows)}):
            found[row] = key_digest(row, data)
        elif row == b"s/model" or not row.startswith(b"s/"):
            found[row] = codec.digest(data)
    return found


def _room(row: bytes) -> bytes:
    return row[:2]


def waiting(rows: MemoryRows) -> dict[bytes, list[int]]:
    """The offsets that wait for their label, by row."""
    found = {row: [parked.offset for parked in read(row, data).waiting]
             for row, data in rows.rows.items() if row.startswith(b"k/")}  # fmt: skip
    return {row: offsets for row, offsets in found.items() if offsets}


def measured(rows: MemoryRows) -> dict[bytes, bytes]:
    """What the shard has measured, counted and seen of time."""
    return {r: data for r, data in rows.rows.items() if r.startswith(b"s/") and r != b"s/model"}


@EACH
@LAWS
@given(seed=SEEDS, before=COUNTS, since=COUNTS)
def test_the_model_is_the_bases_and_the_rest_goes_on(
    name: str, seed: int, before: int, since: int
) -> None:
    """Models are the base's, digest by digest; measurements, time and what waits are now's."""
    spec, base, now = lived(name, seed, before, since)
    reverted = copied(base, whole(spec, base, now))
    models, old = digests(reverted), digests(base)
    assert {row: models.pop(row) for row in old} == old
    assert set(models) <= set(waiting(now))  # new models are of keys that wait for a label
    assert measured(reverted) == measured(now)
    assert waiting(reverted) == waiting(now)


@EACH
@LAWS
@given(seed=SEEDS, before=COUNTS, since=COUNTS)
def test_taking_a_revert_back_gives_what_was(name: str, seed: int, before: int, since: int) -> None:
    """The revert to the rows that a revert has replaced gives them back, byte for byte."""
    spec, base, now = lived(name, seed, before, since)
    reverted = copied(base, whole(spec, base, now))
    assert copied(now, whole(spec, now, reverted)).rows == now.rows


@EACH
@LAWS
@given(seed=SEEDS, before=COUNTS, since=COUNTS)
def test_it_learns_on(name: str, seed: int, before: int, since: int) -> None:
    """What comes after a revert is learned and counted as if nothing had happened."""
    spec, base, now = lived(name, seed, before, since)
    later = records(seed, 40, first=before + since)
    reverted = copied(base, whole(spec, base, now))
    accepted = Learner(spec, ORIGIN, now).accepted
    refused = {refusal.offset for refusal in step(spec, copied(now), later).refusals}
    outcome = step(spec, reverted, later)
    assert {refusal.offset for refusal in outcome.refusals} == refused
    learner = Learner(spec, ORIGIN, reverted)
    assert learner.accepted == accepted + len(later) - len(refused)
    for key in KEYS:
        row = b"k/" + key.encode()
        kept = reverted.get(row)
        assert kept is None or read(row, kept).last_seen >= 0


@pytest.mark.parametrize("name", sorted({*OF_KEYS} - {*LATER, "visits"}))
@LAWS
@given(seed=SEEDS, before=COUNTS)
def test_models_go_on_from_the_base(name: str, seed: int, before: int) -> None:
    """The models after a revert and some events are the base's after the same events."""
    spec, base, now = lived(name, seed, before, 40)
    later = records(seed, 40, first=before + 40)
    reverted, gone_on = copied(base, whole(spec, base, now)), copied(base)
    step(spec, reverted, later)
    step(spec, gone_on, later)
    models = [
        {row: read(row, data).model for row, data in rows.scan(b"k/")}
        for rows in (reverted, gone_on)
    ]
    assert models[0] == models[1]


@pytest.mark.parametrize("name", OF_KEYS)
@LAWS
@given(seed=SEEDS, before=COUNTS, since=COUNTS, keys=st.sets(st.sampled_from([*KEYS, "new"])))
def test_keys_go_back_and_no_others(
    name: str, seed: int, before: int, since: int, keys: set[str]
) -> None:
    """The keys in scope have the base's models, all other rows are now's; waiting labels stay."""
    spec, base, now = lived(name, seed, before, since)
    scope = {b"k/" + key.encode() for key in keys}
    reverted = copied(now, of_keys(spec, sorted(keys), base, now))
    models, old = digests(reverted), digests(base)
    for row in scope:
        if row in old or row not in waiting(now):
            assert models.get(row) == old.get(row)
    outside = {row: data for row, data in now.rows.items() if row not in scope}
    assert {row: data for row, data in reverted.rows.items() if row not in scope} == outside
    assert waiting(reverted) == waiting(now)
    Learner(spec, ORIGIN, reverted)
    assert copied(reverted, of_keys(spec, sorted(keys), now, reverted)).rows == now.rows


@pytest.mark.parametrize("name", sorted({*OF_KEYS} & {*LATER}))
@LAWS
@given(seed=SEEDS, before=COUNTS, since=COUNTS)
def test_all_keys_go_back_as_the_whole_agent_does(
    name: str, seed: int, before: int, since: int
) -> None:
    """Where labels come later, the revert of all keys and that of the agent agree on models."""
    spec, base, now = lived(name, seed, before, since)
    agent = copied(base, whole(spec, base, now))
    keys = copied(now, of_keys(spec, KEYS, base, now))
    assert digests(agent) == digests(keys)
    assert waiting(agent) == waiting(keys)


@pytest.mark.parametrize("name", LATER)
def test_a_label_teaches_the_model_that_is_there_when_it_comes(name: str) -> None:
    """An event that was parked before the revert is learned after it, by the base's model."""
    spec = SPECS[name]
    base, now = MemoryRows(), MemoryRows()
    step(spec, base, records(1, 30, keys=["ada"]))
    now = copied(base)
    step(spec, now, records(1, 30, first=30, keys=["ada", "new"]))
    reverted = copied(base, whole(spec, base, now))
    due = waiting(now)
    assert set(due) == {b"k/ada", b"k/new"}
    step(spec, reverted, records(1, 60, first=80, keys=["ada", "new"]))
    for row, offsets in due.items():
        updates = read(row, reverted.rows[row]).updates
        at_base = read(row, base.rows[row]).updates if row in base.rows else 0
        assert updates >= at_base + len(offsets)
        assert min(waiting(reverted)[row]) > max(offsets)


def test_a_new_model_is_seeded_as_its_first_event_would_seed_it() -> None:
    """A key that only waits since the base has the model that a learner would make for it."""
    spec = SPECS["later-seeded"]
    base, now = MemoryRows(), MemoryRows()
    step(spec, now, records(1, 12, keys=["new"]))
    reverted = copied(base, whole(spec, base, now))
    slot = read(b"k/new", reverted.rows[b"k/new"])
    assert slot.model == codec.encode(spec.build_model("new"))
    assert (slot.updates, slot.last_learned, slot.full) == (0, 0, False)


@pytest.mark.parametrize("name", sorted(set(SPECS) - set(LATER)))
def test_without_later_labels_no_key_is_read(name: str) -> None:
    """A million keys cost nothing: only rows of the shard as a whole are read."""
    spec, base, now = lived(name, 3, 50, 50)
    watched = Watched(base), Watched(now)
    assert list(whole(spec, *watched))
    assert {_room(row) for rows in watched for row in rows.read} == {b"s/"}


def test_what_has_stopped_waiting_does_not_come_back() -> None:
    """Labels that wait in the base only were learned or forgotten since: they wait no more."""
    spec, base, now = lived("forecast", 2, 40, 40)
    del now.rows[b"k/ada"]
    assert b"k/ada" in waiting(base)
    reverted = copied(base, whole(spec, base, now))
    assert b"k/ada" not in waiting(reverted)
    assert digests(reverted)[b"k/ada"] == digests(base)[b"k/ada"]


def test_what_only_the_base_has_measured_goes() -> None:
    """A row of the shard that there is no more is deleted, but never the shared model."""
    spec, base, _ = lived("shared", 2, 40, 0)
    assert copied(base, whole(spec, base, MemoryRows())).rows == {
        row: data for row, data in base.rows.items() if row[:2] == b"k/" or row == b"s/model"
    }


def test_a_key_that_waits_is_as_long_idle_as_it_was() -> None:
    """Of a row that is written, the later `last_seen` counts: what waits is not forgotten."""
    spec, base, now = lived("forecast", 2, 40, 40)
    reverted = copied(base, whole(spec, base, now))
    written = {row: reverted.rows[row] for row in waiting(now)}
    assert written
    for row, data in written.items():
        assert read(row, data).last_seen == read(row, now.rows[row]).last_seen


@pytest.mark.parametrize("name", sorted(SPECS))
def test_keys_of_shared_models_cannot_go_back_alone(name: str) -> None:
    """Asking for single keys of a shared model is refused with a code, before any row is read."""
    spec = SPECS[name]
    assert can_revert_keys(spec) == (name in OF_KEYS)
    if not can_revert_keys(spec):
        with pytest.raises(RequestError) as caught:
            of_keys(spec, ["ada"], MemoryRows(), MemoryRows())
        assert caught.value.code == "not_per_key"


def test_a_damaged_row_is_refused() -> None:
    """A base whose bytes do not match their digest is told, not copied."""
    spec, base, now = lived("forecast", 2, 40, 40)
    base.rows[b"k/ada"] = base.rows[b"k/ada"][:-1] + b"\0"
    with pytest.raises(CorruptStateError):
        list(of_keys(spec, ["ada"], base, now))


def test_a_key_that_is_put_back_is_not_idle() -> None:
    """A base older than `idle_ttl` brings its model back for a key that was seen since."""
    spec = SPECS["visits"]  # keys expire after 5 s
    base = MemoryRows()
    step(spec, base, records(1, 120, keys=["ada"]))
    now = copied(base)
    step(spec, now, records(1, 120, first=300, keys=["ada"]))
    reverted = copied(now, of_keys(spec, ["ada"], base, now))
    view = Learner(spec, ORIGIN, reverted).describe("ada", 420)
    assert view.standing.updates == read(b"k/ada", base.rows[b"k/ada"]).updates
