"""Restoring: from this disk or from afar, and nothing that is not vouched for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from headrace.errors import CorruptStateError, DiskFullError, OtherBuildError, StateError
from headrace.state.checkpoints import Checkpoints
from headrace.state.directory import Identity, StateDirectory
from headrace.state.manifest import FileEntry, Manifest, ShardRef, encode
from headrace.state.publishing import publish
from headrace.state.repositories import LocalRepository
from headrace.state.repository import ShelfRepository
from headrace.state.restoring import Sources, restore
from headrace.state.store import ShardStore
from headrace.state.sums import Sums
from tests.small_disk import SmallDisk
from tests.state.cuts import META, MINE, ROWS, contents, cut, rows, stored
from tests.state.snapshot import blob, replaced


class Away(LocalRepository):
    """A repository that cannot be reached."""

    def manifest(self, snapshot_id: str, topic: str, partition: int, digest: str) -> Manifest:
        raise StateError("the network is away")

    def fetch(self, entries: Sequence[FileEntry], directory: Path) -> None:
        raise StateError("the network is away")


class World:
    """A worker's checkpoints with one snapshot in them, and the repository where it is published;
    or another worker's, which has no checkpoint (`here=False`).
    """

    def __init__(self, root: Path, kept: ShelfRepository) -> None:
        store = stored(root / "shard")
        self.root = root
        self.kept = kept
        self.checkpoints = Checkpoints(root / "checkpoints")
        self.checkpoint = self.checkpoints.take(store, cut())
        store.close()
        self.done = publish(cut(), self.checkpoint, kept, Sums())
        self.checkpoints.published(cut(), self.done.digest, self.done.files)
        self.ref = self.done.vouched(cut()).ref
        self.draft = root / "drafts" / "draft"

    def restored(self, *, from_: Sources | None = None, ref: ShardRef | None = None) -> str:
        """Restore to `draft`; from where it came."""
        sources = from_ or Sources(self.checkpoints, self.kept)
        done = restore(ref or self.ref, sources, self.draft, MINE)
        assert done.manifest == cut().manifest(self.done.files)
        return done.source

    def elsewhere(self) -> Sources:
        """The sources of a worker that has no checkpoint."""
        return Sources(Checkpoints(self.root / "other"), self.kept)

    def restarted(self) -> Sources:
        """The sources after a restart."""
        return Sources(Checkpoints(self.root / "checkpoints"), self.kept)

    def file(self, ending: str) -> FileEntry:
        return next(file for file in self.done.files if file.name.endswith(ending))


@pytest.fixture
def world(tmp_path: Path, kept: ShelfRepository) -> World:
    """On each kind of repository."""
    return World(tmp_path, kept)


@pytest.fixture
def local(tmp_path: Path) -> World:
    """On a disk, where the kind of repository is of no account."""
    return World(tmp_path, LocalRepository(tmp_path / "kept"))


def flipped(path: Path) -> None:
    """Other bytes of the same size."""
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


# -- where it comes from -----------------------------------------------------------------------


def test_a_worker_without_a_checkpoint_fetches(world: World) -> None:
    """The store is what it was, wherever it is restored."""
    assert world.restored(from_=world.elsewhere()) == "repository"
    assert rows(world.draft) == ROWS


@pytest.mark.parametrize("restarted", [False, True])
def test_a_checkpoint_here_is_linked_and_stays_as_it_is(local: World, restarted: bool) -> None:
    """Tables are links, also after a restart, when they are hashed; what is written into the
    restored store does not reach them.
    """
    before = contents(local.checkpoint)
    assert local.restored(from_=local.restarted() if restarted else None) == "checkpoint"
    table = local.file(".sst").name
    assert (local.draft / table).samefile(local.checkpoint / table)
    store = ShardStore.open(local.draft, create=False)
    store.write([(name, b"other") for name in ROWS], META)
    store.close()
    assert contents(local.checkpoint) == before


def test_the_repository_may_be_away_if_a_checkpoint_is_here(local: World) -> None:
    """Manifest and files are here, and the digest of the logs vouches for them; without a
    checkpoint it is said.
    """
    away = Away(local.root / "kept")
    assert local.restored(from_=Sources(local.restarted().checkpoints, away)) == "checkpoint"
    assert rows(local.draft) == ROWS
    with pytest.raises(StateError, match="the network is away"):
        restore(local.ref, Sources(local.elsewhere().checkpoints, away), local.root / "d", MINE)


def test_a_cut_that_is_not_published_here_is_hashed_by_its_manifest(local: World) -> None:
    """A crash between the manifest and the note of it: the checkpoint is still of use."""
    (local.checkpoint / ".published.json").unlink()
    assert local.restored(from_=local.restarted()) == "checkpoint"
    assert rows(local.draft) == ROWS


def test_another_cut_under_the_same_id_is_no_damage(
    local: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a name that was given anew elsewhere: what is vouched for is fetched, and nothing said."""
    local.checkpoints.drop(*local.checkpoints.of(local.ref.snapshot_id))
    store = stored(local.root / "anew")
    local.checkpoints.take(store, cut(created_ms=cut().created_ms + 1))
    store.close()
    assert local.restored() == "repository"
    assert caplog.records == []


