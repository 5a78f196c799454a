"""Manifests: one form in bytes, refused before they are decoded if nobody vouches for them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import CorruptStateError, ForeignStateError, StateError
from headrace.state import manifest as manifests
from headrace.state.manifest import FileEntry, Manifest, Versions, decode, digest, encode
from tests.state.snapshot import MANIFEST


def altered(**fields: Any) -> bytes:
    """The manifest's JSON with other fields, as somebody else's program might write it."""
    return json.dumps(json.loads(encode(MANIFEST)) | fields).encode()


def test_the_same_manifest_has_the_same_bytes_everywhere() -> None:
    """Sorted keys and no spaces: the digest of this manifest is the one it had when written."""
    content = encode(MANIFEST)
    plain = json.loads(content)
    assert content == json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
    assert plain["schema"] == 1
    assert digest(content) == "997aabfc61c230f32a74ce46712e3f22b24d2c03f5aef3df363cd2285fcd06bc"
    assert decode(content, digest(content)) == MANIFEST


@given(st.data())
def test_a_flipped_bit_is_refused_before_anything_is_decoded(data: st.DataObject) -> None:
    """Whatever bit is another, the digest says so, and the text says what to do."""
    content = bytearray(encode(MANIFEST))
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptStateError, match=r"was altered.*Restore another snapshot"):
        decode(bytes(content), digest(encode(MANIFEST)))


@pytest.mark.parametrize("content", [b"", b"{", encode(MANIFEST)[:-1], encode(MANIFEST) + b" "])
def test_what_is_shorter_or_longer_is_refused(content: bytes) -> None:
    """A truncated manifest, and one with something behind it, are not what was vouched for."""
    with pytest.raises(CorruptStateError, match="was vouched for"):
        decode(content, digest(encode(MANIFEST)))


def test_an_older_manifest_is_refused() -> None:
    """A manifest that was good once is refused where a newer one is vouched for."""
    older = encode(msgspec.structs.replace(MANIFEST, next_offset=900))
    with pytest.raises(CorruptStateError, match="another one was put in its place"):
        decode(older, digest(encode(MANIFEST)))


@pytest.mark.parametrize("expected", ["", "ab" * 32, digest(encode(MANIFEST)).upper()])
def test_a_wrong_digest_is_refused(expected: str) -> None:
    """A digest that is another, or is written otherwise, vouches for nothing."""
    with pytest.raises(CorruptStateError, match="was vouched for"):
        decode(encode(MANIFEST), expected)


def test_a_huge_manifest_is_refused_before_its_digest_is_taken() -> None:
    """More than 16 MiB is none of ours, whoever vouches for it."""
    content = bytes(manifests.MANIFEST_BYTES_MAX + 1)
    with pytest.raises(CorruptStateError, match="more than 16777216 bytes"):
        decode(content, digest(content))


def test_a_manifest_that_would_be_refused_is_not_written() -> None:
    """A shard of too many files says so when the snapshot is made, not when it is needed."""
    file = MANIFEST.files[0]
    many = tuple(FileEntry(name=f"{n:0200}", sha256=file.sha256, size=1) for n in range(60_000))
    with pytest.raises(StateError, match="60000 files are too many"):
        encode(msgspec.structs.replace(MANIFEST, files=many))


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "/etc", "a\\b", ".x", "a..b", "x\n", "x\0", "ж", "x" * 256],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    """No file of a manifest can be written outside its directory, even with a right digest."""
    content = altered(files=[{"name": name, "sha256": "ab" * 32, "size": 1}])
    with pytest.raises(CorruptStateError, match="is no name for a file"):
        decode(content, digest(content))
    with pytest.raises(ValueError, match="is no name for a file"):
        FileEntry(name=name, sha256="ab" * 32, size=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"files": [{"name": "a", "sha256": "ab" * 32, "size": -1}]},
        {"files": [{"name": "a", "sha256": "AB" * 32, "size": 1}]},
        {"files": [{"name": "a", "sha256": "../" * 21 + "x", "size": 1}]},
        {"files": [{"name": "a", "sha256": "ab" * 32, "size": 1}] * 2},
        {"files": [{"name": "a", "sha256": "ab" * 32, "size": 1, "mode": 7}]},
        {"files": [{"name": "a", "sha256": "ab" * 32}]},
        {"partition": 8},
        {"partition": -1},
        {"partition": "3"},
        {"next_offset": -1},
        {"control_offset": -2},
        {"snapshot_id": "../other"},
        {"snapshot_id": "Upper"},
        {"comment": "not ours"},
        {"versions": {}},
        {"probes": "no base64!"},
        {"probes": "A" * (88 << 10)},
        {"schema": "1"},
        {"topic": "t" * 256},
        {"spec_digest": "a" * 256},
        {"cluster_id": "c" * 256},
        {"next_offset": 1 << 63},
        {"created_ms": 10**40},
        {"forgotten": -2},
        {"versions": dict.fromkeys(Versions.__struct_fields__, "v" * 256)},
        {"applied": {"offset": 1, "timestamp": 1, "sha256": "e" * 65}},
        {"files": [{"name": "a", "sha256": "ab" * 32, "size": 1 << 63}]},
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused(fields: dict[str, Any]) -> None:
    """Fields that are unknown, missing, of another type or impossible are refused."""
    content = altered(**fields)
    with pytest.raises(CorruptStateError, match="cannot be read"):
        decode(content, digest(content))


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By who writes a manifest and by who reads it: each entry takes some memory."""
    file = {"sha256": "ab" * 32, "size": 1}
    files = [{"name": f"{n}.sst", **file} for n in range(manifests.FILES_MAX + 1)]
    content = altered(files=files)
    assert len(content) < manifests.MANIFEST_BYTES_MAX
    with pytest.raises(CorruptStateError, match="length <= 100000"):
        decode(content, digest(content))
    monkeypatch.setattr(manifests, "FILES_MAX", 1)
    with pytest.raises(StateError, match="2 files are too many"):
        encode(MANIFEST)


def test_probes_are_carried_and_bounded() -> None:
    """Any bytes up to 64 KiB come back as they were; more are refused."""
    probes = bytes(range(256)) * 256
    manifest = msgspec.structs.replace(MANIFEST, probes=probes)
    content = encode(manifest)
    assert decode(content, digest(content)).probes == probes
    with pytest.raises(ValueError, match="65537 bytes of probes, more than 65536"):
        Manifest(**msgspec.structs.asdict(manifest) | {"probes": probes + b"x"})


def test_another_schema_is_foreign_not_corrupt() -> None:
    """A manifest of a later Headrace is named as such, whatever fields it has."""
    content = altered(schema=2, something="new")
    with pytest.raises(ForeignStateError, match="has schema 2, this Headrace reads schema 1"):
        decode(content, digest(content))


def test_nesting_without_end_is_refused() -> None:
    """JSON that is nested more deeply than a reader can go is refused like any other."""
    content = b'{"schema":1,"files":' + b"[" * 100_000
    with pytest.raises(CorruptStateError, match="cannot be read"):
        decode(content, digest(content))
