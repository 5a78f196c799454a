"""Compiled models say and store what River's own objects would, bit for bit."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import CorruptStateError, EventError
from headrace.models import codec
from headrace.models.compiled.linear import LinearForm, compiled_linear
from headrace.models.forecasts import Forecast
from headrace.models.forms import Form, RiverForm, form_of
from headrace.models.spec import Spec, load_spec

LOGISTIC = "linear_model.LogisticRegression"
LINEAR = "linear_model.LinearRegression"
MODELS = [
    LOGISTIC,
    LINEAR,
    LOGISTIC + ": {optimizer: {optim.SGD: {lr: 0.5}}, intercept_init: 1.5}",
    LOGISTIC + ": {loss: {optim.losses.Log: {weight_pos: 3.0}}, clip_gradient: 0.25}",
    LINEAR + ": {loss: optim.losses.Absolute, intercept_lr: 0.0}",
    LINEAR + ": {optimizer: {optim.SGD: {lr: {optim.schedulers.InverseScaling: "
    "{learning_rate: 0.1}}}}, clip_gradient: 100.0}",
]
NUMBERS = st.floats(-1e15, 1e15) | st.integers(-3, 3).map(float)
EVENTS = st.lists(
    st.tuples(NUMBERS, NUMBERS, st.booleans(), NUMBERS, st.booleans()), min_size=1, max_size=15
)


ALL = "{a: {type: number}, b: {type: number}, c: {type: boolean}}"


def spec_of(model: str, features: str = ALL) -> Spec:
    kind = "number" if model.startswith(LINEAR) else "boolean"
    return load_spec(
        f"{{agent: a, source: {{topic: t, key: $.id}}, features: {features}, "
        f"model: [preprocessing.StandardScaler, {model if ': ' not in model else f'{{{model}}}'}], "
        f"label: {{field: $.y, type: {kind}}}}}"
    )


class Said(NamedTuple):
    """What came of one event: the forecast's bits or the error, and the bytes after learning."""

    forecast: Any
    learned: Any


def told(form: Form, model: Any, x: dict[str, Any], y: Any) -> Said:
    try:
        forecast = _bits(form.forecast(model, x))
    except EventError as error:
        return Said(error.code, None)
    except (ArithmeticError, TypeError, ValueError) as error:
        return Said(type(error), None)
    try:
        form.learn(model, x, y)
    except (ArithmeticError, TypeError, ValueError) as error:
        return Said(forecast, type(error))
    return Said(forecast, form.encode(model))


def _bits(said: Forecast) -> Any:
    shares = said.probabilities
    return (
        said.label,
        type(said.score),
        struct.pack("d", said.score),
        shares and [(name, struct.pack("d", share)) for name, share in shares.items()],
    )


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=40, deadline=None)
@given(events=EVENTS)
def test_every_bit_is_rivers(model: str, events: list[tuple[Any, ...]]) -> None:
    """At every event both forms forecast the same bits, fail alike, and have the same bytes."""
    spec = spec_of(model)
    river, compiled = RiverForm(spec), form_of(spec)
    assert isinstance(compiled, LinearForm)
    theirs, ours = river.new("k"), compiled.new("k")
    assert compiled.encode(ours) == river.encode(theirs)
    for a, b, c, number, truth in events:
        x, y = {"a": a, "b": b, "c": c}, truth if spec.kind == "binary" else number
        expected = told(river, theirs, x, y)
        assert told(compiled, ours, x, y) == expected
        if not isinstance(expected.learned, bytes):
            return
        ours = compiled.decode(river.encode(theirs))  # each reads what the other wrote
        theirs = river.decode(compiled.encode(ours))


@pytest.mark.parametrize(
    "spec",
    [
        spec_of("linear_model.Perceptron"),
        spec_of(LOGISTIC + ": {l2: 0.1}"),
        spec_of(LOGISTIC + ": {optimizer: optim.Adam}"),
        spec_of(LOGISTIC, "{a: {type: number, missing: skip}}"),
        spec_of(LOGISTIC, "{a: {type: number}, b: {type: category, encode: onehot}}"),
    ],
)
def test_what_it_leaves_out_stays_with_river(spec: Spec) -> None:
    """Penalties, other optimizers and features that may be absent are not compiled."""
    assert compiled_linear(spec) is None
    assert isinstance(form_of(spec), RiverForm)


def _with(data: bytes, place: tuple[int, ...], value: Any) -> bytes:
    envelope = msgspec.msgpack.decode(data)
    inside = envelope
    for index in place[:-1]:
        inside = inside[index]
    inside[place[-1]] = value
    return msgspec.msgpack.encode(envelope)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((2, 1, 2, 1, 2), 7),  # one feature's count
        ((2, 1, 2, 1, 1), "z"),  # a feature's name
        ((2, 1, 2, 2, 3), "1.0"),  # a mean that is a text
        ((2, 1, 4, 5), "0"),  # the intercept
        ((2, 1, 4, 1, 1), {"a": 1.0}),  # a weight missing
        ((2, 1, 4), [0]),  # no linear model
        ((1, 0), ["compose.Pipeline", []]),  # another class list
        ((3,), [1]),  # something deferred
    ],
)
def test_other_bytes_are_refused(place: tuple[int, ...], value: Any) -> None:
    """Bytes that differ anywhere from what a model of the spec would write are not read."""
    form = form_of(spec_of(LOGISTIC))
    model = form.new("k")
    form.learn(model, {"a": 1.0, "b": 2.0, "c": True}, True)
    data = form.encode(model)
    assert form.encode(form.decode(data)) == data == codec.encode(codec.decode(data))
    with pytest.raises(CorruptStateError):
        form.decode(_with(data, place, value))
    for cut in range(0, len(data), 7):
        with pytest.raises(CorruptStateError):
            form.decode(data[:cut])