def test_tables_are_hashed_by_those_who_have_not_hashed_them(local: World) -> None:
    """This process takes its own tables for what they were; the next one looks."""
    flipped(local.checkpoint / local.file(".sst").name)
    assert local.restored() == "checkpoint"
    local.draft.rename(local.root / "away")
    assert local.restored(from_=local.restarted()) == "repository"
    assert rows(local.draft) == ROWS


Damage = Callable[[Path, World], object]
_DAMAGES: dict[str, Damage] = {
    "table cut short": lambda path, world: os.truncate(path / world.file(".sst").name, 100),
    "table missing": lambda path, world: (path / world.file(".sst").name).unlink(),
    "CURRENT altered": lambda path, world: flipped(path / "CURRENT"),
    "CURRENT missing": lambda path, world: (path / "CURRENT").unlink(),
    "manifest of RocksDB altered": lambda path, world: flipped(
        next(path.glob("MANIFEST-*")),
    ),
    "a log too many": lambda path, world: (path / "000099.log").write_bytes(b"writes"),
    "a table too many": lambda path, world: (path / "000099.sst").write_bytes(b"rows"),
}


@pytest.mark.parametrize("damage", _DAMAGES)
@pytest.mark.parametrize("restarted", [False, True])
def test_a_damaged_checkpoint_is_said_and_the_repository_asked(
    local: World, caplog: pytest.LogCaptureFixture, damage: str, restarted: bool
) -> None:
    """Nothing of it stays in the draft, there is a log line, and the store is what it was."""
    _DAMAGES[damage](local.checkpoint, local)
    assert local.restored(from_=local.restarted() if restarted else None) == "repository"
    assert [record.getMessage() for record in caplog.records] == ["checkpoint.damaged"]
    assert rows(local.draft) == ROWS


# -- what is refused ---------------------------------------------------------------------------


def test_what_is_damaged_here_and_afar_is_refused(world: World) -> None:
    """No draft is left to be opened."""
    table = world.file(".sst")
    flipped(world.checkpoint / table.name)
    world.kept._shelf.delete(blob(table))
    with pytest.raises(CorruptStateError, match="is missing in the repository"):
        world.restored(from_=world.restarted())
    assert not world.draft.exists()
    replaced(world.kept, blob(table), bytes(table.size))
    with pytest.raises(CorruptStateError, match="do not match its SHA-256"):
        world.restored(from_=world.restarted())
    assert not world.draft.exists()


