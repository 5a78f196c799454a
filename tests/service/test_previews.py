"""What a preview tells apart, on a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from headrace.pipelines import previewing
from headrace.views import Exclusion, RollbackPreview, RollbackRequest
from tests.service.conftest import Running, Start
from tests.service.test_rollback import more, taught
from tests.service.test_service import events, learned, spec


async def good_then_ninety(running: Running, agent: str) -> None:
    """A snapshot `good` at 30 of 90 events, of three keys in turn."""
    sent = await taught(running, agent, spec(agent, f"t-{agent}"), 30)
    await running.client.create_snapshot(agent, "good")
    await more(running, agent, sent, 90)


def to_good(
    agent: str, keys: tuple[str, ...] = (), decisions: tuple[str, ...] = ()
) -> RollbackRequest:
    exclude = Exclusion(keys=keys, decisions=decisions)
    return RollbackRequest(agent=agent, snapshot_id=f"{agent}.good", mode="rewind", exclude=exclude)


def left_out(preview: RollbackPreview) -> tuple[int, int]:
    return preview.events_excluded, preview.events_excluded_earlier


async def test_a_preview_tells_its_own_exclusion_from_earlier_ones(start: Start) -> None:
    """A key that is mistyped matches nothing, and that is said before all else."""
    async with start() as running:
        client = running.client
        await good_then_ninety(running, "lies-told")
        eve = to_good("lies-told", keys=("eve",))
        assert left_out(await client.preview_rollback(eve)) == (20, 0)
        await client.rollback(eve)
        assert left_out(await client.preview_rollback(eve)) == (20, 0)  # its own, too
        one = await client.preview_rollback(
            to_good("lies-told", decisions=("lies-told/1/t-lies-told/0/30",))
        )
        assert left_out(one) == (21, 20)
        assert "matches none" not in one.note
        typo = await client.preview_rollback(to_good("lies-told", keys=("evee",)))
        assert left_out(typo) == (20, 20)
        assert typo.note.startswith(
            "what this rewind excludes matches none of the 60 events since then: "
            "all that is left out, earlier rewinds leave out"
        )


async def test_an_exclusion_that_matches_nothing_says_so(start: Start) -> None:
    """Also where nothing else is left out."""
    async with start() as running:
        await good_then_ninety(running, "none-match")
        typo = await running.client.preview_rollback(to_good("none-match", keys=("evee",)))
        assert left_out(typo) == (0, 0)
        await running.client.create_snapshot("none-match", "now")
        now = to_good("none-match", keys=("evee",))
        now = replace(now, snapshot_id="none-match.now")
        assert "withdrawn" not in (await running.client.preview_rollback(now)).note
        assert (typo.keys_changed, typo.withdrawn_most, typo.reinstated_most) == (0, 60, 0)
        assert typo.note.startswith(
            "what this rewind excludes matches none of the 60 events since then: "
            "the same is learned again, and decisions are withdrawn all the same; "
        )


async def test_a_preview_names_a_key_that_nobody_has(start: Start) -> None:
    """That none of one key changes says little: it may be mistyped."""
    async with start() as running:
        await good_then_ninety(running, "key-named")
        of_keys = RollbackRequest(
            agent="key-named", snapshot_id="key-named.good", keys=("eve", "evee")
        )
        preview = await running.client.preview_rollback(of_keys)
        assert (preview.keys_changed, preview.keys_total, preview.events_back) == (1, 2, 60)
        assert preview.note.startswith("no state has a key 'evee'; ")
        assert "the events are those of all keys" in preview.note


async def test_the_newest_events_that_count_are_compared(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of the newest ones are left out, before the snapshot's end or after it."""
    monkeypatch.setattr(previewing, "RECORDS", 20)
    async with start() as running:
        client = running.client
        sent = await taught(running, "flooded", spec("flooded", "t-flooded"), 30)
        await client.create_snapshot("flooded", "good")
        await more(running, "flooded", sent, 36)
        flood = [e._replace(key=b"eve") for e in events("t-flooded", range(36, 100))]
        await running.service.events.send_all(flood)
        await learned(client, "flooded", 100)
        preview = await client.preview_rollback(to_good("flooded", keys=("eve",)))
        assert left_out(preview) == (66, 0)
        # Four of after the snapshot, and the newest of before it.
        assert preview.decisions_compared == 20
        assert preview.note.startswith("decisions and metrics are of events that are not left out")


async def test_a_preview_of_an_undo_tells_what_it_reinstates(start: Start) -> None:
    """And what was decided since is withdrawn."""
    async with start() as running:
        client = running.client
        await good_then_ninety(running, "told-back")
        done = await client.rollback(to_good("told-back", keys=("eve",)))
        await running.service.events.send_all(events("t-told-back", range(90, 93)))
        await learned(client, "told-back", 73)
        undo = RollbackRequest(agent="told-back", snapshot_id=done.undo_snapshot_id)
        preview = await client.preview_rollback(undo)
        assert (preview.withdrawn_most, preview.reinstated_most) == (3, 60)


async def test_what_came_since_an_imported_snapshot_nobody_knows(
    start: Start, tmp_path: Path
) -> None:
    """But all that was decided since the deploy is withdrawn."""
    file = tmp_path / "good.tar"
    async with start() as running:
        client = running.client
        await good_then_ninety(running, "came-in")
        digest = await client.export_snapshot("came-in.good", file)
        await client.delete_snapshot("came-in.good")
        await client.import_snapshot(file, digest)
        back = RollbackRequest(agent="came-in", snapshot_id="came-in.good")
        preview = await client.preview_rollback(back)
        assert (preview.imported, preview.events_back, preview.withdrawn_most) == (True, 0, 90)
