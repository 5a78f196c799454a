"""Whether the broker is taken for away, and whether it is rightly."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter

import pytest

from headrace.errors import UnavailableError
from headrace.pipelines import presence
from headrace.pipelines.broker import Broker, ask
from headrace.pipelines.presence import Presence


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("ASK_S", 0.05), ("ASK_AGAIN_S", 0.05), ("ANSWER_S", 1.0)):
        monkeypatch.setattr(presence, name, seconds)


async def test_who_stood_still_does_not_blame_the_broker(
    broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was busy while its question was open asks again before it says a word."""
    asked: list[float] = []
    enough = asyncio.Event()

    async def stood_still(bootstrap: str, timeout_s: float) -> None:
        asked.append(perf_counter())
        if len(asked) == 3:
            enough.set()
        if len(asked) == 1:
            asyncio.get_running_loop().call_soon(stand_still)
        await ask(bootstrap, timeout_s)

    def stand_still() -> None:
        while perf_counter() < asked[0] + 2 * presence.ANSWER_S:
            pass

    monkeypatch.setattr(presence, "ask", stood_still)
    watching = asyncio.create_task(Presence(broker).watch())
    with caplog.at_level(logging.WARNING):
        await enough.wait()
    watching.cancel()
    assert asked[1] - asked[0] > presence.ANSWER_S
    assert "broker.away" not in caplog.text


async def test_a_broker_that_is_gone_is_away(broker: Broker) -> None:
    """Asking twice does not hide it."""

    class Gone:
        bootstrap = "127.0.0.1:1"

        def ended(self) -> bool:
            return False

    watched = Presence(Gone())  # type: ignore[arg-type]  # of a broker it asks only these
    watching = asyncio.create_task(watched.watch())
    async with asyncio.timeout(5):
        while not watched.away_s:  # noqa: ASYNC110 - it asks many times a second
            await asyncio.sleep(0.02)
    with pytest.raises(UnavailableError, match="has not answered"):
        watched.check()
    watching.cancel()
