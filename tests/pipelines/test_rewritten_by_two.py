"""Two workers write the same snapshot anew, and the one that has forgotten less comes last."""

from __future__ import annotations

import pytest

from headrace.pipelines.erasing import Erasing
from headrace.state.catalogue import Vouched
from headrace.state.places import manifest_name
from tests.pipelines.small_place import WHERE
from tests.pipelines.test_cut_short import collected_twice, onto, vouched
from tests.pipelines.test_forgetting import GONE, HISTORY, OTHER, forget
from tests.pipelines.test_rollback_laws import Two, lived


def test_a_rewrite_that_wakes_up_behind_a_newer_one_loses_no_snapshot() -> None:
    """It was stopped before its record. Meanwhile another key was forgotten, and another worker has
    written the snapshot without both. Now the older one counts, and holds that key: the next look
    writes it anew.
    """

    async def work(place: Two) -> None:
        kept = onto(place)
        await place.feed(9)
        named = await place.snapshot("a")
        await place.feed(12)
        await forget(place)
        there = place.vault.catalogue.shards(named)[WHERE]
        append = place.catalogue.append
        newer: list[Vouched] = []

        async def another_first(key: bytes, value: bytes | None) -> None:
            patched.undo()
            await forget(place, control_id="g", key=OTHER)
            await place.vault.rewrite(there)
            newer.append(place.vault.catalogue.shards(named)[WHERE])
            await append(key, value)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(place.catalogue, "append", another_first)
            await place.vault.rewrite(there)
        last = place.vault.catalogue.shards(named)[WHERE]
        assert last.forgotten < newer[0].forgotten
        assert place.vault.holds_forgotten(last)
        await Erasing(place.vault, place.controls.registry, place.shards).look()
        anew = place.vault.catalogue.shards(named)[WHERE]
        assert anew.replaces == (there.digest, last.digest)
        assert not place.vault.holds_forgotten(anew)
        assert anew.asked == there.asked >= 0, "or its removal would not be told from another's"
        assert kept.manifests() == vouched(place) | {manifest_name(*newer[0].ref)}
        await collected_twice(place, kept)
        assert kept.manifests() == vouched(place)
        assert not any(kept.holding(key) for key in (GONE, OTHER))
        kept.fetch(kept.manifest(*anew.ref).files, place.directory.draft())

    lived(HISTORY, work)
