"""What a snapshot says of one shard: whose it is, where it stood, and every file with its sum.

A manifest vouches for its files, and its own digest, kept in the logs, vouches for the manifest.
So bytes that somebody altered, swapped or put back are refused before any of them is decoded.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Literal, NamedTuple

import msgspec

from headrace.errors import CorruptStateError, ForeignStateError, StateError
from headrace.state.store import AppliedRecord

SCHEMA = 1
MANIFEST_BYTES_MAX = 16 << 20
"""A manifest of 100,000 files takes 11 MB; what is larger is none of ours."""
PROBES_BYTES_MAX = 64 << 10
"""What a snapshot says of how its models answer; some rows and their answers take a few KiB."""
FILES_MAX = 100_000
"""Of one manifest, and of all in one archive: a shard of so many tables has some terabytes."""
_NAME_CHARACTERS_MAX = 255  # file systems take no longer names
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # no separator, no hidden file, no control code
_SNAPSHOT_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")  # lower case: some disks see no other
_SHA256 = re.compile(r"[0-9a-f]{64}")
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Offset = Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]  # -1: of nothing yet
Text = Annotated[str, msgspec.Meta(max_length=255)]
"""No name that Kafka, River or this service gives is longer."""
_REMEDY = "Restore another snapshot, or let the shard be learned anew from its log"


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of a shard: its name, the SHA-256 of its bytes (hexadecimal), its size in bytes.

    A name that could lead out of its directory, a sum that is none and a size below 0 raise
    ValueError.

    >>> FileEntry(name="CURRENT", sha256="ab" * 32, size=16).size
    16
    >>> FileEntry(name="../CURRENT", sha256="ab" * 32, size=16)
    Traceback (most recent call last):
    ValueError: '../CURRENT' is no name for a file of a shard
    """

    name: str
    sha256: str
    size: Count

    def __post_init__(self) -> None:
        plain = _NAME.fullmatch(self.name) and ".." not in self.name
        if not plain or len(self.name) > _NAME_CHARACTERS_MAX:
            raise ValueError(f"{self.name[:80]!r} is no name for a file of a shard")
        if not is_sha256(self.sha256):
            raise ValueError(f"{self.sha256[:80]!r} is no SHA-256")
        if self.size < 0:
            raise ValueError(f"{self.name} cannot have {self.size} bytes")


class Versions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The build that wrote the state; `python` such as "3.11"."""

    headrace: Text
    river: Text
    numpy: Text
    codec: Text
    python: Text


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shard in one snapshot.

    `partitions`: how many the topic had; `next_offset`: where the shard goes on reading;
    `applied`: the record before it, None if there was none; `control_offset`: of the control log,
    as in `ShardMeta`, and `forgotten`; `created_ms`: milliseconds since 1970; `probes`: what
    another build has to reproduce before it takes the state, which this room does not read, b"" if
    there is nothing.
    What contradicts itself raises ValueError.

    >>> manifest = Manifest(
    ...     snapshot_id="s1", agent="fraud", epoch=1, spec_version=2, spec_digest="5f",
    ...     topic="payments", partition=3, partitions=8, next_offset=42, applied=None,
    ...     cluster_id="c", control_offset=7, created_ms=1_700_000_000_000,
    ...     versions=Versions(headrace="0", river="0.26.1", numpy="2", codec="1", python="3.11"),
    ...     files=(FileEntry(name="CURRENT", sha256="ab" * 32, size=16),),
    ... )
    >>> content = encode(manifest)
    >>> digest(content)[:16]
    '18a6e43b45174ef2'
    >>> decode(content, digest(content)) == manifest
    True
    """

    snapshot_id: Text
    agent: Text
    epoch: Count
    spec_version: Count
    spec_digest: Text
    topic: Text
    partition: Count
    partitions: Count
    next_offset: Count
    applied: AppliedRecord | None
    cluster_id: Text
    control_offset: _Offset
    versions: Versions
    created_ms: Count
    files: Annotated[tuple[FileEntry, ...], msgspec.Meta(max_length=FILES_MAX)]
    probes: Annotated[bytes, msgspec.Meta(max_length=PROBES_BYTES_MAX)] = b""
    forgotten: _Offset = -1
    schema: Literal[1] = 1

    def __post_init__(self) -> None:
        if not is_snapshot_id(self.snapshot_id):
            raise ValueError(f"{self.snapshot_id[:80]!r} is no id of a snapshot")
        if not 0 <= self.partition < self.partitions:
            raise ValueError(f"there is no partition {self.partition} of {self.partitions}")
        if min(self.epoch, self.spec_version, self.next_offset, self.created_ms) < 0:
            raise ValueError("epoch, spec_version, next_offset and created_ms are not below 0")
        if self.control_offset < -1:  # as long as nothing of the control log is known
            raise ValueError(f"there is no control offset {self.control_offset}")
        if len({file.name for file in self.files}) < len(self.files):
            raise ValueError("two files have the same name")
        if len(self.probes) > PROBES_BYTES_MAX:
            raise ValueError(f"{len(self.probes)} bytes of probes, more than {PROBES_BYTES_MAX}")


