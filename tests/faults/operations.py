"""What is done while faults strike: each ends with all of its old state or with all of the new."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.faults.life import ASKED, BASE, KEYS, LATER, Life, deploy, snapshot

Work = Callable[[Life], Awaitable[None]]
Stand = tuple[int, int]  # epoch and next offset of the newest state on the disk
_EARLIER = ((1, 40), (1, 60))  # these begin with a flush, which is all or nothing by itself


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What is done, after what. `old` and `new`: where the shard on the disk may stand before and
    after it; None: there is none. `named`: the snapshot that is there after it, and not before.
    `disk_lost`: it begins without a state directory.
    """

    before: Work
    act: Work
    old: tuple[Stand | None, ...]
    new: Stand
    named: str = ""
    disk_lost: bool = False


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
    await life.command(life.rollback(rewind=True))
    await life.published()


OPERATIONS = {
    "flush": Operation(before=_learn_more, act=_flush, old=((1, 40),), new=(1, 60)),
    "snapshot": Operation(
        before=_learn_more, act=_snapshot, old=_EARLIER, new=(1, 60), named=ASKED
    ),
    "revert": Operation(before=_learn_more, act=_revert, old=_EARLIER, new=(2, 60)),
    "revert of keys": Operation(before=_learn_more, act=_revert_keys, old=_EARLIER, new=(2, 60)),
    "rewind": Operation(before=_learn_more, act=_rewind, old=_EARLIER, new=(2, 60)),
    "restore": Operation(before=Life.read, act=Life.open, old=(None,), new=(1, 40), disk_lost=True),
}
