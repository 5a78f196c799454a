"""The registry is a pure fold of the control log."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headrace.errors import ConflictError, NotFoundError, OverloadError, StateError
from headrace.pipelines import control
from headrace.pipelines.control import (
    Delete,
    Deploy,
    Hello,
    Migrate,
    Pause,
    Registry,
    Resume,
    Rollback,
    ShardEffect,
)
from headrace.pipelines.control import registry as registry_module
from headrace.views import Partition


def deploy(control_id: str, agent: str = "a", digest: str = "d1", emit: str = "") -> Deploy:
    return Deploy(
        id=control_id, agent=agent, spec={}, digest=digest, emit_topic=emit or f"d.{agent}"
    )


def migrate(control_id: str, digest: str, replaces: str = "d1", life: int = 1) -> Migrate:
    return Migrate(
        id=control_id,
        agent="a",
        life=life,
        how="reset",
        replaces=replaces,
        spec={},
        digest=digest,
        emit_topic="d.a",
        partitions=2,
    )


def rollback(control_id: str, **more: Any) -> Rollback:
    """Of both partitions, to a snapshot of the first epoch."""
    bases = tuple(
        control.Base(partition=number, epoch=1, next_offset=5, digest="m") for number in (0, 1)
    )
    return Rollback(id=control_id, agent="a", life=1, snapshot_id="a.s", bases=bases, **more)


def effect(control_id: str, partition: int, offset: int, epoch: int = 1) -> ShardEffect:
    return ShardEffect(
        id=f"{control_id}/t/{partition}",
        control_id=control_id,
        agent="a",
        epoch=epoch,
        topic="t",
        partition=partition,
        next_offset=offset,
        worker="w",
    )


def fold(*records: control.ControlRecord) -> Registry:
    registry = Registry()
    for offset, record in enumerate(records):
        registry.apply(control.decode(control.encode(record)), offset)
    return registry


def test_deploy_begins_epoch_and_spec_version_one() -> None:
    """The first deploy of a name is epoch 1 of spec version 1."""
    deployment = fold(Hello(id="h", worker="w"), deploy("c1")).get("a")
    assert (deployment.epoch, deployment.spec_version, deployment.paused) == (1, 1, False)


def test_same_digest_twice_changes_nothing() -> None:
    """Deploying the same digest again is a no-op, so a lost answer may be asked for again."""
    registry = fold(deploy("c1"), deploy("c2"))
    assert registry.outcome("c2") == (None, None)
    assert [c.control_id for c in registry.get("a").commands] == ["c1"]


def test_agents_names_and_commands_have_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond each bound a command is refused by the log itself, for every reader alike."""
    monkeypatch.setattr(registry_module, "AGENTS_MAX", 2)
    monkeypatch.setattr(registry_module, "NAMES_MAX", 3)
    monkeypatch.setattr(registry_module, "COMMANDS_MAX", 4)
    registry = fold(
        *(deploy("c1", "a"), deploy("c2", "b"), deploy("c3", "c"), deploy("c4", "a")),
        *(Delete(id="c5", agent="b"), deploy("c6", "c"), Delete(id="c7", agent="c")),
        *(deploy("c8", "d"), deploy("c9", "c")),
        *(
            Pause(id=f"p{n}", agent="a") if n % 2 == 0 else Resume(id=f"p{n}", agent="a")
            for n in range(6)
        ),
    )
    refused = {name: registry.outcome(name).refused for name in ("c3", "c8", "p4", "p5")}
    said = {name: str(error) for name, error in refused.items()}
    assert "2 agents already" in said["c3"]
    assert "3 names have been used" in said["c8"]
    assert "has had 4 commands" in said["p4"]
    assert registry.outcome("p5").refused is None, "it was running still"
    assert all(isinstance(refused[name], OverloadError) for name in ("c3", "c8", "p4"))
    assert [d.agent for d in registry.live()] == ["a", "c"]


def test_another_spec_under_a_live_name_is_refused_by_the_log() -> None:
    """Of two deploys that race, the one that the log has first wins, for every reader alike."""
    registry = fold(deploy("c1"), deploy("c2", digest="d2"))
    refusal = registry.outcome("c2").refused
    assert isinstance(refusal, ConflictError)
    assert refusal.code == "agent_exists"
    assert registry.get("a").deploy.digest == "d1"


