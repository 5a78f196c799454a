"""Which keys a control log says are forgotten, reckoned once more from the hash alone."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

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
