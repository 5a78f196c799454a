"""Stopping a client takes a bounded time, and whoever is cancelled meanwhile ends."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from headrace.pipelines import clients

TURNS = 12


class Client:
    """A client that takes some turns of the event loop to stop."""

    async def stop(self) -> None:
        for _ in range(TURNS // 2):
            await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(TURNS))
async def test_a_cancellation_at_any_moment_of_a_stop_is_not_swallowed(turns: int) -> None:
    """Who stops a client while being cancelled would go on otherwise, and wait for what is gone."""
    after: list[str] = []

    async def stop() -> None:
        await clients.stop(cast(Any, Client()))
        after.append("went on")

    stopping = asyncio.create_task(stop())
    for _ in range(turns):
        await asyncio.sleep(0)
    in_time = stopping.cancel()
    await asyncio.wait({stopping})
    assert (stopping.cancelled(), after) == ((True, []) if in_time else (False, ["went on"]))
