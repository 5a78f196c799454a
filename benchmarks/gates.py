"""Figures, what they must be, and how they are shown: a table for people, JSON for machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.table import Table

OUT = Path(__file__).parent / "out"


class Gate(NamedTuple):
    """One figure and what it must be; one without a bound is told and cannot be missed."""

    name: str
    value: float
    relation: str  # "=", "<=" or ">="; "" has no bound
    bound: float
    beside: str = ""
    also: tuple[tuple[str, float], ...] = ()  # figures beside it, by name, for the JSON
    aim: float | None = None  # what it should become, by the same relation

    @property
    def met(self) -> bool:
        """Never for a value that is not finite, unless nothing is asked of it."""
        return not self.relation or self._reaches(self.bound)

    @property
    def aim_met(self) -> bool:
        """Whether there is an aim, and it is reached."""
        return self.aim is not None and self._reaches(self.aim)

    def _reaches(self, bound: float) -> bool:
        if self.relation == "=":
            return abs(self.value - bound) < 5e-7  # equal to six decimals
        assert self.relation in ("<=", ">=")
        return self.value <= bound if self.relation == "<=" else self.value >= bound


def told(
    name: str, value: float, beside: str = "", also: tuple[tuple[str, float], ...] = ()
) -> Gate:
    """A figure of which nothing is asked."""
    return Gate(name, value, "", math.nan, beside, also)


def table(gates: Sequence[Gate], title: str, *, digits: int = 8) -> Table:
    """What people read; `digits` are the significant ones."""
    shown = Table(title=title, box=None, pad_edge=False)
    for name, justify in (("figure", "left"), ("value", "right"), ("must be", "right")):
        shown.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    shown.add_column("", no_wrap=True)
    aims = any(gate.aim is not None for gate in gates)
    if aims:
        shown.add_column("aim", justify="right", no_wrap=True)
    shown.add_column("beside it")
    for gate in gates:
        verdict = "[green]met[/]" if gate.met else "[bold red]MISSED[/]"
        bound = f"{gate.relation} {gate.bound:.8g}" if gate.relation else ""
        row = [gate.name, number(gate.value, digits), bound, verdict if gate.relation else ""]
        if aims:
            row.append(_aim(gate))
        shown.add_row(*row, gate.beside)
    return shown


def number(value: float, digits: int) -> str:
    """A figure as people read it: thousands set apart, no digits beyond what was measured.

    >>> number(23456.7, 4), number(0.123456, 4), number(0.1234567891, 8)
    ('23,457', '0.1235', '0.12345679')
    """
    if digits < 8 and abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def flat(gates: Sequence[Gate]) -> dict[str, float]:
    """Name → figure; those beside a gate's own as `<gate>.<name>`."""
    found: dict[str, float] = {}
    for gate in gates:
        found[gate.name] = gate.value
        found.update({f"{gate.name}.{name}": value for name, value in gate.also})
    return found


def write(gates: Sequence[Gate], name: str) -> Path:
    """Put the figures into `benchmarks/out/<name>`, as flat JSON."""
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / name
    path.write_bytes(msgspec.json.format(msgspec.json.encode(flat(gates))) + b"\n")
    return path.relative_to(OUT.parents[1])


def _aim(gate: Gate) -> str:
    if gate.aim is None:
        return ""
    return f"{gate.aim:.8g} [green]✓[/]" if gate.aim_met else f"{gate.aim:.8g}"
