"""Chunks through Faust on a real broker: complete, in order, from where they must, no further."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer

from headrace.errors import UnavailableError
from headrace.pipelines.broker import Broker
from headrace.pipelines.topics import Topics
from headrace.pipelines.transport import ChunkConsumer
from headrace.views import Partition
from tests.pipelines.small_worker import Reader, committed, name, produce, reading, texts


async def test_chunks_come_complete_and_in_order_over_three_partitions(
    broker: Broker, topics: Topics
) -> None:
    """Each partition's records arrive once, in offset order, in chunks that join without holes."""
    topic = name("three")
    await topics.ensure(topic, partitions=3, ours=True)
    for partition in range(3):
        await produce(broker, topic, partition, range(3000))
    reader = Reader(broker, name("group"), max_poll_records=500)
    async with reading(reader, topic):
        await reader.until(lambda: reader.read(topic) >= 9000)
        assert reader.streams.assigned(topic) == {Partition(topic, p) for p in range(3)}
        heard = reader.streams.heard(Partition(topic, 0))
        assert heard is not None
        assert heard.end_offset == 3000
    for partition in range(3):
        assert reader.values[Partition(topic, partition)] == texts(range(3000))
        ends = 0
        for chunk in reader.chunks:
            if chunk.partition == partition:
                assert chunk.begins == ends
                assert len(chunk.records) <= 500
                ends = chunk.next_offset
    assert [kind for kind, _ in reader.calls] == ["assigned", "revoked"]


async def test_a_restart_goes_on_at_the_positions_not_at_the_groups(
    broker: Broker, topics: Topics
) -> None:
    """Durable positions decide; the group's offset counts only for a partition without one."""
    topic, group = name("restart"), name("group")
    await topics.ensure(topic, partitions=2, ours=True)
    for partition in range(2):
        await produce(broker, topic, partition, range(100))
    zero, one = Partition(topic, 0), Partition(topic, 1)
    first = Reader(broker, group)
    first.flush_when_revoked = True
    async with reading(first, topic):
        await first.until(lambda: first.read(topic) == 200)
    assert await committed(broker, group, zero) == 100
    for partition in range(2):
        await produce(broker, topic, partition, range(100, 110))
    second = Reader(broker, group)
    second.start_at = {zero: 40}
    async with reading(second, topic):
        await second.until(lambda: second.read(topic) == 80)
    assert second.values == {zero: texts(range(40, 110)), one: texts(range(100, 110))}


async def test_the_committed_offset_never_passes_the_durable_one(
    broker: Broker, topics: Topics
) -> None:
    """What was read and not flushed is not committed, neither by the timer nor at the end."""
    topic, group = name("durable"), name("group")
    await topics.ensure(topic, partitions=1, ours=True)
    await produce(broker, topic, 0, range(1000))
    at = Partition(topic, 0)
    reader = Reader(broker, group)
    async with reading(reader, topic):
        await reader.until(lambda: reader.read(topic) == 1000)
        await asyncio.sleep(0.3)  # the commit timer's interval is 0.2 s
        assert await committed(broker, group, at) is None
        reader.durable[at] = 300
        await asyncio.sleep(0.4)
        assert await committed(broker, group, at) == 300
        reader.durable[at] = 500
    assert await committed(broker, group, at) == 500


async def test_what_is_flushed_at_a_revocation_is_committed(broker: Broker, topics: Topics) -> None:
    """The last commit comes after `on_revoked`, so that a takeover repeats nothing."""
    topic, group = name("revoked"), name("group")
    await topics.ensure(topic, partitions=1, ours=True)
    await produce(broker, topic, 0, range(50))
    reader = Reader(broker, group)
    reader.flush_when_revoked = True
    async with reading(reader, topic):
        await reader.until(lambda: reader.read(topic) == 50)
        await topics.ensure(other := name("other"), partitions=1, ours=True)
        await reader.streams.subscribe(other)
        assert [kind for kind, _ in reader.calls] == ["assigned", "revoked", "assigned"]
        assert await committed(broker, group, Partition(topic, 0)) == 50


