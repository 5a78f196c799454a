"""What a spec may say and is seldom meant: nothing is refused for it, deploying tells it.

A category that is encoded as `onehot` or `hash` reaches the model as a feature that is 1 wherever
it is there at all. A scaler that takes the mean away, or the minimum, makes 0 of what never
changes: the model never sees the category.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from headrace.models.catalog import catalog
from headrace.models.spec.parts import Feature
from headrace.models.spec.spec import Spec

# Of a feature that is always 1 they make 0; MaxAbsScaler and Normalizer do not.
_CENTRING: Final = frozenset(
    f"preprocessing.{name}"
    for name in ("StandardScaler", "MinMaxScaler", "AdaptiveStandardScaler", "RobustScaler")
)
# Steps after which what was always 1 still is. What others make of it is not followed.
_KEEPING: Final = frozenset(
    {
        "compose.Discard",
        "compose.Prefixer",
        "compose.Suffixer",
        "preprocessing.Binarizer",
        "preprocessing.MaxAbsScaler",
        "preprocessing.PreviousImputer",
        "preprocessing.StatImputer",
    }
)
_UNIONS: Final = ("compose.TransformerUnion", "compose.TransformerProduct")

Ones = tuple[str, ...]  # features that are always 1 at this place, as the spec names them


def notes(spec: Spec) -> tuple[str, ...]:
    """Remarks for whoever deploys the spec, each with its path; usually none.

    >>> from headrace.models.spec import load_spec
    >>> spec = load_spec('''{agent: a, source: {topic: t, key: $.k}, label: {field: $.y},
    ...     features: {n: number, shop: {type: category, encode: onehot}},
    ...     model: [preprocessing.StandardScaler, linear_model.LogisticRegression]}''')
    >>> for note in notes(spec):
    ...     print(note)
    $.model[0]: preprocessing.StandardScaler makes 0 of `shop`, which is always 1 where it is \
there (encode: onehot), so what follows never sees it; scale the numbers alone in a branch of \
compose.TransformerUnion, or take preprocessing.MaxAbsScaler
    """
    encoded = {n: f for n, f in spec.features.items() if f.encode in ("onehot", "hash")}
    return tuple(dict.fromkeys(_Walk(encoded).all(spec.model))) if encoded else ()


class _Walk:
    """Follows the encoded categories through the steps of a model, which is plain data."""

    def __init__(self, encoded: Mapping[str, Feature]) -> None:
        self._encoded = encoded
        self._found: list[str] = []

    def all(self, model: Any) -> Iterator[str]:
        self._after(model, "$.model", tuple(self._encoded))
        yield from self._found

    def _after(self, data: Any, path: str, ones: Ones) -> Ones:
        """What is still always 1 behind the step, or the pipeline, `data`."""
        if isinstance(data, list):
            for index, step in enumerate(data):
                ones = self._after(step, f"{path}[{index}]", ones)
            return ones
        name, given = data, None
        if isinstance(data, dict):
            name, given = next(iter(data.items())) if len(data) == 1 else (None, None)
        if not ones or name not in catalog():
            return ()
        if name in _CENTRING:
            self._found.append(f"{path}: {self._centred(name, ones)}")
            return ()
        if name in _UNIONS:
            parts = enumerate(_listed(given, "transformers"))
            kept = [self._after(part, f"{path}.{name}[{i}]", ones) for i, part in parts]
            still = tuple(one for one in ones if any(one in some for some in kept))
            return still if name == _UNIONS[0] else ()
        for parameter, inside in given.items() if isinstance(given, dict) else ():
            self._inside(inside, f"{path}.{name}.{parameter}", ones, parameter == "models")
        return ones if name in _KEEPING else ()

    def _inside(self, data: Any, path: str, ones: Ones, several: bool) -> None:
        """A model inside a model gets the same features; `several` are side by side."""
        if several and isinstance(data, list):
            for index, model in enumerate(data):
                self._after(model, f"{path}[{index}]", ones)
        elif isinstance(data, (str, list)) or (isinstance(data, dict) and len(data) == 1):
            self._after(data, path, ones)

    def _centred(self, name: str, ones: Ones) -> str:
        shown = ", ".join(f"`{one}`" for one in ones)
        ways = " and ".join(sorted({f"encode: {self._encoded[one].encode}" for one in ones}))
        is_, it = ("is", "it") if len(ones) == 1 else ("are", "them")
        there = "it is" if len(ones) == 1 else "they are"
        return (
            f"{name} makes 0 of {shown}, which {is_} always 1 where {there} there ({ways}), so "
            f"what follows never sees {it}; scale the numbers alone in a branch of "
            "compose.TransformerUnion, or take preprocessing.MaxAbsScaler"
        )


def _listed(given: Any, parameter: str) -> list[Any]:
    """What a list parameter holds, written as a list or by its name."""
    held = given.get(parameter, []) if isinstance(given, dict) else given
    return held if isinstance(held, list) else []
