"""What topics there are, and making those that the service needs.

It never asks for one topic by name: such a question creates the topic where the broker allows
that, and a deploy with a misspelt topic would then wait for events for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from types import MappingProxyType

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from headrace.errors import StateError, UnavailableError
from headrace.logs import fields
from headrace.pipelines import clients
from headrace.pipelines.broker import Broker
from headrace.views import Partition

log = logging.getLogger(__name__)

ANSWER_S = 10.0
"""How long the broker may take to answer one question."""
REPLICAS_MAX = 3
"""Copies of a topic that the service makes; fewer on a smaller cluster."""
CREATE_WAIT_S = 10.0
"""How long a topic that was just made may take to appear in the cluster's metadata."""
CREATE_PAUSE_S = 0.05
METADATA_PAUSE_S = 0.1
FOR_EVER = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
"""What keeps a topic for ever: Kafka deletes a record stamped 1998 at once by time."""
NEWEST_OF_EACH = {**FOR_EVER, "cleanup.policy": "compact"}
"""What keeps the newest record of each key for ever."""


class Topics:
    """Order of calls: `start`, then any question, then `stop`.

    Every question raises UnavailableError `broker_away` when the broker does not answer it.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._admin = AIOKafkaAdminClient(
            bootstrap_servers=broker.bootstrap, request_timeout_ms=int(ANSWER_S * 1000)
        )
        self._counts: dict[str, int] = {}
        self._matching = asyncio.Lock()

    async def start(self) -> None:
        """Raises UnavailableError `broker_away`; then nothing stays open to be stopped."""
        try:
            await self._start()
        except BaseException:
            await self._admin.close()
            raise

    async def _start(self) -> None:
        try:
            await clients.start(self._admin)
            async with asyncio.timeout(ANSWER_S):
                while not self._admin._client.cluster.brokers():
                    # The broker that answered is not registered with its controller yet.
                    await asyncio.sleep(METADATA_PAUSE_S)
                    await self._admin._client.force_metadata_update()
        except KafkaError as error:
            raise _away(error) from error
        except TimeoutError as error:
            raise UnavailableError("broker_away", "the cluster has no broker that is up") from error

    async def stop(self) -> None:
        await self._admin.close()

    async def cluster_id(self) -> str:
        """The identity of the cluster that the logs are on."""
        try:
            return str((await self._admin.describe_cluster())["cluster_id"])
        except KafkaError as error:
            raise _away(error) from error

    async def partition_count(self, topic: str) -> int:
        """How many partitions the topic has; 0: there is no such topic."""
        try:
            described = await self._admin.describe_topics()
        except KafkaError as error:
            raise _away(error) from error
        self._counts = {d["topic"]: len(d["partitions"]) for d in described if not d["error_code"]}
        return self._counts.get(topic, 0)

    def known_partition_count(self, topic: str) -> int:
        """As `partition_count`, without asking: as of the last question."""
        return self._counts.get(topic, 0)

    async def ensure(
        self,
        topic: str,
        *,
        partitions: int,
        ours: bool,
        retention: Mapping[str, str] = MappingProxyType(FOR_EVER),
    ) -> None:
        """Make the topic, kept as `retention` says, unless it is there.

        Raises StateError if it is there with another number of partitions, or if it is `ours` (a
        topic that only the service writes and must be able to read from its beginning) and has
        another retention.
        """
        found = await self.partition_count(topic)
        if not found:
            await self._create(topic, partitions, retention)
            return
        if found != partitions:
            raise StateError(
                f"topic {topic} has {found} partitions and must have {partitions}: "
                "delete it or use another name"
            )
        if ours and self._broker.durable:
            await self._check_kept(topic, retention)

    async def match(self, source: Partition, topic: str) -> None:
        """Make the topic, with as many partitions as the source's has, unless it is there.

        Raises StateError if it has another number. Asks only if it is not known to match.
        """
        async with self._matching:  # all shards of an agent are opened at once
            known = self._counts.get(topic, 0)
            if known != self._counts.get(source.topic) or known <= source.partition:
                partitions = max(await self.partition_count(source.topic), source.partition + 1)
                await self.ensure(topic, partitions=partitions, ours=False)

    async def _create(self, topic: str, partitions: int, retention: Mapping[str, str]) -> None:
        try:
            brokers = (await self._admin.describe_cluster())["brokers"]
            new = NewTopic(
                topic,
                partitions,
                min(REPLICAS_MAX, len(brokers)),
                topic_configs=dict(retention),
            )
            answer = await self._admin.create_topics([new])
        except KafkaError as error:
            raise _away(error) from error
        for _, code, text in answer.topic_errors:
            if code and code != TopicAlreadyExistsError.errno:  # somebody else was faster: fine
                raise StateError(f"topic {topic} cannot be made: {text or for_code(code).__name__}")
        log.info("topic.created", extra=fields(topic=topic, partitions=partitions))
        try:
            async with asyncio.timeout(CREATE_WAIT_S):
                while not await self.partition_count(topic):  # noqa: ASYNC110 - Kafka tells nobody
                    await asyncio.sleep(CREATE_PAUSE_S)
        except TimeoutError as error:
            raise UnavailableError(
                "broker_away", f"topic {topic} was made but does not appear: {CREATE_WAIT_S:g} s"
            ) from error

    async def _check_kept(self, topic: str, retention: Mapping[str, str]) -> None:
        asked = ConfigResource(ConfigResourceType.TOPIC, topic)
        try:
            answers = await self._admin.describe_configs([asked])
        except KafkaError as error:
            raise _away(error) from error
        settings = {
            entry[0]: entry[1]
            for answer in answers
            for resource in answer.resources
            for entry in resource[4]
        }
        wrong = [
            f"{name}={settings[name]} (must be {value})"
            for name, value in retention.items()
            if settings.get(name, value) != value
        ]
        if wrong:
            raise StateError(
                f"topic {topic} must keep what the service wrote, but has {', '.join(wrong)}: "
                f"set it with kafka-configs --alter --entity-type topics --entity-name {topic}"
            )


def _away(error: KafkaError) -> UnavailableError:
    return UnavailableError("broker_away", f"the broker does not answer: {error}")
