"""State that another build wrote: taken over where its probes reproduce, else refused by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from headrace.errors import ConflictError, OtherBuildError
from headrace.models import probes
from headrace.pipelines.leading import OTHER_BUILDS_MAX, worth_a_try
from headrace.pipelines.shard import Shard
from headrace.state.catalogue import Vouched
from headrace.state.cut import Kind
from headrace.state.manifest import Manifest
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import more, published, reopened, take, taken, told
from tests.simulation.worker import IDENTITY
from tests.state.cuts import MINE, cut


def manifest_of(place: Place, vouched: Vouched) -> Manifest:
    return place.broker.repository.manifest(*vouched.ref)


# -- when a snapshot is taken --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["named", "undo", "automatic"])
def test_every_snapshot_is_published_with_probes(tmp_path: Path, kind: Kind) -> None:
    """Its manifest has those of its keys, and of a new model."""

    async def work(place: Place, shard: Shard) -> None:
        made = manifest_of(place, await taken(place, shard, kind=kind)).probes
        assert made == probes.make(shard.learner.spec, shard.store)
        assert probes.check(made, shard.learner.spec, shard.store) == []

    told(tmp_path, work)


def test_probes_are_those_of_the_snapshot_whatever_comes_after(tmp_path: Path) -> None:
    """They are made when it is published, of the checkpoint and not of the live shard."""

    async def work(place: Place, shard: Shard) -> None:
        await shard.flush()
        before = probes.make(shard.learner.spec, shard.store)
        await take(place, shard)
        await more(place, shard)
        assert probes.make(shard.learner.spec, shard.store) != before
        assert manifest_of(place, await published(place)).probes == before

    told(tmp_path, work)


def test_what_a_crash_left_unpublished_is_published_with_the_same_probes(tmp_path: Path) -> None:
    """A checkpoint that is taken up again names its probes, if they were made: one manifest."""

    async def work(place: Place, shard: Shard) -> None:
        vouched = await taken(place, shard)
        [path] = (place.directory.path / "checkpoints").glob("a.s1/*")
        (path / ".published.json").unlink()
        await place.shards.close(shard, flush=True)
        place.become()
        publishing = asyncio.create_task(place.vault.publish(place.shards.site.precedence))
        while not (path / ".published.json").exists():  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.05)
        publishing.cancel()
        assert place.vault.catalogue.shards("a.s1")[WHERE].digest == vouched.digest

    told(tmp_path, work)


def test_probes_that_were_made_stay_with_what_is_still_to_be_published(tmp_path: Path) -> None:
    """Another build that takes it up publishes it with the probes of the one that wrote it."""

    async def work(place: Place, shard: Shard) -> None:
        await take(place, shard)
        made = (await place.vault._probed(place.vault._owed[0])).probes
        assert made
        await place.shards.close(shard, flush=True)
        place.become(river="99")
        assert manifest_of(place, await published(place)).probes == made

    told(tmp_path, work)


def test_a_snapshot_that_another_build_left_unpublished_gets_no_probes(tmp_path: Path) -> None:
    """This one cannot say how its models went on there."""

    async def work(place: Place, shard: Shard) -> None:
        await take(place, shard)
        await place.shards.close(shard, flush=True)
        place.become(river="99")
        manifest = manifest_of(place, await published(place))
        assert manifest.versions == IDENTITY.versions
        assert manifest.probes == b""

    told(tmp_path, work)


# -- where a shard begins ------------------------------------------------------------------------


def test_a_shard_goes_on_from_a_snapshot_that_reproduces(tmp_path: Path) -> None:
    """The other build has the same rows, and what it did not take over itself is gone."""

    async def work(place: Place, shard: Shard) -> None:
        await taken(place, shard)
        rows = dict(shard.store.scan(b""))
        again = await reopened(place, shard, river="99")
        assert again.next_offset == 50
        assert dict(again.store.scan(b"")) == rows
        assert place.directory.former("a", range(9), *WHERE) == []
        await place.shards.close(again, flush=True)

    told(tmp_path, work)


def test_a_shard_that_does_not_reproduce_is_refused(
    tmp_path: Path, steps_otherwise: Callable[[], None]
) -> None:
    """It is not learned again from the beginning, unless somebody says so: both are named."""

    async def work(place: Place, shard: Shard) -> None:
        await taken(place, shard)
        steps_otherwise()
        with pytest.raises(OtherBuildError) as refused:
            await reopened(place, shard, river="99")
        text = str(refused.value)
        assert f"river {IDENTITY.river} (this is 99)" in text
        assert "a new model" in text
        assert "headrace deploy SPEC --migration refold" in text
        assert refused.value.differences
        assert place.vault.refusals == 1

    told(tmp_path, work)


def test_a_shard_without_a_snapshot_is_refused(tmp_path: Path) -> None:
    """What lies on the disk has no probes: the way to have some is told."""

    async def work(place: Place, shard: Shard) -> None:
        with pytest.raises(OtherBuildError, match="headrace snapshot create a NAME"):
            await reopened(place, shard, river="99")

    told(tmp_path, work)


def test_an_empty_disk_does_not_make_up_for_what_is_refused(
    tmp_path: Path, steps_otherwise: Callable[[], None]
) -> None:
    """A snapshot that does not reproduce is there, so the shard is not begun anew in silence."""

    async def work(place: Place, shard: Shard) -> None:
        await taken(place, shard)
        await place.shards.close(shard, flush=True)
        place.directory.drop_agent("a", through=1)
        steps_otherwise()
        place.become(river="99")
        with pytest.raises(OtherBuildError):
            await place.shards.open(place.deployment, WHERE)

    told(tmp_path, work)


def test_who_goes_back_finds_what_was_refused(
    tmp_path: Path, steps_otherwise: Callable[[], None]
) -> None:
    """As it was when the other build came."""

    async def work(place: Place, shard: Shard) -> None:
        await taken(place, shard)
        rows = dict(shard.store.scan(b""))
        steps_otherwise()
        with pytest.raises(OtherBuildError):
            await reopened(place, shard, river="99")
        place.become()
        again = await place.shards.open(place.deployment, WHERE)
        assert dict(again.store.scan(b"")) == rows
        await place.shards.close(again, flush=True)

    told(tmp_path, work)


def test_own_snapshots_are_tried_before_it_gives_up(
    tmp_path: Path, steps_otherwise: Callable[[], None]
) -> None:
    """Behind those of another build there is one of this build: it begins from that."""

    async def work(place: Place, shard: Shard) -> None:
        await taken(place, shard, "mine")
        other = await reopened(place, shard, river="99")
        await more(place, other)
        await taken(place, other, "theirs")
        await place.shards.close(other, flush=True)
        steps_otherwise()
        place.become()
        again = await place.shards.open(place.deployment, WHERE)
        assert (again.next_offset, place.vault.refusals) == (50, 1)
        await place.shards.close(again, flush=True)

    told(tmp_path, work)


def test_few_snapshots_of_other_builds_are_tried() -> None:
    """All of this build, however old, and the newest of others."""
    old = structs.replace(MINE, river="0.0.9")

    def vouched(number: int, river: str) -> Vouched:
        said = structs.asdict(cut(f"card-fraud.s{number}"))
        names = set(Vouched.__struct_fields__) & set(said) - {"versions", "schema"}
        return Vouched(
            digest="ab" * 32,
            size_bytes=1,
            new_bytes=1,
            versions=structs.replace(MINE, river=river),
            **{name: said[name] for name in names},
        )

    others = [vouched(n, "0.0.9") for n in range(9)]
    mine = vouched(9, MINE.river)
    assert list(worth_a_try([*others, mine], MINE)) == [*others[:OTHER_BUILDS_MAX], mine]
    assert list(worth_a_try([*others, mine], old)) == [*others, mine]


# -- where a rollback goes to --------------------------------------------------------------------


def test_a_rollback_is_refused_before_it_is_logged(
    tmp_path: Path, steps_otherwise: Callable[[], None]
) -> None:
    """As `other_build`, with the snapshot's name; one that reproduces passes."""

    async def work(place: Place, shard: Shard) -> None:
        vouched = await taken(place, shard)
        await place.shards.close(shard, flush=True)
        place.become(river="99")
        await place.vault.check(WHERE, "a.s1", vouched.digest)
        assert list((place.directory.path / "drafts").iterdir()) == []
        steps_otherwise()
        with pytest.raises(ConflictError) as refused:
            await place.vault.check(WHERE, "a.s1", vouched.digest)
        assert refused.value.code == "other_build"
        assert refused.value.context == {"snapshot": "a.s1"}

    told(tmp_path, work)
