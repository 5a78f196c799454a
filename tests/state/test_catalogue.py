"""The catalogue: what is vouched for, whatever else is in its topic, compacted or not."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.state import catalogue as catalogue_module
from headrace.state.catalogue import (
    RECORD_BYTES_MAX,
    Catalogue,
    Pin,
    Removed,
    Vouched,
    encode,
)
from headrace.views import Partition
from tests.state.cuts import MINE, cut

VOUCHED = Vouched(
    snapshot_id="fraud.s1",
    agent="fraud",
    kind="named",
    epoch=3,
    spec_version=2,
    spec_digest="5f" * 32,
    topic="pay-ments",
    partition=0,
    partitions=2,
    next_offset=1_000,
    created_ms=1_700_000_000_000,
    digest="ab" * 32,
    size_bytes=5_000,
    new_bytes=1_200,
    versions=MINE,
)
Logged = tuple[bytes | None, bytes | None]


def vouched(**changes: object) -> Vouched:
    """VOUCHED, but for the changes; the agent goes with the id."""
    if "snapshot_id" in changes:
        changes["agent"] = str(changes["snapshot_id"]).partition(".")[0]
    return msgspec.structs.replace(VOUCHED, **changes)


def put(record: Vouched | Pin | Removed) -> Logged:
    return record.key, encode(record)


def folded(records: list[Logged]) -> Catalogue:
    """The fold of those records, at offsets 0, 1, …"""
    catalogue = Catalogue()
    for offset, (key, value) in enumerate(records):
        catalogue.apply(key, value, offset)
    return catalogue


def test_a_snapshot_is_complete_with_its_last_shard() -> None:
    """Shards come one by one; the view says what is in, and when all are."""
    one, two = vouched(), vouched(partition=1, next_offset=7, created_ms=1_700_000_000_500)
    first = folded([put(one)]).get("fraud.s1")
    assert first is not None
    assert (first.complete, len(first.shards)) == (False, 1)
    view = folded([put(two), put(one)]).get("fraud.s1")
    assert view is not None
    assert (view.complete, view.created_ms, view.kind) == (True, 1_700_000_000_500, "named")
    assert [(shard.partition, shard.next_offset) for shard in view.shards] == [(0, 1_000), (1, 7)]


def test_snapshots_are_told_newest_first() -> None:
    """Of one agent or of all; an agent without any has none."""
    catalogue = folded(
        [
            put(vouched(snapshot_id="fraud.s1", created_ms=5)),
            put(vouched(snapshot_id="tea.s1", created_ms=7)),
            put(vouched(snapshot_id="fraud.s2", created_ms=9)),
        ]
    )
    assert [view.snapshot_id for view in catalogue.snapshots(None)] == [
        "fraud.s2",
        "tea.s1",
        "fraud.s1",
    ]
    assert [view.snapshot_id for view in catalogue.snapshots("fraud")] == ["fraud.s2", "fraud.s1"]
    assert catalogue.snapshots("nobody") == []


def test_the_newest_of_a_shard_goes_by_epoch_then_position() -> None:
    """Not by the clock, which another worker may have wrong; of that shard of that agent only."""
    made = [
        vouched(snapshot_id="fraud.a", epoch=2, next_offset=900, created_ms=9),
        vouched(snapshot_id="fraud.b", epoch=3, next_offset=100, created_ms=1),
        vouched(snapshot_id="fraud.c", epoch=3, next_offset=200, created_ms=0),
        vouched(snapshot_id="fraud.d", epoch=9, partition=1),
        vouched(snapshot_id="tea.a", epoch=9),
        vouched(snapshot_id="fraud.e", epoch=9, topic="other"),
    ]
    newest = folded([put(each) for each in made]).newest("fraud", "pay-ments", 0)
    assert [each.snapshot_id for each in newest] == ["fraud.c", "fraud.b", "fraud.a"]
    assert folded([]).newest("fraud", "pay-ments", 0) == []


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "undo"},
        {"epoch": 4},
        {"spec_version": 3},
        {"spec_digest": "60" * 32},
        {"topic": "other"},
        {"partitions": 3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_shards_of_different_cuts_make_no_complete_snapshot(change: dict[str, object]) -> None:
    """Those that contradict the newest record are left out: nobody goes back to half of each."""
    other = vouched(partition=1, **change)
    catalogue = folded([put(vouched()), put(other)])
    view = catalogue.get("fraud.s1")
    assert view is not None
    assert not view.complete
    assert catalogue.shards("fraud.s1") == {other.shard: other}
    mended = folded([put(vouched()), put(other), put(vouched(partition=1))])
    assert list(mended.shards("fraud.s1")) == [Partition("pay-ments", 0), Partition("pay-ments", 1)]


def test_a_removed_snapshot_is_told_from_one_that_never_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is removed with its last shard, remembered up to a bound, and may come again."""
    monkeypatch.setattr(catalogue_module, "REMOVED_MAX", 2)
    one, two = vouched(), vouched(partition=1)
    catalogue = folded([put(one), put(two), (one.key, None)])
    assert not catalogue.was_removed("fraud.s1")
    catalogue.apply(two.key, None, 3)
    assert (catalogue.get("fraud.s1"), catalogue.was_removed("fraud.s1")) == (None, True)
    assert (catalogue.shards("fraud.s1"), catalogue.snapshots(None)) == ({}, [])
    assert not catalogue.was_removed("fraud.s2")
    for offset in (4, 5):
        catalogue.apply(vouched(snapshot_id=f"fraud.t{offset}").key, None, offset)
    assert not catalogue.was_removed("fraud.s1")
    assert catalogue.was_removed("fraud.t5")
    catalogue.apply(*put(vouched(snapshot_id="fraud.t5")), 6)
    assert not catalogue.was_removed("fraud.t5")


