"""The fold takes and refuses the commands of the control log as the registry does."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.pipelines import control
from tests.fold.control import lives

SPEC: dict[str, Any] = {"source": {"topic": "t"}}
BASE = control.Base(partition=0, epoch=1, next_offset=5, digest="m")


def effect(control_id: str, epoch: int) -> control.ShardEffect:
    return control.ShardEffect(
        id=f"effect of {control_id}", control_id=control_id, agent="a", epoch=epoch, topic="t",
        partition=0, next_offset=10, worker="w",
    )  # fmt: skip


@pytest.mark.parametrize(("checked_with", "epoch"), [("d1", 2), ("d2", 3), ("", 3)])
def test_a_rollback_that_was_checked_with_a_former_spec_changes_nothing(
    checked_with: str, epoch: int
) -> None:
    """Whoever folds the log: the migration was first."""
    records: list[control.ControlRecord] = [
        control.Deploy(id="c1", agent="a", spec=SPEC, digest="d1", emit_topic="e"),
        effect("c1", 1),
        control.Migrate(
            id="c2", agent="a", life=1, how="reset", replaces="d1", spec=SPEC, digest="d2",
            emit_topic="e", partitions=1,
        ),
        effect("c2", 2),
        control.Rollback(
            id="r", agent="a", life=1, snapshot_id="a.s", bases=(BASE,), spec_digest=checked_with
        ),
    ]  # fmt: skip
    registry = control.Registry()
    for offset, record in enumerate(records):
        registry.apply(record, offset)
    (life,) = lives(map(control.encode, records))
    assert (registry.get("a").epoch, life.last_epoch) == (epoch, epoch)
    assert ("r" in life.replaced) == (epoch == 3)
