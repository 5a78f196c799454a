"""What a worker does for snapshots, rollbacks and restores, and when: a span for each step.

Times are those of `time.perf_counter`, which all processes of a machine share, so that what callers
saw can be laid beside it. Steps lie within others: a checkpoint within the taking of a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from time import perf_counter
from typing import Any

import msgspec
from benchmarks.meters import instead

from headrace.models.learner import Learner
from headrace.pipelines import shards
from headrace.pipelines.controllog import ControlLog
from headrace.pipelines.opening import Opening
from headrace.pipelines.replacement import Replacement
from headrace.pipelines.revert import Revert
from headrace.pipelines.shard import Shard
from headrace.pipelines.vault import Vault
from headrace.state import checkpoints, directory, restoring
from headrace.state.checkpoints import Checkpoints
from headrace.state.directory import StateDirectory
from headrace.state.store import ShardStore

STEPS: tuple[tuple[Any, str, str], ...] = (
    # where it is, the function, the step
    (ControlLog, "append_in_time", "append"),
    (Revert, "prepare", "prepare"),
    (restoring, "link_or_copy", "link"),
    (restoring, "_verify", "verify"),
    (shards, "log_effect", "effect"),
    (Replacement, "work", "work"),
    (Shard, "settle", "settle"),
    (Vault, "take", "take"),
    (Checkpoints, "take", "take in its thread"),
    (checkpoints, "sync_tree", "sync the checkpoint"),
    (ShardStore, "checkpoint", "checkpoint"),
    (Revert, "_new_state", "draft"),
    (Replacement, "_adopted", "adopt and open"),
    (Learner, "__init__", "learner"),
    (ShardStore, "__init__", "open a database"),
    (ShardStore, "write", "write"),
    (ShardStore, "close", "close a database"),
    (StateDirectory, "adopt", "adopt"),
    (directory, "sync_tree", "sync the draft"),
    (StateDirectory, "drop_shard", "drop"),
    (Learner, "cool", "free"),
    (Shard, "renew", "swap"),
    (Vault, "_publish", "publish"),
    (Opening, "state", "opening"),
)


class Span(msgspec.Struct):
    """One step, from when to when, in seconds."""

    step: str
    begin: float
    end: float

    @property
    def ms(self) -> float:
        """How long it took."""
        return (self.end - self.begin) * 1e3


@contextmanager
def recorded() -> Iterator[list[Span]]:
    """The spans of all steps that end while this is entered, in the order of their ends."""
    spans: list[Span] = []
    with ExitStack() as within:
        for owner, name, step in STEPS:
            timed = _timed(getattr(owner, name), step, spans)
            within.enter_context(instead(owner, name, timed))
        yield spans


def total_ms(spans: Sequence[Span]) -> dict[str, float]:
    """Milliseconds by step, all of its spans together.

    >>> total_ms([Span("link", 1.0, 1.5), Span("link", 2.0, 2.25), Span("open", 0.0, 1.0)])
    {'link': 750.0, 'open': 1000.0}
    """
    found: dict[str, float] = {}
    for span in spans:
        found[span.step] = found.get(span.step, 0.0) + span.ms
    return found


def _timed(function: Callable[..., Any], step: str, spans: list[Span]) -> Callable[..., Any]:
    @wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        begin = perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spans.append(Span(step, begin, perf_counter()))

    @wraps(function)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        begin = perf_counter()
        try:
            return await function(*args, **kwargs)
        finally:
            spans.append(Span(step, begin, perf_counter()))

    return awaited if iscoroutinefunction(function) else timed
