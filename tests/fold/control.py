"""Which lives an agent has led, and where its commands counted, from the control log alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from tests.fold.erased import Forgotten
from tests.fold.oracle import Origin
from tests.fold.reading import Entry

Where = tuple[str, int]  # topic and partition


@dataclass(frozen=True)
class Rollback:
    """From offset `at` on the agent is in `epoch`, with what it was at `base_offset` of
    `base_epoch`: all keys, or only some.

    `rewind`: and has learned again what came from there on, without what is excluded: each
    exclusion as the control log has it, `since` the snapshot, with the offset below which it holds.
    """

    at: int
    epoch: int
    base_epoch: int
    base_offset: int
    keys: tuple[str, ...]
    rewind: bool = False
    excluded: tuple[tuple[dict[str, Any], int], ...] = ()
    failed: bool = False  # it could not be done: nothing but the epoch changes


@dataclass(frozen=True)
class Migration:
    """From offset `at` on the agent is in `epoch` under another spec, the one of that digest.

    `from`: with what it was at `base_offset` of `base_epoch`; `refold`: with what the log from
    there on amounts to, without what is `excluded`, as in a rollback; else the base says nothing.
    """

    at: int
    epoch: int
    version: int
    how: str
    digest: str
    base_epoch: int
    base_offset: int
    excluded: tuple[tuple[dict[str, Any], int], ...] = ()
    failed: bool = False  # it could not be done: nothing but the epoch changes
    keys: tuple[str, ...] = ()  # it is always of all


@dataclass(frozen=True, kw_only=True)
class Course:
    """What happened to one shard: the first offset that is learned, and the commands.

    `pauses`: (offset, paused?) in the order of their commands; each holds from the record at its
    offset on. `replacements` and `forgets` likewise; those from behind the last record are done,
    too. `imported`: by the position of an imported snapshot, to which a base of epoch 0 goes back,
    the records of the other log that it had learned.
    """

    start: int = 0
    pauses: tuple[tuple[int, bool], ...] = ()
    replacements: tuple[Rollback | Migration, ...] = ()
    forgets: tuple[Forgotten, ...] = ()
    imported: Mapping[int, Sequence[Entry]] = field(default_factory=dict, hash=False)


_Done = tuple[str, dict[str, Any], int]  # a rollback: its control id, its record, where it counted


def _holding(done: list[_Done], partition: int) -> tuple[tuple[dict[str, Any], int], ...]:
    """The exclusions that hold: not those of what is undone, unless that undo is undone itself."""
    undone: set[str] = set()
    found = []
    for control_id, told, at in reversed(done):
        if control_id not in undone:
            undone.add(told.get("undoes", ""))
            if told.get("exclude"):
                since = next(b["next_offset"] for b in told["bases"] if b["partition"] == partition)
                rule = {**told["exclude"], "only": told.get("keys", ()), "since": since}
                found.append((rule, at))
    return tuple(found)


@dataclass
class Life:
    """An agent from a deploy to its delete. `commands`: (control id, kind), the deploy first.

    `epoch` is the first one, `last_epoch` the present one; `version` and `last_version` likewise.
    `replaced`: the record, the new epoch and the version of each rollback and each migration.
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
    last_version: int = 0
    replaced: dict[str, tuple[dict[str, Any], int, int]] = field(default_factory=dict)
    tombstones: dict[str, str] = field(default_factory=dict)  # by control id
    former: list[tuple[Where, Forgotten]] = field(default_factory=list)
    former_tombstones: dict[str, str] = field(default_factory=dict)  # of all former lives

    def __post_init__(self) -> None:
        self.last_epoch = self.epoch
        self.last_version = self.version

    @property
    def epochs(self) -> range:
        """All of them."""
        return range(self.epoch, self.last_epoch + 1)

    def undone_wrongly(self) -> list[str]:
        """Where an undo was done although there was nothing to take back, or was not although there
        was.
        """
        found = []
        for control_id, where in self.effects:
            told = self.replaced[control_id][0] if control_id in self.replaced else {}
            if told.get("where_standing"):
                stood = _stands_in(self, told["undoes"], where, before=control_id)
                left = "to take back" in self.failures.get((control_id, where), "")
                if left == stood:
                    found.append(f"{control_id} in {where}: {stood=}, {left=}")
        return found

    def _replacements(self, where: Where) -> list[Rollback | Migration]:
        found: list[Rollback | Migration] = []
        done: list[_Done] = []
        for control_id, (told, epoch, version) in self.replaced.items():
            if (control_id, where) not in self.effects:
                continue
            at = self.effects[control_id, where]
            failed = (control_id, where) in self.failures
            if told["type"] == "migrate":
                bases = [b for b in told["bases"] if b["partition"] == where[1]]
                base_epoch, offset = (
                    (bases[0]["epoch"], bases[0]["next_offset"]) if bases else (0, 0)
                )
                how, digest = told["how"], told["digest"]
                rules = _holding(done, where[1])
                found.append(
                    Migration(at, epoch, version, how, digest, base_epoch, offset, rules, failed)
                )
                continue
            if not failed:
                done.append((control_id, told, at))
            base = next(b for b in told["bases"] if b["partition"] == where[1])
            found.append(
                Rollback(
                    at,
                    epoch,
                    base["epoch"],
                    base["next_offset"],
                    tuple(told.get("keys", ())),
                    told.get("mode") == "rewind",
                    _holding(done, where[1]),
                    failed,
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
        # What a former life was told and had not done by its end counts where this one began.
        late = [
            (where, Forgotten(at, self.former_tombstones[control_id], former=True))
            for (control_id, where), at in self.effects.items()
            if control_id in self.former_tombstones
        ]
        return [*self.former, *late, *mine]

    def not_forgotten(self, where: Where) -> list[str]:
        """Forgets of former lives that count nowhere in the partition, by control id."""
        counted = {forgotten.tombstone for place, forgotten in self.forgets() if place == where}
        told = self.former_tombstones.items()
        return [control_id for control_id, tombstone in told if tombstone not in counted]

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

    def course(self, where: Where, end: int | None = None) -> Course:
        """What has counted in the partition, or had when its shard stood at `end`."""
        pauses = (
            (self.effects[control_id, where], kind == "pause")
            for control_id, kind in self.commands
            if kind in ("pause", "resume") and (control_id, where) in self.effects
        )
        replacements = tuple(
            each for each in self._replacements(where) if end is None or each.at <= end
        )
        # What is forgotten later is not in a former state either: nothing brings it back.
        forgets = tuple(
            replace(each, former=each.former or (end is not None and each.at > end))
            for place, each in self.forgets()
            if place == where
        )
        return Course(
            start=self.start(where),
            pauses=tuple(pauses),
            replacements=replacements,
            forgets=forgets,
        )


def lives(values: Iterable[bytes]) -> list[Life]:
    """All lives of all agents, in the order of their deploys. `values`: the control log's."""
    found: list[Life] = []
    known: set[str] = set()
    for value in values:
        told = msgspec.json.decode(value)
        kind = told["type"]
        if kind in ("hello", "withdrawn"):
            continue
        now = next((life for life in reversed(found) if life.agent == told["agent"]), None)
        if kind == "effect":
            # It may come when the next life has begun: commands are accepted before they count.
            mine = [life for life in found if life.agent == told["agent"]]
            for life in (life for life in mine if told["epoch"] in life.epochs):
                where = (told["topic"], told["partition"])
                if life.end(where) is not None and told["control_id"] in life.replaced:
                    continue  # nothing was there to replace
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
            epoch=max(told.get("epoch_min", 1), 1 if now is None else now.last_epoch + 1),
            version=1 if now is None else now.last_version + 1,
            digest=told["digest"],
            topic=told["spec"]["source"]["topic"],
            emit_topic=told["emit_topic"],
            commands=[(told["id"], "deploy")],
            former=[] if now is None else [(p, replace(f, former=True)) for p, f in now.forgets()],
            former_tombstones={} if now is None else now.former_tombstones | now.tombstones,
        )
    )


