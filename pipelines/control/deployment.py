"""An agent from its deploy to its delete: its commands, and where each took effect."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from headrace.pipelines.control.records import Command, Deploy, Kind, Migrate, Rollback
from headrace.views import Partition


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A command that changed something: `offset` is its place in the control log.

    `epoch`: the agent's from here on; `life`: the one at which it was deployed.
    """

    command: Command
    life: int
    epoch: int
    spec_version: int
    offset: int

    @property
    def control_id(self) -> str:
        """The command's identity."""
        return self.command.id

    @property
    def kind(self) -> Kind:
        """What it does."""
        return self.command.kind

    @property
    def agent(self) -> str:
        """Whom it concerns."""
        return self.command.agent


class Version(NamedTuple):
    """A spec that an agent has had, and the number of it."""

    number: int
    spec: Deploy | Migrate  # the command that brought it

    @property
    def digest(self) -> str:
        """The spec's identity."""
        return self.spec.digest


class Deployment(msgspec.Struct, kw_only=True):
    """An agent's life. `commands` begins with its deploy.

    `life`: the epoch at which it began; `epoch`: the present one, which each rollback and each
    migration raises. `deploy` and `spec_version`: the newest spec; a shard may have an older one.
    """

    deploy: Deploy | Migrate
    life: int
    epoch: int
    spec_version: int
    commands: list[Accepted] = []
    # (control id, partition) -> next offset. The first effect counts, a repeated one is a replay.
    effects: dict[tuple[str, Partition], int] = {}
    failures: dict[tuple[str, Partition], str] = {}  # what could not be done there
    paused: bool = False
    deleted: bool = False
    # Forgets of former lives, whose effects are in `effects`: a new life learns the same log.
    former_forgets: tuple[Accepted, ...] = ()

    @property
    def agent(self) -> str:
        """The agent's name."""
        return self.deploy.agent

    @property
    def source_topic(self) -> str:
        """The topic that it reads."""
        return str(self.deploy.spec.get("source", {}).get("topic", ""))

    def accept(self, command: Command, offset: int) -> Accepted:
        """Note a command that changes something, and return what the shards are told."""
        accepted = Accepted(
            command=command,
            life=self.life,
            epoch=self.epoch,
            spec_version=self.spec_version,
            offset=offset,
        )
        self.commands.append(accepted)
        return accepted

    def takes(self, digest: str) -> bool:
        """Whether a spec of that digest would change something: it is another one, or it could not
        be taken everywhere.
        """
        return digest != self.deploy.digest or bool(self.failed(self.deploy.id))

    def effect(self, control_id: str, partition: Partition) -> int | None:
        """The next offset from which the command counts in that partition, as soon as it does."""
        return self.effects.get((control_id, partition))

    def positions(self, control_id: str) -> dict[Partition, int]:
        """Where the command took effect so far."""
        return {p: offset for (cid, p), offset in self.effects.items() if cid == control_id}

    def failed(self, control_id: str) -> dict[Partition, str]:
        """Where a rollback or a migration could not be done, and why."""
        return {p: why for (cid, p), why in self.failures.items() if cid == control_id}

    def rollbacks(self) -> list[Accepted]:
        """Those of this life, oldest first."""
        return [accepted for accepted in self.commands if accepted.kind == "rollback"]

    def forgets(self) -> list[Accepted]:
        """Those of all lives under this name, oldest first."""
        mine = [accepted for accepted in self.commands if accepted.kind == "forget"]
        return [*self.former_forgets, *mine]

    def replacements(self) -> list[Accepted]:
        """The commands that put another state in place of the agent's, oldest first."""
        return [a for a in self.commands if isinstance(a.command, Rollback | Migrate)]

    def replacing(self) -> Accepted | None:
        """The rollback or migration that some partition has yet to do: there is one at a time."""
        for accepted in reversed(self.commands):
            if isinstance(accepted.command, Rollback | Migrate):
                done = len(self.positions(accepted.control_id))
                return accepted if done < accepted.command.partitions else None
        return None

    def version_at(self, epoch: int, partition: Partition) -> Version:
        """The spec of a shard in that epoch: a migration that failed there brought none."""
        first = self.commands[0]
        assert isinstance(first.command, Deploy)
        version = Version(first.spec_version, first.command)
        for accepted in self.commands:
            command = accepted.command
            if not isinstance(command, Migrate) or accepted.epoch > epoch:
                continue
            if (command.id, partition) not in self.failures:
                version = Version(accepted.spec_version, command)
        return version

    def epoch_at(self, partition: Partition, next_offset: int) -> int:
        """The epoch of a shard that stands there and has done all that counts up to there."""
        epoch = self.life
        for accepted in self.replacements():
            effect = self.effect(accepted.control_id, partition)
            if effect is None or effect > next_offset:
                break
            epoch = accepted.epoch
        return epoch
