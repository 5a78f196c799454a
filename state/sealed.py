"""Small records on the disk that show when their bytes are not the ones that were written.

A file holds the SHA-256 of what follows, a line's end, and the record as JSON with sorted keys: so
equal records are equal bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar

import msgspec

from headrace.errors import CorruptStateError
from headrace.state.disk import write_durably

Record = TypeVar("Record", bound=msgspec.Struct)


def write_sealed(path: Path, record: msgspec.Struct) -> None:
    """Put `record` at `path`, durable when it returns; the old one or this is there after a crash.

    Raises OSError.
    """
    content = msgspec.json.encode(record, order="sorted")
    write_durably(path, hashlib.sha256(content).hexdigest().encode("ascii") + b"\n" + content)


def read_sealed(path: Path, decoder: msgspec.json.Decoder[Record]) -> Record:
    """The record at `path`. Raises CorruptStateError unless it is one of the decoder's, unaltered,
    and OSError.

    >>> import tempfile
    >>> from headrace.views import ScoredItem
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     write_sealed(Path(directory) / "best", ScoredItem("tea", 0.5))
    ...     content = (Path(directory) / "best").read_bytes()
    ...     read_sealed(Path(directory) / "best", msgspec.json.Decoder(ScoredItem))
    ScoredItem(item='tea', score=0.5)
    >>> content[65:]
    b'{"item":"tea","score":0.5}'
    """
    sealed, _, content = path.read_bytes().partition(b"\n")
    if sealed != hashlib.sha256(content).hexdigest().encode("ascii"):
        raise CorruptStateError(f"{path}: its bytes do not match their digest")
    try:
        return decoder.decode(content)
    except msgspec.MsgspecError as error:
        raise CorruptStateError(f"{path} cannot be read ({error})") from None