_DECODER = msgspec.json.Decoder(Manifest)


class ShardRef(NamedTuple):
    """One shard in one snapshot, and the digest that its manifest must have."""

    snapshot_id: str
    topic: str
    partition: int
    digest: str


def is_snapshot_id(text: str) -> bool:
    """Whether it can name a snapshot: 1 to 128 of a-z, 0-9, `.`, `_`, `-`, no sign first.

    >>> is_snapshot_id("2026-11-26.before-rollback"), is_snapshot_id("../etc"), is_snapshot_id("")
    (True, False, False)
    """
    return _SNAPSHOT_ID.fullmatch(text) is not None


def is_sha256(text: str) -> bool:
    """Whether it is a SHA-256 as this room writes them: 64 hexadecimal digits in lower case.

    >>> is_sha256("ab" * 32), is_sha256("AB" * 32), is_sha256("../" * 21 + "x")
    (True, False, False)
    """
    return _SHA256.fullmatch(text) is not None


def digest(content: bytes) -> str:
    """SHA-256 of a manifest's bytes, hexadecimal: what the logs keep to vouch for it.

    >>> digest(b"")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(content).hexdigest()


def encode(manifest: Manifest) -> bytes:
    """The manifest's one form in bytes: JSON with sorted keys, so that its digest is stable.

    Raises StateError if it has more than FILES_MAX files, or MANIFEST_BYTES_MAX bytes.
    """
    content = msgspec.json.encode(manifest, order="sorted")
    if len(manifest.files) > FILES_MAX or len(content) > MANIFEST_BYTES_MAX:
        raise StateError(
            f"{_named(manifest)} would have {len(content)} bytes, and may have"
            f" {MANIFEST_BYTES_MAX}: compact the shard, {len(manifest.files)} files are too many"
        )
    return content


def decode(content: bytes, expected: str) -> Manifest:
    """The manifest in `content`, whose digest must be `expected`: else nothing is decoded.

    Raises CorruptStateError if it is not, or if what the digest vouches for is no manifest, and
    ForeignStateError for one of another schema.
    """
    if len(content) > MANIFEST_BYTES_MAX:
        raise CorruptStateError(
            f"the manifest has more than {MANIFEST_BYTES_MAX} bytes, so it is none. {_REMEDY}"
        )
    found = digest(content)
    if found != expected:
        raise CorruptStateError(
            f"the manifest has digest {found}, and {expected[:80]} was vouched for:"
            f" it was altered, or another one was put in its place. {_REMEDY}"
        )
    try:
        schema = _SCHEMA_DECODER.decode(content).schema
        if schema != SCHEMA:
            raise ForeignStateError(
                f"the manifest has schema {schema}, this Headrace reads schema {SCHEMA}:"
                f" start the Headrace that wrote it, or restore another snapshot"
            )
        return _DECODER.decode(content)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise CorruptStateError(f"the manifest cannot be read ({error}). {_REMEDY}") from None


class _Schema(msgspec.Struct, frozen=True):
    schema: int


_SCHEMA_DECODER = msgspec.json.Decoder(_Schema)


def _named(manifest: Manifest) -> str:
    where = f"{manifest.topic}@{manifest.partition}"
    return f"the manifest of {where} in snapshot {manifest.snapshot_id}"
