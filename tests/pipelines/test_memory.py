"""The memory of all live models of a worker has a bound."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from headrace.errors import StateError
from headrace.pipelines.memory import MemoryBudget, used
from headrace.pipelines.shard import Shard
from headrace.state.memory import MemoryStore
from tests.pipelines.small_shard import Sink, chunk, event, open_shard, rows


async def nobody(shard: Shard, error: StateError) -> None:
    """Where no shard may be given up."""
    raise AssertionError(error)


async def learned(shard: Shard, keys: int, begin: int = 0) -> None:
    """Two events for each of so many keys; what they changed stays unflushed."""
    numbers = range(begin, begin + 2 * keys)
    await shard.process(chunk(*(event(n, f"k{n % keys}") for n in numbers)))


async def test_the_coldest_keys_go_when_models_outgrow_the_budget() -> None:
    """Over all shards live models are brought below the budget, and nothing else changes."""
    stores = [MemoryStore(), MemoryStore()]
    shards = [open_shard(Sink(), store, flush_keys=10_000) for store in stores]
    for shard, keys in zip(shards, (3_000, 100), strict=True):
        await learned(shard, keys)
        await shard.flush()
    whole = used(shards)
    assert whole > 10_000_000
    budget = MemoryBudget(whole // 4, nobody)
    await budget.keep(shards)
    assert used(shards) < whole // 4
    assert shards[1].learner.keys_hot == 100, "a small agent is not cooled for a large one"
    assert budget.cooled == 3_000 - shards[0].learner.keys_hot
    await learned(shards[0], 3_000, 6_000)
    await shards[0].flush()

    free = open_shard(Sink(), unbounded := MemoryStore(), flush_keys=10_000)
    await learned(free, 3_000)
    await learned(free, 3_000, 6_000)
    await free.flush()
    assert rows(stores[0]) == rows(unbounded)


async def test_what_changed_is_flushed_before_it_goes(caplog: pytest.LogCaptureFixture) -> None:
    """Keys that have changed since the last flush cannot go: so the shard is flushed."""
    shard = open_shard(Sink(), store := MemoryStore(), flush_keys=10_000)
    await learned(shard, 2_000)
    await shard.flush()
    await learned(shard, 2_000, 4_000)
    assert shard.learner.dirty_keys == 2_000
    budget = MemoryBudget(used([shard]) // 2, nobody)
    await budget.keep([shard])
    assert (shard.durable_offset, shard.learner.dirty_keys) == (8_000, 0)
    assert used([shard]) < 2_000 * used([shard]) // shard.learner.keys_hot // 2 + 1
    assert len(rows(store)) >= 2_000
    assert "memory.full" not in caplog.text


async def test_a_budget_that_cannot_be_kept_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing can be let go of, as in a shard that must not be flushed, the log says so."""
    shard = open_shard(Sink(), MemoryStore())
    await learned(shard, 5)
    shard._broken = True
    with caplog.at_level(logging.WARNING):
        await MemoryBudget(1, nobody).keep([shard])
    assert shard.learner.keys_hot == 5
    assert "memory.full" in caplog.text


async def test_a_shard_whose_flush_fails_is_given_up_and_the_others_go_on() -> None:
    """A budget flushes what has changed; a disk that fails then concerns its own agent only."""

    class Failing(MemoryStore):
        def write(self, rows: Any, meta: Any) -> None:
            raise StateError("Input/output error")

    given_up: list[Shard] = []

    async def drop(shard: Shard, error: StateError) -> None:
        given_up.append(shard)

    shards = [open_shard(Sink(), store, flush_keys=10_000) for store in (Failing(), MemoryStore())]
    for shard in shards:
        await learned(shard, 500)
    await MemoryBudget(used(shards) // 2, drop).keep(shards)
    assert given_up == shards[:1]
    assert shards[1].durable_offset == 1_000
