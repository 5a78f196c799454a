"""The process in which workers live and die: it imports everything once, then forks.

Started by the harness (`tests.crash.nursery`). Each line of its input is the order of one life;
it forks a child for that, waits for the child's end, and says so. The child composes the real
service. Nothing runs before the fork but imports, so no thread and no lock is inherited.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from headrace import logs
from headrace.config import Config
from headrace.pipelines.broker import ClusterBroker
from headrace.service import Service
from tests.crash.aims import Aim
from tests.crash.life import Life, Said, decode_life
from tests.crash.protections import take_away
from tests.crash.troubles import make_trouble

COMMIT_INTERVAL_S = 0.2
CONTROL_TIMEOUT_S = 10.0
PR_SET_PDEATHSIG = 1

Say = Callable[[Said], None]


class LentBroker(ClusterBroker):
    """The harness's broker, of which `transactions` says whether it can do them."""

    def __init__(self, life: Life) -> None:
        super().__init__(life.bootstrap)
        self.can_transactions = life.transactions
        self.can_start_at_timestamp = life.transactions


def main() -> None:
    """Bear one child per line of the input, until the input ends."""
    _die_with(os.getppid())
    channel = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no word of ours

    def say(said: Said) -> None:
        os.write(channel, msgspec.json.encode(said) + b"\n")

    nursery = os.getpid()
    for line in sys.stdin.buffer:
        pid = os.fork()
        if pid == 0:
            _die_with(nursery)
            os._exit(_child(decode_life(line), say))
        say(Said(pid=pid, what="born"))
        _, status = os.waitpid(pid, 0)
        say(Said(pid=pid, what="ended", text=str(os.waitstatus_to_exitcode(status))))


def _child(life: Life, say: Say) -> int:
    try:
        asyncio.run(_live(life, say))
    except BaseException:  # noqa: BLE001 - it must not return into the nursery's loop
        traceback.print_exc()
        return 1
    return 0


async def _live(life: Life, say: Say) -> None:
    logs.setup(level="info", style="plain", stream=sys.stderr)
    take_away(life.without)
    make_trouble(life.troubles)
    pid = os.getpid()
    aim = Aim(life, lambda: say(Said(pid=pid, what="aimed", text=life.point or "")))
    aim.install()
    config = Config(
        broker=f"kafka://{life.bootstrap}",
        app=life.app,
        grpc_port=0,
        metrics_port=None,
        state_dir=Path(life.state),
        snapshots=life.snapshots,
        session_timeout_s=life.session_s,
        commit_interval_s=COMMIT_INTERVAL_S,
        control_timeout_s=CONTROL_TIMEOUT_S,
    )
    service = Service(config, broker=LentBroker(life))
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    await service.start()
    try:
        say(Said(pid=pid, what="ready", text=service.grpc_address))
        aim.armed = True
        waiting = asyncio.ensure_future(asked.wait())
        either: set[asyncio.Future[Any]] = {waiting, service.failed}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
    finally:
        await service.stop()
    if service.failed.done():
        service.failed.result()


def _die_with(parent: int) -> None:
    """Nothing of a test that was killed is left behind; on other systems its input ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has died before
            os._exit(1)


if __name__ == "__main__":
    main()