def test_a_decision_topic_belongs_to_one_agent() -> None:
    """Two agents cannot write into one decision topic."""
    registry = fold(deploy("c1", emit="out"), deploy("c2", agent="b", emit="out"))
    refusal = registry.outcome("c2").refused
    assert isinstance(refusal, ConflictError)
    assert refusal.code == "emit_topic_taken"


def chained(control_id: str, agent: str, source: str, emit: str) -> Deploy:
    spec = {"source": {"topic": source}}
    return Deploy(id=control_id, agent=agent, spec=spec, digest=agent, emit_topic=emit)


def test_decisions_must_not_come_back_as_events() -> None:
    """Agents may be chained, but a circle of them, or an agent that reads itself, is refused."""
    registry = fold(
        chained("c1", "a", "one", "two"),
        chained("c2", "b", "two", "three"),
        chained("c3", "c", "three", "one"),
        chained("c4", "d", "four", "four"),
    )
    assert registry.outcome("c2").refused is None
    for circle in ("c3", "c4"):
        refusal = registry.outcome(circle).refused
        assert refusal is not None
        assert refusal.code == "emit_loop"


def test_the_epoch_survives_deletion() -> None:
    """Delete and deploy again raises the epoch: ids of decisions are never used twice."""
    registry = fold(deploy("c1"), Delete(id="c2", agent="a"), deploy("c3"))
    assert (registry.get("a").epoch, registry.get("a").spec_version) == (2, 2)


def test_a_deleted_agent_is_unknown() -> None:
    """Commands to a deleted agent are refused by its name and say what is deployed."""
    registry = fold(deploy("c1"), deploy("c2", agent="b"), Delete(id="c3", agent="a"))
    with pytest.raises(NotFoundError, match="deployed: b"):
        registry.get("a")
    registry.apply(Pause(id="c4", agent="a"), 3)
    assert isinstance(registry.outcome("c4").refused, NotFoundError)


def test_pause_and_resume_alternate() -> None:
    """Only a command that changes something is handed to the shards."""
    registry = fold(
        deploy("c1"),
        Resume(id="c2", agent="a"),
        Pause(id="c3", agent="a"),
        Pause(id="c4", agent="a"),
        Resume(id="c5", agent="a"),
    )
    assert [c.control_id for c in registry.get("a").commands] == ["c1", "c3", "c5"]
    assert not registry.get("a").paused


def test_a_control_id_counts_once() -> None:
    """A command that the producer sent twice takes effect once."""
    registry = fold(deploy("c1"), Delete(id="c2", agent="a"), deploy("c1"))
    with pytest.raises(NotFoundError):
        registry.get("a")


def test_the_first_effect_counts() -> None:
    """A repeated effect is a replay after a crash: the position first logged is the one."""
    registry = fold(deploy("c1"), effect("c1", 0, 17), effect("c1", 1, 5), effect("c1", 0, 99))
    assert registry.get("a").positions("c1") == {Partition("t", 0): 17, Partition("t", 1): 5}


def test_effects_of_an_older_epoch_are_void() -> None:
    """An effect that arrives after its epoch has ended changes nothing in the new one."""
    registry = fold(
        deploy("c1"), Delete(id="c2", agent="a"), deploy("c3"), effect("c3", 0, 17, epoch=1)
    )
    assert registry.get("a").positions("c3") == {}


def test_a_deploy_begins_above_the_epochs_that_outlived_a_control_log() -> None:
    """And never below its own former ones."""
    first = Deploy(id="c1", agent="a", spec={}, digest="d1", emit_topic="d", epoch_min=7)
    again = Deploy(id="c3", agent="a", spec={}, digest="d1", emit_topic="d", epoch_min=3)
    assert fold(first).get("a").epoch == 7
    assert fold(first, Delete(id="c2", agent="a"), again).get("a").life == 8


def done(control_id: str, epoch: int, failed: str = "") -> list[ShardEffect]:
    """Its effects in both partitions; in the second it may have failed."""
    first, second = (effect(control_id, partition, 10, epoch) for partition in (0, 1))
    return [first, msgspec.structs.replace(second, failed=failed)]


