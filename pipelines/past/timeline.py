"""The states of one shard in their order, as the control log and the catalogue tell of them.

A shard goes through epochs: the first begins where its deploy counted, each later one where a
rollback or a migration did. A state is named by its epoch and its next offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeGuard

from headrace.pipelines import control
from headrace.state.catalogue import Vouched
from headrace.views import Partition


class Start(NamedTuple):
    """A state that needs no learning: a snapshot's, or without one that of the deploy."""

    epoch: int
    next_offset: int
    vouched: Vouched | None = None

    @property
    def imported(self) -> bool:
        """Whether its epoch and offset are those of another log."""
        return self.vouched is not None and self.vouched.imported


class Counted(NamedTuple):
    """A command, and the offset from which on it counted."""

    accepted: control.Accepted
    offset: int


class Stretch(NamedTuple):
    """Offsets of the log that are learned again, `end` excluded."""

    begin: int
    end: int


class Course(NamedTuple):
    """How a state is come to: from where, up to which offset, and what counts on the way."""

    deployment: control.Deployment
    partition: Partition
    start: Start
    offset: int
    counted: tuple[Counted, ...] = ()

    @property
    def version(self) -> control.Version:
        """The spec that it begins with; of an import the agent has had it, whenever."""
        start, deployment = self.start, self.deployment
        if start.vouched is not None and start.imported:
            found = deployment.version_of(start.vouched.spec_digest)
            assert found is not None, "whoever asks for an import checks that"
            return found
        return deployment.version_at(start.epoch, self.partition)


class Timeline:
    """All that is read here was there before; nothing is asked of the log.

    `published`: what is vouched for of this shard, newest first. `last_epoch`: what began a later
    one is not known; None: all is.
    """

    def __init__(
        self,
        deployment: control.Deployment,
        partition: Partition,
        published: Sequence[Vouched],
        last_epoch: int | None = None,
    ) -> None:
        self.deployment = deployment
        self.partition = partition
        self._published = published
        self._last_epoch = deployment.epoch if last_epoch is None else last_epoch

    def before(self, accepted: control.Accepted) -> Timeline:
        """The same, as it was before that rollback or migration counted."""
        last = max(
            (each.epoch for each in self.deployment.replacements() if each.epoch < accepted.epoch),
            default=self.deployment.life,
        )
        return Timeline(self.deployment, self.partition, self._published, last)

    def began_at(self, offset: int) -> control.Accepted | None:
        """What began the epoch of the state there, if that was right there; None: further back."""
        epoch = self.epoch_at(offset)
        for accepted in self.deployment.replacements():
            if accepted.epoch == epoch and self._effect(accepted) == offset:
                return accepted
        return None

    @property
    def began(self) -> int | None:
        """The offset at which the deploy counted; None: it has not yet."""
        return self._effect(self.deployment.commands[0])

    def epoch_at(self, offset: int) -> int:
        """The epoch of the state in which the record at that offset was handled, or will be."""
        return min(self.deployment.epoch_at(self.partition, offset), self._last_epoch)

    def ended(self, epoch: int) -> Counted | None:
        """What ended the epoch, a rollback or a migration; None: it goes on."""
        for accepted in self.deployment.replacements():
            if accepted.epoch > epoch:
                offset = self._effect(accepted)
                return None if offset is None else Counted(accepted, offset)
        return None

    def starts(self, offset: int) -> list[Start]:
        """The states from which that at `offset` can be learned: the nearest first, the deploy's
        last.
        """
        began, deployment = self.began, self.deployment
        assert began is not None
        found = [
            Start(vouched.epoch, vouched.next_offset, vouched)
            for vouched in self._published
            if vouched.spec_digest == deployment.version_at(vouched.epoch, self.partition).digest
            and deployment.life <= vouched.epoch <= self.epoch_at(offset)
            and vouched.next_offset <= self._end(vouched.epoch, offset)
        ]
        return [*found, Start(deployment.life, began)]

    def course(self, start: Start, offset: int) -> Course:
        """How to come from there to what the shard was when it stood at `offset` and had done all
        that counted up to there.
        """
        return Course(self.deployment, self.partition, start, offset, self._counted(start, offset))

    def stretches(self, start: Start, offset: int) -> list[Stretch]:
        """What is learned on that course: since the start, and again in each rewind and refold."""
        found = [Stretch(start.next_offset, offset)]
        for accepted, at in self._counted(start, offset):
            command = accepted.command
            if _learns_again(command):
                found.append(Stretch(command.base(self.partition.partition).next_offset, at))
        return [stretch for stretch in found if stretch.begin < stretch.end]

    def _counted(self, start: Start, offset: int) -> tuple[Counted, ...]:
        """In the order in which the shard came to them, which need not be that of the control log:
        a rewind counts when it has caught up, and others overtake it.
        """
        found = []
        for accepted in self.deployment.commands:
            at = self._effect(accepted)
            if at is None or at > offset:
                continue
            # Pauses from before the start, too: whether it learns is not in a snapshot.
            wanted = accepted.kind in ("pause", "resume")
            if wanted or (
                isinstance(accepted.command, control.Rollback | control.Migrate)
                and accepted.epoch > start.epoch
            ):
                found.append(Counted(accepted, at))
        return tuple(sorted(found, key=lambda counted: (counted.offset, counted.accepted.offset)))

    def _end(self, epoch: int, offset: int) -> int:
        """Where a state of that epoch may stand at the latest to lead to `offset`."""
        ended = self.ended(epoch)
        return offset if ended is None else min(offset, ended.offset)

    def _effect(self, accepted: control.Accepted) -> int | None:
        if accepted.epoch > self._last_epoch:
            return None
        return self.deployment.effect(accepted.control_id, self.partition)


def _learns_again(command: control.Command) -> TypeGuard[control.Rollback | control.Migrate]:
    if isinstance(command, control.Rollback):
        return command.mode == "rewind"
    return isinstance(command, control.Migrate) and command.how == "refold"


def events(stretches: Iterable[Stretch]) -> int:
    """How many records they have at most.

    >>> events([Stretch(3, 10), Stretch(0, 5)])
    12
    """
    return sum(stretch.end - stretch.begin for stretch in stretches)
