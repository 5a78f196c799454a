"""What the logs say of a key that was forgotten: its hash, under a secret that they keep elsewhere.

The control log is kept for ever, so it must not hold a key that somebody wanted erased, nor a hash
that can be tried out with a list of all card numbers. A tombstone is therefore an HMAC. Its secret
is a record of the catalogue of snapshots, a topic of its own that is read before any shard is
opened; see docs/decisions/0017-forgetting-a-key.md.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated, Literal

import msgspec

from headrace.clock import new_secret

SECRET_BYTES = 32
_DIGITS = r"^[0-9a-f]{64}\Z"
PREFIX = "secret/"


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """What tombstones are made with. `value`: 64 hexadecimal digits, shown to nobody.

    >>> secret = Secret(value="ab" * 32)
    >>> secret.id, tombstone(secret, "fraud", "ada")[:16]
    ('271a413bd339c570', 'f817afa7a5e79c44')
    """

    value: Annotated[str, msgspec.Meta(pattern=_DIGITS)]
    schema: Literal[1] = 1

    @classmethod
    def made(cls) -> Secret:
        """A new one."""
        return cls(value=new_secret(SECRET_BYTES))

    @property
    def id(self) -> str:
        """What names it: a part of its SHA-256."""
        return hashlib.sha256(self.value.encode()).hexdigest()[:16]

    @property
    def key(self) -> bytes:
        """The key of its record in the catalogue."""
        return f"{PREFIX}{self.id}".encode()

    def __repr__(self) -> str:
        return f"Secret(id={self.id!r})"


def tombstone(secret: Secret, agent: str, key: str | bytes) -> str:
    """The keyed hash of an agent's key, hexadecimal: HMAC-SHA256 of agent, a zero byte and key."""
    key = key.encode() if isinstance(key, str) else key
    return hmac.digest(bytes.fromhex(secret.value), agent.encode() + b"\0" + key, "sha256").hex()