def test_a_migration_is_a_new_version_and_a_new_epoch() -> None:
    """Each shard has the spec of the epoch that it is in."""
    deployment = fold(deploy("c1"), migrate("c2", "d2"), *done("c2", 2)).get("a")
    where = Partition("t", 0)
    assert (deployment.epoch, deployment.spec_version, deployment.deploy.digest) == (2, 2, "d2")
    assert deployment.version_at(1, where).digest == "d1"
    assert deployment.version_at(2, where) == control.Version(2, deployment.deploy)
    assert [deployment.epoch_at(where, offset) for offset in (9, 10)] == [1, 2]


def test_a_migration_is_for_the_spec_that_it_was_checked_with() -> None:
    """Of two at a time the second is refused; so is one that was meant for a former life, or that
    comes while another one is on its way. The same digest again changes nothing.
    """
    registry = fold(
        deploy("c1"),
        *(migrate("c2", "d2"), migrate("c3", "d3")),
        *(migrate("c4", "d2"), migrate("c5", "d3", replaces="d2")),
        *done("c2", 2),
        *(migrate("c6", "d3", replaces="d2", life=2), migrate("c7", "d3", replaces="d2")),
    )
    refused = {name: registry.outcome(name).refused for name in ("c3", "c5", "c6")}
    assert {name: error.code for name, error in refused.items() if error} == {
        "c3": "spec_mismatch",
        "c5": "rollback_running",
        "c6": "spec_mismatch",
    }
    assert registry.outcome("c4") == (None, None)
    assert registry.get("a").deploy.digest == "d3"


def test_what_waits_for_another_partition_says_so_and_what_to_do() -> None:
    """A refold, say, of an agent of which one worker is lost in the middle of a migration."""
    one_of_two = effect("c2", 0, 10, epoch=2)
    again = msgspec.structs.replace(migrate("c3", "d3", replaces="d2"), how="refold")
    registry = fold(deploy("c1"), migrate("c2", "d2"), one_of_two, again)
    refused = registry.outcome("c3").refused
    assert refused is not None
    assert refused.code == "rollback_running"
    assert "being migrated (c2), and that is done in 1 of 2 partitions" in str(refused)
    assert "or delete the agent and deploy it again" in str(refused)
    registry.apply(Delete(id="c4", agent="a"), 4)
    registry.apply(deploy("c5", digest="d3"), 5)
    assert registry.outcome("c5").accepted is not None


def test_where_a_migration_failed_the_former_spec_stays() -> None:
    """In that partition alone; the same spec may then be deployed again."""
    registry = fold(deploy("c1"), migrate("c2", "d2"), *done("c2", 2, failed="log was cut"))
    deployment = registry.get("a")
    digests = [deployment.version_at(2, Partition("t", n)).digest for n in (0, 1)]
    assert digests == ["d2", "d1"]
    assert registry.apply(migrate("c3", "d2", replaces="d2"), 9) is not None


def test_a_rollback_is_for_the_spec_that_it_was_checked_with() -> None:
    """A migration may be done while its snapshot is looked at: no row of one spec comes under
    another. One of a build that did not say so is taken as it was then.
    """
    migrated: list[control.ControlRecord] = [deploy("c1"), migrate("c2", "d2"), *done("c2", 2)]
    registry = fold(*migrated, rollback("r1", spec_digest="d1"))
    refused = registry.outcome("r1").refused
    assert isinstance(refused, ConflictError)
    assert refused.code == "spec_mismatch"
    assert "was given another spec meanwhile: ask again" in str(refused)
    assert registry.get("a").epoch == 2
    for taken in (rollback("r2", spec_digest="d2"), rollback("r3")):
        assert fold(*migrated, taken).get("a").epoch == 3


async def test_a_command_knows_no_place_in_a_partition_that_was_added_since() -> None:
    """Which is told with what to do; it ends no coroutine as if an iterator were at its end."""
    command = rollback("r")
    assert [command.base(number) for number in (0, 1)] == list(command.bases)
    for older in (command, migrate("m", "d2")):
        with pytest.raises(StateError, match="partition 2 has been added to the topic"):
            older.base(2)


@pytest.mark.parametrize("spec", [{"source": 7}, {"source": {"topic": ["t"]}}])
def test_a_spec_whose_source_cannot_be_read_is_refused_before_the_fold(spec: Any) -> None:
    """The fold asks each spec for its topic: an odd one would end every start with a bare error."""
    for record in (deploy("c"), migrate("m", "d2")):
        odd = {**msgspec.to_builtins(record), "spec": spec}
        with pytest.raises(msgspec.ValidationError, match="names no source topic"):
            control.decode(msgspec.json.encode(odd))
