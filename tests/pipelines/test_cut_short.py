"""Removals and rewrites of snapshots that are cut short: what they leave goes with a collection."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import pytest

from headrace.errors import AwayStateError
from headrace.pipelines.erasing import Erasing
from headrace.pipelines.housekeeping import known_of
from headrace.state.manifest import ShardRef
from headrace.state.objectshelf import ObjectShelf
from headrace.state.places import manifest_name
from headrace.state.repository import GRACE_MS, ShelfRepository
from headrace.state.restoring import Sources
from tests.pipelines.small_place import WHERE
from tests.pipelines.snapshots_of_one import take
from tests.pipelines.test_forgetting import GONE, HISTORY, forget
from tests.pipelines.test_rollback_laws import Two, lived


class Shelf(ObjectShelf):
    """An object store by whose clock it is later by `ahead_ms` than what it has was put there."""

    ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


class Kept(ShelfRepository):
    """A repository that is away, while it is `cut`, when something is to be taken from it."""

    cut = False

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self.shelf = shelf

    def remove(self, snapshot_id: str, digests: Iterable[str]) -> None:
        if self.cut:
            raise AwayStateError("away")
        super().remove(snapshot_id, digests)

    def withdraw(self, ref: ShardRef, replaced: Iterable[str]) -> None:
        if self.cut:
            raise AwayStateError("away")
        super().withdraw(ref, replaced)

    def manifests(self) -> set[str]:
        """All, those that are set aside included."""
        return {
            kept.name
            for place in ("manifests", "trash/manifests")
            for kept in self.shelf.list(place)
        }

    def holding(self, key: str) -> bool:
        """Whether a manifest, or a file that is kept plainly, holds the key."""
        names = [kept.name for kept in self.shelf.list("")]
        forms = (key.encode(), key.encode().hex().encode())
        return any(form in b"".join(self.shelf.read(name)) for name in names for form in forms)


def onto(place: Two) -> Kept:
    """The place's snapshots lie in such a repository from now on."""
    kept = Kept(Shelf("memory://"))
    place.vault._repository = kept
    place.vault._sources = Sources(place.vault._checkpoints, kept)
    return kept


def vouched(place: Two) -> set[str]:
    return {manifest_name(*ref) for ref in place.vault.catalogue.refs()}


async def collected_twice(place: Two, kept: Kept) -> None:
    """A collection, and another one after a grace time."""
    kept.shelf.ahead_ms = GRACE_MS + 1
    await place.vault.collect()
    assert vouched(place) <= kept.manifests()
    await place.vault.collect()
    kept.shelf.ahead_ms = 0


async def automatic(place: Two, name: str) -> str:
    await take(place, place.shard("a"), name, "automatic")
    await place.until(lambda: bool(place.vault.catalogue.shards(f"a.{name}")))
    return f"a.{name}"


async def refuses(*_: Any) -> None:
    raise AwayStateError("away")


def test_what_a_removal_that_was_cut_short_leaves_goes_with_a_collection() -> None:
    """A key was forgotten, and the repository is away when the snapshot that holds it is to go from
    there: nothing vouches for it any more, so nobody looks at it again.
    """

    async def work(place: Two) -> None:
        kept = onto(place)
        await place.feed(9)
        old = await automatic(place, "auto-1")
        await place.feed(12)
        await forget(place)
        await automatic(place, "auto-2")
        kept.cut = True
        await Erasing(place.vault, place.controls.registry, place.shards).look()
        kept.cut = False
        assert place.vault.catalogue.get(old) is None
        await Erasing(place.vault, place.controls.registry, place.shards).look()
        assert len(kept.manifests()) == 2, "nobody knows of it any more"
        assert kept.holding(GONE)
        await place.vault.collect()
        assert len(kept.manifests()) == 2, "it is young: it might be an upload under way"
        await collected_twice(place, kept)
        assert kept.manifests() == vouched(place)
        assert not kept.holding(GONE)

    lived(HISTORY, work)


@pytest.mark.parametrize("cut", [False, True])
def test_a_removal_takes_what_a_rewrite_that_was_cut_short_has_left_too(*, cut: bool) -> None:
    """The manifest with the key, in whose place another is vouched for, goes with that; also if the
    removal is cut short as well.
    """

    async def work(place: Two) -> None:
        kept = onto(place)
        await place.feed(9)
        named = await place.snapshot("a")
        await place.feed(12)
        await forget(place)
        kept.cut = True
        with pytest.raises(AwayStateError):
            await place.vault.rewrite(place.vault.catalogue.shards(named)[WHERE])
        kept.cut = cut
        assert len(kept.manifests()) == 2
        known = known_of(named, place.controls.registry)
        with pytest.raises(AwayStateError) if cut else nullcontext():
            await place.vault.remove(named, *known)
        kept.cut = False
        assert place.vault.catalogue.get(named) is None
        assert len(kept.manifests()) == (2 if cut else 0)
        await collected_twice(place, kept)
        assert kept.manifests() == set()
        assert not kept.holding(GONE)

    lived(HISTORY, work)


@pytest.mark.parametrize("step", ["append", "withdraw"])
def test_what_a_rewrite_that_was_cut_short_leaves_goes_with_a_collection(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Before the catalogue has the new manifest, or before the old one is gone."""

    async def work(place: Two) -> None:
        kept = onto(place)
        await place.feed(9)
        named = await place.snapshot("a")
        await place.feed(12)
        await forget(place)
        there = place.vault.catalogue.shards(named)[WHERE]
        with monkeypatch.context() as patched:
            kept.cut = step == "withdraw"
            if step == "append":
                patched.setattr(place.catalogue, "append", refuses)
            with pytest.raises(AwayStateError):
                await place.vault.rewrite(there)
        kept.cut = False
        assert len(kept.manifests()) == 2
        await collected_twice(place, kept)
        assert kept.manifests() == vouched(place)
        await Erasing(place.vault, place.controls.registry, place.shards).look()
        await collected_twice(place, kept)
        assert kept.manifests() == vouched(place)
        assert not kept.holding(GONE)
        vouching = place.vault.catalogue.shards(named)[WHERE]
        kept.fetch(kept.manifest(*vouching.ref).files, place.directory.draft())

    lived(HISTORY, work)
