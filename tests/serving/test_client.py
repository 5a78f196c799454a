from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from headrace.errors import OverloadError, RequestError, UnavailableError
from headrace.serving.calls import Event
from headrace.serving.client import AsyncClient, Client
from headrace.serving.server import Server
from headrace.views import Answer, Position, Question, ScoredItem
from tests.serving.world import ANSWERS, SPEC, World, standing, view


async def test_predict_names_the_state_it_used(client: AsyncClient) -> None:
    """An answer carries agent, spec version, epoch, position, cold and updates."""
    answer = await client.predict(
        "card-fraud", key="4711", features={"amount": 12, "foreign": True}
    )
    assert answer == Answer(
        standing=standing("4711", 90),
        score=0.95,
        label="true",
        probabilities={"true": 0.95, "false": 1 - 0.95},
        decision="block",
    )


async def test_every_part_of_a_question_arrives(client: AsyncClient) -> None:
    """Candidates, exclusions, k, set-point and item reach the Predictor; absent is not empty."""
    answer = await client.predict(
        "card-fraud", key="cold", candidates=["a", "b"], exclude=["c"], k=2, setpoint=40.5, item="i"
    )
    assert answer.items == (ScoredItem("a", 1.0), ScoredItem("b", 1.0))
    assert answer.value == 40.5
    assert answer.standing.cold


async def test_batch_rows_fail_alone(client: AsyncClient) -> None:
    """Each row of a batch has its own answer or its own error."""
    rows = await client.predict_many(
        [
            Question(agent="card-fraud", key="4711"),
            Question(agent="nobody", key="4711"),
            Question(agent="card-fraud", key="4712", features={"amount": "much"}),
            Question(agent="card-fraud", key="4712", features={"amount": None}),
        ]
    )
    kinds = [row.score if isinstance(row, Answer) else getattr(row, "code", "") for row in rows]
    assert kinds == [0.95, "unknown_agent", "wrong_type", 0.61]


async def test_batches_of_any_length(client: AsyncClient) -> None:
    """predict_many cuts a long list into batches and keeps the order."""
    keys = list(ANSWERS) * 400
    rows = await client.predict_many(Question(agent="card-fraud", key=key) for key in keys)
    assert [row.score for row in rows if isinstance(row, Answer)] == [ANSWERS[k] for k in keys]


async def test_stream_keeps_the_order_and_goes_on_after_an_error(client: AsyncClient) -> None:
    """A stream answers in order; a bad question is an outcome, not the end."""
    questions = [
        Question(
            agent="card-fraud", key="4711" if n % 2 else "4712", features={"f": 1} if n == 7 else {}
        )
        for n in range(500)
    ]
    rows = [row async for row in client.predict_stream(questions)]
    assert len(rows) == 500
    assert isinstance(rows[7], RequestError)
    assert rows[7].code == "unknown_feature"
    good = [row.score for row in rows if isinstance(row, Answer)]
    assert good == [0.95 if n % 2 else 0.61 for n in range(500) if n != 7]


async def test_stream_tells_what_went_wrong_in_the_questions(client: AsyncClient) -> None:
    """An error while the caller's questions are pulled ends the stream and is raised there."""

    async def questions() -> AsyncIterator[Question]:
        yield Question(agent="card-fraud", key="4711")
        raise LookupError("the file ended")

    rows = client.predict_stream(questions())
    assert isinstance(await anext(rows), Answer)
    with pytest.raises(LookupError, match="the file ended"):
        await anext(rows)


async def test_feedback_is_appended_whole(client: AsyncClient, world: World) -> None:
    """SubmitFeedback appends the event as it is and returns its position."""
    place = await client.submit_feedback(
        "card-fraud", key="4711", event={"amount": 1, "fraud": True}
    )
    assert place == Position("transactions", 0, 100)
    await client.submit_feedback("card-fraud", key="4711", event='{"amount": 1.50}')
    assert world.log == [b'{"amount":1,"fraud":true}', b'{"amount": 1.50}']


