"""Bytes that come over the event loop, read by a thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headrace.errors import RequestError, UnavailableError
from headrace.pipelines.archives import _Incoming


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_bytes_come_as_they_are_asked_for() -> None:
    """Whatever their pieces, empty ones too; fewer only at the end."""
    incoming = _Incoming(pieces(b"ri", b"", b"verbank"))
    read = [await asyncio.to_thread(incoming.read, count) for count in (1, 5, 5, 5)]
    assert read == [b"r", b"iverb", b"ank", b""]


async def test_what_goes_wrong_at_the_source_is_what_the_thread_hears() -> None:
    """Say, a client that sends nothing."""

    async def failing() -> AsyncIterator[bytes]:
        yield b"some"
        raise RequestError("deadline", "the client has sent nothing")

    with pytest.raises(RequestError, match="sent nothing"):
        await asyncio.to_thread(_Incoming(failing()).read, 100)


async def test_a_thread_that_waits_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caller has left; nor does it wait again, or take for the end what was broken off."""
    waits = asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        yield b"some"
        waits.set()
        await asyncio.Event().wait()

    incoming = _Incoming(silent())
    reading = asyncio.create_task(asyncio.to_thread(incoming.read, 100))
    await waits.wait()
    incoming.close()
    ask = asyncio.run_coroutine_threadsafe

    def slowly(*arguments: Any) -> concurrent.futures.Future[Any]:
        asked = ask(*arguments)
        time.sleep(0.1)  # the event loop comes first
        return asked

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", slowly)
    for wait in (reading, asyncio.to_thread(incoming.read, 100)):
        with pytest.raises(UnavailableError):
            await asyncio.wait_for(wait, 30)
