"""An agent from its deploy to its delete: its commands, and where each took effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from headrace.errors import not_standing
from headrace.pipelines.control.records import (
    Command,
    Deploy,
    Kind,
    Migrate,
    Rollback,
    ShardEffect,
)
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
    `first_life`: that of the first agent of this name in this control log. What is of an epoch
    below was made under a control log that is gone.
    """

    deploy: Deploy | Migrate
    life: int
    epoch: int
    spec_version: int
    first_life: int
    commands: list[Accepted] = []
    # By control id: next offsets. The first effect counts, a repeated one is a replay; but see
    # `counts_anew`.
    effects: dict[str, dict[Partition, int]] = {}
    failures: dict[str, dict[Partition, str]] = {}  # what could not be done there
    # Where rollbacks count of which not all withdrawn ids are published yet, in that order, and of
    # which all are, by control id: how many, withdrawn and reinstated.
    owed: dict[tuple[str, Partition], Accepted] = {}
    published: dict[str, dict[Partition, tuple[int, int]]] = {}
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
        topic: str = self.deploy.spec.get("source", {}).get("topic", "")
        return topic

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

    @property
    def ended(self) -> bool:
        """Whether its delete has counted wherever it had begun: nothing counts there any more."""
        begun = self.positions(self.commands[0].control_id)
        return self.deleted and all(map(self.ended_in, begun))

    def ended_in(self, partition: Partition) -> bool:
        """Whether its delete has counted in that partition."""
        return self.deleted and self.effect(self.commands[-1].control_id, partition) is not None

    def takes(self, digest: str) -> bool:
        """Whether a spec of that digest would change something: it is another one, or it could not
        be taken everywhere.
        """
        return digest != self.deploy.digest or bool(self.failed(self.deploy.id))

    def brought(self, digest: str) -> Deploy | Migrate | None:
        """What brought the spec of that digest; None: nothing in this life has."""
        version = self.version_of(digest)
        return None if version is None else version.spec

    def version_of(self, digest: str) -> Version | None:
        """The first spec of that digest in this life; None: it has had none."""
        for accepted in self.commands:
            command = accepted.command
            if isinstance(command, Deploy | Migrate) and command.digest == digest:
                return Version(accepted.spec_version, command)
        return None

    def effect(self, control_id: str, partition: Partition) -> int | None:
        """The next offset from which the command counts in that partition, as soon as it does."""
        return self.effects.get(control_id, {}).get(partition)

    def positions(self, control_id: str) -> dict[Partition, int]:
        """Where the command took effect so far."""
        return dict(self.effects.get(control_id, {}))

    def failed(self, control_id: str) -> dict[Partition, str]:
        """Where a rollback or a migration could not be done, and why."""
        return dict(self.failures.get(control_id, {}))

    def accepted(self, control_id: str) -> Accepted | None:
        """The command of that id; None: it has had none."""
        return next((a for a in reversed(self.commands) if a.control_id == control_id), None)

    def rollbacks(self) -> list[Accepted]:
        """Those of this life, oldest first."""
        return [accepted for accepted in self.commands if accepted.kind == "rollback"]

    def standing(
        self, where: Partition | None = None, *, below: int | None = None
    ) -> list[Accepted]:
        """The rollbacks that hold in that partition, newest first, as of that place in the control
        log; without a partition, those that hold in any.

        What is undone holds no more, and undoes nothing itself. What could not be done neither
        holds nor undoes.
        """
        if where is not None:
            return self._holding(lambda c: where in self.failures.get(c.id, {}), below)
        apart = {p for each in self.rollbacks() for p in self.failures.get(each.control_id, {})}
        numbers = {partition.partition for partition in apart}
        found = [self.standing(partition, below=below) for partition in apart]
        # All partitions in which every rollback could be done are alike.
        found.append(self._holding(lambda c: all(b.partition in numbers for b in c.bases), below))
        unique = {accepted.offset: accepted for part in found for accepted in part}
        return [accepted for _, accepted in sorted(unique.items(), reverse=True)]

    def _holding(
        self, is_none: Callable[[Rollback], bool], below: int | None = None
    ) -> list[Accepted]:
        """The rollbacks that are not undone by one that holds, but for those that are none."""
        found: list[Accepted] = []
        undone: set[str] = set()
        for accepted in reversed(self.commands):
            command = accepted.command
            if not isinstance(command, Rollback) or command.id in undone:
                continue
            if (below is not None and accepted.offset >= below) or is_none(command):
                continue
            undone.add(command.undoes)
            found.append(accepted)
        return found

    def check_standing(self, control_id: str) -> None:
        """Raises ConflictError `not_standing` unless that rollback holds in some partition."""
        self._check_among(self.standing(), control_id)

    def check_undo(self, undo: Rollback) -> None:
        """Raises ConflictError `not_standing` if what it undoes does not hold."""
        standing = self.standing()
        if not undo.where_standing:  # of an older build, to which one partition counted for all
            standing = self._holding(lambda c: len(self.failed(c.id)) == c.partitions)
        self._check_among(standing, undo.undoes)

    def _check_among(self, standing: list[Accepted], control_id: str) -> None:
        if all(accepted.control_id != control_id for accepted in standing):
            raise not_standing(self.agent, control_id, self.undone().get(control_id, ""))

    def leaves(self, accepted: Accepted, where: Partition) -> bool:
        """Whether it is an undo of what does not hold in that partition: that was taken back there
        already, or was not done there.
        """
        command = accepted.command
        if not isinstance(command, Rollback) or not command.where_standing:
            return False
        standing = self.standing(where, below=accepted.offset)
        return all(each.control_id != command.undoes for each in standing)

    def undone(self) -> dict[str, str]:
        """Which rollbacks hold nowhere any more, and the newest that has taken each back."""
        standing = self.standing()
        holding = {accepted.control_id for accepted in standing}
        undos = [a.command for a in reversed(standing) if isinstance(a.command, Rollback)]
        return {c.undoes: c.id for c in undos if c.undoes and c.undoes not in holding}

    def forgets(self) -> list[Accepted]:
        """Those of all lives under this name, oldest first."""
        mine = [accepted for accepted in self.commands if accepted.kind == "forget"]
        return [*self.former_forgets, *mine]

    def counts_anew(self, effect: ShardEffect, partition: Partition) -> bool:
        """Whether it takes the place of where a forget of a former life counted. That lies behind
        the end of the log, which has been made anew; of two workers that say so the lower end
        counts. Only before this life begins there, so nothing was learned by the former.
        """
        known = self.effect(effect.control_id, partition)
        former = any(each.control_id == effect.control_id for each in self.former_forgets)
        begun = self.effect(self.commands[0].control_id, partition) is not None
        lower = known is not None and effect.next_offset < known
        return former and lower and not begun and effect.epoch == self.life

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

    @property
    def first_spec_version(self) -> int:
        """The version that it was deployed with."""
        return self.commands[0].spec_version

    def spec(self, spec_version: int) -> dict[str, Any] | None:
        """The spec of that number; None: it had none since its deploy."""
        for accepted in reversed(self.commands):
            command = accepted.command
            if accepted.spec_version == spec_version and isinstance(command, Deploy | Migrate):
                return command.spec
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
            if partition not in self.failed(command.id):
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
