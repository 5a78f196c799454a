"""docs/limits.md says which bounds there are: each is in the code with that value."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from headrace.config import Config
from headrace.models.spec.parts import StateLimits
from headrace.serving.limits import Limits
from tests.tree import ROOT, parsed, sources

PAGE = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| ([^|]+) \| `([\w.]+)`(?: \(\w+\))? \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE
)
ROWS = {match[1]: match[2].strip() for match in (m.groups() for m in ROW.finditer(PAGE))}
UNITS = {"s": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
ROOMS = ("models", "state", "pipelines", "serving")
MAXIMUM = re.compile(r"(?:[A-Z0-9]+_)*(?:MAX|KEPT)(?:_[A-Z0-9]+)*")
# How much is shown to people of something that is bounded elsewhere.
SHOWN = {
    "models.dryrun.MAX_EXAMPLES", "models.dryrun.MAX_GROUPS", "models.portrait.ENTRIES_MAX",
    "models.portrait.DEPTH_MAX", "models.portrait.TEXT_MAX",
}  # fmt: skip


def value_of(name: str) -> Any:
    """What `room.module.NAME` or `room.module.Class.field` stands for; a field's default."""
    parts = name.split(".")
    for split in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(["headrace", *parts[:split]]))
        except ModuleNotFoundError:
            continue
        for part in parts[split:]:
            found = getattr(found() if isinstance(found, type) else found, part)
        return found
    raise AssertionError(f"there is no module of {name}")


def number(text: str) -> float:
    """A number as the page writes it: `1,000`, `64 KiB`, `0.1 s`."""
    digits, _, unit = text.partition(" ")
    return float(digits.replace(",", "")) * UNITS[unit or "s"]


@pytest.mark.parametrize("name", ROWS)
def test_each_bound_is_in_the_code_with_that_value(name: str) -> None:
    """The name stands for what the page says; a table of many has as many entries."""
    value, text = value_of(name), ROWS[name]
    if isinstance(value, dict):
        assert text == f"{len(value)} of them"
    else:
        assert number(text) == value


def test_the_page_is_read_as_it_is_written() -> None:
    """No row with a name in its second column is passed over by the test above."""
    written = re.findall(r"^\| [^|]+ \| `(?!StoreOptions)", PAGE, re.MULTILINE)
    assert len(written) == len(ROWS) > 80


def test_every_maximum_has_its_row() -> None:
    """Whoever adds a constant that is called a maximum says on the page what happens at it."""
    found = {
        ".".join((*path.with_suffix("").parts, target.id))
        for path in sources()
        if path.parts[0] in ROOMS and not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
        for node in parsed(path).body
        for target in _targets(node)
        if MAXIMUM.fullmatch(target.id)
    }
    assert found - SHOWN - set(ROWS) == set()


def test_every_bound_of_a_class_has_its_row() -> None:
    """All limits of the server, all maxima among the settings and the fields of `state`."""
    wanted = {f"serving.limits.Limits.{field.name}" for field in dataclasses.fields(Limits)}
    wanted |= {
        f"config.Config.{field.name}"
        for field in dataclasses.fields(Config)
        if field.name.endswith("_max") or field.name.startswith("max_")
    }
    wanted |= {
        f"models.spec.parts.StateLimits.{name}"
        for name in StateLimits.__struct_fields__
        if name.endswith("_max")
    }
    assert wanted - set(ROWS) == set()


def _targets(node: ast.stmt) -> list[ast.Name]:
    found: list[ast.expr] = [node.target] if isinstance(node, ast.AnnAssign) else []
    found += node.targets if isinstance(node, ast.Assign) else []
    return [target for target in found if isinstance(target, ast.Name)]


def test_the_check_sees_constants() -> None:
    """A check that looks at nothing always passes."""
    assert MAXIMUM.fullmatch("IN_FLIGHT_BATCHES_MAX")
    assert MAXIMUM.fullmatch("MAX_EVENT_BYTES")
    assert not MAXIMUM.fullmatch("_MAX_PARTS")
    assert Path("pipelines/emit.py") in set(sources())
