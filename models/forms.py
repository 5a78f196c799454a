"""How a shard holds its live models: as River's objects, or compiled into something quicker.

A form is chosen once per spec. Whatever the form, a model's bytes are River's own: what one form
wrote another reads, and what is on disk does not tell which one ran.
"""

from __future__ import annotations

from typing import Any, Protocol

from headrace.models import codec
from headrace.models.compiled.linear import compiled_linear
from headrace.models.fastlearn import learning_of
from headrace.models.forecasts import Forecast, forecaster
from headrace.models.spec import Spec


class Form(Protocol):
    """Makes, reads, writes, asks and teaches models. `forecast` and `encode` change nothing.

    `forecast` raises EventError (`score_not_finite`), and both it and `learn` whatever a model
    raises; after that the model is not to be used any more. `decode` raises CorruptStateError.
    """

    def new(self, key: str) -> Any: ...

    def encode(self, model: Any) -> bytes: ...

    def decode(self, data: bytes) -> Any: ...

    def forecast(self, model: Any, x: dict[str, Any]) -> Forecast: ...

    def learn(self, model: Any, x: dict[str, Any], y: Any) -> None: ...


def form_of(spec: Spec) -> Form:
    """The quickest form for the spec's models."""
    return compiled_linear(spec) or RiverForm(spec)


class RiverForm:
    """Models as River's own objects: for every estimator of the catalog.

    >>> from headrace.models.spec import load_spec
    >>> form = RiverForm(load_spec('''
    ... {agent: a, source: {topic: t, key: $.id}, features: {x: {type: number}},
    ...  model: linear_model.LinearRegression, label: {field: $.y}}'''))
    >>> model = form.new("ada")
    >>> form.learn(model, {"x": 1.0}, 2.0)
    >>> form.forecast(form.decode(form.encode(model)), {"x": 1.0}).score
    0.08
    """

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        first = spec.build_model("")
        self._template = codec.encode(first)
        # The codec is canonical: two keys' new models differ only if their seeds do.
        self._seeded = self._template != codec.encode(spec.build_model("\0"))
        self.encode = codec.encode
        self.decode = codec.decode
        self.forecast = forecaster(spec.kind, first)
        self.learn = learning_of(first)

    def new(self, key: str) -> Any:
        """From template bytes where all keys begin alike: 7 times as fast as building."""
        return self._spec.build_model(key) if self._seeded else codec.decode(self._template)
