"""What of Faust we rely on, and which of its defects we work around.

For each defect the stock behaviour is asserted too: an upgrade that heals it fails here and the
workaround can go. The last tests hold the private names that we override or call.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, cast

import faust
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.consumer.fetcher import Fetcher as AioFetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.consumer.subscription_state import TopicPartitionState
from faust.app import App
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.conductor import Conductor
from faust.transport.consumer import Consumer
from faust.transport.drivers import aiokafka as stock
from faust.types import TP

from headrace.config import Config
from headrace.pipelines.broker import Broker
from headrace.pipelines.faustapp import FaustApp
from headrace.pipelines.order import PartitionOrder
from headrace.pipelines.readable import FetchedRecord
from headrace.pipelines.transport import ChunkConsumer
from headrace.views import Partition
from tests.pipelines.small_worker import Reader, committed, name, produce, reading

AT = TP("t", 0)


class Positions:
    def __init__(self) -> None:
        self.durable: int | None = None

    def next_offset(self, partition: Partition) -> int | None:
        return None

    def durable_offset(self, partition: Partition) -> int | None:
        return self.durable


def plain_app(group: str, bootstrap: str = "127.0.0.1:1") -> Any:
    """A Faust app as its manual has it, with the stock driver."""
    return faust.App(
        group,
        broker=f"kafka://{bootstrap}",
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        stream_wait_empty=True,
        broker_session_timeout=2.0,
        broker_heartbeat_interval=0.5,
        broker_commit_interval=0.2,
        datadir="/nonexistent",
    )


@pytest.fixture
async def theirs() -> AsyncIterator[stock.Consumer]:
    """Faust's own consumer, not started."""
    consumer = plain_app("contract").consumer
    yield consumer
    consumer._thread.thread_loop.close()


@pytest.fixture
async def ours() -> AsyncIterator[ChunkConsumer]:
    """Our consumer, not started."""
    app = FaustApp(Config(), "127.0.0.1:1", Positions(), asyncio.Event(), lambda _: None)
    yield app.chunks
    app.chunks._thread.thread_loop.close()


# -- defects that can be shown without a broker ------------------------------------------------


class Settings(NamedTuple):
    """How aiokafka's consumer was set up."""

    fetch_wait_ms: int
    isolation: str
    reset: str


async def settings(consumer: stock.Consumer) -> Settings:
    made = consumer._thread._create_worker_consumer(cast(Any, consumer.transport))
    await made.stop()
    return Settings(made._fetch_max_wait_ms, made._isolation_level, made._auto_offset_reset)


async def test_stock_waits_a_second_and_a_half_for_a_dry_partition(
    theirs: stock.Consumer, ours: ChunkConsumer
) -> None:
    """A dry partition's long poll starves the others of its broker: ours polls for 50 ms."""
    assert (await settings(theirs)).fetch_wait_ms == 1500
    assert (await settings(ours)).fetch_wait_ms == 50


async def test_stock_reads_what_was_aborted(theirs: stock.Consumer, ours: ChunkConsumer) -> None:
    """Records of aborted transactions must not be learned: ours reads committed ones."""
    assert (await settings(theirs)).isolation == "read_uncommitted"
    assert (await settings(ours)).isolation == "read_committed"


async def test_stock_jumps_over_what_the_log_has_lost(
    theirs: stock.Consumer, ours: ChunkConsumer
) -> None:
    """Out of range, stock goes to the earliest record without a word: ours fails."""
    assert (await settings(theirs)).reset == "earliest"
    assert (await settings(ours)).reset == "none"


async def test_stock_commits_past_a_message_in_work(theirs: stock.Consumer) -> None:
    """Acked 11 while 10 is in work, stock commits 12 and 10 is lost by a crash (#606)."""
    theirs._committed_offset[AT] = 10
    theirs._acked[AT] = [11]
    assert theirs._new_offset(AT) == 12


async def test_stock_never_commits_again_after_a_gap(theirs: stock.Consumer) -> None:
    """A hole between the committed and the acked offsets blocks commits for good (#596)."""
    theirs._committed_offset[AT] = 10
    theirs._acked[AT] = [20, 21]
    assert theirs._new_offset(AT) is None


async def test_ours_commits_what_is_durable_whatever_was_acked(ours: ChunkConsumer) -> None:
    """Acknowledgements do not count: the durable offset does."""
    positions = ours.transport.positions
    assert isinstance(positions, Positions)
    for durable in (None, 10, 15):
        positions.durable = durable
        ours._committed_offset[AT] = 10
        ours._acked[AT] = [11, 12, 20, 21]
        assert ours._new_offset(AT) == durable


async def test_stock_forgets_acks_before_the_last_commit(theirs: stock.Consumer) -> None:
    """At a revocation stock drops the acks and then commits: all since the last commit repeat."""
    theirs._acked[AT] = [0, 1, 2]
    at_commit: list[int | None] = []

    async def revoked(_: Any) -> None:
        at_commit.append(theirs._new_offset(AT))

    theirs._on_partitions_revoked = revoked
    await theirs.on_partitions_revoked({AT})
    assert at_commit == [None]


