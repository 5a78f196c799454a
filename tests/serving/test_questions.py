from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.errors import RequestError
from headrace.serving import decode, encode, prediction_pb2, status
from headrace.serving.client import AsyncClient
from headrace.serving.limits import Limits
from headrace.serving.server import Listen, Server
from headrace.views import Answer, Question
from tests.serving.world import World

values = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(),
    st.text(max_size=20),
    st.binary(),
    st.just([]),
)
names = st.one_of(st.sampled_from(["amount", "foreign"]), st.text(max_size=10))
questions = st.builds(
    Question,
    agent=st.one_of(st.just("card-fraud"), st.text(max_size=10)),
    key=st.one_of(st.sampled_from(["4711", "cold", ""]), st.text(max_size=30)),
    features=st.dictionaries(names, values, max_size=4),
    candidates=st.none() | st.lists(st.text(max_size=5), max_size=4).map(tuple),
    exclude=st.lists(st.text(max_size=5), max_size=4).map(tuple),
    k=st.none() | st.integers(),
    setpoint=st.none() | st.floats(),
    item=st.none() | st.text(max_size=5),
)


def test_any_question_gets_an_answer_or_a_status_of_the_table() -> None:
    """Whatever is asked, through the wire: an Answer, or an error whose code the table has."""

    async def ask(batch: list[Question]) -> None:
        codes = set()
        server = Server(World().backend, Listen(port=0))
        async with AsyncClient(f"127.0.0.1:{await server.start()}") as client:
            for each in batch:
                asked: Any = {
                    name: getattr(each, name)
                    for name in ("candidates", "exclude", "k", "setpoint", "item")
                }
                try:
                    found = await client.predict(
                        each.agent, key=each.key, features=each.features, **asked
                    )
                    assert found.standing.agent == each.agent
                except RequestError as error:
                    codes.add(error.code)
        await server.stop(0)
        assert codes <= status.TABLE.keys() - {"internal"}

    @given(st.lists(questions, min_size=1, max_size=20))
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    def check(batch: list[Question]) -> None:
        asyncio.run(ask(batch))

    check()


finite = st.one_of(
    st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=9)
)


@given(
    question=st.builds(
        Question,
        agent=st.text(min_size=1, max_size=9),
        key=st.text(max_size=9),
        features=st.dictionaries(st.text(max_size=9), finite, max_size=5),
        candidates=st.none() | st.lists(st.text(max_size=5), max_size=4).map(tuple),
        exclude=st.lists(st.text(max_size=5), max_size=4).map(tuple),
        k=st.none() | st.integers(1, 1000),
        setpoint=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        item=st.none() | st.text(max_size=5),
    )
)
def test_a_question_survives_the_wire(question: Question) -> None:
    """Encode, then decode: every field as it was, absent and empty kept apart."""
    data = encode.question(question).SerializeToString()
    assert decode.question(prediction_pb2.Question.FromString(data), Limits()) == question


def test_a_feature_without_a_value_is_refused() -> None:
    """An unset FeatureValue is a wrong type, not a missing feature."""
    message = prediction_pb2.Question(agent="a")
    message.features["amount"].SetInParent()
    with pytest.raises(RequestError, match="has no value") as found:
        decode.question(message, Limits())
    assert found.value.code == "wrong_type"


def test_an_answer_is_an_answer() -> None:
    """Answers of every shape survive the wire."""
    world = World()
    for key in ("4711", "cold", "other"):
        asked = Question(agent="card-fraud", key=key, candidates=("a",), setpoint=1.5)
        answer = world.predict(asked)
        assert decode.answer(encode.answer(answer)) == answer
        assert isinstance(answer, Answer)
