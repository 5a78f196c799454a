"""A server before a small real backend, beside commands that run in this process."""

from __future__ import annotations

import asyncio
from threading import Event, Thread

from headrace.serving.server import Listen, Server
from tests.serving.world import World


class Served:
    """A server before a `World`, on a thread of its own; the world is ours to change."""

    def __init__(self) -> None:
        self.world = World()
        self.target = ""
        self._loop = asyncio.new_event_loop()
        self._ready = Event()
        self._end = asyncio.Event()
        self._thread = Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = Server(self.world.backend, Listen(port=0))
        self.target = f"127.0.0.1:{await server.start()}"
        self._ready.set()
        await self._end.wait()
        await server.stop(0.2)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
