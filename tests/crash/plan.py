"""What a campaign does to its workers: drawn from a seed, so that a failing one can be had again.

The seed fixes what is planned: which points, which passages, which waits, which events. How far a
worker comes before its end is the machine's affair.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from tests.crash.aims import OF_FLUSH, OF_PUBLISHING, OF_ROLLBACK, POINTS
from tests.crash.commander import Verb
from tests.crash.life import Point, Protection, RollbackProtection, Trouble

Ending: TypeAlias = Point | Literal["random", "sigterm"]
Command: TypeAlias = tuple[int, Verb, str]

PASSAGES: dict[Ending, int] = {
    "handed-over": 6,
    "acknowledged": 14,
    "written": 14,
    "committed": 3,
    **dict.fromkeys(OF_ROLLBACK, 4),  # each shard comes by once in a rollback
    "file-kept": 40,
    "manifest-kept": 10,
    "vouched": 10,
}
"""A worker dies at one of so many first passages of the point."""
TURNS_MAX = 12
AFTER_S_MAX = 2.5
"""The longest life before another end: random ones count from the order to start, SIGTERM from
when it is ready. A start takes about two seconds, so that some die while they start.
"""
CALM_S = 3.0
EARLY_SHARE = 0.3
TROUBLES: tuple[Trouble, ...] = ("slow-network", "lost-chunk")
ROLLBACKS: tuple[tuple[Verb, str], ...] = (
    ("rollback", "fraud"),
    ("rollback-keys", "trend"),
    ("undo", "fraud"),
    ("rewind", "fraud"),
    ("undo", "trend"),
    ("rollback-keys", "fraud"),
    ("rollback", "trend"),
    ("rewind", "trend"),
    ("undo", "fraud"),
)
"""What is asked for, in turn, in lives that are to end within a rollback."""


@dataclass(frozen=True, kw_only=True)
class LifePlan:
    """One life. `passage`, `early` and `turns` are of an aimed end, `after_s` of the others.

    `lost`: when it has ended, its disk is lost, but not the repository.
    """

    ending: Ending
    passage: int = 1
    early: bool = False
    turns: int = 2
    after_s: float = 0.0
    troubles: tuple[Trouble, ...] = ()
    lost: bool = False

    @property
    def point(self) -> Point | None:
        """Where it kills itself; None: it is ended from outside."""
        return next((point for point in POINTS if point == self.ending), None)


CALM = LifePlan(ending="sigterm", after_s=CALM_S)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole campaign: a first life in which agents are deployed, `lives`, and a last one that
    catches up. `commands`: what is asked beside the life of that number.
    """

    name: str
    seed: int
    lives: tuple[LifePlan, ...]
    commands: tuple[Command, ...] = ()
    agents: tuple[str, ...] = ("fraud", "price", "trend", "brief")
    events_per_s: int = 80
    session_s: float = 0.8
    first_troubles: tuple[Trouble, ...] = ()
    without: Protection | RollbackProtection | None = None


def full(name: str, seed: int) -> Plan:
    """More than 40 `kill -9`: five at each point of a flush, three at each point of a rollback and
    of publishing, and five at random; SIGTERMs between; and two disks are lost.
    """
    counts: dict[Ending, int] = {
        **dict.fromkeys(OF_FLUSH, 5),
        **dict.fromkeys((*OF_ROLLBACK, *OF_PUBLISHING), 3),
        "random": 5,
        "sigterm": 3,
    }
    lives = losing(drawn(seed, counts, share=0.5), 20, CALM)
    # The second time the new worker is killed, too, while it puts snapshots in their places.
    lives = losing(lives, 32, LifePlan(ending="adopted", passage=3, early=True))
    return Plan(
        name=name,
        seed=seed,
        lives=lives,
        commands=(
            (3, "pause", "trend"),
            (6, "resume", "trend"),
            (7, "snapshot", "price"),
            (8, "delete", "brief"),
            (10, "deploy", "brief"),
            (13, "pause", "fraud"),
            (15, "resume", "fraud"),
            (18, "pause", "brief"),
            (19, "resume", "brief"),
            (19, "snapshot", "brief"),
            (22, "rollback", "brief"),
            (24, "rollback-keys", "price"),
            (26, "undo", "price"),
            (28, "snapshot", "fraud"),
            (36, "rewind", "price"),
            *rolling_back(lives),
        ),
    )