def test_a_manifest_that_is_not_vouched_for_is_refused(world: World) -> None:
    """Whatever is here or afar under that id: its digest must be the one in the logs."""
    another = msgspec.structs.replace(cut("card-fraud.s2"), next_offset=7)
    (name,) = (object_.name for object_ in world.kept._shelf.list("manifests"))
    replaced(world.kept, name, encode(another.manifest(world.done.files)))
    with pytest.raises(CorruptStateError, match="was vouched for"):
        world.restored(from_=world.elsewhere())
    with pytest.raises(CorruptStateError, match="is missing, although"):
        world.restored(ref=world.ref._replace(digest="ab" * 32))
    with pytest.raises(CorruptStateError, match="is missing, although"):
        world.restored(ref=world.ref._replace(snapshot_id="card-fraud.s2"))
    assert not world.draft.exists()


@pytest.mark.parametrize("field", ["headrace", "river", "numpy", "codec", "python"])
def test_another_build_is_refused_with_what_differs(local: World, field: str) -> None:
    """Before any file is put anywhere."""
    other = msgspec.structs.replace(MINE, **{field: "0.0.9"})
    for sources in (Sources(local.checkpoints, local.kept), local.elsewhere()):
        with pytest.raises(OtherBuildError) as refused:
            restore(local.ref, sources, local.draft, other)
        assert f"{field} {getattr(MINE, field)} (this is 0.0.9)" in str(refused.value)
    assert not local.draft.exists()


# -- another build whose probes reproduce ------------------------------------------------------

OTHER = msgspec.structs.replace(MINE, river="0.0.9")


class Probing:
    """Answers with the differences it was made with, and remembers what it was asked."""

    def __init__(self, *differences: str) -> None:
        self.differences = list(differences)
        self.asked: list[tuple[bytes, dict[bytes, bytes]]] = []

    def __call__(self, manifest: Manifest, draft: Path) -> list[str]:
        self.asked.append((manifest.probes, rows(draft)))
        return self.differences


def with_probes(local: World, probes: bytes = b"probes") -> ShardRef:
    """The same files in a snapshot of their own, with probes."""
    probed = cut("card-fraud.s2", probes=probes)
    return publish(probed, local.checkpoint, local.kept, Sums()).vouched(probed).ref


def test_a_cut_carries_its_probes_into_the_manifest(local: World) -> None:
    """What was handed in when it was taken is what a restore finds."""
    found = local.kept.manifest(*with_probes(local, b"asked and answered"))
    assert found.probes == b"asked and answered"


def test_another_build_takes_what_reproduces(local: World) -> None:
    """It is asked once, with the probes and a store that is there as a whole."""
    accepts = Probing()
    restore(with_probes(local), local.elsewhere(), local.draft, OTHER, accepts)
    assert accepts.asked == [(b"probes", ROWS)]
    assert rows(local.draft) == ROWS


def test_another_build_refuses_what_does_not_reproduce(local: World) -> None:
    """Three differences and their number are named, and what to do; no draft is left."""
    accepts = Probing("ada: 0.5, not 0.4", "bob", "eve", "joe")
    with pytest.raises(OtherBuildError) as refused:
        restore(with_probes(local), local.elsewhere(), local.draft, OTHER, accepts)
    assert "(ada: 0.5, not 0.4; bob; eve; and 1 more)" in str(refused.value)
    assert "river 0.26.1 (this is 0.0.9)" in str(refused.value)
    assert "headrace deploy SPEC --migration refold" in str(refused.value)
    assert len(refused.value.differences) == 4
    assert not local.draft.exists()


def test_without_probes_another_build_takes_nothing(local: World) -> None:
    """Where nothing could differ, nothing is shown to be the same: nobody is asked."""
    accepts = Probing()
    with pytest.raises(OtherBuildError, match=r"river 0.26.1 \(this is 0.0.9\)"):
        restore(local.ref, local.elsewhere(), local.draft, OTHER, accepts)
    assert accepts.asked == []
    assert not local.draft.exists()


def test_damaged_files_are_refused_before_their_probes_are_tried(local: World) -> None:
    """Nobody opens a store of another build whose bytes were not compared."""
    ref, accepts, table = with_probes(local), Probing(), local.file(".sst")
    replaced(local.kept, blob(table), bytes(table.size))
    with pytest.raises(CorruptStateError, match="do not match its SHA-256"):
        restore(ref, local.elsewhere(), local.draft, OTHER, accepts)
    assert accepts.asked == []


