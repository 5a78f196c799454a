"""The closed table: the only classes, functions and methods that bytes can name.

It is made once, from River's modules and what `register` adds; names in bytes are looked up in it
and nowhere else. Public names are short (`linear_model.LogisticRegression`); what River does not
export goes by its module (`river.tree.nodes.branch.DTBranch`).
"""

from __future__ import annotations

import collections
import copy
import functools
import importlib
import inspect
import statistics
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
import numpy as np

# Rooms of River whose objects are never part of a model, or that read files and the network.
OUTSIDE: Final = (
    "datasets",
    "stream",
    "evaluate",
    "checks",
    "compat",
    "bandit.envs",
    "api",
)

# What River stores as a factory or as a step of a preprocessor, beside its own.
FOREIGN: Final[dict[str, Any]] = {
    "bool": bool,
    "collections.Counter": collections.Counter,
    "collections.OrderedDict": collections.OrderedDict,
    "collections.defaultdict": collections.defaultdict,
    "collections.deque": collections.deque,
    "copy.deepcopy": copy.deepcopy,
    "dict": dict,
    "float": float,
    "int": int,
    "list": list,
    "numpy.array": np.array,
    "numpy.ones": np.ones,
    "numpy.zeros": np.zeros,
    "set": set,
    "statistics.NormalDist": statistics.NormalDist,
    "str": str,
    "str.lower": str.lower,
    "tuple": tuple,
}

# Methods of other classes' instances that River binds; of River's own, any that is not special.
FOREIGN_METHODS: Final = frozenset({"gauss", "random", "uniform"})


class Plan(msgspec.Struct, frozen=True, eq=False):
    """How instances of one class with one list of fields are made again."""

    cls: type
    fields: tuple[str, ...]
    by_dict: bool  # a field is shadowed by a property: write into __dict__
    after: Callable[[Any], None] | None


class ClassTable:
    """Names to objects and back.

    >>> from headrace.models.codec.class_table import river_table
    >>> river_table().named("optim.SGD").__name__
    'SGD'
    >>> river_table().name_of(river_table().named("collections.Counter"))
    'collections.Counter'
    """

    def __init__(self) -> None:
        self._named: dict[str, Any] = {}
        self._names: dict[int, str] = {}
        self._plans: dict[tuple[str, tuple[str, ...]], Plan] = {}
        self.derived: dict[type, frozenset[str]] = {}
        self.after: dict[type, Callable[[Any], None]] = {}

    def add(self, name: str, thing: Any) -> None:
        """Let bytes name `thing`, a class or a function, from now on."""
        held = self._named.setdefault(name, thing)
        assert held is thing, f"two things are called {name}"
        self._names.setdefault(id(thing), name)

    def named(self, name: str) -> Any:
        """The thing of that name. KeyError when the table has none."""
        return self._named[name]

    def name_of(self, thing: Any) -> str | None:
        """The name under which bytes may hold `thing`; None when they may not."""
        return self._names.get(id(thing))

    def is_free(self, name: str) -> bool:
        """Whether nothing has that name yet."""
        return name not in self._named

    def plan(self, name: str, fields: tuple[str, ...]) -> Plan:
        """The plan to build instances of the class `name` that have `fields`.

        Raises KeyError for an unknown class, ValueError for fields that no instance can have.
        """
        key = (name, fields)
        found = self._plans.get(key)
        if found is None:
            found = self._plans[key] = self._compile(name, fields)
        return found

    def _compile(self, name: str, fields: tuple[str, ...]) -> Plan:
        cls = self._named[name]
        if not isinstance(cls, type) or (name in FOREIGN and cls is not statistics.NormalDist):
            raise ValueError(f"{name} has no plain instances")
        by_dict = False
        for field in fields:
            if not field.isidentifier() or field.startswith("__"):
                raise ValueError(f"{name} has no field {field!r}")
            static = inspect.getattr_static(cls, field, None)
            by_dict |= inspect.isdatadescriptor(static) and not isinstance(
                static, types.MemberDescriptorType
            )
        return Plan(cls, fields, by_dict, self.after.get(cls))

    def bound_method(self, owner: Any, name: str) -> Any:
        """`owner`'s method `name`, if bytes may hold it. Raises ValueError otherwise."""
        static = inspect.getattr_static(type(owner), name, None)
        own = isinstance(static, types.FunctionType) and id(static) in self._names
        if (not own and name not in FOREIGN_METHODS) or name.startswith("__"):
            raise ValueError(f"{type(owner).__name__} has no method {name!r} in the table")
        return getattr(owner, name)


@functools.cache
def river_table() -> ClassTable:
    """The table of this process. Importing all of River takes about a second, once."""
    importlib.import_module("river.api")
    made = ClassTable()
    for name, thing in FOREIGN.items():
        made.add(name, thing)
    modules = sorted(name for name in sys.modules if _inside(name))
    for public in (name for name in modules if name.count(".") == 1):
        for name, thing in sorted(vars(sys.modules[public]).items()):
            known = not inspect.isclass(thing) or made.name_of(thing) is not None
            if not known and _inside(thing.__module__) and not name.startswith("_"):
                made.add(f"{public.removeprefix('river.')}.{name}", thing)
    for module in modules:
        for name, thing in _members(module):
            if made.name_of(thing) is None:
                made.add(name, thing)
    return made


def _inside(module: str) -> bool:
    parts = module.removeprefix("river.")
    return module.startswith("river.") and not any(
        parts == out or parts.startswith(out + ".") for out in OUTSIDE
    )


def _members(module: str) -> Iterator[tuple[str, Any]]:
    """Classes and functions that `module` defines, and what those classes define."""
    for name, thing in sorted(vars(sys.modules[module]).items()):
        if getattr(thing, "__module__", None) == module:
            if inspect.isclass(thing):
                yield from _class_members(f"{module}.{name}", thing)
            elif isinstance(thing, types.FunctionType | types.BuiltinFunctionType):
                yield f"{module}.{name}", thing


def _class_members(name: str, cls: type) -> Iterator[tuple[str, Any]]:
    yield name, cls
    for key, static in sorted(vars(cls).items()):
        thing = static.__func__ if isinstance(static, staticmethod) else static
        if inspect.isclass(thing) and thing.__qualname__.startswith(cls.__qualname__ + "."):
            yield from _class_members(f"{name}.{key}", thing)
        elif isinstance(thing, types.FunctionType) and not key.startswith("__"):
            yield f"{name}.{key}", thing
