"""The demonstration as a whole, shortened: a real broker, a real service, both scenes."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from headrace.config import Config
from headrace.demo import scene
from headrace.demo.movielens import load
from headrace.demo.scene import Demo, shipped_spec
from headrace.errors import StateError, UnavailableError
from headrace.models.spec import load_spec

CACHE = Path(__file__).parents[2] / ".cache"
CONFIG = Config(grpc_port=0, metrics_port=None)


@pytest.fixture(scope="module", autouse=True)
def data() -> None:
    try:
        load(CACHE / "movielens")
    except StateError as error:
        pytest.skip(f"without a package index there are no ratings to play: {error}")


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("agent", scene.AGENTS)
def test_shipped_specs_are_good(agent: str) -> None:
    """Each agent that is deployed comes with the package, under its own name."""
    assert load_spec(shipped_spec(agent)).agent == agent


async def test_both_scenes_play_and_end_by_themselves(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All events are learned, figures are told beside baselines, and nothing is left running."""
    monkeypatch.setattr(scene, "HOUR", 300.0)
    frames: list[RenderableType] = []
    demo = Demo(CONFIG, console, CACHE, ratings=3_000, on_frame=frames.append)
    await demo.run()
    assert demo.race.plant.elapsed == 300.0
    text = _text(console)
    assert frames
    assert "3,000" in text
    assert "What happened" in text
    assert "top10    recall@10" in text
    assert "of 100 cases the next film was among the ten" in " ".join(text.split())
    assert "last value: " in text
    assert "fetched" not in text
    assert "600 of them left out" in " ".join(text.split())
    assert "rollback of h07 alone" in text
    assert text.index("agent heaters") < text.index("everything stopped and removed")


async def test_a_terminated_demonstration_cleans_up(console: Console) -> None:
    """SIGTERM in the middle stops broker and service and removes what they kept, then says so."""

    def end(_: RenderableType) -> None:
        if demo.race.plant.elapsed >= 60.0:
            os.kill(os.getpid(), signal.SIGTERM)

    demo = Demo(CONFIG, console, CACHE, on_frame=end)
    with pytest.raises(UnavailableError, match="terminated"):
        await demo.run()
    assert "everything stopped and removed" in _text(console)
