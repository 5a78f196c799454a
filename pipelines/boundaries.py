"""Boundaries: what a topic of decisions is told where an epoch begins.

A boundary goes out when all decisions of the epochs before it are acknowledged, and is acknowledged
itself before a state of the new epoch is durable. So no crash loses it; after one it may come
twice, byte for byte the same.
"""

from __future__ import annotations

from headrace.models.decisions import Boundary, encode_boundary
from headrace.pipelines import control
from headrace.pipelines.seams import Sink
from headrace.pipelines.site import origin_of
from headrace.views import Partition, Position


async def send(
    sink: Sink,
    deployment: control.Deployment,
    accepted: control.Accepted,
    partition: Partition,
) -> None:
    """Say in the topic of decisions where the epoch of a rollback or a migration began; a `drain`
    that follows returns when that is acknowledged. Nothing where it does not count, as the agent's
    life is over: it decides nothing in that epoch.
    """
    offset = deployment.effect(accepted.control_id, partition)
    if offset is None:
        return
    name = origin_of(deployment, accepted.epoch, partition).boundary_id()
    boundary = Boundary(
        id=name,
        agent=accepted.agent,
        life=accepted.life,
        epoch=accepted.epoch,
        position=Position(*partition, offset),
        control_id=accepted.control_id,
    )
    to = Partition(deployment.deploy.emit_topic, partition.partition)
    sink.append(to, name.encode(), encode_boundary(boundary))
    await sink.send()
