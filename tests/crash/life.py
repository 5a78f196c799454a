"""What the harness and the worker's process say to each other: an order, and what became of it."""

from __future__ import annotations

from typing import Literal

import msgspec

FlushPoint = Literal["handed-over", "acknowledged", "written", "committed"]
RollbackPoint = Literal["counted", "undo-kept", "adopted", "dropped"]
PublishPoint = Literal["file-kept", "manifest-kept", "vouched"]
Point = Literal[FlushPoint, RollbackPoint, PublishPoint]
Trouble = Literal["slow-network", "lost-chunk"]
Protection = Literal["acknowledgement", "skip", "gap-guard", "quarantine"]
RollbackProtection = Literal["read-back", "settling", "undo-first", "manifest-first", "told-below"]


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """One life of a worker, from its start to its end, as the harness orders it.

    With `point` it kills itself at the `passage`-th passage of that point, counted from when it is
    ready, or, if `early`, from its start, while shards are still being opened. `turns` of the event
    loop pass between handing decisions over and the kill at `handed-over`.
    """

    app: str
    bootstrap: str
    transactions: bool  # whether the broker can do them
    state: str  # the state directory
    session_s: float
    snapshots: str | None = None  # the URL of the repository; None: in the state directory
    point: Point | None = None
    passage: int = 1
    early: bool = False
    turns: int = 2
    troubles: tuple[Trouble, ...] = ()
    without: Protection | RollbackProtection | None = None


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One line from the worker's process. `text`: its address, the point, or its exit status."""

    pid: int
    what: Literal["born", "ready", "aimed", "ended"]
    text: str = ""


decode_life = msgspec.json.Decoder(Life).decode
decode_said = msgspec.json.Decoder(Said).decode
