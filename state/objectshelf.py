"""Objects in an object store through obstore: S3 and what speaks like it, or memory for tests.

The only module that names obstore; it is imported when such a repository is opened, because
obstore is the extra `objectstore`. Credentials, region and endpoint are obstore's business, which
reads them from the environment (AWS_…); nothing of that is kept, shown or logged here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url

from headrace.clock import Clock, SystemClock
from headrace.errors import AwayStateError
from headrace.state.shelf import Kept

if TYPE_CHECKING:
    from obstore import ObjectMeta

AT_ONCE_BYTES = 16 << 20
"""What is larger goes up in parts; it is never in memory as a whole."""
REFRESH_MS = 24 * 3_600_000
"""An object that lay there for a day is put again: so its age starts anew (no store can be asked
for just that), and what rotted is mended. A shorter time would upload an idle shard again and
again."""
_PART_BYTES = 8 << 20
_PARTS_AT_A_TIME = 4
_RETRIES = 5
_RETRY_S = 60
_CLOCK = "clock"
_SHOWN = 300  # characters of what a store says
_CODE = re.compile(r"<Code>(\w{1,80})</Code>")


class ObjectShelf:
    """The objects below `url`, s3://BUCKET/PREFIX or memory://, which is a new store each time.

    >>> shelf = ObjectShelf("memory://")
    >>> shelf.put("a/1", [b"on", b"e"], size=3, create=True)
    True
    >>> shelf.put("a/1", [b"two"], size=3, create=True)
    False
    >>> b"".join(shelf.read("a/1")), [kept.name for kept in shelf.list("a")]
    (b'one', ['a/1'])
    """

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self._url = url
        self._clock = clock or SystemClock()
        with self._explained():
            if url.startswith("s3:"):
                retry = timedelta(seconds=_RETRY_S)
                self._store = from_url(
                    url, retry_config={"max_retries": _RETRIES, "retry_timeout": retry}
                )
            else:
                self._store = from_url(url)

    def read(self, name: str) -> Iterator[bytes]:
        with self._explained():
            for piece in self._store.get(name).stream(min_chunk_size=1 << 20):
                yield bytes(piece)

    def list(self, prefix: str) -> Iterator[Kept]:
        with self._explained():
            for some in self._store.list(prefix):
                for meta in some:
                    yield Kept(meta["path"], meta["size"], _modified_ms(meta))

    def now_ms(self) -> int:
        with self._explained():
            self._store.put(_CLOCK, b"")
            return _modified_ms(self._store.head(_CLOCK))

    def put(self, name: str, content: Iterable[bytes], *, size: int, create: bool) -> bool:
        """A store shows an object when all of its bytes are in and safe, never before."""
        with self._explained():
            if size > AT_ONCE_BYTES:
                assert not create, "parts cannot be put on condition that nothing is there"
                self._store.put(
                    name,
                    iter(content),
                    chunk_size=_PART_BYTES,
                    max_concurrency=_PARTS_AT_A_TIME,
                )
                return True
            whole = b"".join(content)
            assert len(whole) == size
            try:
                self._store.put(name, whole, mode="create" if create else "overwrite")
            except AlreadyExistsError:
                return False
        return True

    def refresh(self, name: str, size: int) -> bool:
        """It is left as it is until it is REFRESH_MS old, by this machine's clock; then: False."""
        with self._explained():
            try:
                meta = self._store.head(name)
            except FileNotFoundError as error:
                self._refuse_missing_bucket(error)
                return False
        age_ms = self._clock.time() * 1_000 - _modified_ms(meta)
        return meta["size"] == size and age_ms < REFRESH_MS

    def move(self, name: str, to: str) -> None:
        """Copy, then delete; so a reader finds it under one of the names at any moment."""
        with suppress(FileNotFoundError), self._explained():
            self._store.copy(name, to)
            self._store.delete(name)

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError), self._explained():
            self._store.delete(name)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what obstore raises into an AwayStateError that says what to do; a
        FileNotFoundError passes if it is of an object and not of the bucket.

        `from None`, because obstore's own texts hold whole answers of the server.
        """
        try:
            yield
        except FileNotFoundError as error:
            self._refuse_missing_bucket(error)
            raise
        except (BaseError, OSError) as error:
            raise self._refusal(error) from None

    def _refuse_missing_bucket(self, error: FileNotFoundError) -> None:
        if "NoSuchBucket" in str(error):
            raise self._refusal(error) from None

    def _refusal(self, error: Exception) -> AwayStateError:
        said = str(error)
        code = _CODE.search(said)
        # The answer's body starts with "<", obstore's own details with an empty line.
        short = said.partition("\n\n")[0].partition("<")[0].strip().rstrip(":")[:_SHOWN]
        return AwayStateError(
            f"snapshots in {self._url}: {short}{f' ({code[1]})' if code else ''}."
            f" Look at the bucket, the network and the AWS_ variables of this process"
        )


def _modified_ms(meta: ObjectMeta) -> int:
    return int(meta["last_modified"].timestamp() * 1_000)
