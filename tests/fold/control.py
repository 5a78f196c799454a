"""Which lives an agent has led, and where its commands counted, from the control log alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from tests.fold.erased import Forgotten
from tests.fold.oracle import Origin

Where = tuple[str, int]  # topic and partition


@dataclass(frozen=True)
class Rollback:
    """From offset `at` on the agent is in `epoch`, with what it was at `base_offset` of
    `base_epoch`: all keys, or only some.

    `rewind`: and has learned again what came from there on, without what is excluded: each
    exclusion as the control log has it, with the offset below which it holds.
    """

    at: int
    epoch: int
    base_epoch: int
    base_offset: int
    keys: tuple[str, ...]
    rewind: bool = False
    excluded: tuple[tuple[dict[str, Any], int], ...] = ()
    failed: bool = False  # it could not be done: nothing but the epoch changes


@dataclass(frozen=True, kw_only=True)
class Course:
    """What happened to one shard: the first offset that is learned, and the commands.

    `pauses`: (offset, paused?) in the order of their commands; each holds from the record at its
    offset on. `rollbacks` and `forgets` likewise; those from behind the last record are done, too.
    """

    start: int = 0
    pauses: tuple[tuple[int, bool], ...] = ()
    rollbacks: tuple[Rollback, ...] = ()
    forgets: tuple[Forgotten, ...] = ()


@dataclass
class Life:
    """An agent from a deploy to its delete. `commands`: (control id, kind), the deploy first.

    `epoch` is the first one, `last_epoch` the present one; `rolled`: the record and the new epoch
    of each rollback.
    """

    agent: str
    epoch: int
    digest: str
    topic: str
    emit_topic: str
    commands: list[tuple[str, str]]
    effects: dict[tuple[str, Where], int] = field(default_factory=dict)
    failures: dict[tuple[str, Where], str] = field(default_factory=dict)
    paused: bool = False
    deleted: bool = False
    last_epoch: int = 0
    version: int = 1
    rolled: dict[str, tuple[dict[str, Any], int]] = field(default_factory=dict)
    tombstones: dict[str, str] = field(default_factory=dict)  # by control id
    former: list[tuple[Where, Forgotten]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.last_epoch = self.epoch

    @property
    def epochs(self) -> range:
        """All of them."""
        return range(self.epoch, self.last_epoch + 1)

    def _rollbacks(self, where: Where) -> list[Rollback]:
        found: list[Rollback] = []
        holding: dict[str, tuple[dict[str, Any], int]] = {}  # exclusions, by control id
        for control_id, (told, epoch) in self.rolled.items():
            if (control_id, where) not in self.effects:
                continue
            at = self.effects[control_id, where]
            holding.pop(told.get("undoes", ""), None)
            if told.get("exclude") and (control_id, where) not in self.failures:
                holding[control_id] = (told["exclude"], at)
            base = next(b for b in told["bases"] if b["partition"] == where[1])
            found.append(
                Rollback(
                    at,
                    epoch,
                    base["epoch"],
                    base["next_offset"],
                    tuple(told.get("keys", ())),
                    told.get("mode") == "rewind",
                    tuple(holding.values()),
                    (control_id, where) in self.failures,
                )
            )
        return found

    def forgets(self) -> list[tuple[Where, Forgotten]]:
        """Those that have counted, of former lives, too."""
        mine = [
            (where, Forgotten(at, self.tombstones[control_id]))
            for (control_id, where), at in self.effects.items()
            if control_id in self.tombstones
        ]
        return [*self.former, *mine]

    def origin(self, where: Where) -> Origin:
        """Whose decisions these are; a new deployment is a new version of the spec, too."""
        return Origin(self.agent, self.version, self.epoch, *where)

    def partitions(self) -> list[Where]:
        """Where the agent has begun."""
        deploy = self.commands[0][0]
        return sorted(where for control_id, where in self.effects if control_id == deploy)

    def start(self, where: Where) -> int:
        """The first offset that is learned."""
        return self.effects[self.commands[0][0], where]

    def end(self, where: Where) -> int | None:
        """Where the delete counted; None if it has not, or there was none."""
        control_id, kind = self.commands[-1]
        return self.effects.get((control_id, where)) if kind == "delete" else None

    def course(self, where: Where) -> Course:
        """What has counted in the partition."""
        pauses = (
            (self.effects[control_id, where], kind == "pause")
            for control_id, kind in self.commands
            if kind in ("pause", "resume") and (control_id, where) in self.effects
        )
        rollbacks = tuple(self._rollbacks(where))
        return Course(
            start=self.start(where),
            pauses=tuple(pauses),
            rollbacks=rollbacks,
            forgets=tuple(forgotten for place, forgotten in self.forgets() if place == where),
        )


def lives(values: Iterable[bytes]) -> list[Life]:
    """All lives of all agents, in the order of their deploys. `values`: the control log's."""
    found: list[Life] = []
    known: set[str] = set()
    for value in values:
        told = msgspec.json.decode(value)
        kind = told["type"]
        if kind == "hello":
            continue
        now = next((life for life in reversed(found) if life.agent == told["agent"]), None)
        if kind == "effect":
            # It may come when the next life has begun: commands are accepted before they count.
            mine = [life for life in found if life.agent == told["agent"]]
            for life in (life for life in mine if told["epoch"] in life.epochs):
                where = (told["topic"], told["partition"])
                if (told["control_id"], where) not in life.effects:
                    life.effects[told["control_id"], where] = told["next_offset"]
                    if told.get("failed"):
                        life.failures[told["control_id"], where] = told["failed"]
            continue
        if told["id"] in known:
            continue
        known.add(told["id"])
        if kind == "deploy":
            _deploy(found, now, told)
        elif now is not None and not now.deleted:
            _command(now, told)
    return found


def _deploy(found: list[Life], now: Life | None, told: dict[str, Any]) -> None:
    """Refused or without effect while the agent lives, or another has its topic."""
    taken = {life.emit_topic for life in found if not life.deleted}
    if told["emit_topic"] in taken or (now is not None and not now.deleted):
        return
    found.append(
        Life(
            agent=told["agent"],
            epoch=1 if now is None else now.last_epoch + 1,
            version=1 if now is None else now.version + 1,
            digest=told["digest"],
            topic=told["spec"]["source"]["topic"],
            emit_topic=told["emit_topic"],
            commands=[(told["id"], "deploy")],
            former=[] if now is None else [(p, replace(f, former=True)) for p, f in now.forgets()],
        )
    )


def _command(life: Life, told: dict[str, Any]) -> None:
    kind, control_id = told["type"], told["id"]
    if kind == "delete":
        life.deleted = True
    elif kind == "rollback":
        if told["life"] != life.epoch or _rolling_back(life):
            return
        life.last_epoch += 1
        life.rolled[control_id] = (told, life.last_epoch)
    elif kind == "forget":
        life.tombstones[control_id] = told["tombstone"]
    elif kind == "snapshot":
        if told["life"] != life.epoch:
            return
    elif life.paused == (kind == "pause"):
        return
    else:
        life.paused = kind == "pause"
    life.commands.append((control_id, kind))


def _rolling_back(life: Life) -> bool:
    """Whether the last rollback has yet to count in some partition."""
    if not life.rolled:
        return False
    control_id, (told, _) = list(life.rolled.items())[-1]
    done = [where for known, where in life.effects if known == control_id]
    return len(done) < len(told["bases"])
