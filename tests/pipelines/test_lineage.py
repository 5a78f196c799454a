"""Which named snapshots an agent's state descends from, whatever was rolled back."""

from __future__ import annotations

import pytest

from headrace.pipelines import control
from headrace.pipelines.lineage import Descent, Taken, descent
from headrace.views import How, Partition

TOPIC = "payments"
PARTITIONS = 2


class History:
    """An agent's control log; all that is asked for counts in each partition at one offset."""

    def __init__(self) -> None:
        self.registry = control.Registry()
        self.kept: dict[str, Taken] = {}
        self._append(
            control.Deploy(
                id="d",
                agent="a",
                spec={"source": {"topic": TOPIC}},
                digest="5f",
                emit_topic="decided",
            )
        )

    @property
    def deployment(self) -> control.Deployment:
        return self.registry.get("a")

    def snapshot(self, name: str, at: int) -> None:
        """Take one, and publish it."""
        snapshot_id = f"a.{name}"
        command = control.Snapshot(
            id=name, agent="a", life=1, snapshot_id=snapshot_id, partitions=PARTITIONS
        )
        self._append(command)
        self._effect(name, at)
        places = {Partition(TOPIC, partition): at for partition in range(PARTITIONS)}
        self.kept[name] = Taken(snapshot_id, self.deployment.epoch, places)

    def rollback(
        self, to: str, base: tuple[int, int], at: int, keys: tuple[str, ...] = (), done: bool = True
    ) -> None:
        """Go back to a snapshot, whose epoch and offset are `base`."""
        epoch, offset = base
        control_id = f"r{self.registry.next_offset}"
        self._append(
            control.Rollback(
                id=control_id,
                agent="a",
                life=1,
                snapshot_id=f"a.{to}",
                keys=keys,
                bases=tuple(
                    control.Base(partition=n, epoch=epoch, next_offset=offset, digest="5f")
                    for n in range(PARTITIONS)
                ),
            )
        )
        self._effect(control_id, at, PARTITIONS if done else 1)

    def migrate(self, how: How, at: int, to: str = "", base: tuple[int, int] = (0, 0)) -> None:
        """Take another spec, if need be with the state of a snapshot, as in a rollback."""
        epoch, offset = base
        control_id = f"m{self.registry.next_offset}"
        before = self.deployment.deploy
        self._append(
            control.Migrate(
                id=control_id,
                agent="a",
                life=1,
                how=how,
                replaces=before.digest,
                spec=before.spec,
                digest=control_id,
                emit_topic=before.emit_topic,
                partitions=PARTITIONS,
                snapshot_id=f"a.{to}" if to else "",
                bases=tuple(
                    control.Base(partition=n, epoch=epoch, next_offset=offset, digest="5f")
                    for n in range(PARTITIONS)
                ),
            )
        )
        self._effect(control_id, at)

    @property
    def names(self) -> tuple[str | None, str | None]:
        """What is live, and what was before."""
        return descent(self.deployment, self.kept)

    def _effect(self, control_id: str, at: int, partitions: int = PARTITIONS) -> None:
        for partition in range(partitions):
            self._append(
                control.ShardEffect(
                    id=f"{control_id}/{partition}",
                    control_id=control_id,
                    agent="a",
                    epoch=self.deployment.epoch,
                    topic=TOPIC,
                    partition=partition,
                    next_offset=at,
                    worker="w",
                )
            )

    def _append(self, record: control.ControlRecord) -> None:
        self.registry.apply(record, self.registry.next_offset)


@pytest.fixture
def history() -> History:
    """Two named snapshots, at 10 and at 20."""
    history = History()
    history.snapshot("one", 10)
    history.snapshot("two", 20)
    return history


def test_a_new_agent_descends_from_nothing() -> None:
    """There is no live version before the first snapshot."""
    assert History().names == Descent(None, None)


