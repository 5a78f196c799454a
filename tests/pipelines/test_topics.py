"""Topics are described without being made by the question, and made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.cluster import ClusterMetadata

from headrace.errors import StateError, UnavailableError
from headrace.pipelines import topics as of_topics
from headrace.pipelines.broker import Broker, ClusterBroker, MemoryBroker
from headrace.pipelines.topics import Topics


async def test_a_topic_that_is_not_there_has_no_partitions(topics: Topics) -> None:
    """Asking for a topic does not make it, however often."""
    assert await topics.partition_count("asked-only") == 0
    assert await topics.partition_count("asked-only") == 0


async def test_a_topic_is_made_once(topics: Topics) -> None:
    """`ensure` makes a topic with the partitions asked for and then leaves it alone."""
    for _ in range(2):
        await topics.ensure("made", partitions=3, ours=True)
        assert await topics.partition_count("made") == 3
    assert topics.known_partition_count("made") == 3


async def test_another_number_of_partitions_is_refused(topics: Topics) -> None:
    """Keys would change their partition silently: the operator must decide."""
    await topics.ensure("of-two", partitions=2, ours=False)
    with pytest.raises(StateError, match="has 2 partitions and must have 5"):
        await topics.ensure("of-two", partitions=5, ours=False)


async def test_a_topic_that_would_forget_is_refused_on_a_cluster(broker: Broker) -> None:
    """A control log that is compacted or cut by time would lose what was deployed."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    settings = {"cleanup.policy": "compact", "retention.ms": "1000"}
    await admin.create_topics([NewTopic("forgetful", 1, 1, topic_configs=settings)])
    await admin.close()
    topics = Topics(ClusterBroker(broker.bootstrap))
    await topics.start()
    try:
        with pytest.raises(StateError, match=r"cleanup\.policy=compact"):
            await topics.ensure("forgetful", partitions=1, ours=True)
        await topics.ensure("forgetful", partitions=1, ours=False)
    finally:
        await topics.stop()


async def test_the_cluster_is_named(tmp_path: Path) -> None:
    """The embedded broker says the cluster id that it was started with."""
    broker = MemoryBroker(tmp_path)
    await broker.start()
    topics = Topics(broker)
    await topics.start()
    try:
        assert await topics.cluster_id() == broker.cluster_id
    finally:
        await topics.stop()
        await broker.stop()


async def test_a_cluster_that_knows_of_no_broker_yet_is_asked_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that its controller has not taken back in answers with an empty list of brokers."""
    usual = ClusterMetadata.update_metadata
    empty = iter([True, False])

    def first_without_brokers(cluster: ClusterMetadata, metadata: object) -> None:
        if not next(empty, False):
            usual(cluster, metadata)

    monkeypatch.setattr(ClusterMetadata, "update_metadata", first_without_brokers)
    topics = Topics(broker)
    await topics.start()
    try:
        assert await topics.partition_count("asked-only") == 0
    finally:
        await topics.stop()


async def test_a_start_that_fails_leaves_no_connection(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nobody who would stop what has not started."""
    monkeypatch.setattr(ClusterMetadata, "update_metadata", lambda *_: None)
    monkeypatch.setattr(of_topics, "ANSWER_S", 0.2)
    topics = Topics(broker)
    with pytest.raises(UnavailableError):
        await topics.start()
    known = topics._admin._client._conns.values()
    assert [connection.connected() for connection in known] == [False]


async def test_a_broker_that_went_away_is_reported() -> None:
    """Without a broker there is no answer, and the error says so."""
    topics = Topics(ClusterBroker("127.0.0.1:1"))
    with pytest.raises(UnavailableError, match="does not answer"):
        await topics.start()
