"""The text of a spec as plain data: YAML 1.2's core schema, or JSON, and nothing that surprises.

YAML here is a way to write JSON. Refused: anchors and aliases (a few bytes of them unfold into
gigabytes), tags, several documents, a name given twice, and what JSON cannot hold. `yes`, `on`,
`012` and dates are text, `1e6` is a number. Size and depth are bounded before anything is built.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import yaml

from headrace.errors import SpecError, Violation
from headrace.models.depth import deeper_than

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 50_000

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where the wheel carries it


def read_document(text: str | bytes) -> Any:
    """Dicts, lists, strings, numbers, booleans, None. Raises SpecError."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > MAX_BYTES:
        raise _refused(f"the spec has {len(raw):,} bytes; at most {MAX_BYTES:,} are read")
    try:
        decoded = raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise _refused(f"not UTF-8 text (byte {error.start})") from None
    if decoded.lstrip()[:1] == "{":
        if deeper_than(raw, MAX_DEPTH):
            raise _refused(f"nested deeper than {MAX_DEPTH} levels")
        try:
            return _read_json(decoded)
        except json.JSONDecodeError:
            pass  # YAML's flow style also begins with a brace; its message names line and column
    return _read_yaml(decoded)


def _refused(text: str, hint: str = "", path: str = "$") -> SpecError:
    return SpecError([Violation(path, text, hint)])


def _read_json(text: str) -> Any:
    twice: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(items)
        if len(built) < len(items):
            names = [name for name, _ in items]
            twice.extend(name for name in built if names.count(name) > 1)
        return built

    def constant(name: str) -> float:
        raise _refused(f"{name} is not a JSON number")

    try:
        data = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError):
            raise
        raise _refused("a number with too many digits") from None
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _refused("an escape is half of a surrogate pair") from None
    if twice:
        raise SpecError([Violation("$", f"{name!r} is given twice") for name in twice])
    return data


class _Builder:
    """Builds plain data from YAML events with a stack of its own: no recursion to exhaust."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
        self.root: Any = None
        self.nodes = 0
        self.documents = 0
        self.stack: list[tuple[Any, str]] = []  # open collections and their paths
        self.names: list[str | None] = []  # per open collection: the field whose value comes next

    def add(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise _refused("several YAML documents in one text", "deploy them one by one")
        elif isinstance(event, yaml.AliasEvent):
            raise _refused(f"a YAML alias (*{event.anchor}), line {_line(event)}", "write it out")
        elif isinstance(event, yaml.ScalarEvent):
            self._node(event)
            self._scalar(event)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._node(event)
            self._open({} if isinstance(event, yaml.MappingStartEvent) else [], event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self.stack.pop()
            self.names.pop()

    def _node(self, event: Any) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _refused(f"more than {MAX_NODES:,} values")
        if event.anchor is not None:
            raise _refused(f"a YAML anchor (&{event.anchor}), line {_line(event)}", "write it out")
        if event.tag is not None:
            raise _refused(f"a YAML tag ({event.tag}), line {_line(event)}", "specs are plain data")

    def _open(self, collection: Any, event: Any) -> None:
        path = self._place(collection, event)
        self.stack.append((collection, path))
        self.names.append(None)
        if len(self.stack) > MAX_DEPTH:
            raise _refused(f"nested deeper than {MAX_DEPTH} levels")

    def _scalar(self, event: Any) -> None:
        if self.stack and isinstance(self.stack[-1][0], dict) and self.names[-1] is None:
            mapping, path = self.stack[-1]
            if event.value in mapping:
                text = f"{event.value!r} is given twice, line {_line(event)}"
                self.found.append(Violation(path, text, "keep one of them"))
            mapping[event.value] = None
            self.names[-1] = event.value
            return
        plain = event.style is None or event.style == ""
        try:
            value = _resolve(event.value) if plain else event.value
        except ValueError as error:
            value = None
            self.found.append(Violation(self._here(), f"{error}, line {_line(event)}"))
        self._place(value, event)

    def _here(self) -> str:
        if not self.stack:
            return "$"
        collection, path = self.stack[-1]
        inside = f"[{len(collection)}]" if isinstance(collection, list) else f".{self.names[-1]}"
        return path + inside

    def _place(self, value: Any, event: Any) -> str:
        path = self._here()
        if not self.stack:
            self.root = value
        elif isinstance(self.stack[-1][0], list):
            self.stack[-1][0].append(value)
        elif self.names[-1] is None:
            raise _refused(
                f"a field's name is not text, line {_line(event)}", path=self.stack[-1][1]
            )
        else:
            self.stack[-1][0][self.names[-1]] = value
            self.names[-1] = None
        return path


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _resolve(text: str) -> Any:
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise ValueError(f"{text[:40]} is too large a number")
        return number
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number")
    return text


def _read_yaml(text: str) -> Any:
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.add(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _refused(f"not YAML: {error.problem or error.context}{where}") from None
    except yaml.YAMLError as error:
        raise _refused(f"not YAML: {' '.join(str(error).split())[:200]}") from None
    if builder.found:
        raise SpecError(builder.found)
    return builder.root
