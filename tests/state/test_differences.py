"""What differs between two states, by the names of rows alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import CorruptStateError
from headrace.state.differences import NAMED_MAX, Count, Differences, Different, compare
from headrace.state.memory import MemoryStore
from headrace.state.store import ShardStore
from tests.state.cuts import META, ROWS, stored

NAMES = st.sampled_from([b"k/a", b"k/b", b"u/a", b"i/", b"s/model", b"s/", b"", b"k", b"\xff/"])
STATES = st.dictionaries(NAMES, st.sampled_from([b"", b"1", b"2"]))


def store(rows: dict[bytes, bytes]) -> MemoryStore:
    """A store with those rows."""
    made = MemoryStore()
    made.write(rows.items(), META)
    return made


@given(STATES, STATES)
def test_it_is_what_two_dicts_would_say(
    earlier: dict[bytes, bytes], later: dict[bytes, bytes]
) -> None:
    """Whatever the rows, the walk finds what the sets of names and their bytes say."""
    wanted = [Different(row, "added") for row in later.keys() - earlier.keys()]
    wanted += [Different(row, "removed") for row in earlier.keys() - later.keys()]
    both = earlier.keys() & later.keys()
    wanted += [Different(row, "changed") for row in both if earlier[row] != later[row]]
    found = compare(store(earlier), store(later))
    assert list(found.first) == sorted(wanted, key=lambda each: each.row)
    assert found.total == len(wanted)


@given(STATES)
def test_a_state_does_not_differ_from_itself(rows: dict[bytes, bytes]) -> None:
    """No counts and no names."""
    assert compare(store(rows), store(rows)) == Differences(counts={}, first=())


def test_rows_are_counted_by_their_prefix() -> None:
    """Keys, users, items, what is the shard's own, and all others together."""
    later = {b"k/a": b"", b"u/a": b"", b"u/b": b"", b"i/a": b"", b"s/model": b"", b"x/a": b""}
    found = compare(store({b"k/b": b""}), store(later))
    assert found.counts == {
        "k/": Count(added=1, removed=1),
        "u/": Count(added=2),
        "i/": Count(added=1),
        "s/": Count(added=1),
        "": Count(added=1),
    }


@pytest.mark.parametrize("named", [0, 1, 5, NAMED_MAX])
def test_only_so_many_rows_are_named(named: int) -> None:
    """All are counted, the first are named."""
    many = {b"k/%05d" % number: b"" for number in range(2 * NAMED_MAX)}
    found = compare(store({}), store(many), named)
    assert [each.row for each in found.first] == sorted(many)[:named]
    assert found.total == len(many)


def test_a_checkpoint_is_compared_with_what_came_after(tmp_path: Path) -> None:
    """The stores of a worker, and what was written in between is what is told."""
    live = stored(tmp_path / "shard")
    live.checkpoint(tmp_path / "checkpoint")
    later = msgspec.structs.replace(META, next_offset=META.next_offset + 1)
    live.write([(b"k/1", b"otherwise"), (b"k/2", None), (b"k/new", b"new")], later)
    earlier = ShardStore.open(tmp_path / "checkpoint", create=False)
    found = compare(earlier, live)
    earlier.close()
    live.close()
    assert found.counts == {"k/": Count(added=1, removed=1, changed=1)}
    assert len(ROWS) > found.total


def test_a_damaged_store_is_not_compared(tmp_path: Path) -> None:
    """A row that cannot be read is said, and not taken for one that is missing."""
    stored(tmp_path / "shard").close()
    (table,) = (tmp_path / "shard").glob("*.sst")
    content = bytearray(table.read_bytes())
    content[len(content) // 4] ^= 1
    table.write_bytes(content)
    damaged = ShardStore.open(tmp_path / "shard", create=False)
    with pytest.raises(CorruptStateError):
        compare(damaged, store(ROWS))
    damaged.close()
