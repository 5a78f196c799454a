"""Which decisions rollbacks have withdrawn and reinstated, reckoned with sets of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tests.fold.control import Life, Where

Told = dict[str, Any]


@dataclass(frozen=True)
class Expected:
    """Of one rollback in one partition; `complete` is the record that closes it."""

    control_id: str
    ids: dict[str, frozenset[str]]  # by fate
    complete: Told


@dataclass(frozen=True)
class _Decided:
    id: str
    key: str
    offset: int


def withdrawn(
    life: Life, where: Where, decided: Iterable[bytes], values: Iterable[bytes]
) -> list[str]:
    """Sentences; none if exactly these ids are published, those of a rollback before those of a
    later one, and behind the last of each the record that says so.

    `decided`: of the partition of decisions; `values`: of the topic of withdrawn decisions, in
    their order.
    """
    mine = [told for value in values if _is_of(told := msgspec.json.decode(value), life, where)]
    must = expected(life, where, decided)
    known = {one.control_id for one in must}
    found = [f"{told} is of no such rollback" for told in mine if told["control_id"] not in known]
    begin = 0
    for one in must:
        found += [f"rollback {one.control_id}: {text}" for text in _of_one(one, mine, begin)]
        begin = mine.index(one.complete) if one.complete in mine else begin
    return found[:12]


def expected(life: Life, where: Where, decided: Iterable[bytes]) -> list[Expected]:
    """In the order of their epochs."""
    counted = {
        control_id: life.effects[control_id, where]
        for control_id in life.replaced
        if (control_id, where) in life.effects
    }
    begins = {life.epoch: life.start(where)}
    begins |= {life.replaced[control_id][1]: at for control_id, at in counted.items()}
    by_epoch = _decided(life, where, decided, begins)
    first: dict[int, set[_Decided]] = {life.epoch: set()}  # what stands where an epoch begins

    def standing(epoch: int, upto: int) -> set[_Decided]:
        """In the state of that epoch and next offset: nothing in an imported one."""
        there = first.get(epoch, set()) | by_epoch.get(epoch, set())
        return {one for one in there if one.offset < upto}

    found = []
    for control_id, at in counted.items():
        told, epoch, _ = life.replaced[control_id]
        before = after = standing(epoch - 1, at)
        if told["type"] == "rollback" and (control_id, where) not in life.failures:
            base = next(b for b in told["bases"] if b["partition"] == where[1])
            there, keys = standing(base["epoch"], base["next_offset"]), set(told.get("keys", ()))
            after = {one for one in before if keys and one.key not in keys}
            after |= {one for one in there if not keys or one.key in keys}
        first[epoch] = after
        if told["type"] == "rollback":
            ids = {"withdrawn": before - after, "reinstated": after - before}
            named = {fate: frozenset(one.id for one in those) for fate, those in ids.items()}
            complete = {
                "schema": 1,
                "fate": "complete",
                "agent": life.agent,
                "epoch": epoch,
                "control_id": control_id,
                "position": {"topic": where[0], "partition": where[1], "offset": at},
                "partitions": len(told["bases"]),
                **{fate: len(those) for fate, those in named.items()},
            }
            found.append(Expected(control_id, named, complete))
    return found


def _decided(
    life: Life, where: Where, values: Iterable[bytes], begins: dict[int, int]
) -> dict[int, set[_Decided]]:
    """By epoch; none that is void."""
    found: dict[int, set[_Decided]] = {epoch: set() for epoch in begins}
    for value in values:
        told = msgspec.json.decode(value)
        if told["cause"] != "event" or told["agent"] != life.agent:
            continue
        epoch, offset = told["epoch"], told["position"]["offset"]
        ended = [at for later, at in begins.items() if later > epoch]
        place = (told["position"]["topic"], told["position"]["partition"])
        if epoch in begins and place == where and all(offset < at for at in ended):
            found[epoch].add(_Decided(told["id"], told["key"], offset))
    return found


def _is_of(told: Told, life: Life, where: Where) -> bool:
    if "position" in told:
        place = (told["position"]["topic"], told["position"]["partition"])
    else:
        _, _, topic, partition, _ = told["decision"].split("/")
        place = (topic, int(partition))
    return place == where and told["agent"] == life.agent and told["epoch"] in life.epochs


def _of_one(must: Expected, mine: Sequence[Told], begin: int) -> list[str]:
    """`begin`: where the rollback before it was complete."""
    there = [(n, told) for n, told in enumerate(mine) if told["control_id"] == must.control_id]
    at = next((n for n, told in there if told == must.complete), -1)
    found = [] if at >= begin else ["nothing says that it is complete, or it says so wrongly"]
    first: dict[tuple[str, str], int] = {}
    for n, told in there:
        if told["fate"] == "complete":
            found += [f"{told} is not {must.complete}"] if told != must.complete else []
            continue
        name, fate = told["decision"], told["fate"]
        first.setdefault((fate, name), n)
        right = {
            "schema": 1,
            "fate": fate,
            "decision": name,
            "agent": must.complete["agent"],
            "epoch": must.complete["epoch"],
            "control_id": must.control_id,
        }
        found += [f"{told} is not {right}"] if told != right else []
        found += [] if name in must.ids[fate] else [f"{name} is {fate}, and must not be"]
    for fate, ids in must.ids.items():
        for name in sorted(ids):
            if (fate, name) not in first:
                found.append(f"{name} must be {fate}")
            elif not begin <= first[fate, name] <= max(at, begin):
                found.append(f"{name} is {fate} before or behind its rollback")
    return found
