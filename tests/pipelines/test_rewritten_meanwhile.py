"""A snapshot is fetched while somebody writes another in its place, or removes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from headrace.errors import CorruptStateError
from headrace.models.slots import KEY_ROW
from headrace.pipelines import fetcher
from headrace.pipelines.housekeeping import known_of
from headrace.state.catalogue import Removed, Vouched, encode
from headrace.state.store import ShardStore, StoreOptions
from tests.pipelines.small_place import WHERE
from tests.pipelines.test_forgetting import GONE, HISTORY, OTHER, forget
from tests.pipelines.test_rollback_laws import Two, lived

FOREIGN = 10**6
"""How much of its own control log an import has forgotten: a place that this log never reached."""


def rewritten(place: Two, there: Vouched) -> None:
    """Another manifest takes its place, as one without the key does."""
    new = structs.replace(there, digest="ab" * 32, replaces=(there.digest,))
    place.catalogue.catalogue.apply(new.key, encode(new), FOREIGN)


def removed(place: Two, there: Vouched) -> None:
    place.catalogue.catalogue.apply(there.key, None, FOREIGN)


@pytest.mark.parametrize("meanwhile", [rewritten, removed])
def test_an_import_forgets_what_its_own_log_did_not(
    monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[Two, Vouched], None]
) -> None:
    """Its manifest says what was forgotten in the log that it comes from; that counts for nothing
    here, though it is no more in the catalogue as an import when its files have come.
    """

    async def work(place: Two) -> None:
        await place.feed(9)
        named = await place.snapshot("a")
        await place.feed(12)
        await forget(place)
        there = structs.replace(place.vault.catalogue.shards(named)[WHERE], imported=True)
        place.catalogue.catalogue.apply(there.key, encode(there), FOREIGN)
        fetching: Any = fetcher
        restore = fetching.restore

        def slow(*arguments: Any) -> Any:
            found = restore(*arguments)
            meanwhile(place, there)
            return structs.replace(
                found, manifest=structs.replace(found.manifest, forgotten=FOREIGN)
            )

        monkeypatch.setattr(fetching, "restore", slow)
        draft = await place.vault.fetch(WHERE, named, there.digest)
        options = StoreOptions()
        with ShardStore.open(draft, create=False, options=options, compact=False) as store:
            keys = {row[len(KEY_ROW) :].decode() for row in store.names(KEY_ROW)}
        assert OTHER in keys
        assert GONE not in keys

    lived(HISTORY, work)


@pytest.mark.parametrize("imported", [False, True])
@pytest.mark.parametrize("when", ["before", "behind"])
def test_what_is_written_anew_while_another_worker_removes_it_stays_removed(
    when: str, *, imported: bool
) -> None:
    """Its record comes right behind those of the removal, which this worker has not read; or right
    before: then the removal sees in whose place it is. No manifest tells it: all are there still.
    """

    async def work(place: Two) -> None:
        await place.feed(9)
        named = await place.snapshot("a")
        await place.feed(12)
        await forget(place)
        there = structs.replace(
            place.vault.catalogue.shards(named)[WHERE],
            imported=imported,
            epoch=0 if imported else 1,
            asked=-1 if imported else 0,
        )
        await place.catalogue.append(there.key, encode(there))
        known = known_of(named, place.controls.registry)
        append, anew = place.catalogue.append, list[bytes]()

        async def between(key: bytes, value: bytes | None) -> None:
            patched.undo()
            if when == "before":
                assert value is not None
                anew.append(value)
                return
            gone = Removed(snapshot_id=named, epoch=known[0], control_offset=known[1])
            place.catalogue._log.append(gone.key, encode(gone))
            place.catalogue._log.append(there.key, None)
            await append(key, value)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(place.catalogue, "append", between)
            await place.vault.rewrite(there)
        if when == "before":

            async def late(key: bytes, value: bytes | None) -> None:
                if anew:
                    place.catalogue._log.append(there.key, anew.pop())
                await append(key, value)

            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(place.catalogue, "append", late)
                await place.vault.remove(named, *known)
        assert place.vault.catalogue.get(named) is None
        assert place.vault.catalogue.was_removed(named)
        await place.vault.collect()

    lived(HISTORY, work)


def test_what_is_removed_is_not_fetched() -> None:
    """Its files may be there for a moment, but nothing says any more of which log it is."""

    async def work(place: Two) -> None:
        await place.feed(9)
        named = await place.snapshot("a")
        there = place.vault.catalogue.shards(named)[WHERE]
        await place.catalogue.append(there.key, None)
        with pytest.raises(CorruptStateError, match="has been removed"):
            await place.vault.fetch(WHERE, named, there.digest)

    lived(HISTORY, work)
