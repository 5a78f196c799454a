"""What a world's worker is made of. A test replaces one part to take a protection away."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headrace.pipelines.catchup import Bounds
from headrace.pipelines.order import PartitionOrder
from tests.simulation.controls import SimControlLog
from tests.simulation.sink import SimSink
from tests.simulation.streams import SimStreams


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Makers of the parts, and the chance that they share. `shards` makes the real ones."""

    chance: random.Random
    shards: Any  # a class of `Shards`
    catch_up: Any  # a class of `CatchUp`
    sink: Callable[..., SimSink] = SimSink
    controls: Callable[..., SimControlLog] = SimControlLog
    streams: Callable[..., SimStreams] = SimStreams
    order: Callable[[int, int], PartitionOrder] = PartitionOrder
    bounds: Bounds = field(default_factory=Bounds)  # of what learns apart
