"""The fields that a spec reads from an event, and a decoder that reads exactly these.

`typed_reader` builds nested msgspec types for the paths, so that parsing, types and ranges are one
pass in C, and a getter that flattens the result to a tuple in the order of the wants. Values of
one path that is wanted in two ways (a key that is a feature, too) are decoded as they come and
checked here.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any

import msgspec

from headrace.errors import EventError
from headrace.models.paths import Path, format_path
from headrace.models.timestamps import to_milliseconds

MAX_KEY = 512  # characters
MAX_ITEMS = 10_000  # candidates or exclusions that one event may bring


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """One value that is read from every event.

    `kind`: number, boolean, flag (a boolean that may also come as 0 or 1), text (or a whole
    number), time, texts. `low` and `high` are of numbers, `longest` of texts.
    """

    name: str  # as messages call it
    path: Path
    kind: str
    required: bool
    low: float = 0.0
    high: float = 0.0
    longest: int = 0

    def fail(self, code: str, text: str) -> EventError:
        """An error about this field, `text` being what follows its name."""
        return EventError(code, f"`{self.name}` {text}", path=format_path(self.path))


def checked(want: Want, value: Any) -> Any:
    """The value as the typed decoder would give it. Raises EventError; None is not a value."""
    if want.kind == "number":
        return _number(want, value)
    if want.kind == "text":
        return _text(want, value)
    if want.kind == "boolean":
        if not isinstance(value, bool):
            raise want.fail("wrong_type", f"is {_name(value)}, not true or false")
        return value
    if want.kind == "flag":
        if isinstance(value, bool) or (isinstance(value, (int, float)) and value in (0, 1)):
            return bool(value)
        raise want.fail("wrong_type", f"is {_name(value)}, not true, false, 0 or 1")
    if want.kind == "time":
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise want.fail("bad_time", f"is {_name(value)}, not a time")
        return value
    if not isinstance(value, list):
        raise want.fail("wrong_type", f"is {_name(value)}, not a list of texts")
    if len(value) > MAX_ITEMS:
        raise want.fail("too_long", f"has more than {MAX_ITEMS:,} items")
    return [_text(want, item) for item in value]


def _number(want: Want, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise want.fail("wrong_type", f"is {_name(value)}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if number - number != 0.0:
        raise want.fail("not_finite", "is not a finite number")
    if not want.low <= number <= want.high:
        raise want.fail("out_of_range", f"is not within [{want.low:g}, {want.high:g}]")
    return number


def _text(want: Want, value: Any) -> str | int:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise want.fail("wrong_type", f"is {_name(value)}, not a text")
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise want.fail("out_of_range", "is a whole number beyond 64 bits")
        return value
    if len(value) > want.longest:
        raise want.fail("too_long", f"has more than {want.longest} characters")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise want.fail("bad_utf8", "holds half a surrogate pair") from None
    return value


def _name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "an object"


def milliseconds(want: Want, value: Any) -> int:
    """A time as milliseconds. Raises EventError."""
    try:
        return to_milliseconds(value)
    except ValueError as error:
        raise want.fail("bad_time", f"cannot be read: {error}") from None


class TypedReader:
    """Decodes an event to the values of the wants, in their order; None where one is absent.

    `read` raises msgspec's errors and, for a null where an object belongs, AttributeError; then
    `headrace.models.guard` looks again, slowly, to find the reason.
    """

    def __init__(self, wants: list[Want]) -> None:
        assert wants
        by_path: dict[Path, list[Want]] = {}
        for want in wants:
            by_path.setdefault(want.path, []).append(want)
        types = {path: _common_type(group) for path, group in by_path.items()}
        required = {path: any(w.required for w in group) for path, group in by_path.items()}
        self.mixed = [i for i, want in enumerate(wants) if types[want.path] is Any]
        tree = _Node(types, required, ())
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(tree.type()).decode
        self.places = [tree.place(want.path) for want in wants]


def _common_type(wants: list[Want]) -> Any:
    kinds = {want.kind for want in wants}
    if len(kinds) > 1:
        return Any
    kind = kinds.pop()
    if kind == "number":
        low, high = max(w.low for w in wants), min(w.high for w in wants)
        return Annotated[float, msgspec.Meta(ge=low, le=high)] if low <= high else Any
    if kind == "boolean":
        return bool
    if kind == "flag":
        return bool | Annotated[int, msgspec.Meta(ge=0, le=1)]
    if kind == "time":
        return float | str
    text = Annotated[str, msgspec.Meta(max_length=min(w.longest for w in wants))]
    number = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
    if kind == "text":
        return text | number
    return Annotated[list[text | number], msgspec.Meta(max_length=MAX_ITEMS)]  # type: ignore[valid-type]


class _Node:
    """One object on the way to the fields: its own fields and the objects inside it."""

    def __init__(self, types: dict[Path, Any], required: dict[Path, bool], at: Path) -> None:
        below = [path for path in types if path[: len(at)] == at and len(path) > len(at)]
        names = dict.fromkeys(path[len(at)] for path in below)
        # Struct fields get names of their own: any text may name a field in JSON.
        self.field_of = {name: f"f{i}" for i, name in enumerate(names)}
        self.leaves = {
            name: (types[(*at, name)], required[(*at, name)])
            for name in names
            if (*at, name) in types
        }
        self.inner = {
            name: _Node(types, required, (*at, name)) for name in names if (*at, name) not in types
        }

    @property
    def required(self) -> bool:
        leaves = any(required for _, required in self.leaves.values())
        return leaves or any(node.required for node in self.inner.values())

    def type(self) -> type[msgspec.Struct]:
        fields: list[Any] = []
        for name, (kind, required) in self.leaves.items():
            field = self.field_of[name]
            optional = kind if kind is Any else kind | None
            fields.append((field, kind) if required else (field, optional, None))
        for name, node in self.inner.items():
            kind = node.type()
            field = self.field_of[name]
            # An absent object is one whose fields are all absent.
            fields.append(
                (field, kind)
                if node.required
                else (field, kind, msgspec.field(default_factory=kind))
            )
        return msgspec.defstruct(
            "Fields",
            fields,
            rename={field: name for name, field in self.field_of.items()},
            kw_only=True,
            gc=False,
        )

    def place(self, path: Path) -> str:
        first = self.field_of[path[0]]
        return first if len(path) == 1 else f"{first}.{self.inner[path[0]].place(path[1:])}"


def getter(places: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Reads several places of a decoded event at once, always as a tuple."""
    if not places:
        return lambda _: ()
    if len(places) == 1:
        one = attrgetter(places[0])
        return lambda event: (one(event),)
    return attrgetter(*places)
