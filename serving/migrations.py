"""Migrations as protobuf messages and back: asked for beside a deploy, planned in a dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.serving import agent_pb2
from headrace.serving.decode import invalid, violations
from headrace.serving.decode_snapshots import snapshot_id
from headrace.serving.encode import violations as encoded
from headrace.views import How, Migration, MigrationPlan

if TYPE_CHECKING:
    from headrace.serving.limits import Limits  # it loads the models

MODES: dict[How, agent_pb2.MigrationMode] = {
    "keep": agent_pb2.MIGRATION_MODE_KEEP,
    "reset": agent_pb2.MIGRATION_MODE_RESET,
    "refold": agent_pb2.MIGRATION_MODE_REFOLD,
    "from": agent_pb2.MIGRATION_MODE_FROM,
}
_NAMES = {number: how for how, number in MODES.items()}


def request(spec: bytes, migration: Migration | None, *, dry_run: bool) -> Any:
    """A deploy, as a client asks for it."""
    asked = agent_pb2.DeployAgentRequest(spec=spec, dry_run=dry_run)
    if migration is not None:
        asked.migration.mode = MODES[migration.how]
        asked.migration.snapshot_id = migration.snapshot_id
    return asked


def asked(found: agent_pb2.DeployAgentRequest, limits: Limits) -> Migration | None:
    """What a client asked for; None: nothing. Raises RequestError."""
    if not found.HasField("migration"):
        return None
    how = _NAMES.get(found.migration.mode)
    if how is None:
        raise invalid("migration.mode", f"is not known; give {', '.join(MODES)}")
    if how == "from":
        return Migration(how=how, snapshot_id=snapshot_id(found.migration.snapshot_id, limits))
    if found.migration.snapshot_id:
        raise invalid("migration.snapshot_id", f"is for mode from; {how} needs no snapshot")
    return Migration(how=how)


def plan(found: MigrationPlan) -> agent_pb2.MigrationPlan:
    """What would change."""
    return agent_pb2.MigrationPlan(
        spec_version=found.spec_version,
        new_spec_version=found.new_spec_version,
        changes=encoded(found.changes),
        keep_problems=encoded(found.keep_problems),
        events=found.events,
    )


def decoded(found: agent_pb2.DryRun) -> MigrationPlan | None:
    """The plan in a dry run, if there is one."""
    if not found.HasField("migration"):
        return None
    told = found.migration
    return MigrationPlan(
        spec_version=told.spec_version,
        new_spec_version=told.new_spec_version,
        changes=tuple(violations(told.changes)),
        keep_problems=tuple(violations(told.keep_problems)),
        events=told.events,
    )
