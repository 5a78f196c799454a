"""docs/catalog.md: the catalog as a page, generated, so that it cannot differ from the code."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from pathlib import Path

from headrace.models.catalog import Entry, catalog, estimator_kinds, out_of_catalog
from headrace.models.catalog.data import COST

PAGE = Path(__file__).parents[2] / "docs" / "catalog.md"

_HEAD = """# What a spec may name

Written by `python -m tests.models.catalog_page` for River {river}; a test holds it to the code.
`headrace catalog NAME` shows the same on the command line.

{estimators} estimators and {parts} parts of estimators (optimizers, losses, statistics …) may be
named; {out} may not, and the last table says why. Each estimator in the catalog keeps the laws of
`headrace.models.checks` on every instance that River's own unit tests make: written, read in a new
process and continued it is the same bit for bit; asking it changes no state; its answers equal
River's; its learning stays finite; its bytes are canonical; no set's order decides anything.
Deploying checks them again on the pipeline of the spec.

**Cost**, by measurement: 300 made-up events of six features, predict then learn, with default
parameters. `heavy`: more than 50,000 bytes or 400 µs per event, for `scope: shared` only; `medium`:
more than 10,000 bytes or 60 µs; else `light`. Trees and windows go on growing after that.

**Read**: how a prediction leaves the state alone. What is read from a copy pays for the copy, in
proportion to its size. A scaler outside of an ensemble is cheaper than one inside of it.

Every parameter `seed` that is left out is filled from the agent and the key.
"""


def catalog_markdown() -> str:
    """The whole page."""
    entries = list(catalog().values())
    estimators = [entry for entry in entries if entry.kind in estimator_kinds()]
    parts = [entry for entry in entries if entry.kind not in estimator_kinds()]
    lines = [
        _HEAD.format(
            river=importlib.metadata.version("river"),
            estimators=len(estimators),
            parts=len(parts),
            out=len(out_of_catalog()),
        ),
        "## Estimators\n",
        "| estimator | kind | cost | bytes | µs | read |",
        "|---|---|---|--:|--:|---|",
        *[_estimator(entry) for entry in estimators],
        "\n## Parts of estimators\n",
        "| kind | count | names |",
        "|---|--:|---|",
    ]
    counts = Counter(entry.kind for entry in parts)
    for kind, count in sorted(counts.items()):
        names = ", ".join(f"`{entry.name}`" for entry in parts if entry.kind == kind)
        lines.append(f"| {kind} | {count} | {names} |")
    lines += ["\n## Out of the catalog\n", "| name | why |", "|---|---|"]
    lines += [f"| `{name}` | {why} |" for name, why in sorted(out_of_catalog().items())]
    lines += ["\n## Parameters of the estimators\n"]
    for entry in estimators:
        taken = ", ".join(f"`{name}`: {said}" for name, said in entry.parameters.items())
        lines.append(f"- **{entry.name}** {taken or 'takes none'}")
    return "\n".join(lines) + "\n"


def _estimator(entry: Entry) -> str:
    cost, size, us = COST.get(entry.name, (entry.cost or "", "", ""))
    shown = f"{size:,}" if isinstance(size, int) else size
    return f"| `{entry.name}` | {entry.kind} | {cost} | {shown} | {us} | {entry.reads} |"


if __name__ == "__main__":  # writes the page anew
    PAGE.write_text(catalog_markdown(), encoding="utf-8")
