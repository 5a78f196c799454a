"""What is done while faults strike: each ends with all of its old state or with all of the new."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from headrace.pipelines.site import log_effect
from headrace.views import Exclusion
from tests.faults.journal import mark
from tests.faults.life import AGENT, ASKED, BASE, KEYS, LATER, WHERE, Life, deploy, snapshot

Work = Callable[[Life], Awaitable[None]]
Stand = tuple[int, int]  # epoch and next offset of the newest state on the disk
LEFT_OUT = Exclusion(keys=KEYS[:1])
_EARLIER = ((1, 40), (1, 60))  # these begin with a flush, which is all or nothing by itself


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What is done, after what. `old` and `new`: where the shard on the disk may stand before and
    after it; None: there is none. `named`: the snapshot that is there after it, and not before.
    `disk_lost`: it begins without a state directory. `older`: where it stands if the newest
    snapshot cannot be read.
    """

    before: Work
    act: Work
    old: tuple[Stand | None, ...]
    new: Stand
    named: str = ""
    disk_lost: bool = False
    older: Stand | None = None


async def past(life: Life) -> None:
    """What lies behind every operation: 40 records learned, and two snapshots."""
    await life.read()
    await life.command(deploy())
    await life.open()
    for upto, snapshot_id in ((20, BASE), (40, LATER)):
        await life.learn(upto)
        await life.command(snapshot(snapshot_id))
    await life.published()
    await life.stop()


async def _learn_more(life: Life) -> None:
    await life.start()
    await life.learn(60)


async def _flush(life: Life) -> None:
    await life.shard.flush()
    mark("flushed")
    await life.shards.close(life.shard, flush=False)


async def _snapshot(life: Life) -> None:
    await life.command(snapshot(ASKED))
    await life.published()


async def _revert(life: Life) -> None:
    await life.command(life.rollback())
    await life.published()


async def _revert_keys(life: Life) -> None:
    await life.command(life.rollback(KEYS))
    await life.published()


async def _rewind(life: Life) -> None:
    await life.command(life.rollback(exclude=LEFT_OUT))
    await life.published()


async def _rewind_keys(life: Life) -> None:
    await life.command(life.rollback(KEYS, exclude=LEFT_OUT))
    await life.published()


async def _rolled_back(life: Life) -> None:
    await _learn_more(life)
    await _revert(life)
    await life.learn(70)


async def _undo(life: Life) -> None:
    await life.command(life.undo())
    await life.published()


async def _killed_in_revert(life: Life) -> None:
    """The command and its effect are in the log, and nothing has come of it."""
    await life.read()
    await life.controls.append(life.rollback())
    deployment = life.controls.registry.get(AGENT)
    await log_effect(life.site, life.controls, deployment.commands[-1], (WHERE, 40))


async def _open(life: Life) -> None:
    await life.open()
    await life.published()


OPERATIONS = {
    "flush": Operation(before=_learn_more, act=_flush, old=((1, 40),), new=(1, 60)),
    "snapshot": Operation(
        before=_learn_more, act=_snapshot, old=_EARLIER, new=(1, 60), named=ASKED
    ),
    "revert": Operation(before=_learn_more, act=_revert, old=_EARLIER, new=(2, 60)),
    "revert of keys": Operation(before=_learn_more, act=_revert_keys, old=_EARLIER, new=(2, 60)),
    "revert after a kill": Operation(
        before=_killed_in_revert, act=_open, old=((1, 40),), new=(2, 40)
    ),
    "rewind": Operation(before=_learn_more, act=_rewind, old=_EARLIER, new=(2, 60)),
    "rewind of keys": Operation(before=_learn_more, act=_rewind_keys, old=_EARLIER, new=(2, 60)),
    "undo": Operation(before=_rolled_back, act=_undo, old=((2, 60), (2, 70)), new=(3, 70)),
    "restore": Operation(
        before=Life.read, act=_open, old=(None,), new=(1, 40), disk_lost=True, older=(1, 20)
    ),
}
