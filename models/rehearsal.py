"""A few made-up events of the declared features: does the model take them at all?

The commonest mistake of a first spec is a text that walks into a model of numbers; every event
would end in quarantine. This finds it before anything is deployed. What the model learns here is
thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headrace.errors import SpecError, Violation
from headrace.models.checks import broken, require_lawful
from headrace.models.decisions import Origin
from headrace.models.exercise import Event, ask, learn
from headrace.models.features import Assembly
from headrace.models.memory_rows import MemoryRows
from headrace.models.spec import Feature
from headrace.models.spec.model import Kind

if TYPE_CHECKING:
    from headrace.models.spec import Spec

EVENTS = 6


def rehearse(estimator: Any, features: Mapping[str, Feature], kind: Kind) -> Violation | None:
    """Why the model cannot take the features as declared; None if it can. It learns from them.

    >>> from river import linear_model
    >>> shop = Feature(path="$.shop", type="category")
    >>> rehearse(linear_model.LogisticRegression(), {"shop": shop}, "binary").hint
    '`shop` reaches the model as a text: declare encode: onehot or encode: hash'
    """
    if kind == "ranker":
        return None  # it takes a user and an item
    text = broken(_takes, estimator, made_up(features, kind))
    if text is None:
        return None
    encoded = next((n for n, f in features.items() if f.encode in ("onehot", "hash")
                    and text.endswith(f"KeyError: {n!r}")), None)  # fmt: skip
    if encoded is not None:
        name = f"`{encoded}{'#17' if features[encoded].encode == 'hash' else '=abc'}`"
        hint = f"an encoded category is called like {name}: declare encode: value"
        return Violation("$.model", f"finds no feature `{encoded}`", hint)
    texts = [n for n, f in features.items() if f.type == "category" and f.encode == "value"]
    hint = ""
    if texts:
        named = " and ".join(f"`{name}`" for name in texts[:3])
        reach = "reaches the model as a text" if len(texts) == 1 else "reach the model as texts"
        hint = f"{named} {reach}: declare encode: onehot or encode: hash"
    return Violation("$.model", f"fails on events of the declared features: {text}", hint)


def require_deployable(spec: Spec) -> None:
    """Raise SpecError unless a shard can be made of the spec, its model keeps all laws, and one
    large event does not make it refuse all others.
    """
    from headrace.models.learner import Learner
    from headrace.models.steadiness import unsteady

    Learner(spec, Origin(spec.agent, 1, 1, spec.source.topic, 0), MemoryRows())
    events = [] if spec.kind == "ranker" else made_up(spec.features, spec.kind)
    require_lawful(spec.build_model(""), events)
    if (found := unsteady(spec)) is not None:
        raise SpecError([found])


def made_up(features: Mapping[str, Feature], kind: Kind) -> list[Event]:
    """Events that the guard would admit, always the same; the last lacks what may be missing."""
    assembly = Assembly(features)
    labels: dict[str, tuple[Any, Any]] = {"binary": (True, False), "multiclass": ("a", "b")}
    events = []
    for number in range(EVENTS):
        last = number == EVENTS - 1
        values = tuple(
            None if last and feature.missing != "reject" else _value(feature, number + position)
            for position, feature in enumerate(features.values())
        )
        y = labels.get(kind, (1.0, 2.5))[number % 2]
        events.append((assembly.assemble(values)[0], y))
    return events


def _value(feature: Feature, number: int) -> float | str | bool:
    if feature.type == "boolean":
        return number % 2 == 0
    if feature.type == "category":
        return "abc"[number % 3]
    return ordinary(feature.low, feature.high, number)


def ordinary(low: float, high: float, number: int) -> float:
    """A number as an ordinary event has it, between `low` and `high`; `number` chooses one of five.

    From 0 to 1 where the range allows it: some models insist on counts, some overflow early.

    >>> ordinary(-1e15, 1e15, 0), ordinary(10.0, 20.0, 1), ordinary(-9.0, -8.5, 2)
    (0.5, 10.25, -8.625)
    """
    low = max(low, 0.0) if high > 0.0 else low
    high = min(high, low + 1.0)
    return low + (high - low) * (0.5, 0.25, 0.75, 0.625, 0.375)[number % 5]


def _takes(model: Any, events: Sequence[Event]) -> str | None:
    for x, y in events:
        ask(model, x)
        learn(model, x, y)
    return None
