"""What a parameter of an estimator takes, read from River's signatures."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from river import compose

REQUIRED: Final = inspect.Parameter.empty

# Words of annotations, and what a spec writes for them.
_WORDS: Final = {
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "str": "text",
    "None": "null",
    "dict": "mapping",
    "list": "list",
    "set": "list",
    "tuple": "list",
    "Iterable": "list",
    "FeatureName": "text",
    "Callable": "function",
    "DistanceFunc": "function",
    "type": "type",
}
_BY_DEFAULT: Final = {
    int: "number",  # River writes `3` where it means a float, unless the name counts something
    float: "number",
    bool: "boolean",
    str: "text",
    dict: "mapping",
    list: "list",
    tuple: "list",
    type: "type",
}
_COUNTS: Final = re.compile(r"^n_|_(size|period|depth|interval)$|^(height|window_size|degree)$")
# What River means where it writes no type, or only in the brackets of a type variable.
_BY_NAME: Final[dict[str, tuple[str, ...]]] = {
    "anomaly_detector": ("AnomalyDetector", "SupervisedAnomalyDetector"),
    "classifier": ("Classifier",),
    "regressor": ("Regressor",),
}
_EACH_BY_NAME: Final[dict[str, tuple[str, ...]]] = {
    "models": ("Estimator",),
    "transformers": ("BaseTransformer",),
}
# Classes that a spec may give by name where a parameter is a type.
TYPES: Final[dict[str, type]] = {"bool": bool, "float": float, "int": int, "str": str}


class Parameter(msgspec.Struct, frozen=True):
    """One parameter: what it takes (empty: anything) and its default (REQUIRED: it has none).

    `takes` holds "integer", "number", "boolean", "text", "null", "mapping", "list", "type",
    "function" (which no spec can give) and class names such as "Optimizer". `each` holds the same
    for the entries of a list of estimators: an entry that is a list itself is a pipeline.
    """

    takes: tuple[str, ...]
    default: Any
    many: bool = False  # *steps: given as a list
    extra: bool = False  # **kwargs: names that are not listed are handed on
    each: tuple[str, ...] = ()  # what an entry of a list of estimators is; empty: no such list

    @property
    def required(self) -> bool:
        """Whether a spec has to give it."""
        return self.default is REQUIRED and not self.many and not self.extra

    def __str__(self) -> str:
        takes = " or ".join(self.takes or (self.each if self.many else ())) or "anything"
        if self.each and not self.many:
            takes = f"list of {' or '.join(self.each)}"
        if self.required or self.many or self.extra:
            return takes + (" (required)" if self.required else " …")
        return f"{takes} = {_shown(self.default)}"


def _shown(default: Any) -> str:
    if default is None:
        return "null"
    if isinstance(default, bool):
        return str(default).lower()
    return default.__name__ if isinstance(default, type) else repr(default)


def parameters_of(cls: type) -> dict[str, Parameter]:
    """The parameters of a class, in the order of its signature."""
    found = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        found[name] = Parameter(
            _takes(name, parameter),
            parameter.default,
            many=parameter.kind is inspect.Parameter.VAR_POSITIONAL,
            extra=parameter.kind is inspect.Parameter.VAR_KEYWORD,
            each=_each(name, parameter),
        )
    return found


def _each(name: str, parameter: inspect.Parameter) -> tuple[str, ...]:
    """What the entries of a list of estimators are; empty where it is no such list."""
    if name not in _EACH_BY_NAME:
        return ()
    inner = re.fullmatch(r"list\[(?:\w+\.)*([A-Z]\w+)\]", str(parameter.annotation))
    return _EACH_BY_NAME[name] if inner is None else (inner[1],)


def _takes(name: str, parameter: inspect.Parameter) -> tuple[str, ...]:
    known = _BY_NAME.get(name, ("list",) if name == "models" else ())
    return _annotated(name, parameter) or known


def _annotated(name: str, parameter: inspect.Parameter) -> tuple[str, ...]:
    note, default = parameter.annotation, parameter.default
    if note is REQUIRED:
        if name == "seed":
            return ("integer", "null")
        if type(default) is int and _COUNTS.search(name):
            return ("integer",)
        word = None if default is REQUIRED else _BY_DEFAULT.get(type(default))
        return () if word is None else (word,)
    text = note if isinstance(note, str) else getattr(note, "__name__", str(note))
    takes: list[str] = []
    for part in _alternatives(text):
        last = part.split("[")[0].rsplit(".", 1)[-1].strip()
        word = _WORDS.get(last, last)
        # A type variable, Any or a hashable says nothing.
        if word in {"T", "Any", "Hashable", "ClfTarget"} or word.startswith("_"):
            return ()
        if word == "type" and "[" in part:
            return ()
        takes.append(word)
    if default is None and "null" not in takes:
        takes.append("null")
    return tuple(dict.fromkeys(takes))


def _alternatives(text: str) -> list[str]:
    """`dict[a, b | c] | None` as its parts: split at the bars outside of brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += (char == "[") - (char == "]")
        if char == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


def complaint(takes: tuple[str, ...], value: Any) -> str | None:
    """What is wrong with `value` for a parameter that takes `takes`; None: nothing.

    >>> complaint(("number", "Scheduler"), "fast")
    "must be a number or a Scheduler, not 'fast'"
    >>> complaint(("number",), 3) is None
    True
    """
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be finite, not {value}"
    if not takes or any(_is(value, word) for word in takes):
        return None
    words = [word for word in takes if word != "function"]
    if not words or words == ["null"]:
        return "takes a function, which a spec cannot give; leave it out"
    said = " or ".join(_phrase(word) for word in words)
    return f"must be {said}, not {_called(value)}"


def _phrase(word: str) -> str:
    if word in {"null", "text"}:
        return word
    return ("an " if word[0] in "aeiouAEIO" else "a ") + word


def _called(value: Any) -> str:
    if isinstance(value, int | float | str | list | dict | type(None)):
        return _shown(value)
    if isinstance(value, compose.Pipeline) and value.steps:
        return f"a pipeline that ends in {_called(list(value.steps.values())[-1])}"
    return f"a {type(value).__name__}"


_CHECKS: Final[dict[str, Callable[[Any], bool]]] = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "text": lambda value: isinstance(value, str),
    "null": lambda value: value is None,
    "mapping": lambda value: isinstance(value, dict),
    "list": lambda value: isinstance(value, list | tuple | set),
    "type": lambda value: isinstance(value, type),
    "function": lambda value: False,
}
_CLASS_NAME: Final = re.compile(r"[A-Z]\w*")


def _is(value: Any, word: str) -> bool:
    check = _CHECKS.get(word)
    if check is not None:
        return check(value)
    if not _CLASS_NAME.fullmatch(word):
        return True
    while isinstance(value, compose.Pipeline) and value.steps:
        if word in ("Estimator", "Pipeline"):
            return True
        value = list(value.steps.values())[-1]
    return any(cls.__name__ == word for cls in type(value).__mro__)


def wants_text_only(takes: tuple[str, ...]) -> bool:
    """Whether a string given here is meant as a string, never as the name of an estimator."""
    classes = [word for word in takes if word not in _CHECKS]
    return "text" in takes and not classes
