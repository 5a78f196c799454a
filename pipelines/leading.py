"""Which snapshots lead to a shard's present state, and which of them are worth a try."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from headrace.pipelines import control
from headrace.state.catalogue import Catalogue, Vouched
from headrace.state.manifest import Versions
from headrace.views import Partition

OTHER_BUILDS_MAX = 3
"""Snapshots that other builds wrote of which the probes are tried, the newest, for one shard."""


def leading_here(
    catalogue: Catalogue, deployment: control.Deployment, partition: Partition
) -> list[Vouched]:
    """Snapshots of a shard that lead to its present state, newest first."""
    return [
        vouched
        for vouched in catalogue.newest(deployment.agent, *partition)
        if vouched.spec_digest == deployment.version_at(vouched.epoch, partition).digest
        and deployment.life <= vouched.epoch <= deployment.epoch
        and leads(vouched.epoch, vouched.next_offset, deployment, partition)
    ]


def worth_a_try(published: Iterable[Vouched], versions: Versions) -> Iterator[Vouched]:
    """All of this build, and some of others: what does not go on here in the newest of them rarely
    does in an older one, and to fetch each takes long.
    """
    others = 0
    for vouched in published:
        others += vouched.versions != versions
        if vouched.versions == versions or others <= OTHER_BUILDS_MAX:
            yield vouched


def leads(
    epoch: int, next_offset: int, deployment: control.Deployment, partition: Partition
) -> bool:
    """Whether what ended this epoch counts from there on, or from later; and the log says where it
    began: else what began it would be done once more, on the state that came of it.
    """
    for accepted in deployment.replacements():
        effect = deployment.effect(accepted.control_id, partition)
        if accepted.epoch == epoch and effect is None:
            return False
        if accepted.epoch > epoch:
            return effect is None or next_offset <= effect
    return True
