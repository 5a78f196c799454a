"""Commands over gRPC, asked again and again until a worker has lived long enough to carry them out.

A worker that dies in the middle leaves it open whether the command is in the control log. All
commands can be asked twice, and a delete that finds no agent has been carried out before. A
rollback that is asked twice may be done twice: the control log has both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from headrace.errors import ConflictError, NotFoundError, UnavailableError
from headrace.serving.client import AsyncClient
from headrace.views import AgentView, RollbackRequest
from tests.crash.agents import KEYS, Agent

Verb = Literal["deploy", "delete", "pause", "resume", "snapshot", "rollback", "some keys", "undo"]

COMMAND_WAIT_S = 120.0
"""How long a command may take over all the workers that die meanwhile."""
ANSWER_WAIT_S = 12.0
PAUSE_S = 0.1


class Commander:
    """Asks the worker that lives now: `address()` is its gRPC address, None while there is none."""

    def __init__(self, address: Callable[[], str | None]) -> None:
        self._address = address

    async def command(self, verb: Verb, agent: Agent) -> None:
        """Return when the command has taken effect."""
        async with asyncio.timeout(COMMAND_WAIT_S):
            while not await self._asked(verb, agent):  # noqa: ASYNC110 - no worker may be there
                await asyncio.sleep(PAUSE_S)

    async def caught_up(self, agent: Agent, ends: dict[int, int]) -> None:
        """Return when the agent has handled everything below `ends`, by partition."""
        async with asyncio.timeout(COMMAND_WAIT_S):
            while True:
                view = await self._view(agent)
                at = {s.partition: s.next_offset for s in view.shards} if view else {}
                if all(at.get(partition, -1) >= end for partition, end in ends.items()):
                    return
                await asyncio.sleep(PAUSE_S)

    async def _asked(self, verb: Verb, agent: Agent) -> bool:
        address = self._address()
        if address is None:
            return False
        async with AsyncClient(address, control_timeout_s=ANSWER_WAIT_S) as client:
            try:
                return await _done(client, verb, agent)
            except UnavailableError:
                return False
            except NotFoundError:
                return verb in ("delete", "undo")
            except ConflictError as error:
                if error.code not in ("rollback_running", "snapshot_incomplete"):
                    raise
                return False

    async def _view(self, agent: Agent) -> AgentView | None:
        address = self._address()
        if address is None:
            return None
        async with AsyncClient(address, timeout_s=ANSWER_WAIT_S) as client:
            try:
                return await client.agent(agent.name)
            except (UnavailableError, NotFoundError):
                return None


async def _done(client: AsyncClient, verb: Verb, agent: Agent) -> bool:
    """Whether it could be asked for; if so, it has been done."""
    if verb == "deploy":
        await client.deploy(agent.oracle.spec)
    elif verb == "delete":
        await client.delete(agent.name)
    elif verb == "pause":
        await client.pause(agent.name)
    elif verb == "resume":
        await client.resume(agent.name)
    elif verb == "undo":
        await client.undo_rollback(agent.name)
    else:
        there = [view for view in await client.snapshots(agent.name) if view.kind != "undo"]
        if verb == "snapshot":
            await client.create_snapshot(agent.name, f"number-{len(there)}")
            return True
        whole = [view.snapshot_id for view in there if view.complete]
        if not whole:
            return False
        keys = tuple(f"card-{number}" for number in range(0, KEYS, 3))
        request = RollbackRequest(
            agent=agent.name,
            snapshot_id=whole[len(whole) // 2],
            keys=keys if verb == "some keys" else (),
        )
        await client.rollback(request)
    return True
