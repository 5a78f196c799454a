"""A collection reads all manifests, one after the other, and somebody takes one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from msgspec import structs

from headrace.pipelines.fetcher import CATALOGUE_WAIT_S
from headrace.state.catalogue import Vouched, encode
from headrace.state.manifest import Manifest
from headrace.state.repository import GRACE_MS
from tests.pipelines.small_place import WHERE
from tests.pipelines.test_cut_short import Kept, automatic, onto
from tests.pipelines.test_forgetting import HISTORY
from tests.pipelines.test_rollback_laws import Two, lived

LOOSE = f"blobs/ab/{'ab' * 32}"
"""A file that nothing names."""


def removed(_: Vouched) -> bytes | None:
    return None


def rewritten(there: Vouched) -> bytes | None:
    return encode(structs.replace(there, digest="cd" * 32, replaces=(there.digest,)))


def untouched(there: Vouched) -> bytes | None:
    return encode(there)


def _taken_when_read(place: Two, kept: Kept, value: bytes | None) -> Callable[..., Manifest]:
    """Reads a manifest as `kept` does, but before that of the automatic snapshot another worker
    deletes it. This one reads the record from before that in the catalogue a while later.
    """
    reading = kept.manifest
    (there,) = place.vault.catalogue.shards("a.auto-1").values()

    def taken(snapshot_id: str, topic: str, partition: int, digest: str) -> Manifest:
        if snapshot_id == there.snapshot_id:
            kept.remove(snapshot_id, [there.digest])
            loop = asyncio.get_running_loop()
            loop.call_later(CATALOGUE_WAIT_S / 2, place.catalogue._log.append, there.key, value)
        return reading(snapshot_id, topic, partition, digest)

    return taken


async def _collected(place: Two, value: Callable[[Vouched], bytes | None]) -> set[str]:
    """What is there behind a collection while which that record comes; as in `_taken_when_read`."""
    kept = onto(place)
    await place.feed(9)
    named = await place.snapshot("a")
    await automatic(place, "auto-1")
    kept.shelf.put(LOOSE, [b"x"], size=1, create=True)
    kept.shelf.ahead_ms = GRACE_MS + 1
    there = place.vault.catalogue.shards("a.auto-1")[WHERE]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kept, "manifest", _taken_when_read(place, kept, value(there)))
        await place.vault.collect()
    stays = kept.manifest(*place.vault.catalogue.shards(named)[WHERE].ref)
    assert stays.snapshot_id == named
    return {entry.name for entry in kept.shelf.list("blobs")}


@pytest.mark.parametrize("meanwhile", [removed, rewritten])
def test_what_is_taken_while_manifests_are_read_stops_no_collection(
    meanwhile: Callable[[Vouched], bytes | None], caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody vouches any more for the manifest that is missing: nobody has to delete it, and what
    no other needs goes.
    """

    async def work(place: Two) -> None:
        assert LOOSE not in await _collected(place, meanwhile)

    lived(HISTORY, work)
    assert "snapshots.not_collected" not in caplog.messages
    assert "headrace.pipelines.housekeeping" not in {record.name for record in caplog.records}


def test_what_is_vouched_for_still_and_cannot_be_read_stops_a_collection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody knows which files it needs, so none goes, and the log names the snapshot."""

    async def work(place: Two) -> None:
        assert LOOSE in await _collected(place, untouched)

    lived(HISTORY, work)
    (told,) = [each for each in caplog.records if each.message == "snapshots.not_collected"]
    assert "snapshot a.auto-1 is there" in str(vars(told))
