"""The bytes of a compiled linear model: those that the codec writes of River's pipeline.

The bytes of two trained models of a spec differ in a few places only. Writing fills these in;
reading takes them out and refuses what then is not the same bytes again.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import msgspec

from headrace.models import codec
from headrace.models.codec import tags as tag

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


class Numbers(Protocol):
    """What a linear model has learned; the tuples have one entry per feature in declared order."""

    count: int
    intercept: float
    means: tuple[float, ...]
    variances: tuple[float, ...]
    weights: tuple[float, ...]


class LinearBytes:
    """Writes and reads the numbers of models of one spec. `model`: River's, with nothing learned.

    The model is a pipeline of a StandardScaler and a linear model.
    """

    def __init__(self, features: list[str], model: Any) -> None:
        self._features = features
        self._blank = codec.encode(model)
        trained = codec.decode(self._blank)
        trained.learn_one(dict.fromkeys(features, 1.0), 1.0)
        self._trained: list[Any] = _unpack(codec.encode(trained))
        self._at = _places(self._trained)

    def written(self, model: Numbers) -> bytes:
        """The bytes that the codec would write of the same model in River's form."""
        if not model.count:
            return self._blank
        at = self._at
        at.counts[2::2] = [model.count] * len(self._features)
        at.means[3::2] = model.means
        at.variances[3::2] = model.variances
        at.vector[1] = dict(zip(self._features, model.weights, strict=True))
        at.linear[at.intercept] = model.intercept
        at.optimizer[at.iterations] = model.count
        return _pack(self._trained)

    def read(self, data: bytes, into: Numbers) -> None:
        """Set the numbers. Raises CodecError for bytes that are not of a model of this spec."""
        if data == self._blank:
            return
        try:
            at = _places(_unpack(data))
            into.count = at.optimizer[at.iterations]
            into.intercept = at.linear[at.intercept]
            into.means, into.variances = tuple(at.means[3::2]), tuple(at.variances[3::2])
            into.weights = tuple(at.vector[1].values())
            same = self.written(into) == data
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise codec.CodecError(f"not the bytes of a linear model: {error}") from error
        numbers = {*map(type, into.means), *map(type, into.variances), *map(type, into.weights)}
        if not same or numbers != {float} or type(into.intercept) is not float:
            raise codec.CodecError("not the bytes of a linear model of this spec")


class _Places(NamedTuple):
    """Where the numbers stand in the codec's envelope: lists of it, and indices into them."""

    counts: list[Any]  # tag, name, count, name, count …
    means: list[Any]  # tag, factory, name, mean, …
    variances: list[Any]
    linear: list[Any]
    intercept: int
    vector: list[Any]  # tag, weights by name, …
    optimizer: list[Any]
    iterations: int


def _places(envelope: list[Any]) -> _Places:
    _, classes, (_, (_, _, scaler, _, linear)), _ = envelope

    def place(item: list[Any], field: str) -> int:
        names: list[str] = classes[item[0] - tag.OBJECT][1]
        return 1 + names.index(field)

    optimizer = linear[place(linear, "optimizer")]
    return _Places(
        counts=scaler[place(scaler, "counts")],
        means=scaler[place(scaler, "means")],
        variances=scaler[place(scaler, "vars")],
        linear=linear,
        intercept=place(linear, "intercept"),
        vector=linear[place(linear, "_weights")],
        optimizer=optimizer,
        iterations=place(optimizer, "n_iterations"),
    )