def test_what_stands_as_removed_outlasts_the_removal_of_automatic_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There are thousands of these. What a later epoch asks for is not over: it may be of another
    control log, of which the places say nothing.
    """
    monkeypatch.setattr(catalogue_module, "REMOVED_MAX", 2)
    removed = put(Removed(snapshot_id="fraud.s1", epoch=3, control_offset=9))
    automatic = [(vouched(snapshot_id=f"fraud.auto-{n}").key, None) for n in range(3)]
    catalogue = folded([removed, *automatic])
    assert catalogue.was_removed("fraud.s1")
    over = [catalogue.is_over("fraud.s1", epoch, at) for epoch, at in ((3, 8), (3, 9), (4, 8))]
    assert over == [True, False, False]
    assert (catalogue.free_from("fraud.s1", 3), catalogue.free_from("fraud.s1", 4)) == (9, 0)
    assert (catalogue.newest_epoch("fraud"), catalogue.newest_epoch("tea")) == (3, 0)


def test_that_nothing_was_left_of_it_for_a_moment_is_known_afterwards() -> None:
    """Also when something vouches for it again: whoever did so looks since when."""
    records = [put(vouched()), (vouched().key, None), put(vouched())]
    catalogue = folded(records)
    assert [catalogue.removed_since("fraud.s1", at) for at in (0, 1, 2)] == [True, True, False]
    assert not catalogue.was_removed("fraud.s1")
    assert not catalogue.removed_since("fraud.s2", 0)


def test_what_a_record_has_replaced_is_known_until_it_is_taken_back() -> None:
    """A record that a broker has taken twice has replaced what was there before both."""
    one, two = vouched(), vouched(digest="cd" * 32)
    catalogue = folded([put(one), put(two), put(two)])
    assert (catalogue.replaced_by(two), catalogue.replaced_by(one)) == (one, None)
    again = folded([put(one), (one.key, None), put(two)])
    assert (again.replaced_by(two), again.stands(two), again.stands(one)) == (None, True, False)


def test_pins_come_and_go() -> None:
    """A pin may be there before its snapshot; the view tells of it."""
    pin = Pin(snapshot_id="fraud.s1")
    catalogue = folded([put(pin), put(vouched())])
    view = catalogue.get("fraud.s1")
    assert view is not None
    assert (view.pinned, catalogue.pinned("fraud.s1"), catalogue.pinned("fraud.s2")) == (
        (True, True, False)
    )
    catalogue.apply(pin.key, None, 2)
    assert not catalogue.pinned("fraud.s1")


def test_a_published_cut_is_vouched_for_by_its_digest() -> None:
    """All manifests that are vouched for are told, with what is needed to fetch them."""
    made = [vouched(), vouched(partition=1), vouched(snapshot_id="tea.s1")]
    assert sorted(folded([put(each) for each in made]).refs()) == sorted(each.ref for each in made)
    assert made[0].ref == ("fraud.s1", "pay-ments", 0, "ab" * 32)


@pytest.mark.parametrize(
    "wrong",
    [
        {"agent": "tea"},
        {"snapshot_id": "../x.y"},
        {"snapshot_id": "nobody"},
        {"partition": 2},
        {"partition": -1},
    ],
)
def test_a_record_that_contradicts_itself_cannot_be_made(wrong: dict[str, object]) -> None:
    """Neither what vouches for a shard nor the cut before it."""
    with pytest.raises(ValueError):
        msgspec.structs.replace(VOUCHED, **wrong)
    sound = cut("fraud.s1", agent="fraud", partitions=2, partition=0)
    with pytest.raises(ValueError):
        msgspec.structs.replace(sound, **wrong)


# -- whatever else is in the topic -------------------------------------------------------------


def _altered(**changes: object) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(VOUCHED) | changes)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, encode(VOUCHED)),
        (b"", encode(VOUCHED)),
        (b"\xff/x/0", encode(VOUCHED)),
        (b"fraud.s1", encode(VOUCHED)),
        (b"fraud.s1/pay-ments", encode(VOUCHED)),
        (b"fraud.s1/pay-ments/x", encode(VOUCHED)),
        (b"fraud.s1/pay-ments/00", encode(VOUCHED)),
        (b"fraud.s1/pay-ments/-0", encode(VOUCHED)),
        (b"fraud.s1/pay-ments/" + b"9" * 5_000, encode(VOUCHED)),
        (b"../fraud.s1/pay-ments/0", encode(VOUCHED)),
        (b"pin/..", encode(Pin(snapshot_id="fraud.s1"))),
        (b"pin/fraud.s2", encode(Pin(snapshot_id="fraud.s1"))),
        (b"pin/fraud.s1", b"{}"),
        (b"fraud.s1/pay-ments/1", encode(VOUCHED)),
        (b"fraud.s2/pay-ments/0", encode(VOUCHED)),
        (VOUCHED.key, b""),
        (VOUCHED.key, b"\xff\xfe"),
        (VOUCHED.key, b"[" * 50_000),
        (VOUCHED.key, b'{"schema": 1'),
        (VOUCHED.key, _altered(schema=2)),
        (VOUCHED.key, _altered(kind="holiday")),
        (VOUCHED.key, _altered(digest="ab")),
        (VOUCHED.key, _altered(digest="AB" * 32)),
        (VOUCHED.key, _altered(digest="ab" * 32 + "\n")),
        (VOUCHED.key, _altered(epoch=-1)),
        (VOUCHED.key, _altered(next_offset=2**70)),
        (VOUCHED.key, _altered(agent="tea")),
        (VOUCHED.key, _altered(partitions=0)),
        (VOUCHED.key, _altered(padding="x" * RECORD_BYTES_MAX)),
    ],
)
def test_what_this_build_does_not_write_vouches_for_nothing(
    key: bytes | None, value: bytes
) -> None:
    """It is counted and never raises."""
    catalogue = folded([(key, value)])
    assert (catalogue.snapshots(None), catalogue.refs(), catalogue.ignored) == ([], [], 1)
    assert not catalogue.pinned("fraud.s1")
    assert catalogue.next_offset == 1


def test_a_record_that_cannot_be_read_replaces_the_one_before_it() -> None:
    """Compaction takes the old one away, so it counts no more before that either; that is no
    removal that anybody has asked for.
    """
    catalogue = folded([put(VOUCHED), (VOUCHED.key, b"?")])
    assert catalogue.get("fraud.s1") is None
    assert not catalogue.was_removed("fraud.s1")


def test_a_field_that_a_later_build_adds_is_passed_over() -> None:
    """Fields are added, never changed: what is known of the record counts."""
    catalogue = folded([(VOUCHED.key, _altered(colour="blue"))])
    assert catalogue.shards("fraud.s1") == {VOUCHED.shard: VOUCHED}


_records = st.lists(
    st.one_of(
        st.builds(
            lambda name, partition, epoch, value: (
                vouched(snapshot_id=name, partition=partition).key,
                value and encode(vouched(snapshot_id=name, partition=partition, epoch=epoch)),
            ),
            st.sampled_from(["fraud.s1", "fraud.s2", "tea.s1"]),
            st.integers(0, 1),
            st.integers(1, 2),
            st.sampled_from([b"yes", None]),
        ),
        st.sampled_from(["fraud.s1", "tea.s1"]).map(lambda name: put(Pin(snapshot_id=name))),
        st.sampled_from(["fraud.s1", "tea.s1"]).map(lambda name: (b"pin/%s" % name.encode(), None)),
        st.builds(
            lambda name, epoch, below: put(
                Removed(snapshot_id=name, epoch=epoch, control_offset=below)
            ),
            st.sampled_from(["fraud.s1", "tea.s1"]),
            st.integers(0, 2),
            st.integers(0, 9),
        ),
        st.sampled_from([VOUCHED.key, b"pin/fraud.s1", b"?"]).map(lambda key: (key, b"?")),
    ),
    min_size=10,
    max_size=40,
)


def _told(catalogue: Catalogue) -> object:
    views = catalogue.snapshots(None)
    newest = [catalogue.newest(agent, "pay-ments", 0) for agent in ("fraud", "tea")]
    complete = [catalogue.last_complete(agent) for agent in ("fraud", "tea")]
    removed = [catalogue.free_from(name, 1) for name in ("fraud.s1", "tea.s1")]
    return views, [catalogue.shards(view.snapshot_id) for view in views], newest, complete, removed


@given(_records, st.integers(0, 40))
@settings(max_examples=300)
def test_compaction_changes_nothing(records: list[Logged], upto: int) -> None:
    """A log of which each key's last record is left, up to any place, and with tombstones that are
    gone too, folds to the same snapshots and pins.
    """
    last = {key: offset for offset, (key, _) in enumerate(records)}
    compacted = Catalogue()
    for offset, (key, value) in enumerate(records):
        if offset >= upto or (last[key] == offset and value is not None):
            compacted.apply(key, value, offset)
    assert _told(compacted) == _told(folded(records))


@given(st.lists(st.tuples(st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=40))))
def test_no_record_raises(records: list[Logged]) -> None:
    """Whatever bytes somebody puts there, the fold goes on."""
    assert folded(records).next_offset == len(records)


def test_no_log_goes_on_from_an_imported_snapshot() -> None:
    """It is listed and found, but never as the newest of a shard, nor as the last that is whole."""
    own = put(vouched(partitions=1))
    strange = put(vouched(snapshot_id="fraud.s2", partitions=1, imported=True, next_offset=9_000))
    catalogue = folded([own, strange])
    assert [one.snapshot_id for one in catalogue.newest("fraud", "pay-ments", 0)] == ["fraud.s1"]
    last = catalogue.last_complete("fraud")
    assert last is not None
    assert last.snapshot_id == "fraud.s1"
    found = catalogue.get("fraud.s2")
    assert found is not None
    assert (found.imported, found.complete) == (True, True)


def test_a_record_from_before_imports_is_of_none() -> None:
    """Records that do not say so are still read."""
    key, value = put(vouched(partitions=1))
    assert value is not None
    record = msgspec.json.decode(value)
    del record["imported"]
    view = folded([(key, msgspec.json.encode(record))]).get("fraud.s1")
    assert view is not None
    assert not view.imported


def test_the_last_complete_one_is_not_the_last() -> None:
    """One that is not complete yet does not count."""
    whole, half = vouched(partitions=1), vouched(snapshot_id="fraud.s2")
    last = folded([put(whole), put(half)]).last_complete("fraud")
    assert last is not None
    assert last.snapshot_id == "fraud.s1"
    assert folded([put(half)]).last_complete("fraud") is None


def test_what_was_asked_for_is_not_what_is_answered_after_a_change() -> None:
    """Views are kept until a record of theirs comes: each answer is that of a fold nobody asked."""
    one, two = vouched(), vouched(partition=1)
    pin = Pin(snapshot_id="fraud.s1")
    records: list[Logged] = [put(one), put(two), put(pin), (pin.key, None), (two.key, None)]
    asked = Catalogue()
    for offset, (key, value) in enumerate(records):
        asked.apply(key, value, offset)
        assert asked.snapshots(None) == folded(records[: offset + 1]).snapshots(None)
    first = asked.get("fraud.s1")
    assert asked.get("fraud.s1") is first, "it is not made anew for each page of a list"
