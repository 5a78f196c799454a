"""Which rollbacks hold: neither undone nor done nowhere, and what is undone undoes nothing."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ConflictError
from headrace.pipelines import control
from headrace.pipelines.unchanged import NOTHING_TO_UNDO
from headrace.views import Partition
from tests.fold.control import lives

PLACES = (Partition("t", 0), Partition("t", 1))
BASES = tuple(control.Base(partition=n, epoch=1, next_offset=5, digest="") for n in (0, 1))


class History:
    """One agent of two partitions, and what was rolled back of it."""

    def __init__(self) -> None:
        self.registry = control.Registry()
        self.values: list[bytes] = []
        self._offset = 0
        spec = {"source": {"topic": "t"}}
        self._log(control.Deploy(id="d", agent="a", spec=spec, digest="1", emit_topic="e"))

    def command(
        self, name: str, undoes: str = "", *, build: str = "old", partitions: int = 2
    ) -> None:
        """It is in the log, and has counted nowhere yet; an undo is as that build logs it."""
        self._log(
            control.Rollback(
                id=name, agent="a", life=1, snapshot_id="a.s", bases=BASES[:partitions],
                undoes=undoes, if_standing=build != "old", where_standing=build == "present",
            )
        )  # fmt: skip

    def roll_back(
        self, name: str, undoes: str = "", failed: tuple[int, ...] = (), partitions: int = 2
    ) -> None:
        """It counts everywhere; in some partitions it could not be done."""
        self.command(name, undoes, partitions=partitions)
        self.count(name, failed, partitions)

    def count(self, name: str, failed: tuple[int, ...], partitions: int = 2) -> None:
        """The effects of a command, as the shards log them."""
        accepted = self.registry.get("a").accepted(name)
        assert accepted is not None
        for topic, number in PLACES[:partitions]:
            why = "damaged" if number in failed else ""
            if self.registry.get("a").leaves(accepted, Partition(topic, number)):
                why = NOTHING_TO_UNDO
            effect = control.ShardEffect(
                id=f"{name}/{number}", control_id=name, agent="a",
                epoch=self.registry.get("a").epoch, topic=topic, partition=number,
                next_offset=self._offset, worker="w", failed=why,
            )  # fmt: skip
            self._log(effect)

    def standing(self, where: Partition | None = None, below: int | None = None) -> list[str]:
        """Their names, newest first."""
        standing = self.registry.get("a").standing(where, below=below)
        return [accepted.control_id for accepted in standing]

    def _log(self, record: control.ControlRecord) -> None:
        self._offset += 1
        self.values.append(control.encode(record))
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
    """One that was done in some partition does both there, and there only."""
    history = History()
    history.roll_back("r")
    history.roll_back("nowhere", undoes="r", failed=(0, 1))
    assert history.standing() == ["r"]
    history.roll_back("in one", undoes="r", failed=(1,))
    assert history.standing() == ["in one", "r"]
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
    history.command("u2", undoes="r1", build="former")
    refused = history.registry.refusal("u2")
    assert isinstance(refused, ConflictError)
    assert "r1 was taken back by u1 already" in str(refused)
    assert (history.standing(), history.registry.get("a").epoch) == (["u1", "r0"], 4)
    history.command("u3", undoes="u1", build="former")
    assert history.registry.refusal("u3") is None
    assert history.standing() == ["u3", "r1", "r0"]


def test_an_undo_of_some_partitions_can_be_asked_for_again() -> None:
    """It is to be done where the first one was not; then the rollback holds nowhere."""
    history = History()
    history.roll_back("r")
    history.roll_back("u1", undoes="r", failed=(1,))
    deployment = history.registry.get("a")
    assert deployment.undone() == {}
    history.command("u2", undoes="r", build="present")
    assert history.registry.refusal("u2") is None
    asked = deployment.rollbacks()[-1]
    assert [deployment.leaves(asked, where) for where in PLACES] == [True, False]
    history.count("u2", ())
    assert [history.standing(where) for where in PLACES] == [["u1"], ["u2"]]
    assert (history.standing(), deployment.undone()) == (["u2", "u1"], {"r": "u2"})
    history.command("u3", undoes="r", build="present")
    assert "taken back by u2 already" in str(history.registry.refusal("u3"))


def test_an_older_build_took_one_partition_for_all() -> None:
    """Its control log is folded as it was: the second undo was refused then."""
    history = History()
    history.roll_back("r")
    history.roll_back("u1", undoes="r", failed=(1,))
    history.command("u2", undoes="r", build="former")
    assert isinstance(history.registry.refusal("u2"), ConflictError)
    assert history.registry.get("a").epoch == 3


def test_a_partition_that_came_later_counts_for_nothing_in_what_was_before() -> None:
    """A rollback of one partition is undone when that is, wherever later ones have failed."""
    history = History()
    history.roll_back("r", partitions=1)
    history.roll_back("u", undoes="r", partitions=1)
    history.roll_back("later", failed=(1,))
    assert history.standing() == ["later", "u"]
    assert history.registry.get("a").undone() == {"r": "u"}


class Asked(NamedTuple):
    """A rollback, or the undo of an earlier one; where it fails, and which build logs it."""

    undoes: int | None
    failed: tuple[int, ...]
    build: str


ASKED = st.builds(
    Asked,
    st.none() | st.integers(0, 7),
    st.sampled_from([(), (0,), (1,), (0, 1)]),
    st.sampled_from(["former", "present", "present"]),
)


@given(st.lists(ASKED, max_size=12))
def test_the_fold_that_knows_nothing_of_it_agrees(asked: list[Asked]) -> None:
    """On which commands count, and on where an undo has something to take back."""
    history = History()
    for number, each in enumerate(asked):
        undoes = "" if each.undoes is None else f"r{each.undoes % (number + 1)}"
        if not undoes or history.registry.get("a").accepted(undoes) is not None:
            history.command(f"r{number}", undoes, build=each.build if undoes else "old")
            if history.registry.refusal(f"r{number}") is None:
                history.count(f"r{number}", each.failed)
    deployment = history.registry.get("a")
    (life,) = lives(history.values)
    assert list(life.replaced) == [accepted.control_id for accepted in deployment.rollbacks()]
    assert (life.last_epoch, life.undone_wrongly()) == (deployment.epoch, [])
