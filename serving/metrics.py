"""Prometheus `/metrics`, on a port of its own.

What is frequent is counted as it happens (`Requests`); what the shards know anyway is read when
somebody scrapes (`AgentsCollector`). Scrapes come in on threads of prometheus-client's server and
hop to the event loop, where alone the shards may be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Thread
from typing import TypeVar
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from headrace.errors import StateError, UnavailableError
from headrace.ports import Directory
from headrace.views import AgentView, ShardView, SnapshotsStanding

SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0)
_T = TypeVar("_T")


class Requests:
    """Calls by method and gRPC code, and the latency by method of those that brought a message."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "headrace_requests", "gRPC calls that ended.", ["method", "code"], registry=registry
        )
        self._seconds = Histogram(
            "headrace_request_seconds",
            "Time from the request's message, its first if it has many, to the last of the answer.",
            ["method"],
            buckets=SECONDS,
            registry=registry,
        )

    def observe(self, method: str, code: str, seconds: float | None) -> None:
        """Count one call; None: it ended before a message was there, and is counted only.

        `method` is one that is served, so the labels are bounded.
        """
        self._calls.labels(method, code).inc()
        if seconds is not None:
            self._seconds.labels(method).observe(seconds)


class AgentsCollector(Collector):
    """All agents as they stand at the time of the scrape.

    A worker that starts, stops or has failed answers for no agent. It can be scraped all the same,
    or nobody would see that it is not ready: the families of its agents are empty then. They are
    not 0, which would read as a counter that began anew.
    """

    def __init__(
        self, directory: Directory, loop: asyncio.AbstractEventLoop, *, scrape_s: float
    ) -> None:
        self._directory = directory
        self._loop = loop
        self._scrape_s = scrape_s

    def describe(self) -> Iterable[Metric]:
        return ()  # else the registry would scrape once at registration, on the loop itself

    def collect(self) -> Iterator[Metric]:
        ready, away_s, agents, kept = asyncio.run_coroutine_threadsafe(
            self._read(), self._loop
        ).result(self._scrape_s)
        gauge = GaugeMetricFamily("headrace_ready", "1 when all shards answer.")
        gauge.add_metric([], float(ready))
        yield gauge
        away = GaugeMetricFamily(
            "headrace_broker_away_seconds", "Since the broker's last answer; 0 while it answers."
        )
        away.add_metric([], away_s)
        yield away
        yield from _agents(agents)
        yield from _shards(agents)
        yield from _scores(agents)
        yield from _snapshots(kept)

    async def _read(self) -> tuple[bool, float, Sequence[AgentView], SnapshotsStanding | None]:
        directory = self._directory
        ready, away_s = directory.ready(), directory.broker_away_s()
        agents = _told(directory.agents) or ()
        return ready, away_s, agents, _told(directory.snapshots_standing)


def _told(question: Callable[[], _T]) -> _T | None:
    """What the worker says now; None: it cannot say."""
    try:
        return question()
    except UnavailableError:
        return None


def _agents(agents: Sequence[AgentView]) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "headrace_agent", "1 for each agent.", labels=["agent", "state", "spec_version", "epoch"]
    )
    for agent in agents:
        info.add_metric([agent.name, agent.state, str(agent.spec_version), str(agent.epoch)], 1.0)
    yield info


