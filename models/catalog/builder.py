"""Plain data to estimators, with every violation collected on the way."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from river import base, compose
from river.reco.base import Ranker

from headrace.errors import Violation
from headrace.models.catalog.data import OUT
from headrace.models.catalog.parameters import TYPES, Parameter, complaint, wants_text_only
from headrace.models.codec.plans import build_plan
from headrace.models.panics import failures

if TYPE_CHECKING:
    from headrace.models.catalog.entries import Entry

_MAX_PARTS: Final = 1000  # estimators and optimizers in one model
_MAX_DEPTH: Final = 12  # of models in models
_BAD: Final = object()  # stands for what could not be built; its violation is noted
_NO_STEP: Final = "is no estimator that can stand here"


class Builder:
    """One build. `violations` is empty if all is well."""

    def __init__(self, entries: Mapping[str, Entry], seed: int) -> None:
        self.violations: list[Violation] = []
        self._entries = entries
        self._seed = seed
        self._parts = 0
        self._depth = 0

    def model(self, data: Any, path: str) -> Any:
        """The estimator for `$.model`: a name, one name with parameters, or a list of these."""
        steps = data if isinstance(data, list) else [data]
        if not steps:
            return self._wrong(path, "is empty", "name at least one estimator")
        made = [
            self._step(step, f"{path}[{index}]" if isinstance(data, list) else path)
            for index, step in enumerate(steps)
        ]
        if any(step is _BAD for step in made):
            return _BAD
        for index, step in enumerate(made):
            self._fits(step, f"{path}[{index}]" if isinstance(data, list) else path,
                       last=index == len(made) - 1)  # fmt: skip
        if self.violations:
            return _BAD
        if len(made) == 1:  # a list of one is that one: a pipeline would hide a recommender
            return made[0]
        pipeline = compose.Pipeline(*made)
        build_plan(pipeline)
        return pipeline

    def named(self, name: str, params: dict[str, Any] | list[Any], path: str) -> Any:
        """An instance of the entry `name`."""
        self._parts += 1
        entry = self._entries.get(name)
        if entry is None:
            return self._unknown(name, path)
        if self._parts > _MAX_PARTS or self._depth > _MAX_DEPTH:
            if self._parts <= _MAX_PARTS + 1:  # said once, not a thousand times
                self._parts = _MAX_PARTS + 1
                limits = f"at most {_MAX_PARTS} parts, {_MAX_DEPTH} inside each other"
                self._wrong(path, "is too large a model", limits)
            self._parts += 1
            return _BAD
        self._depth += 1
        positional, keywords = self._arguments(entry, params, path)
        self._depth -= 1
        if positional is _BAD:
            return _BAD
        try:
            return entry.cls(*positional, **keywords)
        except failures() as error:
            return self._wrong(path, f"{name} refuses its parameters: {error}")

    def _step(self, data: Any, path: str) -> Any:
        if isinstance(data, str):
            return self.named(data, {}, f"{path}")
        if isinstance(data, list):
            return self.model(data, path)
        if not isinstance(data, dict) or len(data) != 1:
            return self._wrong(
                path,
                "must be an estimator's name, or one name with its parameters",
                "for example linear_model.LinearRegression: {l2: 0.1}",
            )
        ((name, params),) = data.items()
        if not isinstance(name, str):
            return self._wrong(path, f"{name!r} is no estimator's name")
        return self._with(name, params, f"{path}.{name}")

    def _with(self, name: str, params: Any, path: str) -> Any:
        if params is None:
            params = {}
        if isinstance(params, dict | list):
            return self.named(name, params, path)
        return self._wrong(path, "parameters must be a mapping of names to values")

    def _arguments(self, entry: Entry, params: Any, path: str) -> tuple[Any, dict[str, Any]]:
        before = len(self.violations)
        star = next((n for n, p in entry.parameters.items() if p.many), None)
        positional: list[Any] = []
        if isinstance(params, list):
            if star is None:
                self._wrong(path, f"{entry.name} takes named parameters, not a list")
            params = {star: params} if star else {}
        params = dict(params)
        if star is not None:
            given = params.pop(star, [])
            if not isinstance(given, list):
                self._wrong(f"{path}.{star}", "must be a list")
                given = []
            many = entry.parameters[star]
            positional = self._each(given, path, many.each or many.takes)
        keywords = {}
        extra = any(parameter.extra for parameter in entry.parameters.values())
        for name, value in params.items():
            parameter = entry.parameters.get(name)
            if parameter is not None and not parameter.extra:
                keywords[name] = self._checked(value, parameter, f"{path}.{name}")
            elif extra and isinstance(name, str):
                keywords[name] = self._value(value, f"{path}.{name}", ())
            else:
                self._wrong(
                    f"{path}.{name}",
                    f"{entry.name} has no parameter {name}",
                    _meant(str(name), entry.parameters)
                    or (f"it has {', '.join(entry.parameters)}" if entry.parameters else ""),
                )
        for name, parameter in entry.parameters.items():
            if name == "seed" and keywords.get(name) is None:
                # The same for `name` and `{name: {}}`, which are one model written in two ways.
                where = path if path.endswith(f".{entry.name}") else f"{path}.{entry.name}"
                keywords[name] = derive(self._seed, where)
            elif parameter.required and name not in params:
                self._wrong(f"{path}.{name}", f"is required: {parameter}")
        return (_BAD if len(self.violations) > before else positional), keywords

    def _checked(self, value: Any, parameter: Parameter, path: str) -> Any:
        if parameter.each and isinstance(value, list):
            held = self._each(value, path, parameter.each)
            return _BAD if any(part is _BAD for part in held) else held
        made = self._value(value, path, parameter.takes)
        if made is _BAD:
            return _BAD
        text = complaint(parameter.takes, made)
        if text is None:
            return tuple(made) if isinstance(parameter.default, tuple) else made
        return self._wrong(path, text)

    def _each(self, values: list[Any], path: str, takes: tuple[str, ...]) -> list[Any]:
        """The entries of a list; where estimators are asked for, a list in it is a pipeline."""
        made = []
        for index, value in enumerate(values):
            where = f"{path}[{index}]"
            part = self._value(value, where, takes)
            text = None if part is _BAD else complaint(takes, part)
            made.append(part if text is None else self._wrong(where, text))
        return made

    def _value(self, value: Any, path: str, takes: tuple[str, ...]) -> Any:
        if isinstance(value, str):
            if "type" in takes and value in TYPES:
                return TYPES[value]
            if wants_text_only(takes) or not self._meant_as_name(value, takes):
                return value
            return self.named(value, {}, path)
        if isinstance(value, dict):
            if len(value) == 1:
                ((name, params),) = value.items()
                if isinstance(name, str) and self._meant_as_name(name, takes):
                    return self._with(name, params, f"{path}.{name}")
            made = {key: self._value(v, f"{path}.{key}", ()) for key, v in value.items()}
            return _BAD if _BAD in made.values() else made
        if isinstance(value, list):
            return self._list(value, path, takes)
        return value

    def _list(self, value: list[Any], path: str, takes: tuple[str, ...]) -> Any:
        if takes and "list" not in takes and _holds_estimators(takes):
            return self.model(value, path)  # a pipeline where one estimator is asked for
        made = [self._value(item, f"{path}[{index}]", ()) for index, item in enumerate(value)]
        return _BAD if any(item is _BAD for item in made) else made

    def _meant_as_name(self, text: str, takes: tuple[str, ...]) -> bool:
        """A name of the catalog, or one that somebody tried to write where an object belongs."""
        if text in self._entries or text in OUT:
            return True
        looks = text.partition(".")[0] in {name.partition(".")[0] for name in self._entries}
        return ("." in text and looks) or (bool(takes) and _wants_object(takes))

    def _fits(self, step: Any, path: str, *, last: bool) -> None:
        if isinstance(step, compose.Pipeline):
            return
        if not isinstance(step, base.Estimator):
            self._wrong(path, f"{type(step).__name__} {_NO_STEP}", "it is a part of estimators")
        elif not last and not isinstance(step, base.BaseTransformer | base.AnomalyFilter):
            self._wrong(
                path,
                f"{type(step).__name__} is no transformer, so nothing can follow it",
                "put it last",
            )
        elif isinstance(step, Ranker) and path.endswith("]") and not path.endswith("[0]"):
            self._wrong(path, "a recommender stands alone", "take the other steps away")

    def _unknown(self, name: str, path: str) -> Any:
        if name in OUT:
            return self._wrong(path, f"{name} is not in the catalog: {OUT[name]}")
        return self._wrong(
            path,
            f"no estimator is called {name!r}",
            _meant(name, self._entries) or "`headrace catalog` lists them",
        )

    def _wrong(self, path: str, text: str, hint: str = "") -> Any:
        self.violations.append(Violation(path, text, hint))
        return _BAD


def _meant(name: str, known: Mapping[str, Any]) -> str:
    """«did you mean …?», by the whole name or by its last part; empty if nothing is close."""
    last = {key.rpartition(".")[2].lower(): key for key in reversed(list(known))}
    near = difflib.get_close_matches(name, known, 1, 0.75)
    near = near or [
        last[m] for m in difflib.get_close_matches(name.rpartition(".")[2].lower(), last, 1, 0.7)
    ]
    return f"did you mean {near[0]}?" if near else ""


def _wants_object(takes: tuple[str, ...]) -> bool:
    return any(word[:1].isupper() for word in takes) and "text" not in takes


def _holds_estimators(takes: tuple[str, ...]) -> bool:
    return any(
        word in ("Classifier", "Regressor", "Estimator", "BaseTransformer", "AnomalyDetector",
                 "SupervisedAnomalyDetector", "Pipeline", "Transformer")
        for word in takes
    )  # fmt: skip


def derive(seed: int, path: str) -> int:
    """The seed, 0 to 2³²-1, of the parameter at `path` in a model that is built from `seed`.

    Two parts of a model get different seeds, so that two forests in one pipeline do not draw the
    same trees; the same part of two models built from one seed gets the same.

    >>> derive(7, "$.model[0]"), derive(7, "$.model[1]")
    (2381551417, 2495419155)
    """
    data = hashlib.sha256(f"{seed}\0{path}".encode()).digest()
    return int.from_bytes(data[:4], "big")
