"""A decision that is looked for before it is in its topic; in virtual time."""

from __future__ import annotations

import pytest

from headrace.errors import RequestError
from headrace.models.exclusion import DecisionId
from headrace.pipelines.decisionlog import DecisionLog
from tests.pipelines.test_past import HISTORY, Lived
from tests.pipelines.test_rollback_laws import Two, lived


async def why_none(place: Lived, decision_id: str) -> str:
    """What is told of a decision that is not there."""
    with pytest.raises(RequestError) as found:
        await place.verifier().verify(decision_id, None)
    assert found.value.code == "unknown_decision"
    return found.value.text


def test_what_was_learned_just_now_may_be_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it has come there since the topic was looked at; what is durable must be there."""
    flushes = False

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)

        async def decision_of(log: DecisionLog, wanted: DecisionId) -> None:
            if flushes:
                await place.shard("a").flush()

        nonlocal flushes
        monkeypatch.setattr(DecisionLog, "decision_of", decision_of)
        await place.feed(5)
        await place.shard("a").flush()
        await place.feed(len(place.rows))
        durable, fresh = "a/1/events/0/4", "a/1/events/0/5"
        assert (await why_none(place, durable)).endswith("has retired it: then hand it in")
        assert (await why_none(place, fresh)).endswith("may be on its way: ask again")
        flushes = True
        assert (await why_none(place, fresh)).endswith("may be on its way: ask again")
        assert (await why_none(place, fresh)).endswith("has retired it: then hand it in")

    lived(HISTORY, work, Lived)
