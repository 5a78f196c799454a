"""Archives: a snapshot carried from one repository to another, or refused."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.clock import new_id
from headrace.errors import CorruptStateError, ForeignStateError, StateError
from headrace.state import archive
from headrace.state import manifest as manifests
from headrace.state.archive import Import, Imported, Index, digest_of, export
from headrace.state.manifest import ShardRef, digest
from headrace.state.repositories import LocalRepository
from headrace.state.repository import Repository, ShelfRepository
from headrace.state.tar import header
from tests.small_disk import SmallDisk
from tests.state.snapshot import CONTENT, MANIFEST, blob, blobs, replaced

SPEC = "agent: card-fraud\nsource: {topic: Pay/ments}\n"
SMALL = {"CURRENT": b"MANIFEST-000005\n", "000012.sst": b"weights" * 100, "empty": b""}


class World:
    """A repository with a snapshot of three partitions that have most files in common."""

    def __init__(self, root: Path, kept: ShelfRepository, content: dict[str, bytes]) -> None:
        self.root = root
        self.kept = kept
        self.refs = []
        for partition in range(3):
            place = root / f"checkpoint-{partition}"
            place.mkdir(parents=True)
            for name, bytes_ in {**content, "own": b"own %d" % partition}.items():
                (place / name).write_bytes(bytes_)
            files = tuple(kept.add_file(path).entry for path in sorted(place.iterdir()))
            manifest = msgspec.structs.replace(
                MANIFEST,
                snapshot_id="card-fraud.s-1",
                partition=partition,
                partitions=3,
                files=files,
                probes=b"probes",
            )
            vouched = kept.add_manifest(manifest)
            self.refs.append(ShardRef("card-fraud.s-1", "Pay/ments", partition, vouched))
        self.path = root / "s-1.tar"
        self.passing = root / "passing"

    def exported(self) -> str:
        out = export(self.refs, SPEC, self.kept, self.draft)
        content = b"".join(out.pieces)
        assert len(content) == out.size_bytes
        self.path.write_bytes(content)
        return out.digest

    def imported(self, expected: str, into: Repository | None = None) -> Imported:
        with self.path.open("rb") as file:
            coming = Import(file, self.path.name, expected, self.draft)
            coming.index()
            return coming.files(into or self.other())

    def draft(self) -> Path:
        return self.passing / new_id()

    def other(self, name: str = "other") -> LocalRepository:
        return LocalRepository(self.root / name)


@pytest.fixture
def world(tmp_path: Path, kept: ShelfRepository) -> World:
    """On each kind of repository."""
    return World(tmp_path, kept, CONTENT)


@pytest.fixture
def local(tmp_path: Path) -> World:
    """A small one on a disk, where the kind of repository is of no account."""
    return World(tmp_path, LocalRepository(tmp_path / "kept"), SMALL)


# -- there and back ----------------------------------------------------------------------------


def test_what_was_exported_comes_back(world: World) -> None:
    """Manifests, files and spec are in the other repository as they were in this one."""
    vouched = world.exported()
    index = world.imported(vouched).index
    assert (index.snapshot_id, index.agent, index.spec) == ("card-fraud.s-1", "card-fraud", SPEC)
    assert list(index.refs) == world.refs
    for ref in world.refs:
        manifest = world.other().manifest(*ref)
        assert manifest == world.kept.manifest(*ref)
        place = world.root / f"back-{ref.partition}"
        world.other().fetch(manifest.files, place)
        found = {path.name: path.read_bytes() for path in place.iterdir()}
        assert found == {**CONTENT, "own": b"own %d" % ref.partition}


def test_it_comes_back_into_each_kind_of_repository(tmp_path: Path, kept: ShelfRepository) -> None:
    """An archive knows nothing of where its snapshot lay."""
    local = World(tmp_path / "here", LocalRepository(tmp_path / "here" / "kept"), SMALL)
    index = local.imported(local.exported(), kept).index
    assert [kept.manifest(*ref).partition for ref in index.refs] == [0, 1, 2]
    assert blobs(kept) == blobs(local.kept)


def test_the_same_snapshot_is_the_same_archive_everywhere(local: World) -> None:
    """Exported again, also from where it was imported, in whatever order its shards are named."""
    vouched = local.exported()
    content = local.path.read_bytes()
    local.imported(vouched)
    local.refs.reverse()
    again = export(local.refs, SPEC, local.other(), local.draft)
    assert again.digest == vouched
    assert b"".join(again.pieces) == content


def test_an_import_can_be_called_again(local: World) -> None:
    """The second time nothing is new, and all else is the same."""
    vouched = local.exported()
    first, again = local.imported(vouched), local.imported(vouched)
    assert (again.index, again.manifests) == (first.index, first.manifests)
    assert again.new_bytes == (0, 0, 0)


def test_each_new_file_is_counted_once(local: World) -> None:
    """With the first partition whose manifest names it."""
    found = local.imported(local.exported())
    common = sum(map(len, SMALL.values()))
    assert found.new_bytes == (common + len(b"own 0"), len(b"own 1"), len(b"own 2"))


def test_files_are_in_it_once_and_any_tar_reads_it(local: World) -> None:
    """Regular files with closed names, the index first, manifests, then blobs."""
    vouched = local.exported()
    with tarfile.open(local.path) as tar:
        members = tar.getmembers()
        (index,) = (tar.extractfile(each) for each in members[:1])
        assert index is not None
        assert digest(index.read()) == vouched
    assert all(each.isreg() for each in members)
    kinds = [each.name.partition("/")[0] for each in members]
    assert kinds == ["index.json"] + ["manifests"] * 3 + ["blobs"] * (len(SMALL) + 3)
    if shutil.which("tar"):
        listed = subprocess.run(["tar", "tf", local.path], check=True, capture_output=True)
        assert listed.stdout.decode().split() == [each.name for each in members]


# -- what is not exported ----------------------------------------------------------------------


def test_an_incomplete_snapshot_is_not_exported(local: World) -> None:
    """A missing partition, one twice, none at all: nothing is written."""
    for refs in (local.refs[:2], local.refs[1:], [*local.refs, local.refs[0]], []):
        with pytest.raises(StateError, match=r"one complete snapshot|without shards"):
            export(refs, SPEC, local.kept, local.draft)


@pytest.mark.parametrize(
    "fields", [{"epoch": 4}, {"spec_digest": "aa"}, {"snapshot_id": "card-fraud.s-2"}]
)
def test_shards_of_two_cuts_are_not_exported(local: World, fields: dict[str, object]) -> None:
    """What was not taken together is no snapshot."""
    manifest = msgspec.structs.replace(local.kept.manifest(*local.refs[2]), **fields)
    vouched = local.kept.add_manifest(manifest)
    local.refs[2] = ShardRef(manifest.snapshot_id, "Pay/ments", 2, vouched)
    with pytest.raises(StateError, match="one complete snapshot"):
        local.exported()


def test_a_damaged_snapshot_is_not_exported_and_nothing_is_left(local: World) -> None:
    """Each byte is compared on its way out."""
    entry = local.kept.manifest(*local.refs[2]).files[-1]
    replaced(local.kept, blob(entry), bytes(entry.size))
    with pytest.raises(CorruptStateError, match="do not match its SHA-256"):
        local.exported()
    assert list(local.passing.iterdir()) == []


def test_one_file_at_a_time_lies_on_the_disk(local: World) -> None:
    """However many there are, and none when it is over or was given up."""
    pieces = export(local.refs, SPEC, local.kept, local.draft).pieces
    most = 0
    for _ in pieces:
        there = list(local.passing.iterdir()) if local.passing.exists() else []
        most = max(most, len(there))
    assert most == 1
    assert list(local.passing.iterdir()) == []
    given_up = export(local.refs, SPEC, local.kept, local.draft).pieces
    while not list(local.passing.iterdir()):
        next(given_up)
    given_up.close()  # type: ignore[attr-defined]
    assert list(local.passing.iterdir()) == []


def test_without_room_nothing_is_left(local: World, disk: SmallDisk) -> None:
    """On either way it is said, and with room the same call succeeds."""
    vouched = local.exported()
    local.passing = disk.path
    disk.fill()
    with pytest.raises(StateError, match="Make room on that disk"):
        local.exported()
    with pytest.raises(StateError, match="Make room on that disk"):
        local.imported(vouched)
    assert [path.name for path in disk.path.iterdir()] == ["filler"]
    assert local.other().snapshots() == []
    disk.empty()
    assert local.exported() == vouched
    assert local.imported(vouched).index.agent == "card-fraud"


@pytest.mark.parametrize("name", ["INDEX_BYTES_MAX", "MANIFESTS_BYTES_MAX", "FILE_BYTES_MAX"])
def test_what_is_too_large_is_neither_exported_nor_imported(
    local: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each bound is looked at on both ways."""
    vouched = local.exported()
    monkeypatch.setattr(archive, name, 100)
    with pytest.raises(StateError):
        local.imported(vouched)
    with pytest.raises(StateError, match=r"too large for an archive|may have 100 bytes"):
        local.exported()
    assert local.other().snapshots() == []


