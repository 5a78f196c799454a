"""Many questions in few calls: what `predict_many` of both clients asks, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from headrace.errors import HeadraceError, OverloadError, RequestError, UnavailableError
from headrace.serving import calls, encode, prediction_pb2
from headrace.serving.calls import Outcome
from headrace.views import Question


class Batches:
    """Requests of at most BATCH_ROWS questions and, unless one alone has more, about BATCH_BYTES
    and BATCH_ITEMS each. Every question has one outcome in the end, whatever becomes of a call.

    Iterate, and after each request call `answered` or `failed` before the next is pulled. At the
    end `outcomes` is complete.
    """

    def __init__(self, questions: Iterable[Question]) -> None:
        self._questions = questions
        self._found: dict[int, Outcome] = {}  # by the question's place
        self._due: list[list[_Row]] = []  # to be asked next, the next one last
        self._asked: list[_Row] = []
        self._over: HeadraceError | None = None  # for which nothing more is asked

    def __iter__(self) -> Iterator[prediction_pb2.PredictBatchRequest]:
        for rows in self._cut():
            self._due.append(rows)
            while self._due:
                self._asked = self._due.pop()
                if self._over is None:
                    questions = [row.question for row in self._asked]
                    yield prediction_pb2.PredictBatchRequest(questions=questions)
                else:
                    self._settle(self._over)

    def answered(self, response: prediction_pb2.PredictBatchResponse) -> None:
        """Take what came for the last request."""
        came, wanted = len(response.outcomes), len(self._asked)
        if came != wanted:
            text = f"the worker answered {came} of {wanted} questions: it is of another version"
            self._settle(RequestError("internal", text))
            return
        for row, found in zip(self._asked, response.outcomes, strict=True):
            self._found[row.place] = calls.outcome(found)

    def failed(self, error: HeadraceError) -> None:
        """The last request failed as a whole.

        How large the answers are is only known when they are there, and how much a worker takes is
        a setting of its. So what is too large together is asked again in halves, which ends at
        single questions. A worker that is away or sheds load is asked nothing more.
        """
        rows = self._asked
        if isinstance(error, RequestError) and error.code == "too_large" and len(rows) > 1:
            middle = len(rows) // 2
            self._due += (rows[middle:], rows[:middle])
            return
        self._settle(error)
        if isinstance(error, OverloadError | UnavailableError):
            self._over = error

    @property
    def outcomes(self) -> list[Outcome]:
        """One per question, in their order."""
        return [self._found[place] for place in range(len(self._found))]

    def _settle(self, error: HeadraceError) -> None:
        for row in self._asked:
            self._found[row.place] = error

    def _cut(self) -> Iterator[list[_Row]]:
        rows: list[_Row] = []
        size = items = 0
        for place, each in enumerate(self._questions):
            try:
                row = _Row(place, encode.question(each))
            except RequestError as error:  # as a single call would raise it
                self._found[place] = error
                continue
            size += row.question.ByteSize()
            items += _items(row.question)
            full = size > calls.BATCH_BYTES or items > calls.BATCH_ITEMS
            if rows and (full or len(rows) == calls.BATCH_ROWS):
                yield rows
                rows, size, items = [], row.question.ByteSize(), _items(row.question)
            rows.append(row)
        if rows:
            yield rows


class _Row(NamedTuple):
    place: int
    question: prediction_pb2.Question


def _items(asked: prediction_pb2.Question) -> int:
    """How many items an answer may bring, as far as the question says."""
    bounds = [asked.k] if asked.HasField("k") else []
    bounds += [len(asked.candidates.items)] if asked.HasField("candidates") else []
    return min(bounds, default=0)
