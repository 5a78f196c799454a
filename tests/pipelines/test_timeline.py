"""Which state a shard had when, and what it can be made from."""

from __future__ import annotations

from headrace.pipelines import control
from headrace.pipelines.past.timeline import Start, Stretch, Timeline, events
from headrace.state.catalogue import Vouched
from headrace.state.manifest import Versions
from headrace.views import Partition

WHERE = Partition("readings", 0)
DIGEST = "d" * 64
BUILD = Versions(headrace="0", river="0", numpy="0", codec="0", python="0")


def vouched(name: str, epoch: int, next_offset: int, spec_digest: str = DIGEST) -> Vouched:
    """A snapshot of the one partition."""
    return Vouched(
        snapshot_id=f"warmth.{name}",
        agent="warmth",
        kind="named",
        epoch=epoch,
        spec_version=1,
        spec_digest=spec_digest,
        topic="readings",
        partition=0,
        partitions=1,
        next_offset=next_offset,
        created_ms=next_offset,
        digest="ab" * 32,
        size_bytes=1,
        new_bytes=1,
        versions=BUILD,
    )


def rollback(name: str, base: Vouched, mode: control.Mode = "revert") -> control.Rollback:
    place = control.Base(
        partition=0, epoch=base.epoch, next_offset=base.next_offset, digest=base.digest
    )
    return control.Rollback(
        id=name,
        agent="warmth",
        life=1,
        snapshot_id=base.snapshot_id,
        bases=(place,),
        mode=mode,
    )


def timeline(*told: tuple[control.Command, int], published: tuple[Vouched, ...] = ()) -> Timeline:
    """Of an agent that began at offset 10; commands with where they counted, in the order of the
    control log.
    """
    registry = control.Registry()
    deploy = control.Deploy(
        id="d",
        agent="warmth",
        spec={"source": {"topic": "readings"}},
        digest=DIGEST,
        emit_topic="e",
    )
    offset = 0
    for command, at in ((deploy, 10), *told):
        registry.apply(command, offset)
        effect = control.ShardEffect(
            id=f"{command.id}/e",
            control_id=command.id,
            agent="warmth",
            epoch=registry.get("warmth").epoch,
            topic="readings",
            partition=0,
            next_offset=at,
            worker="w",
        )
        registry.apply(effect, offset + 1)
        offset += 2
    return Timeline(registry.get("warmth"), WHERE, published)


def counted(found: Timeline, start: Start, offset: int) -> list[tuple[str, int]]:
    course = found.course(start, offset)
    return [(each.accepted.control_id, each.offset) for each in course.counted]


def test_a_command_that_overtook_a_rewind_counts_before_it() -> None:
    """The rewind was asked for first, and counted when it had caught up."""
    base = vouched("s", 1, 20)
    pause = control.Pause(id="p", agent="warmth")
    found = timeline((rollback("r", base, "rewind"), 50), (pause, 40), published=(base,))
    (start, _) = found.starts(60)
    assert counted(found, start, 60) == [("p", 40), ("r", 50)]
    assert counted(found, start, 49) == [("p", 40)]


def test_the_nearest_snapshot_comes_first_and_the_deploy_last() -> None:
    """Of another spec, or from after the offset, there are none."""
    near, far = vouched("near", 1, 40), vouched("far", 1, 20)
    others = (vouched("later", 1, 41), vouched("other", 1, 30, "e" * 64))
    found = timeline(published=(*others, near, far))
    assert found.starts(40) == [Start(1, 40, near), Start(1, 20, far), Start(1, 10)]


def test_what_lies_behind_the_end_of_its_epoch_leads_nowhere() -> None:
    """A state that learned on although it had been rolled back is on nobody's way."""
    base, astray = vouched("base", 1, 20), vouched("astray", 1, 51)
    found = timeline((rollback("r", base), 50), published=(astray, base))
    assert [start.vouched for start in found.starts(60)] == [base, None]
    assert [start.vouched for start in found.starts(49)] == [base, None]


def test_at_the_offset_of_a_rollback_the_new_epoch_has_begun() -> None:
    """The undo snapshot stands there too, in the old one: from it the rollback is done again."""
    base, undo = vouched("base", 1, 20), vouched("undo", 1, 50)
    found = timeline((rollback("r", base), 50), published=(undo, base))
    assert [found.epoch_at(offset) for offset in (49, 50)] == [1, 2]
    start = found.starts(50)[0]
    assert start.vouched is undo
    assert counted(found, start, 50) == [("r", 50)]


def test_a_rewind_on_the_way_is_learned_again_too() -> None:
    """What it costs says so; from behind it, it does not count."""
    base, after = vouched("base", 1, 20), vouched("after", 2, 55)
    found = timeline((rollback("r", base, "rewind"), 50), published=(after, base))
    near, far, _ = found.starts(60)
    assert found.stretches(near, 60) == [Stretch(55, 60)]
    assert found.stretches(far, 60) == [Stretch(20, 60), Stretch(20, 50)]
    assert events(found.stretches(far, 60)) == 70


def test_pauses_from_before_the_start_hold_on() -> None:
    """Whether the agent learns is not in a snapshot."""
    base = vouched("base", 1, 30)
    found = timeline((control.Pause(id="p", agent="warmth"), 15), published=(base,))
    assert counted(found, found.starts(40)[0], 40) == [("p", 15)]