def test_too_many_files_are_neither_exported_nor_imported(
    local: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All manifests of an archive are in memory, so their files are counted together."""
    vouched = local.exported()
    most = max(len(local.kept.manifest(*ref).files) for ref in local.refs)
    monkeypatch.setattr(manifests, "FILES_MAX", most)
    with pytest.raises(CorruptStateError, match=f"have more than {most} files"):
        local.imported(vouched)
    with pytest.raises(StateError, match="too large for an archive"):
        local.exported()
    assert local.other().snapshots() == []


# -- what is refused ---------------------------------------------------------------------------


def check_refused(local: World, content: bytes, vouched: str) -> None:
    """The archive is refused, and no manifest is there."""
    local.path.write_bytes(content)
    with pytest.raises(CorruptStateError):
        local.imported(vouched)
    assert local.other().snapshots() == []


def test_another_archive_is_refused_before_it_is_decoded(
    local: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest that was expected is not its own: nothing of it is read on."""
    local.exported()
    for name in ("_decoded", "_manifests"):
        monkeypatch.delattr(archive, name)
    with pytest.raises(CorruptStateError, match="it is another archive, or it was altered"):
        local.imported("ab" * 32)
    assert not (local.root / "other").exists()


@given(st.data())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_flipped_bit_anywhere_is_refused(local: World, data: st.DataObject) -> None:
    """In a header, in what is read, in what fills up: there is one right archive."""
    vouched = local.exported()
    content = bytearray(local.path.read_bytes())
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    check_refused(local, bytes(content), vouched)


@given(st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_is_cut_short_anywhere_is_refused(local: World, data: st.DataObject) -> None:
    """Also within the zeros at its end."""
    vouched = local.exported()
    content = local.path.read_bytes()
    check_refused(local, content[: data.draw(st.integers(0, len(content) - 1))], vouched)


def test_something_behind_the_end_is_refused(local: World) -> None:
    """A byte, a block, a record, another archive."""
    vouched = local.exported()
    content = local.path.read_bytes()
    for more in (b"\0", bytes(512), bytes(10_240), content):
        check_refused(local, content + more, vouched)


def test_members_that_changed_places_are_refused(local: World) -> None:
    """Whichever two files are swapped, with their headers or without."""
    vouched = local.exported()
    with tarfile.open(local.path) as tar:
        members = [(each, tar.extractfile(each).read()) for each in tar]  # type: ignore[union-attr]
    for one in range(len(members)):
        for other in range(one):
            swapped = list(members)
            swapped[one], swapped[other] = members[other], members[one]
            check_refused(local, _tar(swapped), vouched)
            if members[one][0].size == members[other][0].size:
                swapped[one] = (members[one][0], members[other][1])
                swapped[other] = (members[other][0], members[one][1])
                check_refused(local, _tar(swapped), vouched)


def _link(info: tarfile.TarInfo) -> None:
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"


@pytest.mark.parametrize(
    "change",
    [
        _link,
        lambda info: setattr(info, "name", "/" + info.name),
        lambda info: setattr(info, "name", "../" + info.name),
        lambda info: setattr(info, "name", "x" * 300),
        lambda info: setattr(info, "mode", 0o4755),
        lambda info: setattr(info, "type", tarfile.CHRTYPE),
        lambda info: setattr(info, "type", tarfile.CONTTYPE),
        lambda info: setattr(info, "mtime", 1),
        lambda info: setattr(info, "uname", "root"),
        lambda info: setattr(info, "pax_headers", {"comment": "x"}),
    ],
)
@pytest.mark.parametrize("which", [0, 1, -1])
def test_what_a_tar_can_do_besides_is_refused(local: World, change: object, which: int) -> None:
    """Links, devices, paths, long names, owners, extensions: no header but ours."""
    vouched = local.exported()
    with tarfile.open(local.path) as tar:
        members = [(each, tar.extractfile(each).read()) for each in tar]  # type: ignore[union-attr]
    assert callable(change)
    change(members[which][0])
    check_refused(local, _tar(members, tarfile.PAX_FORMAT), vouched)


def _tar(members: list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


def test_an_index_of_another_headrace_is_foreign(local: World) -> None:
    """Its digest is right, and it is not ours to read."""
    local.exported()
    content = b'{"schema":2}'
    local.path.write_bytes(_tar([(header("index.json", len(content)), content)]))
    with pytest.raises(ForeignStateError, match="use the Headrace that wrote it"):
        local.imported(digest(content))


@pytest.mark.parametrize("swap", [(0, 1), (1, 2)])
def test_an_index_that_mixes_up_its_manifests_is_refused(
    local: World, swap: tuple[int, int]
) -> None:
    """Even with its own digest: each manifest says of which partition it is."""
    sums = [ref.digest for ref in local.refs]
    one, other = swap
    sums[one], sums[other] = sums[other], sums[one]
    index = Index(
        snapshot_id="card-fraud.s-1",
        agent="card-fraud",
        topic="Pay/ments",
        manifests=tuple(sums),
        spec="",
    )
    local.exported()
    with tarfile.open(local.path) as tar:
        members = [(each, tar.extractfile(each).read()) for each in tar]  # type: ignore[union-attr]
    content = archive._encoded(index)
    members[0] = (header("index.json", len(content)), content)
    members[1 + one], members[1 + other] = members[1 + other], members[1 + one]
    local.path.write_bytes(_tar(members))
    with pytest.raises(StateError, match="not those of one complete snapshot"):
        local.imported(digest_of(index))
