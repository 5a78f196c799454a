"""How what lies in a repository is named: files by their sum, manifests by theirs, too.

>>> name = manifest_name("s1", "payments", 3, "ab" * 32)
>>> name, sum_in(name)
('manifests/s1/payments@3.abababababababab.json', 'abababababababab')
>>> trashed = aside(name, "7")
>>> trashed, from_aside(trashed) == name, sum_in(trashed)
('trash/manifests/s1/payments@3.abababababababab.json.7', True, 'abababababababab')
>>> from_aside(aside("blobs/cd/cdcd", "7"))
'blobs/cd/cdcd'
"""

from __future__ import annotations

from headrace.errors import StateError
from headrace.state import manifest as manifests
from headrace.state.directory import escaped

MANIFESTS = "manifests"
BLOBS = "blobs"
TRASH = "trash"
DIGEST_DIGITS = 16
"""Of a manifest's digest, in its name."""
_SHA256_DIGITS = 64


def manifest_name(snapshot_id: str, topic: str, partition: int, digest: str) -> str:
    """Of a manifest, with a part of its digest: a shard may be taken twice, before and after a
    crash, and what the logs vouch for must not depend on which of the two was kept first.
    """
    if not manifests.is_sha256(digest):
        raise StateError(f"{digest[:80]!r} is no digest of a manifest: the logs have SHA-256")
    shard = f"{escaped(topic)}@{partition}.{digest[:DIGEST_DIGITS]}"
    return f"{MANIFESTS}/{checked(snapshot_id)}/{shard}.json"


def checked(snapshot_id: str) -> str:
    """The id: it becomes part of a path, and it may come from a caller."""
    if not manifests.is_snapshot_id(snapshot_id):
        raise StateError(f"{snapshot_id[:80]!r} is no id of a snapshot: list those there are")
    return snapshot_id


def sum_in(name: str) -> str:
    """The sum of the object's bytes, as its name has it: of a manifest only DIGEST_DIGITS of it."""
    former = from_aside(name) if name.startswith(f"{TRASH}/") else name
    last = former.rpartition("/")[2]
    return last.removesuffix(".json")[-DIGEST_DIGITS:] if last.endswith(".json") else last


def aside(name: str, mark: str) -> str:
    """Where an object of that name is set aside. `mark`: another one each time, without a dot."""
    return f"{TRASH}/{name.removeprefix(f'{BLOBS}/')}.{mark}"


def from_aside(trashed: str) -> str:
    """The reverse."""
    former = trashed.removeprefix(f"{TRASH}/").rpartition(".")[0]
    return former if former.startswith(f"{MANIFESTS}/") else f"{BLOBS}/{former}"


def blob_name(sha256: str) -> str:
    """Of a file."""
    assert len(sha256) == _SHA256_DIGITS
    return f"{BLOBS}/{sha256[:2]}/{sha256}"