async def test_many_events_have_an_outcome_each(client: AsyncClient, world: World) -> None:
    """In their order, over several calls; what is refused holds up nothing."""
    events: list[tuple[str, Event]] = [(f"k{n}", {"amount": n}) for n in range(1_200)]
    events[700:702] = [("k", b"{oops"), ("k", b"")]
    rows = [row async for row in client.submit_many("card-fraud", events)]
    assert rows[699:703:3] == [Position("transactions", 0, n) for n in (799, 800)]
    assert [row.code for row in rows if isinstance(row, RequestError)] == [
        "bad_event",
        "invalid_request",
    ]
    assert len(world.log) == 1_198
    world.shed_from = len(world.log) + 500
    outcomes = client.submit_many("card-fraud", events)
    assert len([await anext(outcomes) for _ in range(500)]) == 500
    with pytest.raises(OverloadError):
        await anext(outcomes)
    world.shed_from = None
    large = [("k", b'{"a": "' + b"x" * 700_000 + b'"}')] * 8  # 5.6 MB: no one message takes them
    rows = [row async for row in client.submit_many("card-fraud", large)]
    assert all(isinstance(row, Position) for row in rows)


async def test_key_shows_the_model(client: AsyncClient) -> None:
    """GetKey shows updates, size, digest and weights; what is no JSON is shown as text."""
    found = await client.key("card-fraud", "4711")
    assert (found.size_bytes, found.pending_labels, found.last_learned_ms) == (
        1500,
        1,
        1_700_000_000_000,
    )
    assert found.model == {"weights": {"amount": 0.25}, "scale": None, "kind": "(1+2j)"}
    assert found.standing == standing("4711", 90)


async def test_agents_are_shown_whole(client: AsyncClient) -> None:
    """ListAgents and GetAgent give back every figure of the Directory."""
    assert await client.agents() == [view()]
    assert await client.agent("card-fraud") == view()


async def test_deploy_pause_resume_delete(client: AsyncClient, tmp_path: Path) -> None:
    """An agent can be deployed from a file, steered, deployed again without effect, deleted."""
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC.replace("card-fraud", "second"))
    effect = await client.deploy(path)
    assert (effect.agent, effect.changed, effect.positions) == (
        "second",
        True,
        (Position("transactions", 0, 90),),
    )
    assert not (await client.deploy(path)).changed
    assert (await client.pause("second")).changed
    assert (await client.agent("second")).state == "paused"
    assert (await client.resume("second")).changed
    await client.delete("second")
    assert [agent.name for agent in await client.agents()] == ["card-fraud"]


async def test_dry_run_says_what_would_be_refused(client: AsyncClient) -> None:
    """A dry run deploys nothing and gives reasons with example positions."""
    done = await client.dry_run(SPEC.replace("card-fraud", "second"))
    assert (done.read, done.accepted) == (200, 187)
    assert done.refused[0].examples == (
        Position("transactions", 0, 5),
        Position("transactions", 1, 7),
    )
    assert len(await client.agents()) == 1


async def test_validate_names_every_violation(client: AsyncClient) -> None:
    """ValidateAgent answers with all violations, and with none for a good spec."""
    assert await client.validate(SPEC) == []
    found = await client.validate("agent: Card\nsauce: 1")
    assert {violation.path for violation in found} >= {"$.agent", "$.sauce", "$.source"}


async def test_watch_from_the_start_and_from_now(client: AsyncClient, world: World) -> None:
    """A watch hands on the records as they were written, from the start or from now on."""
    seen = [
        r["id"] async for r in client.watch_decisions("card-fraud", from_start=True, follow=False)
    ]
    assert seen == ["a", "b"]
    assert [r async for r in client.watch_decisions("card-fraud", follow=False)] == []
    assert [r async for r in client.watch_quarantine()] == [{"agent": None, "reason": "bad_json"}]
    assert world.feeds_open == 0


