"""State that another build wrote: taken over where its probes reproduce, else refused by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from river import optim

from headrace.errors import ConflictError, OtherBuildError
from headrace.models import probes
from headrace.models.slots import KEY_ROW
from headrace.pipelines import control
from headrace.pipelines.opening import OTHER_BUILDS_MAX, worth_a_try
from headrace.pipelines.order import Chunk
from headrace.pipelines.probing import Probing
from headrace.pipelines.shard import Shard
from headrace.state.catalogue import Vouched
from headrace.state.cut import Kind
from headrace.state.manifest import Manifest
from headrace.views import Exclusion, How, Partition
from tests.pipelines.small_place import WHERE, Place, live
from tests.simulation.worker import IDENTITY
from tests.state.cuts import MINE, cut


@pytest.fixture
def steps_otherwise(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and from then on River learns by a slightly larger rate."""
    step_of: Any = optim.SGD._step_with_vector

    def larger(self: Any, w: Any, g: Any) -> Any:
        return step_of(self, w, g * (1 + 2**-50))

    return lambda: monkeypatch.setattr(optim.SGD, "_step_with_vector", larger)


def told(tmp_path: Path, work: Callable[[Place, Shard], Awaitable[None]]) -> None:
    """Do this with a shard that has learned fifty records."""

    async def whole(place: Place) -> None:
        await place.controls.start()
        shard = await place.shards.open(place.deployment, WHERE)
        await shard.process(place.chunk())
        await work(place, shard)
        if place.shards.find("a", WHERE) is not None:
            await place.shards.close(shard, flush=True)

    live(tmp_path, whole)


async def take(place: Place, shard: Shard, name: str = "s1", kind: Kind = "named") -> None:
    """Take a snapshot of the shard."""

    async def work(shard: Shard) -> bool:
        await shard.settle()
        await place.vault.take(shard, f"a.{name}", kind, 1)
        return True

    await shard.between_events(work)


async def published(place: Place, name: str = "s1") -> Vouched:
    """Publish what was taken; what vouches for it."""
    publishing = asyncio.create_task(place.vault.publish())
    while WHERE not in place.vault.catalogue.shards(f"a.{name}"):  # noqa: ASYNC110 - not told
        await asyncio.sleep(0.05)
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
    return place.vault.catalogue.shards(f"a.{name}")[WHERE]


async def taken(place: Place, shard: Shard, name: str = "s1", kind: Kind = "named") -> Vouched:
    """A snapshot of the shard, published."""
    await take(place, shard, name, kind)
    return await published(place, name)


async def more(place: Place, shard: Shard) -> None:
    """The shard learns all records once more."""
    for row in place.broker.logs[WHERE].rows():
        place.broker.logs[WHERE].append(row.key, row.value, row.timestamp)
    await shard.process(place.chunk())
    await shard.flush()


async def reopened(place: Place, shard: Shard, **build: str) -> Shard:
    """Close it, become another build, and open it anew."""
    await place.shards.close(shard, flush=True)
    place.become(**build)
    return await place.shards.open(place.deployment, WHERE)


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
        publishing = asyncio.create_task(place.vault.publish())
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


# -- where it begins anew ------------------------------------------------------------------------


def anew(place: Place, how: How, name: str = "m") -> None:
    """Somebody says that the agent begins anew, with the spec that it has."""
    deploy = place.deployment.deploy
    place.command(
        control.Migrate(
            id=name,
            agent="a",
            life=1,
            how=how,
            replaces=deploy.digest,
            spec=deploy.spec,
            digest=deploy.digest,
            emit_topic=deploy.emit_topic,
            partitions=1,
            bases=(control.Base(partition=0, epoch=0, next_offset=0, digest=""),),
            anew=True,
        )
    )


