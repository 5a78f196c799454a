"""References to snapshots: what somebody is given who loads one without the service."""

from __future__ import annotations

import msgspec
import pytest

from headrace.errors import CorruptStateError
from headrace.state.manifest import ShardRef
from headrace.state.reference import Reference, ShardAt, decode, encode

REFERENCE = Reference(
    repository="s3://bucket/kept",
    snapshot_id="fraud.before-friday",
    agent="fraud",
    epoch=2,
    spec_version=1,
    spec={"agent": "fraud"},
    spec_digest="5f" * 32,
    topic="payments",
    created_ms=1_700_000_000_000,
    shards=tuple(ShardAt(next_offset=40 + n, digest=f"{n:02x}" * 32) for n in range(3)),
)


def test_a_reference_comes_back_as_it_was() -> None:
    """Equal references are equal bytes, and bytes a reference again."""
    content = encode(REFERENCE)
    assert decode(content) == REFERENCE
    assert encode(decode(content)) == content


def test_it_names_every_shard_by_its_partition() -> None:
    """What is fetched is named by snapshot, topic, partition and the manifest's digest."""
    refs = REFERENCE.refs()
    assert refs[2] == ShardRef("fraud.before-friday", "payments", 2, "02" * 32)
    assert len(refs) == 3


def test_another_state_under_the_same_name_has_another_digest() -> None:
    """One digest stands for all manifests: one that differs, or two that are swapped, change it."""
    swapped = msgspec.structs.replace(REFERENCE, shards=REFERENCE.shards[::-1])
    assert swapped.digest != REFERENCE.digest


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"snapshot_id": "../fraud"},
        {"shards": []},
        {"shards": [{"next_offset": 1, "digest": "5f"}]},
        {"code": "print"},
    ],
)
def test_what_is_no_reference_is_refused(change: dict[str, object]) -> None:
    """Another schema, an id that leads elsewhere, no shards, no digest, a field too many."""
    told = msgspec.json.decode(encode(REFERENCE)) | change
    with pytest.raises(CorruptStateError):
        decode(msgspec.json.encode(told))


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"[" * 100_000])
def test_other_bytes_are_refused(content: bytes) -> None:
    """Nothing but JSON of that shape is read."""
    with pytest.raises(CorruptStateError):
        decode(content)
