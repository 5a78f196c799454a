"""What a campaign does to its workers: drawn from a seed, so that a failing one can be had again.

The seed fixes what is planned: which points, which passages, which waits, which events. How far a
worker comes before its end is the machine's affair.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from tests.crash.aims import POINTS, ROLLBACK_POINTS
from tests.crash.commander import Verb
from tests.crash.life import Point, Protection, Trouble

Ending: TypeAlias = Point | Literal["random", "sigterm"]

PASSAGES: dict[Ending, int] = {
    "handed-over": 6,
    "acknowledged": 14,
    "written": 14,
    "committed": 3,
    **dict.fromkeys(ROLLBACK_POINTS, 4),
}
"""A worker dies at one of so many first passages of the point."""
TURNS_MAX = 12
AFTER_S_MAX = 2.5
"""The longest life before another end: random ones count from the order to start, SIGTERM from
when it is ready. A start takes about two seconds, so that some die while they start.
"""
EARLY_SHARE = 0.3
TROUBLES: tuple[Trouble, ...] = ("slow-network", "lost-chunk")


@dataclass(frozen=True, kw_only=True)
class LifePlan:
    """One life. `passage`, `early` and `turns` are of an aimed end, `after_s` of the others."""

    ending: Ending
    passage: int = 1
    early: bool = False
    turns: int = 2
    after_s: float = 0.0
    troubles: tuple[Trouble, ...] = ()
    loses_disk: bool = False  # after its end; the repository of snapshots stays

    @property
    def point(self) -> Point | None:
        """Where it kills itself; None: it is ended from outside."""
        return next((p for p in (*POINTS, *ROLLBACK_POINTS) if p == self.ending), None)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole campaign: a first life in which agents are deployed, `lives`, and a last one that
    catches up. `commands`: what is asked beside the life of that number.
    """

    name: str
    seed: int
    lives: tuple[LifePlan, ...]
    commands: tuple[tuple[int, Verb, str], ...] = ()
    agents: tuple[str, ...] = ("fraud", "price", "trend", "brief")
    events_per_s: int = 80
    session_s: float = 0.8
    first_troubles: tuple[Trouble, ...] = ()
    without: Protection | None = None


def full(name: str, seed: int) -> Plan:
    """At least 20 `kill -9`: five at each point of a flush and five at random; three SIGTERMs
    between. Then two inside each step of rollbacks and of publishing, and a lost disk.
    """
    lives = drawn(seed, {**dict.fromkeys(POINTS, 5), "random": 5, "sigterm": 3}, share=0.5)
    rolling = rolling_lives(seed, 2)
    return Plan(
        name=name,
        seed=seed,
        lives=lives + rolling,
        commands=(
            *rolling_commands(rolling, first=len(lives)),
            (2, "snapshot", "price"),
            (5, "rollback", "fraud"),
            (7, "undo", "fraud"),
            (11, "some keys", "trend"),
            (14, "rollback", "price"),
            (3, "pause", "trend"),
            (6, "resume", "trend"),
            (8, "delete", "brief"),
            (10, "deploy", "brief"),
            (13, "pause", "fraud"),
            (15, "resume", "fraud"),
            (18, "pause", "brief"),
            (19, "resume", "brief"),
        ),
    )


def short(name: str, seed: int) -> Plan:
    """Five kills and a SIGTERM, all troubles in each life, all kinds of commands beside them."""
    return Plan(
        name=name,
        seed=seed,
        lives=drawn(seed, {**dict.fromkeys(POINTS, 1), "random": 1, "sigterm": 1}, share=1.0),
        agents=("fraud", "trend", "brief"),
        commands=(
            (1, "pause", "trend"),
            (2, "delete", "brief"),
            (3, "resume", "trend"),
            (4, "deploy", "brief"),
        ),
    )


def rolled(name: str, seed: int) -> Plan:
    """A kill inside each step of a rollback and of publishing a snapshot, then a lost disk."""
    lives = rolling_lives(seed, 1)
    return Plan(
        name=name,
        seed=seed,
        lives=lives,
        agents=("fraud", "price", "trend"),
        commands=rolling_commands(lives, first=0),
    )


def rolling_lives(seed: int, each: int) -> tuple[LifePlan, ...]:
    """So many lives for each point of rollbacks, and one at the end of which the disk is lost."""
    lives = drawn(seed, dict.fromkeys(ROLLBACK_POINTS, each), share=0.0)
    lost = LifePlan(ending="random", after_s=6.0, loses_disk=True)
    return (*(replace(life, early=False) for life in lives), lost)


def rolling_commands(
    lives: tuple[LifePlan, ...], *, first: int
) -> tuple[tuple[int, Verb, str], ...]:
    """What makes these lives come by their points; `first`: the number of the first."""
    found: list[tuple[int, Verb, str]] = [(first, "snapshot", "price")]
    for number, life in enumerate(lives, first):
        agent = ("fraud", "trend", "price")[number % 3]
        verbs: tuple[Verb, ...] = ("rollback", "some keys")
        if life.loses_disk:
            found += [(number, "undo", "fraud"), (number, "snapshot", "price")]
        elif life.ending == "in-repository":
            found.append((number, "snapshot", "price"))
        else:
            found.append((number, verbs[number % 2], agent))
    return tuple(found)


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
