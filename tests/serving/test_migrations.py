"""Migrations beside a deploy, from a client to what serves it and back."""

from __future__ import annotations

import pytest

from headrace.errors import RequestError
from headrace.serving import agent_pb2, migrations
from headrace.serving.client import AsyncClient
from headrace.serving.limits import Limits
from headrace.views import Migration
from tests.serving.world import SPEC, World

OTHER = SPEC.replace("0.9", "0.8")
ALL = [
    *(Migration(how="keep"), Migration(how="reset"), Migration(how="refold")),
    Migration(how="from", snapshot_id="card-fraud.friday"),
]


@pytest.mark.parametrize("migration", ALL)
async def test_what_is_asked_for_arrives(
    client: AsyncClient, world: World, migration: Migration
) -> None:
    """Each of the four, with its snapshot."""
    assert (await client.deploy(OTHER, migration)).changed
    assert world.migrated == [migration]


async def test_a_plan_comes_back_whole(client: AsyncClient) -> None:
    """Where another spec has the name; else there is none."""
    found = (await client.dry_run(OTHER, Migration(how="reset"))).migration
    assert found is not None
    assert (found.spec_version, found.new_spec_version, found.events) == (1, 2, 12)
    assert [change.path for change in found.changes] == ["$.decide"]
    assert [problem.hint for problem in found.keep_problems] == ["deploy it with reset"]
    assert (await client.dry_run(SPEC.replace("card-fraud", "new"))).migration is None


@pytest.mark.parametrize(
    ("mode", "snapshot_id", "path"),
    [
        (0, "", "migration.mode"),
        (17, "", "migration.mode"),
        (agent_pb2.MIGRATION_MODE_FROM, "", "snapshot_id"),
        (agent_pb2.MIGRATION_MODE_KEEP, "card-fraud.friday", "migration.snapshot_id"),
    ],
)
def test_what_contradicts_itself_is_refused(mode: int, snapshot_id: str, path: str) -> None:
    """No mode, one that nobody knows, a snapshot too few or too many."""
    asked = agent_pb2.DeployAgentRequest(spec=b"x")
    asked.migration.mode = mode  # type: ignore[assignment]
    asked.migration.snapshot_id = snapshot_id
    with pytest.raises(RequestError) as refused:
        migrations.asked(asked, Limits())
    assert path in str(refused.value)
