"""What is told, and blamed, when a decision cannot be made again."""

from __future__ import annotations

import pytest

from headrace.errors import AwayStateError, BadDiskError, DiskFullError, NotFoundError, StateError
from headrace.pipelines import control
from headrace.pipelines.housekeeping import known_of
from headrace.pipelines.past import making
from headrace.pipelines.vault import Vault
from tests.pipelines.snapshots_of_one import dropped, without_manifests
from tests.pipelines.test_past import HISTORY, Lived
from tests.pipelines.test_rollback_laws import Two, lived

DECISION = "a/2/events/0/5"
"""On an event behind the rollback of `rolled_back`."""


async def rolled_back(place: Two) -> Lived:
    """A snapshot, a few events, another one, a rollback to that one, and the other events."""
    assert isinstance(place, Lived)
    await place.cut("a", "zero")
    await place.feed(2)
    await place.cut("a", "first")
    await place.feed(4)
    await place.roll_back("a", "a.first")
    await place.feed(len(place.rows))
    await place.decided("a")
    return place


def test_the_name_of_what_was_removed_may_be_another_ones_since() -> None:
    """It is told as removed all the same, and no sound snapshot is refused for it."""

    async def work(place: Two) -> None:
        await rolled_back(place)
        assert isinstance(place, Lived)
        assert (await place.verifier().verify(DECISION, None)).verdict == "confirmed"
        await place.vault.remove("a.first", *known_of("a.first", place.controls.registry))
        free_from = place.vault.catalogue.free_from("a.first", 1)
        place.command(
            control.Snapshot(
                id="again",
                agent="a",
                life=1,
                snapshot_id="a.first",
                partitions=1,
                free_from=free_from,
            )
        )
        await place.until(lambda: bool(place.vault.catalogue.shards("a.first")))
        found = await place.verifier().verify(DECISION, None)
        assert (found.verdict, found.reason) == ("unverifiable", "snapshot_expired")
        assert "'a.first' has been removed" in found.text
        assert place.vault.refusals == 0

    lived(HISTORY, work, Lived)


def test_a_base_on_the_way_that_is_damaged_speaks_against_no_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The damaged one is refused where it would be a start itself, and the sound one is not."""

    async def work(place: Two) -> None:
        await rolled_back(place)
        assert isinstance(place, Lived)
        await dropped(place, "a.first")
        without_manifests(place.broker.repository, "a.first")
        found = await place.verifier().verify(DECISION, None)
        assert (found.verdict, found.reason) == ("unverifiable", "snapshot_damaged")
        said = [vars(r)["fields"] for r in caplog.records if r.message == "snapshot.refused"]
        assert [each["snapshot"] for each in said] == ["a.first"]
        assert place.vault.refusals == 1

    lived(HISTORY, work, Lived)


def test_a_start_that_is_removed_meanwhile_is_not_called_damaged() -> None:
    """It was there when somebody looked for the states from which this one can be made."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await place.feed(4)
        await place.cut("a", "first")
        await place.feed(len(place.rows))
        place.log.begin = 4  # nothing leads there from the deploy
        timeline = place.timeline("a")
        await place.vault.remove("a.first", *known_of("a.first", place.controls.registry))
        maker = making.Maker(place.shards.site, place.vault)
        with pytest.raises(NotFoundError, match="has been removed") as told:
            await maker.nearest(timeline, 6)
        assert told.value.code == "snapshot_expired"
        assert place.vault.refusals == 0

    lived(HISTORY, work, Lived)


@pytest.mark.parametrize("kind", [AwayStateError, BadDiskError, DiskFullError])
def test_what_passes_speaks_against_no_start(
    kind: type[StateError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repository is away, or this disk without room: the snapshot is as it was."""

    async def refuse(*_: object) -> None:
        raise kind("it cannot be had now")

    async def work(place: Two) -> None:
        await rolled_back(place)
        assert isinstance(place, Lived)
        monkeypatch.setattr(Vault, "fetch", refuse)
        await place.verifier().verify(DECISION, None)
        assert place.vault.refusals == 0

    lived(HISTORY, work, Lived)


def test_an_event_that_was_retired_right_behind_a_snapshot_is_a_log_too_short() -> None:
    """Nothing else has to be learned, but for that event itself; the snapshot is sound."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await place.feed(5)
        await place.cut("a", "first")
        await place.feed(len(place.rows))
        await place.decided("a")
        place.log.begin = 5
        assert (await place.verifier().verify("a/1/events/0/5", None)).verdict == "confirmed"
        place.log.begin = 6
        found = await place.verifier().verify("a/1/events/0/5", None)
        assert (found.verdict, found.reason) == ("unverifiable", "log_too_short")
        assert "reaches back to offset 6 only: the event at offset 5" in found.text
        assert place.vault.refusals == 0

    lived(HISTORY, work, Lived)


def test_the_event_itself_counts_as_one_that_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask the state before it takes one less."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await place.cut("a", "first")
        await place.feed(len(place.rows))
        await place.decided("a")
        maker = making.Maker(place.shards.site, place.vault)
        monkeypatch.setattr(making, "EVENTS_MAX", 5)
        await (await maker.nearest(place.timeline("a"), 5)).end()
        found = await place.verifier().verify("a/1/events/0/5", None)
        assert (found.verdict, found.reason) == ("unverifiable", "too_large")
        assert found.text.count("6 events have to be learned again") == 1

    lived(HISTORY, work, Lived)