def _shards(agents: Sequence[AgentView]) -> Iterator[Metric]:
    labels = ["agent", "topic", "partition"]
    accepted = CounterMetricFamily(
        "headrace_events_accepted", "Events learned from or parked.", labels=labels
    )
    quarantined = CounterMetricFamily(
        "headrace_events_quarantined", "Refused events.", labels=labels
    )
    learned = CounterMetricFamily("headrace_events_learned", "Updates of models.", labels=labels)
    lag = GaugeMetricFamily("headrace_lag", "Records not read yet.", labels=labels)
    behind = GaugeMetricFamily("headrace_unflushed", "Records not durable yet.", labels=labels)
    heard = GaugeMetricFamily(
        "headrace_heard_age_seconds",
        "Since the broker last said where the log ends.",
        labels=labels,
    )
    waits = GaugeMetricFamily(
        "headrace_flush_waits", "1 where the state waits for room on the disk.", labels=labels
    )
    hot = GaugeMetricFamily("headrace_keys_hot", "Models in memory.", labels=labels)
    lost = CounterMetricFamily(
        "headrace_labels_lost", "Waiting labels dropped at pending_max.", labels=labels
    )
    full = GaugeMetricFamily(
        "headrace_keys_full", "Keys that stopped learning at row_bytes_max.", labels=labels
    )
    for agent in agents:
        for shard in agent.shards:
            names = [agent.name, shard.topic, str(shard.partition)]
            accepted.add_metric(names, shard.accepted)
            quarantined.add_metric(names, shard.quarantined)
            learned.add_metric(names, shard.learned)
            hot.add_metric(names, shard.keys_hot)
            lost.add_metric(names, shard.labels_lost)
            full.add_metric(names, shard.keys_full)
            behind.add_metric(names, shard.next_offset - shard.durable_offset)
            waits.add_metric(names, float(bool(shard.waits_for)))
            if shard.heard_ms is not None:
                heard.add_metric(names, shard.heard_ms / 1000)
            if shard.end_offset is not None:
                lag.add_metric(names, _lag(shard.end_offset, shard))
    yield from (accepted, quarantined, learned, lag, behind, heard, waits, hot, lost, full)


def _lag(end_offset: int, shard: ShardView) -> int:
    # The end is read now and then; the shard may already be beyond what was read.
    return max(0, end_offset - shard.next_offset)


def _scores(agents: Sequence[AgentView]) -> Iterator[Metric]:
    value = GaugeMetricFamily("headrace_metric", "Prequential metric.", labels=["agent", "metric"])
    baseline = GaugeMetricFamily(
        "headrace_metric_baseline",
        "The baseline's on the same events.",
        labels=["agent", "metric", "baseline"],
    )
    for agent in agents:
        for metric in agent.metrics:
            value.add_metric([agent.name, metric.name], metric.value)
            if metric.baseline is not None:
                baseline.add_metric(
                    [agent.name, metric.name, metric.baseline_name or ""], metric.baseline
                )
    yield from (value, baseline)


def _snapshots(kept: SnapshotsStanding | None) -> Iterator[Metric]:
    refused = CounterMetricFamily(
        "headrace_snapshots_refused",
        "Snapshots that were not as the logs say; an older one was used.",
    )
    owed = GaugeMetricFamily("headrace_snapshots_owed", "Shards taken and not published yet.")
    owed_age = GaugeMetricFamily(
        "headrace_snapshots_owed_age_seconds", "Since the oldest of these was taken."
    )
    age = GaugeMetricFamily(
        "headrace_snapshot_age_seconds", "Of the newest complete snapshot.", labels=["agent"]
    )
    behind = GaugeMetricFamily(
        "headrace_snapshot_behind",
        "Records learned here since the newest complete snapshot.",
        labels=["agent"],
    )
    if kept is not None:
        refused.add_metric([], kept.refused)
        owed.add_metric([], kept.owed)
        owed_age.add_metric([], kept.owed_s)
        for one in kept.newest:
            age.add_metric([one.agent], one.age_s)
            behind.add_metric([one.agent], one.behind)
    yield from (refused, owed, owed_age, age, behind)


class MetricsServer:
    """The HTTP side. Call `start`, then `await stop()` once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._http: tuple[WSGIServer, Thread] | None = None

    def start(self, host: str, port: int) -> int:
        """Serve and return the bound port. Raises StateError when it is taken."""
        try:
            self._http = start_http_server(port, host, self._registry)
        except OSError as error:
            raise StateError(
                f"port {port} is taken on {host} ({error.strerror}); stop what listens there or"
                " choose another metrics port"
            ) from error
        return self._http[0].server_port

    async def stop(self) -> None:
        if self._http is None:
            return
        server, thread = self._http
        self._http = None
        # Off the loop: a scrape under way still needs the loop to end.
        await asyncio.to_thread(server.shutdown)
        await asyncio.to_thread(server.server_close)
        await asyncio.to_thread(thread.join)
