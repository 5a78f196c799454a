"""The past of a small real backend: what it was asked, and verdicts from a dict."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from headrace.errors import NotFoundError
from headrace.views import Answer, AsOf, Difference, Question, Verification

CONFIRMED = Verification(
    decision_id="card-fraud/3/transactions/0/17",
    verdict="confirmed",
    text="made again from card-fraud.before and 12 events",
    snapshot_id="card-fraud.before",
    events=12,
    note="rollback r1 to card-fraud.before has withdrawn it since",
)


class Remembered:
    """Implements `ports.Past`. It answers as now, from the offset that was asked for."""

    def __init__(self, check: Callable[..., None], now: Callable[[Question], Answer]) -> None:
        self.asked: list[AsOf] = []
        self._check = check
        self._now = now

    async def predict(self, question: Question, as_of: AsOf) -> Answer:
        self.asked.append(as_of)
        answer = self._now(question)
        return replace(answer, standing=replace(answer.standing, offset=as_of.offset or 0))

    async def verify(self, decision_id: str | None, record: bytes | None) -> Verification:
        """A record is confirmed if its score is 0.5, and contradicted otherwise."""
        self._check()
        if decision_id is not None and decision_id != CONFIRMED.decision_id:
            agent = decision_id.partition("/")[0]
            if agent != "card-fraud":
                raise NotFoundError("unknown_agent", "no agent", agent=agent)
            text = f"no decision {decision_id!r}"
            raise NotFoundError("unknown_decision", text, decision=decision_id)
        if record is None or msgspec.json.decode(record).get("score") == 0.5:
            return CONFIRMED
        if msgspec.json.decode(record).get("score") is None:
            return replace(CONFIRMED, verdict="unverifiable", reason="void", text="why", note="")
        differences = (
            Difference(field="more", found="1"),
            Difference(field="score", found="0.25", expected="0.5"),
        )
        return replace(CONFIRMED, verdict="contradicted", differences=differences, note="")