def short(name: str, seed: int) -> Plan:
    """Five kills and a SIGTERM, all troubles in each life, all kinds of commands beside them."""
    return Plan(
        name=name,
        seed=seed,
        lives=drawn(seed, {**dict.fromkeys(OF_FLUSH, 1), "random": 1, "sigterm": 1}, share=1.0),
        agents=("fraud", "trend", "brief"),
        commands=(
            (1, "pause", "trend"),
            (2, "delete", "brief"),
            (3, "resume", "trend"),
            (4, "deploy", "brief"),
        ),
    )


def rolling(name: str, seed: int) -> Plan:
    """A kill at each point of a rollback and of publishing; in the end the disk is lost."""
    lives = drawn(seed, dict.fromkeys((*OF_ROLLBACK, *OF_PUBLISHING), 1), share=0.5)
    lives = losing(lives, len(lives) - 1, CALM)
    return Plan(
        name=name,
        seed=seed,
        lives=lives,
        agents=("fraud", "trend"),
        commands=(
            (0, "snapshot", "trend"),
            *rolling_back(lives),
            (len(lives) - 1, "undo", "fraud"),
        ),
    )


def control(name: str, protection: Protection) -> Plan:
    """The shortest campaign that shows what happens without a protection: two agents on one topic,
    and the one trouble, if any, against which the protection stands.
    """
    troubles: dict[Protection, tuple[Trouble, ...]] = {
        "acknowledgement": ("slow-network",),
        "gap-guard": ("lost-chunk",),
    }
    kill = LifePlan(ending="written", passage=3, troubles=troubles.get(protection, ()))
    return Plan(
        name=name,
        seed=1,
        lives=(kill,) if protection in ("acknowledgement", "skip") else (),
        agents=("fraud", "price"),
        events_per_s=40,
        first_troubles=troubles.get(protection, ()),
        without=protection,
    )


def rolling_control(name: str, protection: RollbackProtection) -> Plan:
    """The same for what protects snapshots and rollbacks."""
    lives: dict[RollbackProtection, LifePlan] = {
        "read-back": LifePlan(ending="adopted", passage=2),
        "settling": LifePlan(ending="adopted", passage=4, troubles=("slow-network",)),
        "undo-first": LifePlan(ending="sigterm", after_s=2 * CALM_S),
        "manifest-first": LifePlan(ending="vouched", passage=3, lost=True),
        "told-below": LifePlan(ending="random", after_s=2 * CALM_S, lost=True),
    }
    asked: dict[RollbackProtection, tuple[Command, ...]] = {
        "read-back": ((0, "rollback", "fraud"),),
        "settling": ((0, "rollback", "fraud"),),
        "undo-first": ((0, "rollback", "fraud"), (0, "undo", "fraud")),
    }
    return Plan(
        name=name,
        seed=1,
        lives=(lives[protection], CALM),
        agents=("fraud",),
        commands=asked.get(protection, ()),
        events_per_s=40,
        without=protection,
    )


def drawn(seed: int, counts: Mapping[Ending, int], *, share: float) -> tuple[LifePlan, ...]:
    """So many lives of each ending, shuffled; each trouble is in that share of them."""
    chance = random.Random(seed)
    endings: list[Ending] = [each for each, count in counts.items() for _ in range(count)]
    chance.shuffle(endings)
    return tuple(
        LifePlan(
            ending=ending,
            passage=chance.randint(1, PASSAGES.get(ending, 1)),
            early=chance.random() < EARLY_SHARE,
            turns=chance.randint(2, TURNS_MAX),
            after_s=chance.uniform(0.2, AFTER_S_MAX),
            troubles=tuple(each for each in TROUBLES if chance.random() < share),
        )
        for ending in endings
    )


def losing(lives: Sequence[LifePlan], at: int, then: LifePlan) -> tuple[LifePlan, ...]:
    """The life of that number loses its disk, and after it comes another one."""
    return (*lives[:at], replace(lives[at], lost=True), then, *lives[at + 1 :])


def rolling_back(lives: Sequence[LifePlan]) -> tuple[Command, ...]:
    """Something to roll back in each life that is to end within a rollback."""
    asked = itertools.cycle(ROLLBACKS)
    aimed = [number for number, life in enumerate(lives) if life.ending in OF_ROLLBACK]
    return tuple((number, *next(asked)) for number in aimed)
