"""Checkpoints on their way into a repository: what is read, what is new, what a failure leaves."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from headrace.errors import StateError
from headrace.state import sums as sums_module
from headrace.state.checkpoints import Checkpoints, shard_files
from headrace.state.localshelf import LocalShelf
from headrace.state.manifest import digest, encode
from headrace.state.publishing import Published, publish
from headrace.state.repository import ShelfRepository
from headrace.state.store import ShardStore
from headrace.state.sums import Sums, sum_file
from tests.state.cuts import META, ROWS, cut, rows
from tests.state.snapshot import blob, blobs, replaced


class FailingShelf(LocalShelf):
    """A shelf that tells what was put, and puts no more after so many."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.names: list[str] = []
        self.left = 1_000

    def put(self, name: str, content: Iterable[bytes], *, size: int, create: bool) -> bool:
        if not self.left:
            raise StateError("the network is away")
        self.left -= 1
        self.names.append(name)
        return super().put(name, content, size=size, create=create)


def test_what_was_published_comes_back(
    kept: ShelfRepository, checkpoints: Checkpoints, store: ShardStore, tmp_path: Path
) -> None:
    """Its manifest has the digest that was told, and its files make the store that it was."""
    done = publish(cut(), checkpoints.take(store, cut()), kept, Sums())
    manifest = kept.manifest("card-fraud.s1", "Pay/ments", 3, done.digest)
    assert manifest == cut().manifest(done.files)
    assert done.size_bytes == done.new_bytes == sum(file.size for file in done.files)
    kept.fetch(manifest.files, tmp_path / "restored")
    assert rows(tmp_path / "restored") == ROWS


def test_the_catalogue_is_told_what_people_ask_for(
    kept: ShelfRepository, checkpoints: Checkpoints, store: ShardStore
) -> None:
    """The record names the shard as the cut does, the digest, and both sizes."""
    named = cut(kind="named")
    done = publish(named, checkpoints.take(store, named), kept, Sums())
    vouched = done.vouched(named)
    assert vouched.ref == ("card-fraud.s1", "Pay/ments", 3, done.digest)
    assert (vouched.kind, vouched.epoch, vouched.next_offset) == ("named", 3, 1_000)
    assert (vouched.size_bytes, vouched.new_bytes) == (done.size_bytes, done.new_bytes)
    assert vouched.versions == named.versions


def test_only_what_changed_is_brought(
    kept: ShelfRepository, checkpoints: Checkpoints, store: ShardStore
) -> None:
    """A second snapshot brings the new tables and the small files; a third of the same, nothing."""
    sums = Sums()
    store.write([(b"k/large", os.urandom(1_000_000))], META)
    first = publish(cut(), checkpoints.take(store, cut()), kept, sums)
    store.write([(b"k/more", b"little")], META)
    second_cut = cut("card-fraud.s2")
    second = publish(second_cut, checkpoints.take(store, second_cut), kept, sums)
    assert first.new_bytes > 1_000_000
    assert 0 < second.new_bytes < 50_000
    assert second.size_bytes > 1_000_000
    brought = {file.sha256 for file in second.files} - {file.sha256 for file in first.files}
    sizes = {file.sha256: file.size for file in second.files}
    assert second.new_bytes == sum(sizes[sha256] for sha256 in brought)
    again = publish(second_cut, checkpoints.take(store, second_cut), kept, Sums())
    assert (again.digest, again.new_bytes) == (second.digest, 0)


def _rewritten(path: Path) -> None:
    """Other bytes of the same size in a file, with its time of change."""
    status = path.stat()
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_table_that_is_remembered_is_not_read(
    kept: ShelfRepository, checkpoints: Checkpoints, store: ShardStore
) -> None:
    """Tables that look as they did are taken for what they were; one that was changed is hashed
    again, and so are all other files, always.
    """
    sums = Sums()
    path = checkpoints.take(store, cut())
    first = publish(cut(), path, kept, sums)
    table = next(file for file in shard_files(path) if file.suffix == ".sst")
    _rewritten(table)
    assert publish(cut(), path, kept, sums) == msgspec.structs.replace(first, new_bytes=0)
    _rewritten(path / "CURRENT")
    current = publish(cut(), path, kept, sums)
    assert _altered(first, current) == {"CURRENT"}
    _rewritten(path / "CURRENT")
    os.utime(table)
    assert _altered(first, publish(cut(), path, kept, sums)) == {table.name}


def _altered(one: Published, other: Published) -> set[str]:
    """The names of the files that have other bytes."""
    return {entry.name for entry in {*one.files} ^ {*other.files}}


def test_the_same_cut_with_other_bytes_is_published_beside_the_first(
    kept: ShelfRepository, checkpoints: Checkpoints, store: ShardStore
) -> None:
    """A shard that is taken again after a crash, later and with other files, is refused nothing:
    each of the two manifests is found by its digest.
    """
    first = publish(cut(), checkpoints.take(store, cut()), kept, Sums())
    checkpoints.drop(cut())
    store.write([(b"k/0", b"other weights")], META)
    later = cut(created_ms=cut().created_ms + 1)
    second = publish(later, checkpoints.take(store, later), kept, Sums())
    assert first.digest != second.digest
    for done, taken in ((first, cut()), (second, later)):
        found = kept.manifest("card-fraud.s1", "Pay/ments", 3, done.digest)
        assert found == taken.manifest(done.files)


