"""Where a snapshot lies and what must be found there: all that somebody needs who loads it without
the service, such as from a model version of MLflow.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec

from headrace.errors import CorruptStateError
from headrace.state.manifest import ShardRef, is_snapshot_id

REFERENCE_BYTES_MAX = 16 << 20
"""A larger one is none of ours: a spec has 64 KiB at most, a partition takes 120 bytes."""
_SHA256 = r"^[0-9a-f]{64}\Z"


class ShardAt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shard in a snapshot: where it stood, and the digest that its manifest must have."""

    next_offset: int
    digest: Annotated[str, msgspec.Meta(pattern=_SHA256)]


class Reference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A complete snapshot. `repository`: the URL; `spec`: with all defaults filled in; `shards`: by
    partition, all of them. What contradicts itself raises ValueError.

    >>> reference = Reference(
    ...     repository="file:///snapshots", snapshot_id="fraud.s1", agent="fraud", epoch=1,
    ...     spec_version=1, spec={}, spec_digest="5f", topic="payments", created_ms=0,
    ...     shards=(ShardAt(next_offset=42, digest="ab" * 32),),
    ... )
    >>> reference.digest[:8], reference.url, decode(encode(reference)) == reference
    ('271a413b', 'file:///snapshots/manifests/fraud.s1', True)
    """

    repository: str
    snapshot_id: str
    agent: str
    epoch: int
    spec_version: int
    spec: dict[str, Any]
    spec_digest: str
    topic: str
    created_ms: int
    shards: tuple[ShardAt, ...]
    schema: Literal[1] = 1

    def __post_init__(self) -> None:
        if not is_snapshot_id(self.snapshot_id):
            raise ValueError(f"{self.snapshot_id[:80]!r} is no id of a snapshot")
        if not self.shards:
            raise ValueError("a snapshot has a partition at least")

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of all manifests, in the order of the partitions."""
        return hashlib.sha256("".join(shard.digest for shard in self.shards).encode()).hexdigest()

    @property
    def url(self) -> str:
        """Where its manifests are."""
        return f"{self.repository}/manifests/{self.snapshot_id}"

    def refs(self) -> list[ShardRef]:
        """What is needed to fetch its shards, by partition."""
        return [
            ShardRef(self.snapshot_id, self.topic, partition, shard.digest)
            for partition, shard in enumerate(self.shards)
        ]


_DECODER = msgspec.json.Decoder(Reference)


def encode(reference: Reference) -> bytes:
    """The reference as JSON with sorted keys."""
    return msgspec.json.encode(reference, order="sorted")


def decode(content: bytes) -> Reference:
    """The reference in `content`. Raises CorruptStateError if it is none."""
    if len(content) > REFERENCE_BYTES_MAX:
        raise CorruptStateError(f"a reference to a snapshot has not {len(content)} bytes")
    try:
        return _DECODER.decode(content)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise CorruptStateError(
            f"this refers to no snapshot that this Headrace could read ({error})"
        ) from None
