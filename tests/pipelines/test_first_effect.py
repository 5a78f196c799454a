"""Two workers hold a shard for a moment: whether a rollback is done is what the log says first."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.pipelines import control
from headrace.pipelines.shard import Shard
from tests.pipelines.small_place import WHERE, Crowded, Place
from tests.pipelines.snapshots_of_one import more, taken, told, without_manifests


def elsewhere(monkeypatch: pytest.MonkeyPatch, failed: str) -> None:
    """The other worker's effect comes first."""
    effect = control.ShardEffect(
        id="r/events/0",
        control_id="r",
        agent="a",
        epoch=2,
        topic=WHERE.topic,
        partition=WHERE.partition,
        next_offset=100,
        worker="other",
        failed=failed,
    )
    monkeypatch.setattr(Crowded, "ahead", {"r": effect})


async def rolled_back(place: Place, shard: Shard, *, damaged: bool) -> dict[bytes, bytes]:
    """Ask for a rollback of a hundred records to the first fifty; the rows before it."""
    vouched = await taken(place, shard)
    await more(place, shard)
    rows = dict(shard.store.scan(b"k/"))
    if damaged:
        without_manifests(place.broker.repository, "a.s1")
    base = control.Base(partition=0, epoch=1, next_offset=50, digest=vouched.digest)
    place.command(
        control.Rollback(
            id="r", agent="a", life=1, snapshot_id="a.s1", bases=(base,), mode="revert"
        )
    )
    while shard.origin.epoch < 2 and not place.unusable:  # noqa: ASYNC110 - not told
        await asyncio.sleep(0.05)
    return rows


def test_what_failed_elsewhere_changes_nothing_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log says that it could not be done: whoever reads it later does not do it either."""
    elsewhere(monkeypatch, "the disk there was damaged")

    async def work(place: Place, shard: Shard) -> None:
        rows = await rolled_back(place, shard, damaged=False)
        assert dict(shard.store.scan(b"k/")) == rows
        assert shard.origin.epoch == 2

    told(tmp_path, work)


def test_what_was_done_elsewhere_is_not_passed_over_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard that cannot do it is not used any more."""
    elsewhere(monkeypatch, "")
    monkeypatch.setattr("headrace.state.checkpoints.Checkpoints.manifest", lambda *_: None)

    async def work(place: Place, shard: Shard) -> None:
        await rolled_back(place, shard, damaged=True)
        assert list(place.unusable) == [shard]
        assert shard.origin.epoch == 1

    told(tmp_path, work)