def test_what_is_damaged_is_put_right_by_the_next_publish(
    kept: ShelfRepository, checkpoints: Checkpoints, store: ShardStore, tmp_path: Path
) -> None:
    """Manifest and files that lie there cut short are brought again, under the same digest."""
    path = checkpoints.take(store, cut())
    first = publish(cut(), path, kept, Sums())
    for place in ("manifests", "blobs"):
        for object_ in list(kept._shelf.list(place)):
            replaced(kept, object_.name, b"")
    assert publish(cut(), path, kept, Sums()).digest == first.digest
    manifest = kept.manifest("card-fraud.s1", "Pay/ments", 3, first.digest)
    kept.fetch(manifest.files, tmp_path / "restored")
    assert rows(tmp_path / "restored") == ROWS


def test_what_is_remembered_and_missing_is_read_and_compared(
    kept: ShelfRepository, checkpoints: Checkpoints, store: ShardStore
) -> None:
    """A table that the repository lost is brought again, if it still is what it was hashed to."""
    sums = Sums()
    path = checkpoints.take(store, cut())
    first = publish(cut(), path, kept, sums)
    entry = next(file for file in first.files if file.name.endswith(".sst"))
    kept._shelf.delete(blob(entry))
    again = publish(cut(), path, kept, sums)
    assert (again.digest, again.new_bytes) == (first.digest, entry.size)
    kept._shelf.delete(blob(entry))
    _rewritten(path / entry.name)
    with pytest.raises(StateError, match="changed while it was read"):
        publish(cut(), path, kept, sums)
    assert entry.sha256 not in blobs(kept)


def test_sums_are_forgotten_at_their_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes first; what was forgotten is hashed again, no more."""
    monkeypatch.setattr(sums_module, "SUMS_KEPT", 2)
    sums = Sums()
    tables = [tmp_path / f"{number}.sst" for number in range(3)]
    for number, table in enumerate(tables):
        table.write_bytes(b"weights %d" % number)
        sums.remember(table, sum_file(table))
    assert [sums.known(table) for table in tables] == [None, *map(sum_file, tables[1:])]


def test_the_manifest_is_last_and_any_failure_can_be_tried_again(
    checkpoints: Checkpoints, store: ShardStore, tmp_path: Path
) -> None:
    """Whichever step fails, there is no manifest; the next try ends as if nothing had happened."""
    path = checkpoints.take(store, cut())
    count = len(shard_files(path))
    for failing in range(count + 1):
        shelf = FailingShelf(tmp_path / f"kept-{failing}")
        kept = ShelfRepository(shelf)
        shelf.left = failing
        with pytest.raises(StateError, match="the network is away"):
            publish(cut(), path, kept, Sums())
        assert kept.snapshots() == []
        shelf.left = 1_000
        done = publish(cut(), path, kept, Sums())
        assert [name.partition("/")[0] for name in shelf.names] == ["blobs"] * count + ["manifests"]
        assert kept.manifest("card-fraud.s1", "Pay/ments", 3, done.digest).files == done.files
        assert done.digest == digest(encode(cut().manifest(done.files)))


def test_an_upload_that_is_called_off_ends_with_the_file_that_is_on_its_way(
    checkpoints: Checkpoints, store: ShardStore, tmp_path: Path
) -> None:
    """Whichever that is, also the last one, there is no manifest; the next try goes on from it."""
    path = checkpoints.take(store, cut())
    count = len(shard_files(path))
    for brought in range(count + 1):
        shelf = FailingShelf(tmp_path / f"kept-{brought}")
        kept = ShelfRepository(shelf)

        def called_off(shelf: FailingShelf = shelf, brought: int = brought) -> bool:
            return len(shelf.names) >= brought

        with pytest.raises(StateError, match="called off"):
            publish(cut(), path, kept, Sums(), called_off)
        assert [name.partition("/")[0] for name in shelf.names] == ["blobs"] * brought
        publish(cut(), path, kept, Sums())
        assert [name.partition("/")[0] for name in shelf.names] == ["blobs"] * count + ["manifests"]


def test_an_upload_goes_on_after_a_restart(
    kept: ShelfRepository, checkpoints: Checkpoints, store: ShardStore
) -> None:
    """The next process finds the cut, its files and the same digest in them."""
    done = publish(cut(), checkpoints.take(store, cut()), kept, Sums())
    again = Checkpoints(checkpoints.root)
    (owed,) = again.owed()
    path = again.find(owed.snapshot_id, *owed.shard)
    assert path is not None
    once_more = publish(owed, path, kept, Sums())
    assert once_more.digest == done.digest
    again.published(owed, once_more.digest, once_more.files)
    assert again.owed() == []
