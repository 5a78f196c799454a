"""A shard whose agent was deleted ends at the position that the control log states."""

from __future__ import annotations

import pytest

from headrace.models.decisions import decode_decision
from headrace.state.memory import MemoryStore
from tests.pipelines.small_shard import DECISIONS, Sink, as_logged, chunk, event, open_shard


@pytest.mark.parametrize("decided_below", [0, 4])
async def test_after_its_delete_a_shard_handles_no_event(decided_below: int) -> None:
    """Between the effect of a delete and the shard's close others may have their turn: what lies
    at the effect's offset or behind it is not decided any more, also inside a chunk.
    """
    sink = Sink()
    shard = open_shard(sink, MemoryStore(), decided_below=decided_below)
    await shard.process(chunk(event(0), event(1)))
    await shard.apply("delete", 9, as_logged)
    await shard.process(chunk(*(event(n) for n in range(2, 8))))
    decided = [decode_decision(value).offset for value in sink.of(DECISIONS)]
    assert decided == list(range(max(2, decided_below)))
