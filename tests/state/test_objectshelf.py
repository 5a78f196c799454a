"""URLs, and repositories in object stores: what can be wrong with a bucket, and who says so."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.clock import ManualClock
from headrace.errors import AwayStateError, StateError
from headrace.state import objectshelf
from headrace.state.manifest import FileEntry
from headrace.state.objectshelf import ObjectShelf
from headrace.state.repositories import ObjectRepository, open_repository
from tests.state.snapshot import MANIFEST, asked


@pytest.mark.parametrize(
    "url",
    [
        *("", "/var/snapshots", "file:", "file://", "s3://", "s3:///x", "s3:bucket", "memory://x"),
        *("gs://b/x", "http://example.org", "s3://ada:hush@bucket/x", "s3://bucket/x?a=hush"),
    ],
)
def test_another_url_is_refused_with_those_that_do(url: str) -> None:
    """What is no repository's URL is refused, named by its kind only: it may hold a secret."""
    with pytest.raises(StateError, match=r"name file://DIR or s3://BUCKET/PREFIX") as refused:
        open_repository(url)
    assert "hush" not in str(refused.value)


def test_without_obstore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain installation keeps snapshots on disks and says what buckets need."""
    for name in [name for name in sys.modules if name.split(".")[0] == "obstore"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "headrace.state.objectshelf")
    with pytest.raises(StateError, match=r"pip install '\.\[objectstore\]'"):
        ObjectRepository("s3://bucket/x")
    assert open_repository("file:///nowhere").snapshots() == []


def test_no_import_of_the_repository_loads_obstore() -> None:
    """Obstore is loaded when an object store is opened, not before."""
    program = "import sys, headrace.state.repository; sys.exit('obstore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_missing_bucket_is_not_taken_for_missing_files(bucket: str, tmp_path: Path) -> None:
    """Whoever mistyped a bucket is told so, in one line, and no snapshot is called corrupt."""
    kept = open_repository(bucket.replace("bucket", "basket"))
    (tmp_path / "file").write_bytes(b"x")
    entry = FileEntry(name="file", sha256=hashlib.sha256(b"x").hexdigest(), size=1)
    for call in (
        lambda: kept.add_manifest(MANIFEST),
        lambda: asked(kept, MANIFEST, "ab" * 32),
        lambda: kept.fetch([entry], tmp_path / "restored"),
        lambda: kept.collect(set(), 0),
        kept.snapshots,
    ):
        with pytest.raises(AwayStateError) as refused:
            call()
        text = str(refused.value)
        assert "s3://basket" in text
        assert "NoSuchBucket" in text
        assert "Look at the bucket" in text
        assert "\n" not in text
        assert "hush" not in text


def test_a_server_that_is_away_is_said_so(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server, tries end and the text names the place, not the secret."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(objectshelf, "_RETRIES", 1)
    with pytest.raises(
        AwayStateError, match=r"snapshots in s3://bucket/.*AWS_ variables"
    ) as refused:
        open_repository(bucket).snapshots()
    assert "hush" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_adding_an_object_again_after_a_day_makes_it_young() -> None:
    """In an object store: a young one is left as it is, one that lay for a day is put again."""
    clock = ManualClock()
    shelf = ObjectShelf("memory://", clock)
    shelf.put("a", [b"x"], size=1, create=True)
    (before,) = shelf.list("")
    clock.now = before.modified_ms / 1_000 + objectshelf.REFRESH_MS / 1_000 - 1
    assert shelf.refresh("a", 1)
    clock.advance(2)
    assert not shelf.refresh("a", 1)
    assert not shelf.refresh("never", 1)