@pytest.mark.parametrize(("how", "begin"), [("refold", 0), ("reset", 50)])
def test_what_is_refused_begins_anew_where_somebody_says_so(
    tmp_path: Path, steps_otherwise: Callable[[], None], how: How, begin: int
) -> None:
    """In a new epoch, from the log's beginning or from where the decisions end."""

    async def work(place: Place, shard: Shard) -> None:
        await taken(place, shard)
        steps_otherwise()
        with pytest.raises(OtherBuildError):
            await reopened(place, shard, river="99")
        anew(place, how)
        while place.deployment.epoch < 2:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)
        again = await place.shards.open(place.deployment, WHERE)
        assert (again.origin.epoch, again.next_offset) == (2, begin)
        assert place.deployment.effect("m", WHERE) == 50
        assert place.directory.former("a", range(9), *WHERE) == []
        await place.shards.close(again, flush=True)

    told(tmp_path, work)


def test_a_crash_after_the_effect_begins_it_anew_at_the_same_place(
    tmp_path: Path, steps_otherwise: Callable[[], None]
) -> None:
    """The effect is in the log, the store was not there yet: it is made then."""

    async def work(place: Place, shard: Shard) -> None:
        await taken(place, shard)
        await place.shards.close(shard, flush=True)
        steps_otherwise()
        place.become(river="99")
        anew(place, "reset")
        while place.deployment.epoch < 2:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)
        again = await place.shards.open(place.deployment, WHERE)
        await place.shards.close(again, flush=False)
        place.directory.drop_shard(place.directory.shard_path("a", 2, *WHERE))
        again = await place.shards.open(place.deployment, WHERE)
        assert (again.origin.epoch, again.next_offset) == (2, 50)
        await place.shards.close(again, flush=True)

    told(tmp_path, work)


@pytest.mark.parametrize("where", ["here", "in a snapshot"])
def test_to_begin_anew_is_agreed_to_once(
    tmp_path: Path, steps_otherwise: Callable[[], None], where: str
) -> None:
    """What was learned since is another state: the next build does not throw it away in silence."""

    async def work(place: Place, shard: Shard) -> None:
        anew(place, "reset")
        while shard.origin.epoch < 2:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)
        await more(place, shard)
        if where == "in a snapshot":
            await taken(place, shard)
        await place.shards.close(shard, flush=True)
        if where == "in a snapshot":
            place.directory.drop_agent("a", through=2)
        steps_otherwise()
        place.become(river="99")
        with pytest.raises(OtherBuildError):
            await place.shards.open(place.deployment, WHERE)
        anew(place, "reset", "once more")
        while place.deployment.epoch < 3:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)
        agreed = await place.shards.open(place.deployment, WHERE)
        assert (agreed.origin.epoch, agreed.next_offset) == (3, 100)
        await place.shards.close(agreed, flush=True)

    told(tmp_path, work)


def test_what_a_rewind_left_out_is_not_learned_anew_and_nothing_is_decided_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a refold beside a state that can be read; also after a restart on the way, when old
    decisions have been retired.
    """

    async def work(place: Place, shard: Shard) -> None:
        vouched = await taken(place, shard)
        base = control.Base(partition=0, epoch=1, next_offset=50, digest=vouched.digest)
        await more(place, shard)
        out = Exclusion(decisions=("a/1/events/0/60", "a/1/events/0/61"))
        rollback = control.Rollback(id="r", agent="a", life=1, snapshot_id="a.s1", bases=(base,))
        place.command(structs.replace(rollback, mode="rewind", exclude=out))
        while shard.origin.epoch < 2:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)
        rows = dict(shard.store.scan(KEY_ROW))
        decided = place.broker.logs[Partition("decided", 0)]
        await taken(place, shard, "s2")
        await place.shards.close(shard, flush=True)
        monkeypatch.setattr(Probing, "accepts", lambda *_: ("it goes on otherwise",))
        place.become(river="99")
        anew(place, "refold")
        while place.deployment.epoch < 3:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)
        again = await place.shards.open(place.deployment, WHERE)
        await again.process(Chunk("events", 0, place.chunk().records[:55], 55))
        await place.shards.close(again, flush=True)
        decided.begin = decided.end
        again = await place.shards.open(place.deployment, WHERE)
        await again.process(place.chunk())
        await again.flush()
        assert set(again.store.scan(KEY_ROW)) == set(rows.items())
        assert decided.end == decided.begin
        await place.shards.close(again, flush=True)

    told(tmp_path, work)


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
