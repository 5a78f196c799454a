"""Commands over gRPC, asked again and again until a worker has lived long enough to carry them out.

A worker that dies in the middle leaves it open whether the command is in the control log. Most
commands can be asked twice, and a delete that finds no agent has been carried out before. A
rollback that is asked twice would be two: so whoever asks looks first whether there is a new one.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable
from typing import Literal

from headrace.errors import ConflictError, NotFoundError, RequestError, UnavailableError
from headrace.serving.client import AsyncClient
from headrace.views import AgentView, Exclusion, RollbackRequest, RollbackView, SnapshotView
from tests.crash.agents import KEYS, Agent

RollbackVerb = Literal["rollback", "rollback-keys", "rewind", "undo"]
Verb = Literal["deploy", "delete", "pause", "resume", "snapshot", RollbackVerb]
Ask = Callable[[AsyncClient], Awaitable[bool]]

COMMAND_WAIT_S = 120.0
"""How long a command may take over all the workers that die meanwhile."""
ANSWER_WAIT_S = 12.0
PAUSE_S = 0.1
NEWEST = 8
"""A rollback goes back to one of so many snapshots."""
LOOKS_MAX = 60
"""How often an undo looks for a rollback whose former state is kept: it may be lost with a disk."""
PASSING = (
    "rollback_running",
    "snapshot_incomplete",
    "snapshot_expired",
    "spec_mismatch",  # a snapshot of the agent's former life
    "unknown_snapshot",
)
"""Refusals after which the same, or another snapshot, may be asked for again."""


class AgentFailedError(Exception):
    """An agent has ended, and nothing that a campaign does is a reason for that."""


class Commander:
    """Asks the worker that lives now: `address()` is its gRPC address, None while there is none."""

    def __init__(self, address: Callable[[], str | None], seed: int) -> None:
        self._address = address
        self._chance = random.Random(seed)
        self._named = 0

    async def command(self, verb: Verb, agent: Agent) -> None:
        """Return when the command has taken effect."""
        ask = self._ask(verb, agent)
        async with asyncio.timeout(COMMAND_WAIT_S):
            while not await self._asked(ask):  # noqa: ASYNC110 - no worker may be there
                await asyncio.sleep(PAUSE_S)

    async def caught_up(self, agent: Agent, ends: dict[int, int]) -> None:
        """Return when the agent has handled everything below `ends`, by partition, and all that its
        rollbacks have withdrawn is published.

        Raises AgentFailedError.
        """
        async with asyncio.timeout(COMMAND_WAIT_S):
            while True:
                view = await self._view(agent)
                if view is not None and view.state == "failed":
                    raise AgentFailedError(f"{agent.name}: {view.note}")
                at = {s.partition: s.next_offset for s in view.shards} if view else {}
                handled = all(at.get(partition, -1) >= end for partition, end in ends.items())
                if handled and await self._asked(functools.partial(_published, agent.name)):
                    return
                await asyncio.sleep(PAUSE_S)

    def _ask(self, verb: Verb, agent: Agent) -> Ask:
        if verb in ("rollback", "rollback-keys", "rewind", "undo"):
            return _Rollback(verb, agent.name, self._chance)
        if verb == "snapshot":
            self._named += 1
            return _named_snapshot(agent.name, f"named-{self._named}")
        return _plain(verb, agent)

    async def _asked(self, ask: Ask) -> bool:
        address = self._address()
        if address is None:
            return False
        async with AsyncClient(address, control_timeout_s=ANSWER_WAIT_S) as client:
            try:
                return await ask(client)
            except UnavailableError:
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


def _plain(verb: str, agent: Agent) -> Ask:
    """A command that can be asked twice."""

    async def ask(client: AsyncClient) -> bool:
        try:
            if verb == "deploy":
                await client.deploy(agent.oracle.spec)
            elif verb == "delete":
                await client.delete(agent.name)
            elif verb == "pause":
                await client.pause(agent.name)
            else:
                await client.resume(agent.name)
        except NotFoundError:
            return verb == "delete"
        return True

    return ask


async def _published(agent: str, client: AsyncClient) -> bool:
    """Whether all that rollbacks have withdrawn is told."""
    return all(view.published == view.partitions for view in await client.rollbacks(agent))


def _named_snapshot(agent: str, name: str) -> Ask:
    async def ask(client: AsyncClient) -> bool:
        try:
            return (await client.create_snapshot(agent, name)).complete
        except ConflictError as error:
            if error.code != "snapshot_exists":
                raise
        try:
            return (await client.snapshot(f"{agent}.{name}")).complete
        except ConflictError as error:
            if error.code != "snapshot_incomplete":  # nothing of it is published yet
                raise
            return False

    return ask


class _Rollback:
    """One rollback of an agent, however often it must be asked for."""

    def __init__(self, verb: RollbackVerb, agent: str, chance: random.Random) -> None:
        self._verb = verb
        self._agent = agent
        self._chance = chance
        self._before: set[str] | None = None  # rollbacks that there were
        self._looks = 0

    async def __call__(self, client: AsyncClient) -> bool:
        there = await client.rollbacks(self._agent)
        if self._before is None:
            self._before = {view.control_id for view in there}
        new = [view for view in there if view.control_id not in self._before]
        if new:
            return new[0].done
        kept = [view for view in await client.snapshots(self._agent) if view.complete]
        try:
            if self._verb == "undo":
                return await self._undone(client, there, kept)
            return await self._rolled_back(client, kept)
        except RequestError as error:
            if error.code not in PASSING:
                raise
            return False

    async def _undone(
        self, client: AsyncClient, there: list[RollbackView], kept: list[SnapshotView]
    ) -> bool:
        ids = {view.snapshot_id for view in kept}
        undone = {view.undoes for view in there}
        found = [
            view.control_id
            for view in there
            if view.undo_snapshot_id in ids and view.control_id not in undone
        ]
        self._looks += 1
        if not found:
            return self._looks == LOOKS_MAX
        return (await client.undo_rollback(self._agent, found[0])).done

    async def _rolled_back(self, client: AsyncClient, kept: list[SnapshotView]) -> bool:
        targets = [view.snapshot_id for view in kept if view.kind != "undo"][:NEWEST]
        if not targets:
            return False
        keys = tuple(f"card-{number}" for number in self._chance.sample(range(KEYS), 20))
        rewinds = self._verb == "rewind"
        asked = RollbackRequest(
            agent=self._agent,
            snapshot_id=self._chance.choice(targets),
            mode="rewind" if rewinds else "revert",
            keys=keys if self._verb == "rollback-keys" else (),
            exclude=Exclusion(keys=keys) if rewinds else None,
        )
        return (await client.rollback(asked)).done
