"""The laws that every estimator of the catalog keeps, one function each.

A law takes a fresh model and events, works on copies, and returns None or what broke it. Deploying
runs `check_estimator` on a spec's pipeline; the tests run each law over every instance that
River's own unit-test parameters yield, and `docs/catalog.md` names what broke one.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from headrace.errors import SpecError, Violation
from headrace.models.codec import UnsupportedType, decode, encode
from headrace.models.codec.encoder import ReversedSet
from headrace.models.exercise import Event, ask, ask_river, events_for, learn
from headrace.models.panics import failures

__all__ = ["LAWS", "check_estimator", "require_lawful", "run_on"]

Law = Callable[[Any, Sequence[Event]], str | None]


def encoding_is_canonical(model: Any, events: Sequence[Event]) -> str | None:
    """Two models that learned the same have the same bytes; reading and writing keeps them."""
    start = encode(model)
    one, two = decode(start), decode(start)
    for x, y in events:
        learn(one, x, y)
    for x, y in events:
        learn(two, x, y)
    data = encode(one)
    if encode(decode(data)) != data:
        return "its bytes change when they are read and written again"
    if encode(two) != data:
        return "it learns otherwise the second time from the same start"
    return None


def encode_decode_continue_identical(model: Any, events: Sequence[Event]) -> str | None:
    """A model that is written and read in the middle of a stream goes on bit for bit."""
    live = decode(encode(model))
    for x, y in events[: len(events) // 2]:
        learn(live, x, y)
    restored = decode(encode(live))
    for x, y in events[len(events) // 2 :]:
        if repr(ask(live, x)) != repr(ask(restored, x)):
            return "a restored copy answers otherwise than the model itself"
        learn(live, x, y)
        learn(restored, x, y)
    if encode(live) != encode(restored):
        return "a restored copy learns otherwise than the model itself"
    return None


def predict_changes_no_state(model: Any, events: Sequence[Event]) -> str | None:
    """No read changes the bytes: fresh or trained, features known, unseen, missing or none."""
    subject = decode(encode(model))
    for train in (False, True):
        if train:
            for x, y in events:
                learn(subject, x, y)
        before = encode(subject)
        for said, x in _probes(events[len(events) // 3][0]):
            _quietly(ask, subject, x)
            if encode(subject) != before:
                state = "a trained" if train else "a fresh"
                return f"asking {state} model with {said} changes its state"
    return None


def reads_equal_rivers(model: Any, events: Sequence[Event]) -> str | None:
    """Predict-then-learn by pure reads gives the numbers that River's own calls give."""
    ours, theirs = decode(encode(model)), decode(encode(model))
    for x, y in events:
        if repr(ask(ours, x)) != repr(ask_river(theirs, x)):
            return "what it says depends on how often it was asked before"
        learn(ours, x, y)
        learn(theirs, x, y)
    return None


def learning_is_finite(model: Any, events: Sequence[Event]) -> str | None:
    """Finite events of moderate size never make it say NaN or infinity, not even when fresh."""
    subject = decode(encode(model))
    for number, (x, y) in enumerate(events):
        said = ask(subject, x)
        if not all(math.isfinite(part) for part in _numbers(said)):
            when = f"after {number} finite events" if number else "before it has learned anything"
            return f"it says NaN or infinity {when}"
        learn(subject, x, y)
    return None