def test_the_newest_named_snapshot_is_live(history: History) -> None:
    """What has been learned since came on top of it."""
    assert history.names == ("a.two", "a.one")


def test_a_rollback_to_a_named_snapshot_makes_it_live(history: History) -> None:
    """What was live before the rollback is the previous one."""
    history.rollback("one", (1, 10), at=30)
    assert history.names == ("a.one", "a.two")


def test_an_automatic_snapshot_stands_for_the_named_one_before_it(history: History) -> None:
    """Going back to one from between two named ones makes the first of them live."""
    history.rollback("auto-1-x", (1, 15), at=30)
    assert history.names == ("a.one", "a.two")


def test_a_snapshot_before_all_named_ones_descends_from_none(history: History) -> None:
    """Nothing is live then, and what was is the previous one."""
    history.rollback("auto-1-x", (1, 5), at=30)
    assert history.names == (None, "a.two")


def test_undo_makes_live_what_was_live(history: History) -> None:
    """The undo snapshot belongs to the epoch that the rollback ended."""
    history.rollback("one", (1, 10), at=30)
    history.rollback("undo-1", (1, 30), at=40)
    assert history.names == ("a.two", "a.one")


def test_undo_of_an_undo_goes_back_once_more(history: History) -> None:
    """An epoch without a named snapshot of its own descends from what it began with."""
    history.rollback("one", (1, 10), at=30)
    history.rollback("undo-1", (1, 30), at=40)
    history.rollback("undo-2", (2, 40), at=50)
    assert history.names == ("a.one", "a.two")


def test_a_rollback_of_keys_leaves_the_agent_what_it_was(history: History) -> None:
    """So does going back to a snapshot from after it."""
    history.rollback("one", (1, 10), at=30, keys=("ada",))
    assert history.names == ("a.two", "a.one")
    history.rollback("auto-2-x", (2, 35), at=40)
    assert history.names == ("a.two", "a.one")


def test_a_snapshot_after_a_rollback_is_live(history: History) -> None:
    """What it was rolled back to is the previous one."""
    history.rollback("one", (1, 10), at=30)
    history.snapshot("three", 40)
    assert history.names == ("a.three", "a.one")


def test_a_rollback_counts_when_all_partitions_have_done_it(history: History) -> None:
    """Until then most keys may answer from the old state."""
    history.rollback("one", (1, 10), at=30, done=False)
    assert history.names == ("a.two", "a.one")


def test_a_snapshot_that_was_removed_is_passed_over(history: History) -> None:
    """Its files go, so nobody could load it: the one before it stands for the state."""
    del history.kept["two"]
    assert history.names == ("a.one", None)
    history.rollback("two", (1, 20), at=30)
    assert history.names == ("a.one", None)


def test_of_two_at_one_place_the_one_that_was_named_is_live(history: History) -> None:
    """They hold the same state, and the user asked for one of them."""
    history.snapshot("also-two", 20)
    history.rollback("two", (1, 20), at=30)
    assert history.names == ("a.two", "a.also-two")


def test_what_was_learned_is_kept_and_with_it_what_is_live(history: History) -> None:
    """Also for whoever goes back into the epoch that the migration began."""
    history.migrate("keep", at=30)
    assert history.names == ("a.two", "a.one")
    history.rollback("auto-2-x", (2, 35), at=40)
    assert history.names == ("a.two", "a.one")


@pytest.mark.parametrize("how", ["reset", "refold"])
def test_what_begins_anew_descends_from_nothing(history: History, how: How) -> None:
    """What was live is the previous one, and a snapshot of the new state is live again."""
    history.migrate(how, at=30)
    assert (history.names[0], history.names[1]) == (None, "a.two")
    history.snapshot("three", 40)
    assert history.names[0] == "a.three"


def test_a_migration_from_a_snapshot_makes_it_live(history: History) -> None:
    """As a rollback to it does."""
    history.migrate("from", at=30, to="one", base=(1, 10))
    assert history.names == ("a.one", "a.two")
