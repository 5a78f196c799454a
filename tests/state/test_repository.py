"""Repositories: the same laws on a disk, in memory and on an S3 server."""

from __future__ import annotations

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import msgspec
import pytest

from headrace.errors import CorruptStateError, ForeignStateError, StateError
from headrace.state import manifest as manifests
from headrace.state import objectshelf
from headrace.state.manifest import Manifest, digest, encode
from headrace.state.owner import Owner
from headrace.state.places import sum_in
from headrace.state.repository import Collected, ShelfRepository
from tests.state.snapshot import CONTENT, MANIFEST, asked, blob, blobs, made, replaced

# -- what is kept comes back -------------------------------------------------------------------


def test_what_was_added_comes_back(
    kept: ShelfRepository, checkpoint: list[Path], tmp_path: Path
) -> None:
    """Files and manifest come back as they were; each file lies under the sum of its bytes."""
    manifest = made(kept, checkpoint)
    vouched = kept.add_manifest(manifest)
    assert vouched == digest(encode(manifest))
    assert asked(kept, manifest, vouched) == manifest
    kept.fetch(manifest.files, tmp_path / "restored")
    restored = {path.name: path.read_bytes() for path in (tmp_path / "restored").iterdir()}
    assert restored == CONTENT
    assert blobs(kept) == {hashlib.sha256(content).hexdigest() for content in CONTENT.values()}
    assert kept.snapshots() == ["s-1"]