async def test_ours_still_knows_what_is_durable_at_the_last_commit(ours: ChunkConsumer) -> None:
    """While Faust revokes, positions are there; only afterwards they are forgotten."""
    positions = ours.transport.positions
    assert isinstance(positions, Positions)
    positions.durable = 3
    ours._orders[AT] = PartitionOrder(3, 1)
    at_commit: list[int | None] = []

    async def revoked(_: Any) -> None:
        at_commit.append(ours._new_offset(AT))
        assert AT in ours._orders

    async def no_commit(*_: Any, **__: Any) -> bool:
        return False  # there is no broker here

    ours._on_partitions_revoked = revoked
    ours.force_commit = no_commit  # type: ignore[method-assign]
    await ours.on_partitions_revoked({AT})
    assert at_commit == [3]
    assert AT not in ours._orders


async def test_stock_waits_45_seconds_for_a_new_topic(ours: ChunkConsumer) -> None:
    """A topic added at run time would flow after most of a minute."""
    assert Conductor._resubscribe_sleep_lock_seconds == 45.0
    assert isinstance(ours.app, FaustApp)
    assert ours.app.conductor._resubscribe_sleep_lock_seconds < 0.1


async def test_stock_waits_a_second_for_tables() -> None:
    """Ours has none, so `NoTables` starts at once with what follows that wait."""
    assert "self.sleep(1.0)" in inspect.getsource(TableManager.on_start)


async def test_stock_acks_a_batch_whose_processing_failed() -> None:
    """`take` acks in a `finally`: a batch that raised is lost. We use no `take`."""
    app = plain_app("take")
    channel = app.channel()
    stream = app.stream(channel)
    app.flow_control.resume()
    acked: list[Any] = []

    async def ack(event: Any) -> bool:
        acked.append(event.value)
        return True

    stream.ack = ack
    for value in (1, 2, 3):
        await channel.send(value=value)
    taken = stream.take(3, within=5)
    assert await anext(taken) == [1, 2, 3]
    with pytest.raises(ValueError, match="in the body"):
        await taken.athrow(ValueError("in the body"))
    assert acked == [1, 2, 3]
    app.consumer._thread.thread_loop.close()


# -- defects that need a broker ----------------------------------------------------------------


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    """The plain app while it runs; it makes no directories."""
    app._create_directories = lambda: None
    await app.start()
    try:
        yield
    finally:
        await app.stop()


async def test_stock_acks_what_an_agent_failed_on(broker: Broker, topics: Any) -> None:
    """An exception in an agent acks its event: committed, never redelivered, lost."""
    topic, group = name("stock"), name("group")
    await topics.ensure(topic, partitions=1, ours=False)
    await produce(broker, topic, 0, range(3))
    app = plain_app(group, broker.bootstrap)
    seen: list[bytes] = []
    third = asyncio.Event()

    async def failing(stream: Any) -> None:
        async for value in stream:
            seen.append(value)
            if len(seen) == 3:
                third.set()
            if value == b"1":
                raise OSError("disk full")

    app.agent(app.topic(topic, value_serializer="raw"), name="failing")(failing)
    async with running(app):
        await asyncio.wait_for(third.wait(), 10)
    assert seen == [b"0", b"1", b"2"]
    assert await committed(broker, group, Partition(topic, 0)) == 3


async def test_stock_agents_die_of_bytes_they_cannot_decode(broker: Broker, topics: Any) -> None:
    """A record that is no JSON crashes the agent and is skipped, unseen by it.

    Ours are given bytes: see `test_any_bytes_reach_the_agent`.
    """
    topic = name("stock")
    await topics.ensure(topic, partitions=1, ours=False)
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        for value in (b"1", b"{no json", b"2"):
            await producer.send_and_wait(topic, value)
    app = plain_app(name("group"), broker.bootstrap)
    seen: list[str] = []
    last = asyncio.Event()

    async def decoding(stream: Any) -> None:
        seen.append("started")
        async for value in stream:
            seen.append(str(value))
            if value == 2:
                last.set()

    app.agent(app.topic(topic, value_serializer="json"), name="decoding")(decoding)
    async with running(app):
        await asyncio.wait_for(last.wait(), 10)
    assert seen == ["started", "1", "started", "2"]


async def test_a_commit_for_a_partition_that_is_gone_stops_nothing(
    broker: Broker, topics: Any
) -> None:
    """The group's offset is but a hint to us, so no failure of a commit is worth a stop."""
    topic = name("commit")
    await topics.ensure(topic, partitions=1, ours=False)
    await produce(broker, topic, 0, range(10))
    reader = Reader(broker, name("group"))
    async with reading(reader, topic):
        app = reader.streams._app
        assert app is not None
        assert not await app.chunks._thread.commit({TP(topic, 7): 5})
        await reader.until(lambda: reader.read(topic) == 10)
    assert not reader.streams.failed.done()


