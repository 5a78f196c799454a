"""Which keys of an agent are forgotten in one partition, and below which offset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from headrace.errors import StateError
from headrace.models.recommend.user_rows import USER_ROW
from headrace.models.slots import KEY_ROW
from headrace.pipelines import control
from headrace.ports import Record
from headrace.state.catalogue import Catalogue
from headrace.state.tombstones import Secret, tombstone
from headrace.views import Partition


class Mark(NamedTuple):
    """A key that is forgotten: its events below that offset are as if they had never happened."""

    secret: Secret
    tombstone: str
    below: int
    control_offset: int


class Forgotten:
    """All marks of one shard.

    >>> from types import SimpleNamespace as Row
    >>> secret = Secret(value="ab" * 32)
    >>> forgotten = Forgotten("fraud", [Mark(secret, tombstone(secret, "fraud", "ada"), 7, 3)])
    >>> [forgotten.has(Row(offset=offset, key=key))
    ...  for offset, key in ((6, b"ada"), (7, b"ada"), (6, b"bob"), (6, None))]
    [True, False, False, False]
    >>> forgotten.newest, forgotten.has_row(b"k/ada"), forgotten.has_row(b"s/metrics")
    (3, True, False)
    >>> [forgotten.owed(epoch=2, known=known).has_row(b"k/ada") for known in (-1, 3)]
    [True, False]
    >>> anew = Forgotten("fraud", [Mark(secret, tombstone(secret, "fraud", "ada"), 7, 3)], 5)
    >>> anew.owed(epoch=2, known=40).has_row(b"k/ada")  # 40 was of the control log before this one
    True
    """

    def __init__(self, agent: str, marks: Iterable[Mark], first_life: int = 0) -> None:
        """`first_life`: as in `control.Deployment`."""
        self._agent = agent
        self.first_life = first_life
        self._marks = tuple(marks)
        self._below: dict[str, int] = {}
        for mark in self._marks:
            self._below[mark.tombstone] = max(mark.below, self._below.get(mark.tombstone, 0))
        self._secrets = tuple({mark.secret.id: mark.secret for mark in self._marks}.values())
        # No record from there on is passed over.
        self.end = max((mark.below for mark in self._marks), default=0)
        # Forgets count in their order, so with the newest all are done.
        self.newest = max((mark.control_offset for mark in self._marks), default=-1)

    def owed(self, *, epoch: int, known: int) -> Forgotten:
        """What a state has yet to forget that says it knows the forgets up to `known`, a place in
        the control log of that epoch. If that was made anew since, it knows none of these.
        """
        if epoch < self.first_life:
            known = -1
        newer = [mark for mark in self._marks if mark.control_offset > known]
        return Forgotten(self._agent, newer, self.first_life)

    def among(self, records: Sequence[Record]) -> Callable[[Record], bool] | None:
        """`has`, if some of these records, in offset order, may be forgotten."""
        return self.has if records and records[0].offset < self.end else None

    def has(self, record: Record) -> bool:
        """Whether that record is not to be learned."""
        return record.key is not None and self.has_key(record.key, record.offset)

    def has_key(self, key: bytes, offset: int) -> bool:
        """Whether a record of that key at that offset is not to be learned."""
        return offset < self.end and offset < self._below_of(key, -1)

    def has_row(self, name: bytes) -> bool:
        """Whether the row is one of a key that is forgotten."""
        if not name.startswith((KEY_ROW, USER_ROW)):
            return False
        return self._below_of(name[len(KEY_ROW) :], -1) >= 0

    def __bool__(self) -> bool:
        return bool(self._marks)

    def _below_of(self, key: bytes, otherwise: int) -> int:
        marks = [tombstone(secret, self._agent, key) for secret in self._secrets]
        return max((self._below.get(mark, otherwise) for mark in marks), default=otherwise)


NOTHING = Forgotten("", ())


def forgotten_in(
    deployment: control.Deployment,
    partition: Partition,
    catalogue: Catalogue,
    *,
    former: bool = False,
) -> Forgotten:
    """What has been forgotten there. `former`: for the state of a former life, which forgets also
    what has counted elsewhere since. Of an agent that is deleted every state is such: what has not
    counted by then never will, and it was to be forgotten everywhere. Raises StateError if a
    secret is lost.
    """
    everywhere = former or deployment.deleted
    marks = []
    for accepted in deployment.forgets():
        command = accepted.command
        assert isinstance(command, control.Forget)
        below = deployment.effect(command.id, partition)
        if below is None and everywhere:
            below = 0
        if below is None:
            continue
        secret = catalogue.secret(command.secret_id)
        if secret is None:
            raise lost(command)
        marks.append(Mark(secret, command.tombstone, below, accepted.offset))
    return Forgotten(deployment.agent, marks, deployment.first_life)


def lost(command: control.Forget) -> StateError:
    """The secret of a tombstone is not in the catalogue."""
    return StateError(
        f"agent {command.agent!r} was told to forget a key, and the secret {command.secret_id} of "
        "that command is not in the catalogue of snapshots any more: nobody can tell which key it "
        "was. Put the topic back from a copy; else delete the agent, and deploy it under another "
        "name to learn its log without that promise"
    )
