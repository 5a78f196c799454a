"""What the service answers from: the ports that the composition hands in."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.ports import (
    Archives,
    Controls,
    DecisionFeed,
    Directory,
    EventSink,
    Forgets,
    Past,
    Predictor,
    Rollbacks,
    Snapshots,
    Specs,
)


@dataclass(frozen=True, kw_only=True)
class Backend:
    """Live shards, the control log and the topics, as Protocols."""

    predictor: Predictor
    directory: Directory
    specs: Specs
    controls: Controls
    sink: EventSink
    feed: DecisionFeed
    snapshots: Snapshots
    rollbacks: Rollbacks
    past: Past
    forgets: Forgets
    archives: Archives
