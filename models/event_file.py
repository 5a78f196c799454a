"""Files of events as records of a log: .csv, .jsonl and .jsonl.gz, and plain dictionaries.

A record's time is the event's own where the spec reads one, else its row number in milliseconds;
so a file is the log that the service would have had if each event had come at its time.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path as File
from typing import IO, Any, NamedTuple, cast

import msgspec

from headrace.errors import EventError, RequestError
from headrace.models.paths import MISSING, Path, format_path, lookup
from headrace.models.spec import Spec
from headrace.models.wants import Want, milliseconds, wants_of

_KINDS = (".csv", ".jsonl", ".jsonl.gz")
_TRUTH = {"true": True, "false": False}


class Row(NamedTuple):
    """One event of a file as a record; see `headrace.ports.Record`."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class EventFile:
    """The events of a file, or of dictionaries, as the spec's agent would meet them.

    A CSV column belongs to the path of its name: `amount` to $.amount, `place.city` (or the path
    itself) to $.place.city. Its values are read as the spec declares them; an empty one is missing.
    A JSON line goes through as it is. What is open already is read as JSON lines.

    >>> from headrace.models.spec import load_spec
    >>> spec = load_spec('''
    ... {agent: a, source: {topic: t, key: $.id, time: $.at}, features: {x: {type: number}},
    ...  model: linear_model.LinearRegression, label: {field: $.y}}''')
    >>> list(EventFile(spec, [{"id": "ada", "at": 1700000000000, "x": 1.5}]))
    [Row(offset=0, timestamp=1700000000000, key=b'ada', \
value=b'{"id":"ada","at":1700000000000,"x":1.5}')]
    """

    def __init__(
        self, spec: Spec, source: str | File | IO[bytes] | Iterable[Mapping[str, Any]]
    ) -> None:
        self._wants = tuple(wants_of(spec).values())
        self._key = self._wants[0].path
        self._time = next((want for want in self._wants if want.kind == "time"), None)
        self._source: Any = File(source) if isinstance(source, str) else source
        if isinstance(self._source, File) and not self._source.name.endswith(_KINDS):
            reason = f"{self._source.name} is none of {', '.join(_KINDS)}"
            raise RequestError("invalid_request", reason)

    def expected(self) -> int | None:
        """How many rows the file has, by its line ends; None if that is not known beforehand."""
        if not isinstance(self._source, File) or self._source.suffix == ".gz":
            return None
        with _opened(self._source) as file:
            lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        return max(lines - (self._source.suffix == ".csv"), 0)

    def __iter__(self) -> Iterator[Row]:
        """The records in order. Raises RequestError for a file that cannot be read."""
        return (row for _, row in self.numbered())

    def numbered(self) -> Iterator[tuple[int, Row]]:
        """Each record with the line on which it begins, from 1. Raises RequestError."""
        last = line = 0
        try:
            for offset, (line, value, document) in enumerate(self._documents()):
                last = self._timestamp(document, offset, last)
                yield line, Row(offset, last, self._key_of(document), value)
        except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
            text = f"{self._name} cannot be read behind line {line:,}: {error}"
            raise RequestError("invalid_request", text) from error

    @property
    def _name(self) -> str:
        return str(self._source) if isinstance(self._source, File) else "standard input"

    def _documents(self) -> Iterator[tuple[int, bytes, Any]]:
        source = self._source
        if isinstance(source, io.IOBase):
            yield from _json_lines(cast("IO[bytes]", source))
        elif not isinstance(source, File):
            for line, row in enumerate(source, 1):
                yield line, msgspec.json.encode(row), row
        elif source.name.endswith(".csv"):
            with _opened(source) as file:
                text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
                for line, row in _csv_rows(text, self._wants):
                    yield line, msgspec.json.encode(row), row
        else:
            with _opened(source) as file:
                yield from _json_lines(file)

    def _key_of(self, document: Any) -> bytes | None:
        try:
            found = lookup(document, self._key)
        except TypeError:
            return None
        return None if found is MISSING else str(found).encode("utf-8", "surrogatepass")

    def _timestamp(self, document: Any, offset: int, last: int) -> int:
        if self._time is None:
            return offset
        try:
            return milliseconds(self._time, lookup(document, self._time.path))
        except (EventError, TypeError):
            return last  # the guard will say what is wrong with it


def _opened(file: File) -> IO[bytes]:
    try:
        return cast("IO[bytes]", gzip.open(file)) if file.suffix == ".gz" else file.open("rb")
    except OSError as error:
        raise RequestError("invalid_request", f"cannot read {file}: {error.strerror}") from error


def _json_lines(file: IO[bytes]) -> Iterator[tuple[int, bytes, Any]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield number, line.rstrip(b"\r\n"), _parsed(line)


def _parsed(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _csv_rows(
    text: io.TextIOWrapper, wants: tuple[Want, ...]
) -> Iterator[tuple[int, dict[str, Any]]]:
    names = {".".join(want.path): want for want in wants}
    names |= {format_path(want.path): want for want in wants}
    reader = csv.reader(text)
    columns = [(index, names[name]) for index, name in enumerate(next(reader, [])) if name in names]
    ended = reader.line_num  # a cell may have line ends in it
    for cells in reader:
        begun, ended = ended + 1, reader.line_num
        row: dict[str, Any] = {}
        for index, want in columns:
            if index < len(cells) and cells[index] != "":
                _put(row, want.path, _typed(want, cells[index]))
        if cells:  # else the line is empty
            yield begun, row


def _put(row: dict[str, Any], path: Path, value: Any) -> None:
    for name in path[:-1]:
        row = row.setdefault(name, {})
    row[path[-1]] = value


def _typed(want: Want, cell: str) -> Any:
    """The cell's value; what cannot be read stays text, so that the guard names it."""
    if want.kind in ("text", "key"):
        return cell
    if want.kind == "texts":
        return cell.split("|")
    if want.kind in ("boolean", "flag") and cell.lower() in _TRUTH:
        return _TRUTH[cell.lower()]
    try:
        number = float(cell)
    except ValueError:
        return cell
    if want.kind == "boolean" and number in (0.0, 1.0):
        return bool(number)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number
