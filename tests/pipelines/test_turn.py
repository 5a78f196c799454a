"""One at a time, in the order in which they asked."""

from __future__ import annotations

import asyncio

import pytest

from headrace.pipelines.turn import Turn


async def test_who_need_not_wait_any_longer_has_not_got_it() -> None:
    """Whoever asked behind him has it next."""
    turn, holds = Turn(), True
    await turn.acquire()
    first = asyncio.ensure_future(turn.taken_while(lambda: holds))
    second = asyncio.ensure_future(turn.taken_while(lambda: True))
    await asyncio.sleep(0)
    holds = False
    assert not await asyncio.wait_for(first, 10)
    assert not second.done()
    turn.release()
    assert await asyncio.wait_for(second, 10)
    turn.release()
    assert not turn.locked()


async def test_it_is_had_in_the_order_in_which_it_was_asked_for() -> None:
    """Also by those who look in between whether it is still worth waiting."""
    turn, told = Turn(), []

    async def one(number: int) -> None:
        assert await turn.taken_while(lambda: True)
        told.append(number)
        await asyncio.sleep(0)
        turn.release()

    await asyncio.wait_for(asyncio.gather(*map(one, range(5))), 10)
    assert told == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("turns", range(6))
async def test_one_who_is_cancelled_keeps_nobody_waiting(turns: int) -> None:
    """Before it is his, in the moment in which it becomes his, or right after."""
    turn = Turn()
    await turn.acquire()
    taking = asyncio.ensure_future(turn.taken_while(lambda: True))
    await asyncio.sleep(0)
    turn.release()
    for _ in range(turns):
        await asyncio.sleep(0)
    taking.cancel()
    had = (await asyncio.gather(taking, return_exceptions=True))[0] is True
    assert turn.locked() == had
