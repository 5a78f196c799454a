"""What is taken from the repository alone, though this disk has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import StateError
from headrace.pipelines import control
from headrace.pipelines.shard import Shard
from headrace.pipelines.threads import remove_drafts
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import publish_all, take, told


def test_what_only_this_disk_has_is_not_to_be_had_from_afar(tmp_path: Path) -> None:
    """An undo snapshot that is not published yet: who verifies a decision does not go by what the
    worker that made it has on its disk.
    """

    async def work(place: Place, shard: Shard) -> None:
        await take(place, shard, "undo-1", "undo")
        base = control.Base(partition=0, epoch=1, next_offset=50, digest="")
        with pytest.raises(StateError, match="is not published: not yet, or it was lost"):
            await place.vault.afar().base(WHERE, "a.undo-1", base)
        here = await place.vault.base(WHERE, "a.undo-1", base)
        await publish_all(place)
        afar = await place.vault.afar().base(WHERE, "a.undo-1", base)
        assert {path.name for path in afar.iterdir()} == {path.name for path in here.iterdir()}
        await remove_drafts(here, afar)

    told(tmp_path, work)
