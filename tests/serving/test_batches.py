"""Many questions in one go: each has its outcome, whatever becomes of the calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from headrace.errors import CorruptStateError, OverloadError, RequestError, UnavailableError
from headrace.serving import calls, encode, prediction_pb2
from headrace.serving.batches import Batches
from headrace.serving.client import AsyncClient, Client
from headrace.serving.limits import Limits
from headrace.serving.server import Listen, Server
from headrace.views import Answer, Question
from tests.serving.world import ANSWERS, World

MANY = tuple(f"item-{n:07}" for n in range(1_000))  # 12 characters each


def kinds(rows: list[calls.Outcome]) -> list[float | str | None]:
    """Of each row the answer's score, or the error's code."""
    return [row.score if isinstance(row, Answer) else getattr(row, "code", "") for row in rows]


def answered(asked: prediction_pb2.PredictBatchRequest) -> prediction_pb2.PredictBatchResponse:
    """What a worker of one small world says."""
    world = World()
    answers = [world.predict(Question(agent=q.agent, key=q.key)) for q in asked.questions]
    outcomes = [prediction_pb2.Outcome(answer=encode.answer(answer)) for answer in answers]
    return prediction_pb2.PredictBatchResponse(outcomes=outcomes)


@pytest.fixture
async def narrow(world: World) -> AsyncIterator[Server]:
    """Takes and gives 4 KiB at a time."""
    server = Server(world.backend, Listen(port=0), limits=Limits(message_bytes=4096))
    await server.start()
    yield server
    await server.stop()


async def test_legal_questions_are_answered_however_large_together(target: str) -> None:
    """500 questions with 1,000 candidates each are 7 MB, and their answers 13 MB: each client cuts
    them so that every question has its answer.
    """
    keys = [list(ANSWERS)[n % len(ANSWERS)] for n in range(500)]
    questions = [Question(agent="card-fraud", key=key, candidates=MANY) for key in keys]

    def ask() -> list[calls.Outcome]:
        with Client(target) as blocking:
            return blocking.predict_many(questions)

    async with AsyncClient(target) as client:
        rows = await client.predict_many(questions)
    assert kinds(rows) == [ANSWERS[key] for key in keys]
    assert {len(row.items) for row in rows if isinstance(row, Answer)} == {1_000}
    assert await asyncio.to_thread(ask) == rows


@pytest.mark.parametrize(
    ("question", "most"),
    [
        (Question(agent="card-fraud", key="k"), calls.BATCH_ROWS),
        (Question(agent="card-fraud", key="k", exclude=MANY), 74),  # 14 KB each
        (Question(agent="card-fraud", key="k", k=1_000), 10),
        (Question(agent="card-fraud", key="k", k=10), calls.BATCH_ROWS),
        (Question(agent="card-fraud", key="k", k=1_000, candidates=MANY[:40]), 250),
        (Question(agent="card-fraud", key="k", item="x" * (2 << 20)), 1),
    ],
)
def test_a_call_is_cut_by_rows_bytes_and_items(question: Question, most: int) -> None:
    """No call is larger than a worker takes, nor asks for more than a worker gives."""
    batches = Batches([question] * (2 * most + 1))
    lengths = []
    for request in batches:
        lengths.append(len(request.questions))
        batches.answered(answered(request))
    assert lengths == [most, most, 1]
    assert len(batches.outcomes) == 2 * most + 1


async def test_what_is_too_large_together_is_asked_in_halves(narrow: Server) -> None:
    """A worker that takes and gives little answers all the same; what is too large alone has that
    as its outcome, as a single call would.
    """
    questions = [Question(agent="card-fraud", key=str(n)) for n in range(100)]
    questions[7] = Question(agent="card-fraud", key="cold", candidates=MANY[:200])  # its answer is
    questions[8] = Question(agent="card-fraud", key="cold", exclude=MANY)  # it is itself
    questions[9] = Question(agent="card-fraud", key="4711")
    async with AsyncClient(f"127.0.0.1:{narrow.port}") as client:
        rows = await client.predict_many(questions)
    assert kinds(rows) == [0.1] * 7 + ["too_large", "too_large", 0.95] + [0.1] * 90
    texts = ["the answer has", "one message is"]
    assert [str(row)[:14] for row in rows[7:9]] == texts


async def test_a_question_that_cannot_be_asked_fails_alone(client: AsyncClient) -> None:
    """What has no message has its error as its outcome, in its place."""
    odd = Question(agent="card-fraud", key="4711", features={"amount": object()})
    good = Question(agent="card-fraud", key="4711")
    assert kinds(await client.predict_many([odd, good, odd])) == ["wrong_type", 0.95, "wrong_type"]
    assert kinds(await client.predict_many([odd])) == ["wrong_type"]
    assert await client.predict_many([]) == []


async def test_what_the_questions_raise_is_raised(client: AsyncClient) -> None:
    """An error while the caller's questions are pulled is the caller's own."""

    def questions() -> Iterator[Question]:
        yield Question(agent="card-fraud", key="4711")
        raise LookupError("the file ended")

    with pytest.raises(LookupError, match="the file ended"):
        await client.predict_many(questions())


async def test_no_worker_is_the_outcome_of_every_question() -> None:
    """Where nobody listens, each question has that as its outcome, in a blocking client too."""
    questions = [Question(agent="card-fraud", key="4711")] * 1_200

    def ask() -> list[calls.Outcome]:
        with Client("127.0.0.1:1") as blocking:
            return blocking.predict_many(questions)

    async with AsyncClient("127.0.0.1:1") as client:
        assert kinds(await client.predict_many(questions)) == ["no_worker"] * 1_200
    assert kinds(await asyncio.to_thread(ask)) == ["no_worker"] * 1_200


@pytest.mark.parametrize(
    ("error", "asked", "after"),
    [
        (OverloadError("overloaded", "too many calls", retry_s=0.1), 2, "overloaded"),
        (UnavailableError("deadline", "no answer in time"), 2, "deadline"),
        (RequestError("internal", "a bug"), 3, 0.95),
    ],
)
def test_a_call_that_fails_loses_no_other_outcome(
    error: RequestError, asked: int, after: float | str
) -> None:
    """Earlier answers stay; the failed call's questions have its error. After that a worker that
    may answer is asked the rest, one that is away or sheds load is left alone.
    """
    batches = Batches([Question(agent="card-fraud", key="4711")] * 1_200)
    requests = 0
    for request in batches:
        requests += 1
        if requests == 2:
            batches.failed(error)
        else:
            batches.answered(answered(request))
    assert requests == asked
    assert kinds(batches.outcomes) == [0.95] * 500 + [error.code] * 500 + [after] * 200


async def test_an_agent_with_damaged_state_spoils_no_other_question(
    world: World, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row has the error, and the others their answers."""
    answer = world.predict

    def predict(question: Question) -> Answer:
        if question.key == "damaged":
            raise CorruptStateError("row k/damaged does not match its digest")
        return answer(question)

    monkeypatch.setattr(world, "predict", predict)
    keys = ["4711", "damaged", "4711"]
    rows = await client.predict_many([Question(agent="card-fraud", key=key) for key in keys])
    assert [isinstance(row, Answer) for row in rows] == [True, False, True]
    assert "does not match its digest" in str(rows[1])


def test_a_worker_that_answers_too_few_leaves_no_question_without_an_outcome() -> None:
    """As one of another version might: which answer is whose, nobody can tell."""
    batches = Batches([Question(agent="card-fraud", key=key) for key in ("4711", "4712")])
    for asked in batches:
        few = answered(asked)
        del few.outcomes[1]
        batches.answered(few)
    assert ["answered 1 of 2 questions" in str(row) for row in batches.outcomes] == [True, True]
