"""The registry is a pure fold of the control log."""

from __future__ import annotations

import pytest

from headrace.errors import ConflictError, NotFoundError, OverloadError
from headrace.pipelines import control
from headrace.pipelines.control import Delete, Deploy, Hello, Pause, Registry, Resume, ShardEffect
from headrace.pipelines.control import registry as registry_module
from headrace.views import Partition


def deploy(control_id: str, agent: str = "a", digest: str = "d1", emit: str = "") -> Deploy:
    return Deploy(
        id=control_id, agent=agent, spec={}, digest=digest, emit_topic=emit or f"d.{agent}"
    )


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