def _command(life: Life, told: dict[str, Any]) -> None:
    kind, control_id = told["type"], told["id"]
    if kind == "delete":
        life.deleted = True
    elif kind == "rollback":
        # Older builds do not say which spec it was checked with.
        meant = told.get("spec_digest") in (None, "", life.digest)
        if told["life"] != life.epoch or not meant or _replacing(life):
            return
        if told.get("if_standing") and not _stands(life, told):
            return
        life.last_epoch += 1
        life.replaced[control_id] = (told, life.last_epoch, life.last_version)
    elif kind == "migrate":
        if told["life"] != life.epoch or not _takes(life, told):
            return
        life.last_epoch += 1
        life.last_version += 1
        life.digest = told["digest"]
        life.replaced[control_id] = (told, life.last_epoch, life.last_version)
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


def _replacing(life: Life) -> bool:
    """Whether the last rollback or migration has yet to count in some partition."""
    if not life.replaced:
        return False
    control_id, (told, *_) = list(life.replaced.items())[-1]
    done = [where for known, where in life.effects if known == control_id]
    return bool(len(done) < told.get("partitions", len(told["bases"])))


def _stands(life: Life, undo: dict[str, Any]) -> bool:
    """Whether what that undo takes back was done somewhere, and nothing that holds has taken it
    back. Older builds took one partition for all.
    """
    if undo.get("where_standing"):
        places = [(life.topic, base["partition"]) for base in undo["bases"]]
        return any(_stands_in(life, undo["undoes"], where) for where in places)
    undone: set[str] = set()
    for control_id, (told, *_) in reversed(life.replaced.items()):
        failed = sum(known == control_id for known, _ in life.failures)
        if told["type"] == "migrate" or control_id in undone or failed == len(told["bases"]):
            continue
        if control_id == undo["undoes"]:
            return True
        undone.add(told.get("undoes", ""))
    return False


def _stands_in(life: Life, wanted: str, where: Where, before: str = "") -> bool:
    """The same in one partition, before another rollback was asked for."""
    earlier = list(itertools.takewhile(lambda control_id: control_id != before, life.replaced))
    undone: set[str] = set()
    for control_id in reversed(earlier):
        told, *_ = life.replaced[control_id]
        failed = (control_id, where) in life.failures
        if told["type"] == "migrate" or failed or control_id in undone:
            continue
        if control_id == wanted:
            return True
        undone.add(told.get("undoes", ""))
    return False


def _takes(life: Life, told: dict[str, Any]) -> bool:
    """Whether a migration changes something: it is meant for the spec that there is, brings another
    one (or one that could not be taken everywhere), and nothing else is on its way.
    """
    last = next(
        (known for known, (t, *_) in reversed(life.replaced.items()) if t["type"] == "migrate"), ""
    )
    failed = any(control_id == last for control_id, _ in life.failures)
    if told["digest"] == life.digest and not failed:
        return False
    return bool(told["replaces"] == life.digest) and not _replacing(life)
