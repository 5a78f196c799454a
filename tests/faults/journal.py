"""Logs that outlive a killed process, as a broker's do, and that no system call writes.

A journal is a file that is mapped into memory: what was appended is there after the process has
been killed, and appending is no call at which a sweep could kill. To each append belongs one call
that changes nothing, by which a trace tells what was in the logs at any moment (see `powercut`).
"""

from __future__ import annotations

import mmap
import os
from collections import defaultdict
from pathlib import Path

import msgspec

from headrace.state.repositories import open_repository
from headrace.views import Partition
from tests.fold.events import Row
from tests.simulation.broker import Log, SimBroker

SIZE = 4 << 20
MARK = "/journal/"
_HEAD = 8


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One record, and in which log it is."""

    where: Partition
    key: bytes | None
    value: bytes | None
    timestamp: int


class Journal:
    """The records of all logs, in the order in which they were appended."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(descriptor, SIZE)
        self._memory = mmap.mmap(descriptor, SIZE)
        os.close(descriptor)
        self.entries = self._read()

    def append(self, entry: Entry) -> None:
        """Add a record; it counts when all of it is there."""
        end = _HEAD + self._length()
        data = msgspec.msgpack.encode(entry)
        whole = len(data).to_bytes(4, "big") + data
        self._memory[end : end + len(whole)] = whole
        self._memory[:_HEAD] = (self._length() + len(whole)).to_bytes(_HEAD, "big")
        self.entries.append(entry)
        mark(str(len(self.entries)))

    def cut(self, count: int) -> None:
        """Keep the first `count` records: the logs as they were at that moment."""
        kept = self.entries[:count]
        self._memory[:_HEAD] = bytes(_HEAD)
        self.entries = []
        for entry in kept:
            self.append(entry)

    def _length(self) -> int:
        return int.from_bytes(self._memory[:_HEAD], "big")

    def _read(self) -> list[Entry]:
        found, at = [], _HEAD
        while at < _HEAD + self._length():
            size = int.from_bytes(self._memory[at : at + 4], "big")
            data = self._memory[at + 4 : at + 4 + size]
            found.append(msgspec.msgpack.decode(data, type=Entry))
            at += 4 + size
        return found


def mark(name: str) -> None:
    """A call that a trace shows, and that does nothing."""
    os.access(MARK + name, os.F_OK)


class JournalLog(Log):
    """One partition, whose records are in the journal, too."""

    def __init__(self, where: Partition, journal: Journal) -> None:
        super().__init__()
        self._where = where
        self._journal = journal

    def append(self, key: bytes | None, value: bytes | None, timestamp: int = 0) -> int:
        offset = super().append(key, value, timestamp)
        self._journal.append(Entry(self._where, key, value, timestamp))
        return offset


class _Logs(defaultdict[Partition, Log]):
    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def __missing__(self, where: Partition) -> Log:
        self[where] = JournalLog(where, self._journal)
        return self[where]


class JournalBroker(SimBroker):
    """The logs of the journal in `root`, and the repository of snapshots beside it."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.journal = Journal(root / "journal")
        self.logs = _Logs(self.journal)
        for entry in self.journal.entries:
            log = self.logs[Partition(*entry.where)]
            log.entries.append(Row(log.end, entry.timestamp, entry.key, entry.value))
        self.repository = open_repository(f"file://{root}/repository")
