"""Which lives an agent has led, and where its commands counted, from the control log alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tests.fold.oracle import Origin

Where = tuple[str, int]  # topic and partition


@dataclass
class Life:
    """An agent from a deploy to its delete. `commands`: (control id, kind), the deploy first."""

    agent: str
    epoch: int
    digest: str
    topic: str
    emit_topic: str
    commands: list[tuple[str, str]]
    effects: dict[tuple[str, Where], int] = field(default_factory=dict)
    paused: bool = False
    deleted: bool = False

    def origin(self, where: Where) -> Origin:
        """Whose decisions these are; a new deployment is a new version of the spec, too."""
        return Origin(self.agent, self.epoch, self.epoch, *where)

    def partitions(self) -> list[Where]:
        """Where the agent has begun."""
        deploy = self.commands[0][0]
        return sorted(where for control_id, where in self.effects if control_id == deploy)

    def start(self, where: Where) -> int:
        """The first offset that is learned."""
        return self.effects[self.commands[0][0], where]

    def end(self, where: Where) -> int | None:
        """Where the delete counted; None if it has not, or there was none."""
        control_id, kind = self.commands[-1]
        return self.effects.get((control_id, where)) if kind == "delete" else None

    def pauses(self, where: Where) -> list[tuple[int, bool]]:
        """(offset, paused?) of each pause and resume that has counted, in their order."""
        return [
            (self.effects[control_id, where], kind == "pause")
            for control_id, kind in self.commands
            if kind in ("pause", "resume") and (control_id, where) in self.effects
        ]


def lives(values: Iterable[bytes]) -> list[Life]:
    """All lives of all agents, in the order of their deploys. `values`: the control log's."""
    found: list[Life] = []
    known: set[str] = set()
    for value in values:
        told = msgspec.json.decode(value)
        kind = told["type"]
        if kind == "hello":
            continue
        now = next((life for life in reversed(found) if life.agent == told["agent"]), None)
        if kind == "effect":
            # It may come when the next life has begun: commands are accepted before they count.
            mine = [life for life in found if life.agent == told["agent"]]
            for life in (life for life in mine if life.epoch == told["epoch"]):
                where = (told["topic"], told["partition"])
                life.effects.setdefault((told["control_id"], where), told["next_offset"])
            continue
        if told["id"] in known:
            continue
        known.add(told["id"])
        if kind == "deploy":
            _deploy(found, now, told)
        elif now is not None and not now.deleted:
            _command(now, kind, told["id"])
    return found


def _deploy(found: list[Life], now: Life | None, told: dict[str, Any]) -> None:
    """Refused or without effect while the agent lives, or another has its topic."""
    taken = {life.emit_topic for life in found if not life.deleted}
    if told["emit_topic"] in taken or (now is not None and not now.deleted):
        return
    found.append(
        Life(
            agent=told["agent"],
            epoch=1 if now is None else now.epoch + 1,
            digest=told["digest"],
            topic=told["spec"]["source"]["topic"],
            emit_topic=told["emit_topic"],
            commands=[(told["id"], "deploy")],
        )
    )


def _command(life: Life, kind: str, control_id: str) -> None:
    if kind == "delete":
        life.deleted = True
    elif life.paused == (kind == "pause"):
        return
    else:
        life.paused = kind == "pause"
    life.commands.append((control_id, kind))