def test_a_large_file_comes_back(
    kept: ShelfRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that goes up in parts comes back whole."""
    monkeypatch.setattr(objectshelf, "AT_ONCE_BYTES", 5 << 20)
    (tmp_path / "000013.sst").write_bytes(os.urandom(11 << 20))
    entry, _ = kept.add_file(tmp_path / "000013.sst")
    kept.fetch([entry], tmp_path / "restored")
    restored = tmp_path / "restored" / "000013.sst"
    assert restored.read_bytes() == (tmp_path / "000013.sst").read_bytes()


def test_equal_files_are_kept_once(
    kept: ShelfRepository, checkpoint: list[Path], tmp_path: Path
) -> None:
    """The same bytes under two names, in two snapshots, are one file in the repository."""
    made(kept, checkpoint)
    shutil.copy(checkpoint[0], tmp_path / "another-name")
    entry, _ = kept.add_file(tmp_path / "another-name")
    assert (entry.name, len(blobs(kept))) == ("another-name", len(checkpoint))


def test_a_new_repository_is_empty(kept: ShelfRepository) -> None:
    """A place where nothing was kept yet lists nothing, removes nothing, collects nothing."""
    assert kept.snapshots() == []
    kept.remove("s-1", ["ab" * 32])
    nothing = Collected(set_aside=0, taken_back=0, deleted=0, deleted_bytes=0)
    assert kept.collect(set(), 0) == nothing


def test_two_manifests_of_one_shard_are_both_found(
    kept: ShelfRepository, checkpoint: list[Path]
) -> None:
    """A shard that was taken again has two; the digest says which one is asked for."""
    manifest = made(kept, checkpoint)
    again = msgspec.structs.replace(manifest, created_ms=1)
    vouched = kept.add_manifest(manifest)
    assert kept.add_manifest(manifest) == vouched
    vouched_again = kept.add_manifest(again)
    assert asked(kept, manifest, vouched) == manifest
    assert asked(kept, manifest, vouched_again) == again
    kept.remove("s-1", [vouched, vouched_again])
    assert list(kept._shelf.list("manifests")) == []


def test_a_damaged_manifest_is_mended_by_the_next_upload(
    kept: ShelfRepository, checkpoint: list[Path]
) -> None:
    """Bytes under its name that are not its own are not taken for it."""
    manifest = made(kept, checkpoint)
    vouched = kept.add_manifest(manifest)
    (found,) = kept._shelf.list("manifests")
    for damaged in (b"", flip(encode(manifest)), encode(manifest)[:-1], encode(manifest) + b" "):
        replaced(kept, found.name, damaged)
        assert kept.add_manifest(manifest) == vouched
        assert asked(kept, manifest, vouched) == manifest


@pytest.mark.parametrize("vouched", ["", "../" * 21 + "x", "AB" * 32, "ab" * 32 + "\n"])
def test_a_digest_that_is_none_is_refused(kept: ShelfRepository, vouched: str) -> None:
    """It becomes part of a name, so it is never taken for a path."""
    with pytest.raises(StateError, match="is no digest of a manifest"):
        asked(kept, MANIFEST, vouched)


def test_topics_and_partitions_do_not_share_a_manifest(kept: ShelfRepository) -> None:
    """Whatever a topic is called, each of its partitions has a manifest of its own."""
    shards = [("a", 0), ("a", 1), ("A", 0), ("a/b", 0), ("a@0", 0), ("..", 0), ("%61", 0)]
    wanted = [
        msgspec.structs.replace(MANIFEST, topic=topic, partition=partition)
        for topic, partition in shards
    ]
    sums = [kept.add_manifest(manifest) for manifest in wanted]
    assert [asked(kept, manifest, sum_) for manifest, sum_ in zip(wanted, sums, strict=True)] == (
        wanted
    )


def test_snapshots_are_listed_and_removed(kept: ShelfRepository, checkpoint: list[Path]) -> None:
    """A removed snapshot is gone with its manifests, others and all files stay."""
    added = [
        kept.add_manifest(made(kept, checkpoint, snapshot_id))
        for snapshot_id in ("s-2", "s-10", "s-1")
    ]
    before = blobs(kept)
    kept.remove("s-1", added)
    kept.remove("s-1", added)
    assert kept.snapshots() == ["s-10", "s-2"]
    assert blobs(kept) == before


def test_of_a_name_that_was_given_anew_only_what_is_named_is_removed(
    kept: ShelfRepository, checkpoint: list[Path]
) -> None:
    """A snapshot of the same name may be published while the manifests of the former one go."""
    former = made(kept, checkpoint)
    anew = msgspec.structs.replace(former, created_ms=1)
    gone, stays = kept.add_manifest(former), kept.add_manifest(anew)
    kept.remove("s-1", [gone])
    assert asked(kept, anew, stays) == anew
    with pytest.raises(CorruptStateError, match="is missing"):
        asked(kept, former, gone)


@pytest.mark.parametrize("snapshot_id", ["", ".", "..", "../blobs", "a/b", "A", "a" * 129, "a\n"])
def test_an_id_that_leads_elsewhere_is_refused(kept: ShelfRepository, snapshot_id: str) -> None:
    """An id is never taken for a path."""
    with pytest.raises(StateError, match="is no id of a snapshot"):
        kept.remove(snapshot_id, ["ab" * 32])
    with pytest.raises(StateError, match="is no id of a snapshot"):
        kept.manifest(snapshot_id, "t", 0, "ab" * 32)


# -- what is damaged is refused ----------------------------------------------------------------


def flip(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip, "its bytes do not match its SHA-256"),
        (lambda content: content[:-1], "it has 2303999 of its 2304000 bytes"),
        (lambda content: content + b"x", "it has more than its 2304000 bytes"),
        (lambda content: b"", "it has 0 of its 2304000 bytes"),
        (None, "it is missing in the repository"),
    ],
    ids=["flipped", "truncated", "longer", "emptied", "missing"],
)
def test_a_damaged_file_is_refused_and_nothing_is_left(
    kept: ShelfRepository, checkpoint: list[Path], tmp_path: Path, damage: object, said: str
) -> None:
    """One wrong file and there is no directory at all; the text says which and what to do."""
    manifest = made(kept, checkpoint)
    entry = next(file for file in manifest.files if file.name == "000012.sst")
    if callable(damage):
        replaced(kept, blob(entry), damage(CONTENT[entry.name]))
    else:
        kept._shelf.delete(blob(entry))
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(CorruptStateError) as refused:
        kept.fetch(manifest.files, place / "restored")
    assert said in str(refused.value)
    assert "file 000012.sst" in str(refused.value)
    assert "Restore another snapshot" in str(refused.value)
    assert list(place.iterdir()) == []


def test_two_good_files_that_changed_places_are_refused(
    kept: ShelfRepository, tmp_path: Path
) -> None:
    """A file that is whole but another one is refused, of the same size, too."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode() * 1_000)
    one, two = (kept.add_file(tmp_path / name).entry for name in ("a", "b"))
    replaced(kept, blob(one), b"b" * 1_000)
    replaced(kept, blob(two), b"a" * 1_000)
    with pytest.raises(CorruptStateError, match="do not match its SHA-256"):
        kept.fetch([one, two], tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_a_damaged_size_is_mended_by_the_next_upload(
    kept: ShelfRepository, checkpoint: list[Path], tmp_path: Path
) -> None:
    """A file that lies there truncated is not taken for the one that is added."""
    manifest = made(kept, checkpoint)
    replaced(kept, blob(manifest.files[0]), b"short")
    assert made(kept, checkpoint) == manifest
    kept.fetch(manifest.files, tmp_path / "restored")
    assert (tmp_path / "restored" / "000012.sst").read_bytes() == CONTENT["000012.sst"]


@pytest.mark.parametrize("damage", [flip, lambda content: content[:-1], lambda content: b""])
def test_a_damaged_manifest_is_refused(
    kept: ShelfRepository, checkpoint: list[Path], damage: object
) -> None:
    """A manifest that was altered is refused by its digest."""
    manifest = made(kept, checkpoint)
    vouched = kept.add_manifest(manifest)
    (found,) = kept._shelf.list("manifests")
    assert callable(damage)
    replaced(kept, found.name, damage(encode(manifest)))
    with pytest.raises(CorruptStateError, match="was vouched for"):
        asked(kept, manifest, vouched)


def test_an_old_manifest_under_a_new_id_is_refused(
    kept: ShelfRepository, checkpoint: list[Path]
) -> None:
    """It is refused by the new one's digest, and by what it says of itself even with its own."""
    old, new = made(kept, checkpoint, "s-1"), made(kept, checkpoint, "s-2")
    kept.add_manifest(old)
    vouched = kept.add_manifest(new)
    (name,) = (object_.name for object_ in kept._shelf.list("manifests/s-2"))
    replaced(kept, name, encode(old))
    with pytest.raises(CorruptStateError, match="another one was put in its place"):
        asked(kept, new, vouched)
    replaced(kept, name.replace(vouched[:16], digest(encode(old))[:16]), encode(old))
    with pytest.raises(CorruptStateError, match="in snapshot s-1"):
        asked(kept, new, digest(encode(old)))


def test_a_manifest_of_another_shard_is_refused(kept: ShelfRepository) -> None:
    """Two shards' manifests that changed places are refused, with their own digests, too."""
    other = msgspec.structs.replace(MANIFEST, partition=4)
    vouched = kept.add_manifest(MANIFEST)
    (name,) = (object_.name for object_ in kept._shelf.list("manifests"))
    replaced(kept, name, encode(other))
    with pytest.raises(CorruptStateError, match="another one was put in its place"):
        asked(kept, MANIFEST, vouched)
    replaced(kept, name.replace(vouched[:16], digest(encode(other))[:16]), encode(other))
    with pytest.raises(CorruptStateError, match=r"holds the manifest of Pay/ments@4"):
        asked(kept, MANIFEST, digest(encode(other)))


def test_a_missing_manifest_is_refused(kept: ShelfRepository) -> None:
    """A manifest that the logs know and the repository does not is a loss, and said so."""
    with pytest.raises(CorruptStateError, match="is missing, although its digest is known"):
        asked(kept, MANIFEST, "ab" * 32)


def test_a_huge_manifest_is_not_read_to_its_end(
    kept: ShelfRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading ends at the bound, whatever lies there."""
    vouched = kept.add_manifest(MANIFEST)
    monkeypatch.setattr(manifests, "MANIFEST_BYTES_MAX", 100)
    with pytest.raises(CorruptStateError, match="more than 100 bytes"):
        asked(kept, MANIFEST, vouched)


def test_a_directory_that_exists_is_left_alone(
    kept: ShelfRepository, checkpoint: list[Path], tmp_path: Path
) -> None:
    """Files are never restored into, or over, a directory that is there."""
    manifest = made(kept, checkpoint)
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(StateError, match="it exists"):
        kept.fetch(manifest.files, place)
    assert list(place.iterdir()) == []


def test_a_file_that_changes_while_it_is_added_is_not_kept(
    kept: ShelfRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is what was hashed, or nothing is kept."""
    path = tmp_path / "000012.sst"
    path.write_bytes(b"before")
    refresh = kept._shelf.refresh

    def and_change(name: str, size: int) -> bool:
        path.write_bytes(b"behind")
        return refresh(name, size)

    monkeypatch.setattr(kept._shelf, "refresh", and_change)
    with pytest.raises(CorruptStateError, match="changed while it was read"):
        kept.add_file(path)
    assert blobs(kept) == set()


# -- many at once ------------------------------------------------------------------------------


def test_many_threads_add_the_same_files(
    kept: ShelfRepository, checkpoint: list[Path], tmp_path: Path
) -> None:
    """All get the same entries and digest, and every file is there once and whole."""
    barrier = Barrier(8)

    def work(_: int) -> tuple[Manifest, str]:
        barrier.wait()
        manifest = made(kept, checkpoint)
        return manifest, kept.add_manifest(manifest)

    with ThreadPoolExecutor(8) as pool:
        results = set(pool.map(work, range(8)))
    ((manifest, vouched),) = results
    assert asked(kept, manifest, vouched) == manifest
    kept.fetch(manifest.files, tmp_path / "restored")
    assert len(blobs(kept)) == 3
    assert list(kept._shelf.list("drafts")) == []


def test_many_manifests_of_one_shard_do_not_meet(kept: ShelfRepository) -> None:
    """Different manifests for one shard that are added at once are all kept, each as it is."""
    barrier = Barrier(8)

    def work(number: int) -> str:
        mine = msgspec.structs.replace(MANIFEST, next_offset=number)
        barrier.wait()
        return kept.add_manifest(mine)

    with ThreadPoolExecutor(8) as pool:
        sums = list(pool.map(work, range(8)))
    assert [asked(kept, MANIFEST, vouched).next_offset for vouched in sums] == list(range(8))


def test_adding_while_others_remove_and_collect(
    kept: ShelfRepository, checkpoint: list[Path], tmp_path: Path
) -> None:
    """Directories that come and go under an upload, and files on their way out, do not fail it."""

    def collects(number: int) -> None:
        kept.remove(f"s-{number}", [sum_in(each.name) for each in kept._shelf.list("manifests")])
        kept.collect(set(), 0)

    def adds(number: int) -> None:
        kept.add_manifest(made(kept, checkpoint, f"s-{number}"))

    with ThreadPoolExecutor(4) as pool:
        adding = [pool.submit(adds, number) for number in range(20)]
        for number in range(20):
            collects(number)
        for done in adding:
            done.result()
    manifest = made(kept, checkpoint)
    kept.fetch(manifest.files, tmp_path / "restored")
    assert len(blobs(kept)) == 3


def test_a_repository_is_one_apps(kept: ShelfRepository) -> None:
    """The first who claims it has it, as often as it likes; another app, or the same one of another
    cluster, is told whose it is.
    """
    mine = Owner(app="shop", cluster_id="one")
    kept.claim(mine)
    kept.claim(mine)
    for other in (Owner(app="bank", cluster_id="one"), Owner(app="shop", cluster_id="two")):
        with pytest.raises(ForeignStateError, match="app 'shop' in cluster one"):
            kept.claim(other)
    replaced(kept, "owner.json", b"{}")
    with pytest.raises(ForeignStateError, match="somebody else's"):
        kept.claim(mine)
