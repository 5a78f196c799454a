"""A decoder that reads from an event exactly what is wanted, in one pass in C.

Nested msgspec types are made for the paths, so that parsing, types and ranges are checked
together, and a getter flattens the result. Where one path is wanted in two ways (the key is a
category, too) the value is decoded as it comes, and the guard checks it in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from headrace.models.paths import Path
from headrace.models.wants import LEAST_WHOLE, MAX_ITEMS, MOST_WHOLE, Want

_WHOLE = Annotated[int, Meta(ge=LEAST_WHOLE, le=MOST_WHOLE)]


class TypedReader:
    """Order of calls: `decode` the bytes, `values` of the result, then check those in `mixed`.

    `decode` raises msgspec.DecodeError (ValidationError where a type or a range is wrong) and
    UnicodeDecodeError; `values` raises AttributeError for a null where an object belongs.

    >>> want = Want(name="power", path=("motor", "power"), kind="number")
    >>> reader = TypedReader([want])
    >>> reader.values(reader.decode(b'{"motor": {"power": 60, "id": "x"}}'))
    (60.0,)
    """

    def __init__(self, wants: Sequence[Want]) -> None:
        by_path: dict[Path, list[Want]] = {}
        for want in wants:
            by_path.setdefault(want.path, []).append(want)
        leaves = {path: _Leaf(group) for path, group in by_path.items()}
        tree = _Object(leaves, ())
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(tree.struct()).decode
        self.values = _getter([tree.place(want.path) for want in wants])
        self.mixed = [i for i, want in enumerate(wants) if leaves[want.path].type is Any]


class _Leaf:
    """A field: the type that all who want it agree on (Any if they do not)."""

    def __init__(self, wants: Sequence[Want]) -> None:
        self.type = _common_type(wants)
        self.required = self.type is not Any and any(want.required for want in wants)


def _common_type(wants: Sequence[Want]) -> Any:
    kinds = {want.kind for want in wants}
    if len(kinds) > 1:
        return Any
    kind = kinds.pop()
    if kind == "number":
        low, high = max(w.low for w in wants), min(w.high for w in wants)
        return Annotated[float, Meta(ge=low, le=high)] if low <= high else Any
    if kind == "boolean":
        return bool
    if kind == "flag":
        return bool | Annotated[int, Meta(ge=0, le=1)]
    if kind == "time":
        return float | str
    text = Annotated[str, Meta(max_length=min(want.longest for want in wants))] | _WHOLE
    return text if kind in ("text", "key") else Annotated[list[text], Meta(max_length=MAX_ITEMS)]


class _Object:
    """An object on the way to the fields. `at` is its own path."""

    def __init__(self, leaves: Mapping[Path, _Leaf], at: Path) -> None:
        step = len(at)
        below = [path for path in leaves if len(path) > step and path[:step] == at]
        names = dict.fromkeys(path[step] for path in below)
        # Attributes get names of their own: any text at all may name a field in JSON.
        self.attribute = {name: f"f{number}" for number, name in enumerate(names)}
        self.parts: dict[str, _Leaf | _Object] = {
            name: leaves.get((*at, name)) or _Object(leaves, (*at, name)) for name in names
        }

    @property
    def required(self) -> bool:
        return any(part.required for part in self.parts.values())

    def struct(self) -> type[msgspec.Struct]:
        fields: list[Any] = []
        for name, part in self.parts.items():
            attribute = self.attribute[name]
            if isinstance(part, _Object):
                kind: Any = part.struct()
                # An absent object is one whose fields are all absent.
                absent = msgspec.field(default_factory=kind)
                fields.append((attribute, kind) if part.required else (attribute, kind, absent))
            elif part.required:
                fields.append((attribute, part.type))
            else:
                kind = part.type if part.type is Any else part.type | None
                fields.append((attribute, kind, None))
        renamed = {attribute: name for name, attribute in self.attribute.items()}
        return msgspec.defstruct("Wanted", fields, rename=renamed, kw_only=True, gc=False)

    def place(self, path: Path) -> str:
        attribute = self.attribute[path[0]]
        part = self.parts[path[0]]
        return f"{attribute}.{part.place(path[1:])}" if isinstance(part, _Object) else attribute


def _getter(places: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(places) == 1:  # attrgetter of one place gives no tuple
        one = attrgetter(places[0])
        return lambda decoded: (one(decoded),)
    return attrgetter(*places)