async def test_a_watch_that_is_left_closes_its_feed(client: AsyncClient, world: World) -> None:
    """When the client leaves, the worker stops reading the decision topic for it."""
    async for record in client.watch_decisions("card-fraud", from_start=True):
        assert record == {"id": "a"}
        break
    async with asyncio.timeout(5):
        await world.feed_closed.wait()


async def test_a_blocking_watch_has_begun_before_it_is_read(server: Server, world: World) -> None:
    """A Ctrl-C can be held while it begins, then; one that nobody reads is ended when let go of."""
    with Client(f"127.0.0.1:{server.port}") as blocking:
        watch = await asyncio.to_thread(blocking.watch_decisions, "card-fraud")
        async with asyncio.timeout(5):
            await world.feed_opened.wait()
            assert not world.feed_closed.is_set()
            del watch
            await world.feed_closed.wait()


async def test_the_blocking_client_says_the_same(server: Server, client: AsyncClient) -> None:
    """Client and AsyncClient give equal views for equal calls."""

    def ask() -> list[object]:
        with Client(f"127.0.0.1:{server.port}") as blocking:
            questions = [Question(agent="card-fraud", key=key) for key in ANSWERS]
            second = SPEC.replace("card-fraud", "second")
            return [
                blocking.predict("card-fraud", key="4711", features={"amount": 1.5}),
                blocking.predict_many(questions),
                list(blocking.predict_stream(questions)),
                blocking.key("card-fraud", "4711"),
                blocking.agents(),
                blocking.agent("card-fraud"),
                blocking.spec("card-fraud", 1),
                blocking.dry_run(second),
                blocking.validate("agent: 1"),
                list(blocking.watch_decisions("card-fraud", from_start=True, follow=False)),
                list(blocking.watch_quarantine("card-fraud")),
                blocking.ready(),
                blocking.deploy(second),
                blocking.pause("second").changed,
                blocking.resume("second").changed,
                blocking.delete("second").changed,
                blocking.submit_feedback("card-fraud", key="4711", event=b"{}"),
                list(blocking.submit_many("card-fraud", [("4711", b"{}"), ("4712", {})])),
            ]

    questions = [Question(agent="card-fraud", key=key) for key in ANSWERS]
    second = SPEC.replace("card-fraud", "second")
    found = await asyncio.to_thread(ask)
    assert found == [
        await client.predict("card-fraud", key="4711", features={"amount": 1.5}),
        await client.predict_many(questions),
        [row async for row in client.predict_stream(questions)],
        await client.key("card-fraud", "4711"),
        await client.agents(),
        await client.agent("card-fraud"),
        await client.spec("card-fraud", 1),
        await client.dry_run(second),
        await client.validate("agent: 1"),
        [{"id": "a"}, {"id": "b"}],
        [{"agent": "card-fraud", "reason": "bad_json"}],
        await client.ready(),
        # The backend remembers the digest of what the blocking client deployed and deleted.
        msgspec.structs.replace(await client.deploy(second), changed=True),
        True,
        True,
        True,
        Position("transactions", 0, 100),
        [Position("transactions", 0, n) for n in (101, 102)],
    ]


async def test_the_blocking_stream_raises_what_its_questions_raise(target: str) -> None:
    """An error in the caller's iterable reaches the caller, with the outcomes before it."""

    def ask() -> None:
        def questions() -> Iterator[Question]:
            yield Question(agent="card-fraud", key="4711")
            yield Question(agent="card-fraud", key="4711", features={"amount": object()})

        with Client(target) as blocking:
            rows = blocking.predict_stream(questions())
            assert isinstance(next(rows), Answer)
            with pytest.raises(RequestError, match="is of type object"):
                next(rows)

    await asyncio.to_thread(ask)


async def test_no_worker_is_said_so() -> None:
    """Where nobody listens, the error says which address and what to start."""
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(
            UnavailableError, match=r"no worker at 127.0.0.1:1; start one with `head"
        ):
            await client.agents()
        assert not await client.ready()