async def test_a_rebalance_that_takes_long_ends_all_the_same(
    broker: Broker, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the broker away it may take minutes; Faust alone would give up reading for good."""
    topic = name("long")
    await topics.ensure(topic, partitions=1, ours=True)
    await produce(broker, topic, 0, range(50))
    monkeypatch.setattr("headrace.pipelines.faustapp.REQUEST_TIMEOUT_S", 1.0)
    seek = ChunkConsumer.perform_seek

    async def slow_seek(consumer: ChunkConsumer) -> None:
        await asyncio.sleep(6.0)  # above the request timeout, which is twice the session's
        await seek(consumer)

    monkeypatch.setattr(ChunkConsumer, "perform_seek", slow_seek)
    reader = Reader(broker, name("group"))
    async with reading(reader, topic):
        await reader.until(lambda: reader.read(topic) == 50)
    assert reader.values == {Partition(topic, 0): texts(range(50))}


async def test_a_change_of_the_subscription_is_waited_for_while_the_broker_is_away(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it may take counts from when the broker answers again."""
    monkeypatch.setattr("headrace.pipelines.streams.SUBSCRIBE_WAIT_S", 0.2)
    reader = Reader(broker, name("group"))
    reader.away = True
    waiting = asyncio.ensure_future(reader.streams._wait_until(lambda: False, "it does not flow"))
    await asyncio.sleep(1.5)
    assert not waiting.done()
    reader.away = False
    with pytest.raises(UnavailableError, match="it does not flow after"):
        await waiting


async def test_a_failing_chunk_stops_reading_and_acknowledges_nothing(
    broker: Broker, topics: Topics
) -> None:
    """An error of the infrastructure reaches `failed`; Faust alone would have acked the records."""
    topic, group = name("failing"), name("group")
    await topics.ensure(topic, partitions=1, ours=True)
    await produce(broker, topic, 0, range(1000))
    reader = Reader(broker, group, max_poll_records=100)
    reader.raises["chunk"] = OSError("disk full")
    async with reading(reader, topic):
        with pytest.raises(OSError, match="disk full"):
            await asyncio.wait_for(asyncio.shield(reader.streams.failed), 10)
        del reader.raises["chunk"]
        await asyncio.sleep(0.3)
        assert reader.chunks == []
    assert await committed(broker, group, Partition(topic, 0)) is None


async def test_a_failing_assignment_stops_the_worker(broker: Broker, topics: Topics) -> None:
    """State that cannot be opened reaches `failed` and the one who subscribes."""
    topic = name("unopened")
    await topics.ensure(topic, partitions=1, ours=True)
    await produce(broker, topic, 0, range(10))
    reader = Reader(broker, name("group"))
    reader.raises["assigned"] = RuntimeError("corrupt state")
    await reader.streams.start()
    with pytest.raises(RuntimeError, match="corrupt state"):
        await reader.streams.subscribe(topic)
    assert reader.streams.failed.done()
    await asyncio.wait_for(reader.streams.stop(), 5)
    assert reader.chunks == []


async def test_two_workers_share_and_hand_over(broker: Broker, topics: Topics) -> None:
    """A second worker takes its part from where the first was durable; nothing is lost or twice."""
    topic, group = name("shared"), name("group")
    await topics.ensure(topic, partitions=4, ours=True)
    for partition in range(4):
        await produce(broker, topic, partition, range(500))
    one, two = Reader(broker, group, max_poll_records=50), Reader(broker, group)
    for reader in (one, two):
        reader.flush_when_revoked = True
    two.durable = one.durable  # state moves with the partitions
    one.start_at = two.start_at = one.durable
    async with reading(one, topic):
        await one.until(lambda: one.read(topic) >= 500)
        async with reading(two, topic):
            await one.until(lambda: len(one.streams.assigned(topic)) == 2)
            mine, theirs = one.streams.assigned(topic), two.streams.assigned(topic)
            assert (len(mine), len(theirs), mine & theirs) == (2, 2, set())
            for partition in range(4):
                await produce(broker, topic, partition, range(500, 600))
            await one.until(lambda: one.read(topic) + two.read(topic) >= 2400)
        for partition in range(4):
            await produce(broker, topic, partition, range(600, 700))
        await one.until(lambda: one.read(topic) + two.read(topic) >= 2800)
    for partition in range(4):
        at = Partition(topic, partition)
        both = one.values.get(at, []) + two.values.get(at, [])
        assert sorted(both, key=int) == texts(range(700))


async def test_a_topic_can_be_added_and_dropped_while_others_flow(
    broker: Broker, topics: Topics
) -> None:
    """`subscribe` returns when the new topic flows; the old one goes on where it was."""
    old, new = name("old"), name("new")
    for topic in (old, new):
        await topics.ensure(topic, partitions=2, ours=True)
        await produce(broker, topic, 1, range(100))
    reader = Reader(broker, name("group"))
    reader.flush_when_revoked = True
    reader.start_at = reader.durable
    async with reading(reader, old):
        await reader.until(lambda: reader.read(old) == 100)
        await reader.streams.subscribe(new)
        assert reader.streams.assigned(new) == {Partition(new, 0), Partition(new, 1)}
        await reader.until(lambda: reader.read(new) == 100)
        await reader.streams.unsubscribe(new)
        assert set(reader.streams.topics) == {old}
        assert reader.streams.assigned(new) == set()
        await produce(broker, old, 1, range(100, 120))
        await produce(broker, new, 1, range(100, 120))
        await reader.until(lambda: reader.read(old) == 120)
        await reader.streams.unsubscribe(old)
        assert set(reader.streams.topics) == set()
        await reader.streams.subscribe(old)
        await produce(broker, old, 1, range(120, 130))
        await reader.until(lambda: reader.read(old) == 130)
    assert reader.values[Partition(old, 1)] == texts(range(130))
    assert reader.values[Partition(new, 1)] == texts(range(100))


async def test_streams_without_any_topic_start_and_stop(broker: Broker) -> None:
    """Nothing deployed yet is a normal state."""
    reader = Reader(broker, name("group"))
    async with reading(reader):
        assert set(reader.streams.topics) == set()
        assert reader.streams.heard(Partition("none", 0)) is None
        await reader.streams.unsubscribe("none")
        await reader.streams.rewind(Partition("none", 0), 0)
    assert not reader.streams.failed.done()


@pytest.mark.parametrize("flowing", [False, True])
async def test_a_stop_does_not_wait_for_a_subscription(
    broker: Broker, topics: Topics, flowing: bool
) -> None:
    """Ctrl-C during a deploy ends the service at once, whether it reads other topics or none."""
    first, second = name("first"), name("second")
    for topic in (first, second):
        await topics.ensure(topic, partitions=1, ours=False)
    reader = Reader(broker, name("group"))
    if flowing:
        await reader.streams.subscribe(first)
    subscribing = asyncio.create_task(reader.streams.subscribe(second))
    await asyncio.sleep(0.3)
    await asyncio.wait_for(reader.streams.stop(), 3)
    (error,) = await asyncio.gather(subscribing, return_exceptions=True)
    if broker.durable:  # Kafka may have formed the group by then
        assert error is None or "stopping" in str(error)
    else:
        assert isinstance(error, UnavailableError)
        assert "stopping" in str(error)
    assert not reader.streams.failed.done()


async def test_a_rewind_reads_again_without_a_rebalance(broker: Broker, topics: Topics) -> None:
    """An agent deployed with `start: earliest` on a topic already read gets it from the start."""
    topic = name("rewound")
    await topics.ensure(topic, partitions=2, ours=True)
    for partition in range(2):
        await produce(broker, topic, partition, range(1000))
    at = Partition(topic, 1)
    reader = Reader(broker, name("group"), max_poll_records=100)
    async with reading(reader, topic):
        await reader.until(lambda: reader.read(topic) == 2000)
        started = asyncio.get_running_loop().time()
        reader.positions[at] = 0
        await reader.streams.rewind(at, 0)
        await reader.until(lambda: reader.read(topic) == 3000)
        assert asyncio.get_running_loop().time() - started < 1.0
        assert reader.values[at] == texts(range(1000)) * 2
        assert [kind for kind, _ in reader.calls] == ["assigned"]


@pytest.mark.parametrize("codec", ["gzip", "lz4", "snappy", "zstd"])
async def test_compressed_batches_are_read(broker: Broker, topics: Topics, codec: str) -> None:
    """Topics in the wild are compressed in four ways."""
    topic = name(codec)
    await topics.ensure(topic, partitions=1, ours=True)
    await produce(broker, topic, 0, range(2000), compression=codec)
    reader = Reader(broker, name("group"))
    async with reading(reader, topic):
        await reader.until(lambda: reader.read(topic) == 2000)
    assert reader.values[Partition(topic, 0)] == texts(range(2000))


async def test_any_bytes_reach_the_agent(broker: Broker, topics: Topics) -> None:
    """No bytes, empty bytes and bytes that are no JSON are records too; the guard judges them."""
    topic = name("bytes")
    await topics.ensure(topic, partitions=1, ours=True)
    values = [None, b"", b"\xff\xfe", b"{", b"0" * 1_000_000, b"last"]
    async with AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap, max_request_size=2 << 20
    ) as producer:
        for value in values:
            await producer.send_and_wait(
                topic, value, key=b"k", headers=[("Faust-Ag-ReplyTo", b"x")]
            )
    reader = Reader(broker, name("group"))
    async with reading(reader, topic):
        await reader.until(lambda: reader.read(topic) == len(values))
    assert [r.value for c in reader.chunks for r in c.records] == values