def test_this_build_is_not_asked_to_reproduce(local: World) -> None:
    """Its own state it takes by the digest alone."""
    accepts = Probing("whatever")
    restore(with_probes(local), local.elsewhere(), local.draft, MINE, accepts)
    assert accepts.asked == []


def test_no_draft_is_left_if_the_probing_fails(local: World) -> None:
    """What it raises is what the caller gets."""

    def fails(manifest: Manifest, draft: Path) -> list[str]:
        raise CorruptStateError("no row can be read")

    with pytest.raises(CorruptStateError, match="no row can be read"):
        restore(with_probes(local), local.elsewhere(), local.draft, OTHER, fails)
    assert not local.draft.exists()


# -- what is left alone ------------------------------------------------------------------------


def test_what_is_there_is_not_written_over(local: World) -> None:
    """A draft that exists is refused and left as it is, whatever the source."""
    local.draft.mkdir(parents=True)
    (local.draft / "file").write_bytes(b"kept")
    for sources in (Sources(local.checkpoints, local.kept), local.elsewhere()):
        with pytest.raises(StateError, match="it exists"):
            local.restored(from_=sources)
    assert contents(local.draft) == {"file": b"kept"}


@pytest.mark.parametrize("here", [True, False])
def test_without_room_nothing_is_restored_by_halves(
    local: World, disk: SmallDisk, caplog: pytest.LogCaptureFixture, here: bool
) -> None:
    """It is said, as nothing else is, nothing stays, and with room the same call succeeds."""
    sources = Sources(local.checkpoints, local.kept) if here else local.elsewhere()
    local.draft = disk.path / "draft"
    disk.fill()
    with pytest.raises(DiskFullError, match="Make room on that disk"):
        local.restored(from_=sources)
    assert [path.name for path in disk.path.iterdir()] == ["filler"]
    assert caplog.records == []
    disk.empty()
    assert local.restored(from_=sources) == ("checkpoint" if here else "repository")
    assert rows(local.draft) == ROWS


# -- all the way -------------------------------------------------------------------------------


def test_a_snapshot_becomes_the_shard_of_a_new_epoch(world: World) -> None:
    """Restored at a draft, written to there, adopted: the new epoch has it, and a kill before the
    adoption would have left nothing.
    """
    mine = Identity.of_this_build(app="app", cluster_id="c", codec="1", hash_seed="0")
    with StateDirectory.open(world.root / "state", mine) as directory:
        world.draft = directory.draft()
        world.restored(from_=world.elsewhere())
        store = ShardStore.open(world.draft, create=False)
        assert store.meta == META
        store.write([(b"k/0", None)], msgspec.structs.replace(META, epoch=4))
        store.close()
        assert directory.epochs("card-fraud", "Pay/ments", 3) == []
        path = directory.shard_path("card-fraud", 4, "Pay/ments", 3)
        directory.adopt(world.draft, path)
        assert directory.epochs("card-fraud", "Pay/ments", 3) == [4]
    assert rows(path) == {name: payload for name, payload in ROWS.items() if name != b"k/0"}


def test_a_fetch_that_a_crash_broke_off_goes_at_the_next_start(local: World) -> None:
    """Its draft lies among the drafts, so nothing is left over."""
    mine = Identity.of_this_build(app="app", cluster_id="c", codec="1", hash_seed="0")
    with StateDirectory.open(local.root / "state", mine) as directory:
        (directory.draft().parent / ".fetching-1").mkdir()
    with StateDirectory.open(local.root / "state", mine) as directory:
        assert list(directory.draft().parent.iterdir()) == []


def test_an_identity_names_its_build_as_manifests_do() -> None:
    """What a start compares and what a restore compares are the same."""
    mine = Identity.of_this_build(app="app", cluster_id="c", codec="7", hash_seed="0")
    assert mine.versions.codec == "7"
    assert mine.versions.river == mine.river
