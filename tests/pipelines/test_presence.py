"""Whether the broker is taken for away, and whether it is rightly."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter

import pytest

from headrace.errors import UnavailableError
from headrace.pipelines import presence
from headrace.pipelines.broker import Broker
from headrace.pipelines.presence import Presence


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("ASK_S", 0.05), ("ASK_AGAIN_S", 0.05), ("ANSWER_S", 0.3)):
        monkeypatch.setattr(presence, name, seconds)


async def test_who_stood_still_does_not_blame_the_broker(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that was busy while its question was open asks again before it says a word."""
    watching = asyncio.create_task(Presence(broker).watch())
    with caplog.at_level(logging.WARNING):
        for turn in range(60):
            await asyncio.sleep(0.005)
            if turn % 10 == 0:
                until = perf_counter() + 0.4
                while perf_counter() < until:
                    pass
    watching.cancel()
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
