"""The kinds of repository, by where their objects lie, and how each is opened by its URL."""

from __future__ import annotations

from pathlib import Path

from headrace.clock import Clock
from headrace.errors import StateError
from headrace.extras import install
from headrace.state.localshelf import LocalShelf
from headrace.state.repository import Repository, ShelfRepository
from headrace.state.soundness import Soundness


def open_repository(url: str) -> Repository:
    """The repository at `url`: file://DIR, s3://BUCKET/PREFIX, or memory:// (a new one, for tests).

    Nothing is read or written yet. Credentials do not belong into a URL: object stores take them
    from the environment. Raises StateError for another URL, without showing it.

    >>> open_repository("ftp://ada:secret@example.org")
    Traceback (most recent call last):
    headrace.errors.StateError: no snapshots can be kept at a ftp: URL: name file://DIR or \
s3://BUCKET/PREFIX
    """
    scheme, _, rest = url.partition("://")
    if scheme == "file" and rest:
        return LocalRepository(Path(rest))
    if url == "memory://":
        return ObjectRepository(url)
    bucket = rest.partition("/")[0]
    if scheme == "s3" and bucket and not set("@:?#") & set(rest):
        return ObjectRepository(url)
    kind = f"a {scheme}: URL" if scheme != url and scheme.isalnum() else "such a place"
    raise StateError(f"no snapshots can be kept at {kind}: name file://DIR or s3://BUCKET/PREFIX")


class LocalRepository(ShelfRepository):
    """A repository in a local directory, made when something is added.

    >>> import tempfile
    >>> temporary = tempfile.TemporaryDirectory()
    >>> repository = LocalRepository(Path(temporary.name) / "snapshots")
    >>> file = Path(temporary.name) / "000012.sst"
    >>> file.write_bytes(b"weights")
    7
    >>> entry, new = repository.add_file(file)
    >>> entry.name, entry.size, entry.sha256[:8], new
    ('000012.sst', 7, '9a129038', True)
    >>> repository.fetch([entry], Path(temporary.name) / "restored")
    >>> (Path(temporary.name) / "restored" / "000012.sst").read_bytes()
    b'weights'
    >>> temporary.cleanup()
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        super().__init__(LocalShelf(path), Soundness(daily=True, clock=clock))


class ObjectRepository(ShelfRepository):
    """A repository in an object store, s3://BUCKET/PREFIX, or in memory, memory://, for tests.

    Raises StateError if obstore is not installed.

    >>> ObjectRepository("memory://").snapshots()
    []
    """

    def __init__(self, url: str) -> None:
        try:
            from headrace.state.objectshelf import ObjectShelf
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "obstore":
                raise
            raise StateError(
                "snapshots in an object store need the extra objectstore:"
                f" in a checkout, `{install('objectstore')}`"
            ) from None
        super().__init__(ObjectShelf(url))
