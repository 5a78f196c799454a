"""Which rollbacks hold: neither undone nor done nowhere, and what is undone undoes nothing."""

from __future__ import annotations

import pytest

from headrace.errors import ConflictError
from headrace.pipelines import control
from headrace.views import Partition

PLACES = (Partition("t", 0), Partition("t", 1))
BASES = tuple(control.Base(partition=n, epoch=1, next_offset=5, digest="") for n in (0, 1))


class History:
    """One agent of two partitions, and what was rolled back of it."""

    def __init__(self) -> None:
        self.registry = control.Registry()
        self._offset = 0
        self._log(control.Deploy(id="d", agent="a", spec={}, digest="1", emit_topic="e"))

    def command(self, name: str, undoes: str = "", *, if_standing: bool = False) -> None:
        """It is in the log, and has counted nowhere yet."""
        self._log(
            control.Rollback(
                id=name, agent="a", life=1, snapshot_id="a.s", bases=BASES, undoes=undoes,
                if_standing=if_standing,
            )
        )  # fmt: skip

    def roll_back(self, name: str, undoes: str = "", failed: tuple[int, ...] = ()) -> None:
        """It counts everywhere; in some partitions it could not be done."""
        self.command(name, undoes)
        for topic, number in PLACES:
            effect = control.ShardEffect(
                id=f"{name}/{number}", control_id=name, agent="a",
                epoch=self.registry.get("a").epoch, topic=topic, partition=number,
                next_offset=self._offset, worker="w", failed="damaged" if number in failed else "",
            )  # fmt: skip
            self._log(effect)

    def standing(self, where: Partition | None = None, below: int | None = None) -> list[str]:
        """Their names, newest first."""
        standing = self.registry.get("a").standing(where, below=below)
        return [accepted.control_id for accepted in standing]

    def _log(self, record: control.ControlRecord) -> None:
        self._offset += 1
        self.registry.apply(record, self._offset)


def test_what_is_undone_undoes_nothing() -> None:
    """The undo of an undo brings the rollback back, and so on; earlier ones stand all the while."""
    history = History()
    history.roll_back("r0")
    history.roll_back("r1")
    assert history.standing() == ["r1", "r0"]
    history.roll_back("u1", undoes="r1")
    assert history.standing() == ["u1", "r0"]
    history.roll_back("u2", undoes="u1")
    assert history.standing() == ["u2", "r1", "r0"]
    history.roll_back("u3", undoes="u2")
    assert history.standing() == ["u3", "u1", "r0"]
    history.roll_back("u4", undoes="r0")
    assert history.standing() == ["u4", "u3", "u1"]


def test_what_could_be_done_nowhere_neither_stands_nor_undoes() -> None:
    """One that was done in some partition does both, and in each partition it is as it is there."""
    history = History()
    history.roll_back("r")
    history.roll_back("nowhere", undoes="r", failed=(0, 1))
    assert history.standing() == ["r"]
    history.roll_back("in one", undoes="r", failed=(1,))
    assert history.standing() == ["in one"]
    assert [history.standing(where) for where in PLACES] == [["in one"], ["r"]]


@pytest.mark.parametrize("where", [None, PLACES[0]])
def test_it_can_be_asked_as_of_a_place_in_the_control_log(where: Partition | None) -> None:
    """What came behind it is not known there."""
    history = History()
    history.roll_back("r")
    history.roll_back("u", undoes="r")
    of_undo = history.registry.get("a").rollbacks()[-1].offset
    assert history.standing(where, below=of_undo) == ["r"]
    assert history.standing(where, below=of_undo + 1) == ["u"]


def test_of_two_that_would_take_the_same_back_one_counts() -> None:
    """Both were asked for while it stood; the second comes when the first has been done."""
    history = History()
    history.roll_back("r0")
    history.roll_back("r1")
    history.roll_back("u1", undoes="r1")
    history.command("u2", undoes="r1", if_standing=True)
    refused = history.registry.refusal("u2")
    assert isinstance(refused, ConflictError)
    assert "r1 was taken back by u1 already" in str(refused)
    assert (history.standing(), history.registry.get("a").epoch) == (["u1", "r0"], 4)
    history.command("u3", undoes="u1", if_standing=True)
    assert history.registry.refusal("u3") is None
    assert history.standing() == ["u3", "r1", "r0"]
