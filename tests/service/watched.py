"""What an agent has written, when all of it is there: it goes out behind what was learned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from headrace.serving.client import AsyncClient

Records = list[dict[str, Any]]

PATIENCE_S = 60.0
"""How long what is missing may stay away; reading what is there may take longer."""


async def decisions(client: AsyncClient, agent: str) -> Records:
    """All in the topic, when there are as many as the agent has accepted events."""
    until = _now() + PATIENCE_S
    while True:
        accepted = sum(shard.accepted for shard in (await client.agent(agent)).shards)
        made = await _all(client.watch_decisions(agent, from_start=True, follow=False))
        if len({decision["id"] for decision in made}) >= accepted:
            return made
        assert _now() < until, f"{agent} has accepted {accepted} and told of {len(made)}"
        await asyncio.sleep(0.02)


async def quarantine(client: AsyncClient, agent: str) -> Records:
    """All in the topic, when there is as much as the agent has refused."""
    until = _now() + PATIENCE_S
    while True:
        refused = sum(shard.quarantined for shard in (await client.agent(agent)).shards)
        kept = await _all(client.watch_quarantine(agent, from_start=True, follow=False))
        if len({tuple(record["position"].values()) for record in kept}) >= refused:
            return kept
        assert _now() < until, f"{agent} has refused {refused} and kept {len(kept)}"
        await asyncio.sleep(0.02)


async def _all(watch: AsyncIterator[dict[str, Any]]) -> Records:
    return [record async for record in watch]


def _now() -> float:
    return asyncio.get_running_loop().time()
