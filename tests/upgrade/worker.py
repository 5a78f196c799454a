"""A service in the Python that runs this, on a broker that outlives it, until its input ends.

Not `headrace up`, because that takes every cluster for one that knows transactions, which the
embedded broker of the tests does not.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from headrace import logs
from headrace.config import Config
from headrace.pipelines.broker import ClusterBroker
from headrace.service import EMBEDDED_SESSION_S, Service


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """Which service it is; `transactions`: whether its broker can do them."""

    bootstrap: str
    transactions: bool
    app: str
    state_dir: str


async def live(life: Life) -> None:
    """Say on which address it listens when it is ready."""
    logs.setup(level="error", style="plain", stream=sys.stderr)
    broker = ClusterBroker(life.bootstrap)
    broker.can_transactions = broker.can_start_at_timestamp = life.transactions
    state_dir = Path(life.state_dir)
    config = Config(
        app=life.app,
        grpc_port=0,
        metrics_port=None,
        state_dir=state_dir,
        session_timeout_s=EMBEDDED_SESSION_S,
    )
    service = Service(config, broker=broker)
    await service.start()
    sys.stdout.write(f"{service.grpc_address}\n")
    sys.stdout.flush()
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.wait((ended, service.failed), return_when=asyncio.FIRST_COMPLETED)
    await service.stop()


if __name__ == "__main__":
    asyncio.run(live(msgspec.json.decode(sys.argv[1], type=Life)))
