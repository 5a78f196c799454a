"""Makes docs/demo.svg: the screen of `headrace demo` as it was in a real run.

    PYTHONHASHSEED=0 .venv/bin/python benchmarks/picture.py

plays the demonstration (a minute) and keeps the last frame on which the heaters still ran. Every
figure on it comes from that run.
"""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path

from rich.console import Console, RenderableType

from headrace import logs
from headrace.config import hash_seed, load
from headrace.demo.heaters import HOUR
from headrace.demo.scene import Demo

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "demo.svg"
WIDTH = 96  # characters


def svg(frame: RenderableType) -> str:
    """The frame as a terminal of `WIDTH` characters shows it."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(frame)
    return console.export_svg(title="headrace demo")


def main() -> int:
    """Play, keep a frame, write it."""
    if hash_seed() != "0":
        print("start it with PYTHONHASHSEED=0, as a worker is", file=sys.stderr)
        return 2
    logs.setup(level="error", style="plain")
    frames: list[RenderableType] = []

    def keep(frame: RenderableType) -> None:
        if demo.race.plant.elapsed < HOUR:
            frames[:] = [frame]

    settings = load({"grpc_port": 0, "metrics_port": "off"})
    demo = Demo(settings, Console(), ROOT / ".cache", on_frame=keep)
    asyncio.run(demo.run())
    OUT.write_text(svg(frames[0]), encoding="utf-8")
    print(f"{OUT.relative_to(ROOT)}: {OUT.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