def set_order_is_irrelevant(model: Any, events: Sequence[Event]) -> str | None:
    """It goes on the same if all its sets are walked in another order: bytes keep no set order."""
    live = decode(encode(model))
    for x, y in events[: len(events) // 2]:
        learn(live, x, y)
    other = decode(encode(live), sets=ReversedSet)
    for x, y in events[len(events) // 2 :]:
        if repr(ask(live, x)) != repr(ask(other, x)):
            return "what it says depends on the order of a set, which no bytes can keep"
        learn(live, x, y)
        learn(other, x, y)
    if encode(live) != encode(other):
        return "what it learns depends on the order of a set, which no bytes can keep"
    return None


LAWS: Final[Mapping[str, Law]] = MappingProxyType(
    {
        law.__name__: law
        for law in (
            encoding_is_canonical,
            encode_decode_continue_identical,
            predict_changes_no_state,
            reads_equal_rivers,
            learning_is_finite,
            set_order_is_irrelevant,
        )
    }
)


def broken(law: Law, model: Any, events: Sequence[Event]) -> str | None:
    """What breaks `law`; what the model raises on the way counts."""
    try:
        return law(model, events)
    except UnsupportedType as error:
        return f"it cannot be written: {error}"
    except failures() as error:
        return f"it raises {type(error).__name__}: {error}"


def check_estimator(
    model: Any, events: Sequence[Event] = (), *, path: str = "$.model"
) -> list[Violation]:
    """The laws that a fresh model breaks, as violations; no events: made-up ones that suit it.

    Takes milliseconds, up to a second for forests. A model that names features (`compose.Select`,
    `feature_extraction.Agg`) needs events that have them: `headrace.models.rehearsal.made_up`.

    >>> from river import linear_model, preprocessing
    >>> check_estimator(preprocessing.StandardScaler() | linear_model.LinearRegression())
    []
    """
    events = events or events_for(model, DEPLOY_EVENTS)
    events = events[: _events_worth(model, events)]
    found: dict[str, list[str]] = {}
    for name, law in LAWS.items():
        text = broken(law, model, events)
        if text is not None:
            found.setdefault(text, []).append(name)
    return [Violation(path, text, f"law: {', '.join(names)}") for text, names in found.items()]


DEPLOY_EVENTS: Final = 30
_FEW_EVENTS: Final = 8
_LARGE: Final = 30_000  # bytes after a few events: each law writes the model several times


def _events_worth(model: Any, events: Sequence[Event]) -> int:
    """How many events a deploy can afford: fewer for models whose copies are dear."""
    try:
        trial = decode(encode(model))
        for x, y in events[:_FEW_EVENTS]:
            learn(trial, x, y)
        return _FEW_EVENTS if len(encode(trial)) > _LARGE else DEPLOY_EVENTS
    except failures():
        return _FEW_EVENTS  # the laws say what it raises


def require_lawful(model: Any, events: Sequence[Event] = ()) -> None:
    """Raise SpecError with every law that a fresh model breaks."""
    found = check_estimator(model, events)
    if found:
        raise SpecError(found)


def run_on(model: Any, events: Sequence[Event]) -> str:
    """Ask and teach a model `events`; a digest of all its answers and its last bytes.

    What a model that lives on and its copy in another process must agree on.
    """
    answers = hashlib.sha256()
    for x, y in events:
        answers.update(repr(ask(model, x)).encode())
        learn(model, x, y)
    answers.update(encode(model))
    return answers.hexdigest()


def _probes(x: Any) -> Iterator[tuple[str, Any]]:
    if "user" in x and "item" in x:
        yield "a known pair", x
        yield "an unknown user", {**x, "user": "nobody"}
        yield "an unknown item", {**x, "item": "nothing"}
        yield "an unknown pair", {"user": "nobody", "item": "nothing"}
        return
    yield "known features", x
    yield "unseen features", {**x, "never seen": 1.5, "nor this": 0.25}
    yield "a missing feature", dict(list(x.items())[1:])
    yield "no features", {}


def _quietly(read: Callable[[Any, Any], Any], model: Any, x: Any) -> None:
    """A read may refuse an event; it must not write even then."""
    with contextlib.suppress(*failures()):
        read(model, x)


def _numbers(said: Any) -> Iterator[float]:
    if isinstance(said, Mapping):
        for value in said.values():
            yield from _numbers(value)
    elif isinstance(said, int | float):
        yield float(said)
