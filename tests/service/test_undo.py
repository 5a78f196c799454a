"""Which rollback is taken back where none is named, over gRPC on a real broker."""

from __future__ import annotations

import pytest

from headrace.errors import ConflictError, NotFoundError
from headrace.views import RollbackRequest, RollbackView
from tests.service.conftest import Start
from tests.service.test_restore import published
from tests.service.test_rollback import digests, more, taught
from tests.service.test_service import spec


async def test_without_an_id_the_last_rollback_that_stands_is_taken_back(start: Start) -> None:
    """Also one of which an undo was itself undone: that is the last, not the one before it. What
    forgetting a key would take the undo from is told likewise.
    """
    async with start() as running:
        client = running.client

        async def undone(control_id: str | None = None) -> RollbackView:
            done = await client.undo_rollback("twofold", control_id)
            await published(client, done.undo_snapshot_id)
            return done

        async def losing() -> tuple[str, ...]:
            return (await client.preview_forget("twofold", "ada")).rollbacks

        sent = await taught(running, "twofold", spec("twofold", "t-twofold"), 30)
        await client.create_snapshot("twofold", "good")
        to_good = RollbackRequest(agent="twofold", snapshot_id="twofold.good")
        await more(running, "twofold", sent, 45)
        earlier = await client.rollback(to_good)
        await more(running, "twofold", sent, 60)
        newest = await digests(client, "twofold")
        last = await client.rollback(to_good)
        for view in (earlier, last):
            await published(client, view.undo_snapshot_id)
        first_undo = await undone()
        assert first_undo.undoes == last.control_id
        assert await losing() == (first_undo.control_id, earlier.control_id)
        second_undo = await undone(first_undo.control_id)
        standing = (second_undo, last, earlier)
        assert await losing() == tuple(view.control_id for view in standing)
        assert (await undone()).undoes == last.control_id
        assert await digests(client, "twofold") == newest
        assert (await undone()).undoes == earlier.control_id
        with pytest.raises(NotFoundError, match="no rollback to undo") as refused:
            await client.undo_rollback("twofold")
        assert refused.value.code == "unknown_rollback"


async def test_what_was_taken_back_is_not_taken_back_again(start: Start) -> None:
    """The command that every rollback prints, repeated, would throw away what was learned since."""
    async with start() as running:
        client = running.client
        sent = await taught(running, "repeated", spec("repeated", "t-repeated"), 30)
        await client.create_snapshot("repeated", "good")
        done = await client.rollback(RollbackRequest(agent="repeated", snapshot_id="repeated.good"))
        undone = await client.undo_rollback("repeated", done.control_id)
        await more(running, "repeated", sent, 60)
        newest = await digests(client, "repeated")
        with pytest.raises(ConflictError) as refused:
            await client.undo_rollback("repeated", done.control_id)
        assert refused.value.code == "not_standing"
        assert f"was taken back by {undone.control_id} already" in str(refused.value)
        listed = await client.rollbacks("repeated")
        assert [view.undone_by for view in listed] == ["", undone.control_id]
        assert await digests(client, "repeated") == newest
        await published(client, undone.undo_snapshot_id)
        await client.delete_snapshot(undone.undo_snapshot_id)
        with pytest.raises(NotFoundError, match="that rollback cannot be taken back any more"):
            await client.undo_rollback("repeated", undone.control_id)
