"""Forgetting a key over gRPC."""

from __future__ import annotations

import pytest

from headrace.errors import RequestError
from headrace.serving.client import AsyncClient
from tests.serving.world import World


async def test_a_preview_says_what_would_be_erased_and_what_not(
    world: World, client: AsyncClient
) -> None:
    """All of it arrives, and nothing is forgotten."""
    found = await client.preview_forget("card-fraud", "4711")
    assert found == await world.forgets.preview("card-fraud", "4711")
    assert found.known
    assert world.forgets.asked == []


async def test_a_forget_is_told_until_it_is_done(world: World, client: AsyncClient) -> None:
    """Not as long as a named snapshot holds the key."""
    begun = await client.forget("card-fraud", "4711")
    assert begun.rewriting == ("card-fraud.friday",)
    assert not begun.done
    assert (await client.get_forget(begun.control_id)).done
    assert world.forgets.asked == [("card-fraud", "4711")]


@pytest.mark.parametrize(
    ("agent", "key", "code"),
    [
        ("nobody", "4711", "unknown_agent"),
        ("card-fraud", "", "invalid_request"),
        ("card-fraud", "k" * 2_000, "too_large"),
    ],
)
async def test_what_is_wrong_is_refused(
    client: AsyncClient, agent: str, key: str, code: str
) -> None:
    """Before anything is forgotten."""
    with pytest.raises(RequestError) as refused:
        await client.forget(agent, key)
    assert refused.value.code == code


async def test_a_control_id_that_forgot_nothing_is_told_so(client: AsyncClient) -> None:
    """It has a code of its own."""
    with pytest.raises(RequestError) as refused:
        await client.get_forget("c" * 32)
    assert refused.value.code == "unknown_forget"
