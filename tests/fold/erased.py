"""Which keys a control log says are forgotten, reckoned once more from the hash alone."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.fold.reading import Entry

SECRET = "5e" * 32
"""Under which keys are forgotten in the tests."""


@dataclass(frozen=True)
class Forgotten:
    """A key that is forgotten from offset `at` on. `former`: it was in a former life, so events
    below it are not learned in this one.
    """

    at: int
    tombstone: str
    former: bool = False

    def is_of(self, agent: str, key: bytes | str | None) -> bool:
        """Whether it is that key."""
        if key is None:
            return False
        key = key.encode() if isinstance(key, str) else key
        told = hmac.new(bytes.fromhex(SECRET), agent.encode() + b"\0" + key, hashlib.sha256)
        return told.hexdigest() == self.tombstone


def erase(forgotten: Forgotten, agent: str, keys: dict[str, Any]) -> None:
    """Take the key out."""
    for key in [key for key in keys if forgotten.is_of(agent, key)]:
        del keys[key]


def is_gone(forgets: Iterable[Forgotten], agent: str, record: Entry, upto: int | None) -> bool:
    """Whether a record, which is learned again by what counts from `upto` on, is passed over; None:
    whether it might ever be, so that nobody knows whether it was counted.
    """
    return any(
        record.offset < forgotten.at
        and (forgotten.former or upto is None or forgotten.at <= upto)
        and forgotten.is_of(agent, record.key)
        for forgotten in forgets
    )