# -- private names -----------------------------------------------------------------------------

OVERRIDDEN = {
    (Consumer, "_drain_messages"): ("self", "fetcher"),
    (Consumer, "_wait_next_records"): ("self", "timeout"),
    (Consumer, "_new_offset"): ("self", "tp"),
    (Consumer, "_commit"): ("self", "offsets"),
    (Consumer, "perform_seek"): ("self",),
    (Consumer, "force_commit"): ("self", "topics", "start_new_transaction"),
    (Consumer, "wait_empty"): ("self",),
    (Consumer, "on_partitions_revoked"): ("self", "revoked"),
    (Consumer, "verify_event_path"): ("self", "now", "tp"),
    (Consumer, "stop_flow"): ("self",),
    (stock.Consumer, "subscribe"): ("self", "topics"),
    (stock.Consumer, "_new_consumer_thread"): ("self",),
    (stock.AIOKafkaConsumerThread, "_create_worker_consumer"): ("self", "transport"),
    (stock.AIOKafkaConsumerThread, "_commit"): ("self", "offsets"),
    (stock.AIOKafkaConsumerThread, "_ensure_consumer"): ("self",),
    (stock.AIOKafkaConsumerThread, "_fetch_records"): (
        "self",
        "consumer",
        "active_partitions",
        "timeout",
        "max_records",
    ),
    (stock.AIOKafkaConsumerThread, "on_thread_stop"): ("self",),
    (stock.AIOKafkaConsumerThread, "call_thread"): ("self", "fun", "args", "kwargs"),
    (PartitionRecords, "_consumer_record"): ("self", "tp", "record"),
    (Conductor, "_flag_changes"): ("self",),
    (App, "_create_directories"): ("self",),
    (App, "_on_rebalance_when_stopped"): ("self",),
    (App, "on_rebalance_end"): ("self",),
    (Recovery, "_resume_streams"): ("self", "generation_id"),
    (TableManager, "_update_channels"): ("self",),
}


@pytest.mark.parametrize(
    ("owner", "called", "parameters"),
    [(owner, called, takes) for (owner, called), takes in OVERRIDDEN.items()],
    ids=[f"{owner.__name__}.{called}" for owner, called in OVERRIDDEN],
)
def test_private_names_are_as_we_use_them(
    owner: type, called: str, parameters: tuple[str, ...]
) -> None:
    """What we override or call exists and takes what we think."""
    assert tuple(inspect.signature(getattr(owner, called)).parameters) == parameters


def test_positions_are_sought_after_shards_were_opened_and_before_flow() -> None:
    """Faust awaits `on_rebalance_complete`, then seeks, then lets records flow."""
    source = inspect.getsource(Recovery._resume_streams)
    steps = ["on_rebalance_complete.send", "perform_seek", "resume_flow", "on_rebalance_end"]
    places = [source.index(step) for step in steps]
    assert places == sorted(places)


def test_shards_are_told_of_a_revocation_after_the_last_chunk() -> None:
    """Faust sends `on_partitions_revoked` when flow is stopped and streams are idle."""
    source = inspect.getsource(App._on_partitions_revoked)
    steps = ["stop_flow", "_consumer_wait_empty", "on_partitions_revoked.send"]
    places = [source.index(step) for step in steps]
    assert places == sorted(places)


async def test_a_seek_voids_what_aiokafka_has_fetched() -> None:
    """After `seek_to` no record of the former position is returned, nor an error about it."""
    source = inspect.getsource(AioFetcher.seek_to)
    assert "_subscriptions.seek" in source
    assert "del self._records[tp]" in source


async def test_the_position_tells_where_the_next_chunk_begins() -> None:
    """A partition's state has the position behind the records, markers included."""
    state = TopicPartitionState(None)
    state.seek(5)
    state.consumed_to(9)
    assert state.position == 9
    assert state.highwater is None


async def test_records_are_made_as_they_are_used(broker: Broker, topics: Any) -> None:
    """Records are our own: offset, timestamp, key and value, no more."""
    topic = name("lean")
    await topics.ensure(topic, partitions=1, ours=False)
    await produce(broker, topic, 0, range(4000))
    reader = Reader(broker, name("group"), max_poll_records=100)
    async with reading(reader, topic):
        await reader.until(lambda: reader.read(topic) == 4000)
    kinds = [{type(record) for record in chunk.records} for chunk in reader.chunks]
    assert kinds == [{FetchedRecord}] * len(kinds)


async def test_the_app_opens_nothing_to_the_outside() -> None:
    """No web server, no autodiscovery, no topics made by Faust, and bytes that nobody decodes."""
    app = FaustApp(Config(), "127.0.0.1:1", Positions(), asyncio.Event(), lambda _: None)
    conf: Any = app.conf
    assert (conf.key_serializer, conf.value_serializer) == ("raw", "raw")
    assert conf.web_enabled is False
    assert conf.autodiscover is False
    assert conf.topic_allow_declare is False
