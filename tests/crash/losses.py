"""Disks that are lost: what had been decided by then is not decided again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
from aiokafka.structs import ConsumerRecord

from headrace.pipelines.broker import Broker
from tests.crash.agents import Agent
from tests.crash.logs import read
from tests.fold.control import Life


@dataclass(frozen=True)
class Mark:
    """Of one partition of decisions: where it ended, and on which event the last decision was."""

    end: int
    epoch: int
    offset: int


Loss = dict[tuple[str, int], Mark]
"""What a worker had decided when its disk was lost, by agent and partition."""


async def marked(broker: Broker, agents: Iterable[Agent]) -> Loss:
    """What is decided now."""
    found: Loss = {}
    for agent in agents:
        for partition, records in (await read(broker, agent.emit_topic)).items():
            if records:
                epoch, offset = _place(records[-1])
                found[agent.name, partition] = Mark(records[-1].offset + 1, epoch, offset)
    return found


def told_again(mark: Mark, life: Life, records: Sequence[ConsumerRecord]) -> list[int]:
    """Events whose decisions were sent again, although they were in the topic when the disk was
    lost; `records` are those of the partition, `life` the agent's.
    """
    if mark.epoch not in life.epochs:
        return []
    decided = (record for record in records if b'"cause":"event"' in record.value)
    later = [_place(record) for record in decided if record.offset >= mark.end]
    return [offset for epoch, offset in later if epoch in life.epochs and offset <= mark.offset]


def _place(record: ConsumerRecord) -> tuple[int, int]:
    """Of a decision: its epoch, and the offset of its event; of a boundary the one before it."""
    told = msgspec.json.decode(record.value)
    return told["epoch"], told["position"]["offset"] - (told["cause"] == "boundary")
