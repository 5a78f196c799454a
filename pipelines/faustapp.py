"""Faust, set up to run inside another program."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import faust
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import Message
from yarl import URL

from headrace.config import Config
from headrace.pipelines.transport import ChunkConsumer, ChunkTransport
from headrace.ports import ReadingPositions

RESUBSCRIBE_PAUSE_S = 0.05
"""How long Faust gathers changes of the subscription before it makes them (its own: 45 s)."""
REQUEST_TIMEOUT_S = 40.0
"""Of one request to the broker; Kafka wants it above the session timeout."""


class FaustApp(faust.App):
    """No web server, no directory of its own, no leader, no acknowledgements."""

    def __init__(
        self,
        config: Config,
        bootstrap: str,
        positions: ReadingPositions,
        settled: asyncio.Event,
        ended: Callable[[asyncio.Future[Any]], None],
    ) -> None:
        super().__init__(
            config.app,
            broker=f"kafka://{bootstrap.replace(',', ';')}",
            autodiscover=False,
            web_enabled=False,
            canonical_url=URL.build(scheme="http", host=config.grpc_host, port=config.grpc_port),
            topic_allow_declare=False,
            topic_disable_leader=True,
            # Without it Faust takes aiokafka's assignor, and its router knows no owners.
            table_standby_replicas=1,
            TableManager=NoTables,
            stream_wait_empty=True,
            key_serializer="raw",
            value_serializer="raw",
            broker_commit_interval=config.commit_interval_s,
            broker_max_poll_records=config.max_poll_records,
            broker_session_timeout=config.session_timeout_s,
            broker_heartbeat_interval=config.session_timeout_s / 4,
            broker_request_timeout=max(REQUEST_TIMEOUT_S, config.session_timeout_s * 2),
        )
        self.transport = ChunkTransport(config, bootstrap, self, positions, ended)
        self.conductor._resubscribe_sleep_lock_seconds = RESUBSCRIBE_PAUSE_S
        self.flowing: frozenset[str] = frozenset()  # topics whose partitions are given out
        self._is_settled = settled

    @property
    def chunks(self) -> ChunkConsumer:
        consumer = self.consumer
        assert isinstance(consumer, ChunkConsumer)
        return consumer

    @property
    def driver(self) -> ChunkTransport:
        transport = self.transport
        assert isinstance(transport, ChunkTransport)
        return transport

    @property
    def conductor(self) -> Any:
        """Faust's keeper of subscriptions; what we need of it is private."""
        return self.topics

    @property
    def consumer_started(self) -> bool:
        return self._consumer is not None and self.chunks.subscription is not None

    def chunk_topic(self, name: str) -> Any:
        """The topic as a channel of chunks. No acknowledgements: what is durable is asked for."""
        return self.topic(name, schema=ChunkSchema(), acks=False)

    def nudge(self, wanted: set[str]) -> None:
        """Make Faust look at its subscription again if it is not as wanted."""
        subscription = self.chunks.subscription
        if subscription is not None and set(subscription.topics) != wanted:
            self.conductor._flag_changes()

    def on_rebalance_end(self) -> None:
        """Faust calls it when partitions have been given out and flow."""
        super().on_rebalance_end()
        subscription = self.chunks.subscription
        if subscription is not None and subscription.assignment is not None:
            self.flowing = frozenset(subscription.topics)
            self._is_settled.set()

    def _on_rebalance_when_stopped(self) -> None:
        """Nothing: the thread stops its consumer itself, in a moment.

        Faust's own closes it under the thread, which then cannot leave the group any more; and that
        waits a session timeout for a member that is gone.
        """

    def _create_directories(self) -> None:
        """None: there are no tables."""


class NoTables(TableManager):
    """Faust's own waits a second at its start for tables to be declared: there are none."""

    @property
    def recovery(self) -> Recovery:
        if self._recovery is None:
            self._recovery = PatientRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class PatientRecovery(Recovery):
    """Lets partitions flow after a rebalance, however long the broker is away meanwhile.

    Faust's own takes the end of its patience for the end of the app, and serves no rebalance more.
    """

    async def _wait(
        self,
        coro: Any,
        timeout: Any = None,  # noqa: ASYNC109 - Faust's signature
    ) -> None:
        await super()._wait(coro)


class ChunkSchema(faust.Schema[Any, Any]):
    """Hands the driver's chunk on as it is: bytes are decoded where a bad one can be refused."""

    def loads_key(self, app: Any, message: Message, **_: Any) -> None:
        """Records have keys, chunks do not."""

    def loads_value(self, app: Any, message: Message, **_: Any) -> Any:
        return message.value
