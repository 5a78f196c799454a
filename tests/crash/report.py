"""What a campaign came to: a table for people, JSON for machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.crash.aims import OF_FLUSH, POINTS
from tests.crash.campaign import MISSED, Left
from tests.crash.verdict import Verdict

KILLS_MIN = 40
AIMED_MIN = {point: 5 if point in OF_FLUSH else 3 for point in POINTS}


@dataclass(frozen=True)
class Outcome:
    """A campaign, what was found afterwards, and how long both took."""

    left: Left
    verdict: Verdict
    seconds: float

    @property
    def kills(self) -> int:
        """How many `kill -9` there were, aimed and random."""
        return sum(count for ending, count in self.left.kills.items() if ending != "sigterm")

    def failings(self) -> list[str]:
        """Why the campaign is not passed."""
        found = list(self.verdict.differences)
        if self.kills < KILLS_MIN:
            found.append(f"there were {self.kills} kills, fewer than {KILLS_MIN}")
        aimed = {point: self.left.kills[point] for point in POINTS}
        return found + [
            f"there were {count} kills at {point}, fewer than {AIMED_MIN[point]}"
            for point, count in aimed.items()
            if count < AIMED_MIN[point]
        ]

    def as_json(self) -> dict[str, Any]:
        """The record in benchmarks/out/crash.json."""
        ends = {ending: self.left.kills[ending] for ending in (*POINTS, "random", "sigterm")}
        return {
            "passed": not self.failings(),
            "kills": self.kills,
            "endings": {**ends, MISSED: self.left.kills[MISSED]},
            **asdict(self.verdict),
            "seconds": round(self.seconds, 1),
        }


ROWS = (
    ("kill -9", "kills"),
    ("events in the logs", "events"),
    ("planted bad events", "planted"),
    ("keys", "keys"),
    ("decisions, repeats included", "decisions"),
    ("repeats, byte-identical", "repeats"),
    ("quarantined, distinct", "quarantined"),
    ("rollbacks of shards", "rollbacks"),
    ("manifests vouched for", "manifests"),
    ("manifests and files missing", "unkept"),
    ("decisions sent again after a loss", "told_again"),
    ("decisions missing", "missing"),
    ("decisions that nobody asked for", "unexpected"),
    ("decisions that contradict", "contradictory"),
    ("bad events not in quarantine", "escaped"),
    ("differences from the fold", "wrong"),
    ("seconds", "seconds"),
)


def show(outcomes: Mapping[str, Outcome], console: Console) -> None:
    """One column for each broker."""
    table = Table(title="Crash campaigns")
    table.add_column("")
    records = {broker: outcome.as_json() for broker, outcome in outcomes.items()}
    for broker in records:
        table.add_column(broker, justify="right")
    for text, name in ROWS:
        table.add_row(text, *(f"{record[name]:,}" for record in records.values()))
        if name == "kills":
            for ending in (*POINTS, "random", "sigterm", MISSED):
                shown = "SIGTERM" if ending == "sigterm" else ending
                table.add_row(f"  {shown}", *(str(r["endings"][ending]) for r in records.values()))
    console.print(table)
    for broker, outcome in outcomes.items():
        for sentence in outcome.failings():
            console.print(f"{broker}: {sentence}", style="red", highlight=False, markup=False)
