"""A decision made again from an older snapshot and the log, and held against what was written.

Nothing of the live shard is looked at, nor what lies on this worker's disk: the snapshot comes from
the repository, under the digest that the logs vouch for.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from headrace.counts import counted
from headrace.errors import (
    CorruptStateError,
    ForeignStateError,
    NotFoundError,
    RequestError,
    StateError,
)
from headrace.models.decisions import Decision, decode_decision
from headrace.models.exclusion import DecisionId, decision_id_of
from headrace.models.reverting import can_revert_keys
from headrace.pipelines import control, quarantine
from headrace.pipelines.decisionlog import DecisionLog
from headrace.pipelines.past.comparing import compared, names_in
from headrace.pipelines.past.derivation import Derivation
from headrace.pipelines.past.making import Maker
from headrace.pipelines.past.timeline import Timeline, events
from headrace.pipelines.reader import Logs
from headrace.pipelines.seams import Muted
from headrace.pipelines.shard import Shard
from headrace.pipelines.validity import Validity
from headrace.views import Difference, Partition, Verification

UNVERIFIABLE = {
    "former_life": "its agent was deleted, and deployed again since",
    "void": "its epoch had ended there: a worker that did not know of the rollback has written it",
    "no_snapshot": "no snapshot from before it says which build decided",
    "snapshot_expired": "the snapshot that a rollback or migration on the way went back to is gone",
    "log_too_short": "the log has been retired between the newest snapshot before it and its event",
    "too_large": "the newest snapshot before it is too many events away",
    "other_build": "the snapshots before it were written by another build",
    "forgotten": "what it was made from is forgotten for good",
    "snapshot_damaged": "no snapshot before it has the bytes that the logs vouch for",
    "bad_state": "no snapshot before it can be read",
}
"""Why a decision is neither confirmed nor contradicted: each reason, and what it means."""


class Holder(Protocol):
    """Which shards this worker holds; see `pipelines.shards.Shards`."""

    def find(self, agent: str, partition: Partition) -> Shard | None: ...


class Remade(Muted):
    """Keeps what the twin decides, or why it refuses the event."""

    def __init__(self) -> None:
        self.decision: Decision | None = None
        self.refusal = ""

    def append(self, to: Partition, key: bytes | None, value: bytes) -> None:
        if key is None:
            self.refusal = quarantine.decode(value).reason
        else:
            self.decision = decode_decision(value)


class Verifier:
    """Order of calls: `verify` at any time."""

    def __init__(
        self, registry: control.Registry, logs: Logs, holder: Holder, maker: Maker
    ) -> None:
        self._registry = registry
        self._logs = logs
        self._holder = holder
        self._maker = maker

    async def verify(self, decision_id: str | None, record: bytes | None) -> Verification:
        """Of the decision as it stands in its topic, or as it is handed in.

        Raises RequestError `invalid_request`, NotFoundError `unknown_agent` or `unknown_decision`,
        OverloadError, UnavailableError.
        """
        if record is None:
            record = await self._written(decision_id or "")
        given = _read(record)
        names = names_in(given)
        if not names:
            raise RequestError(
                "invalid_request",
                "the record is none of a decision: it has no id agent/epoch/topic/partition/offset",
            )
        return await self._maker.done(functools.partial(self._judged, given, names))

    async def _written(self, text: str) -> bytes:
        name = decision_id_of(text)
        if name is None:
            raise RequestError(
                "invalid_request",
                f"{text[:120]!r} is no id of a decision: give agent/epoch/topic/partition/offset",
            )
        deployment = self._deployment(name)
        where = Partition(deployment.deploy.emit_topic, name.partition)
        place = Partition(name.topic, name.partition)
        timeline = self._maker.timeline(deployment, place)
        why = _never_was(timeline, name)
        # Asked before the topic is: a decision is there by the time that its event is durable.
        shard = self._holder.find(name.agent, place)
        durable_offset = None if shard is None else shard.durable_offset
        found = None if why else await DecisionLog(self._logs, where).decision_of(name)
        if found is None:
            why = why or await self._why_none(timeline, name, durable_offset)
            raise NotFoundError(
                "unknown_decision",
                f"{where.topic}[{where.partition}] has no decision {text!r}: {why}",
                decision=text,
            )
        return found

    async def _why_none(
        self, timeline: Timeline, name: DecisionId, durable_offset: int | None
    ) -> str:
        """Why the topic of decisions has none of that id, as far as that can be told.

        `durable_offset`: the shard's before the topic was looked at; None if it is not held here.
        """
        place = timeline.partition
        end = (await self._logs.span(place)).end
        if name.offset >= end:
            return f"the log {place.topic}[{place.partition}] ends at offset {end}"
        shard = self._holder.find(name.agent, place)
        if shard is not None and name.offset >= shard.next_offset:
            return f"its event is not learned yet: the agent stands at offset {shard.next_offset}"
        epoch = timeline.epoch_at(name.offset)
        if timeline.deployment.life <= name.epoch != epoch:
            id_ = _id(name._replace(epoch=epoch))
            return f"its event was handled in epoch {epoch}, so its decision would be {id_!r}"
        if durable_offset is not None and name.offset >= durable_offset:
            return "what its event taught is not durable yet, and it may be on its way: ask again"
        return (
            "its event was refused, or its verdict is not emitted, or the topic has retired it: "
            "then hand it in"
        )

    def _deployment(self, name: DecisionId) -> control.Deployment:
        """The agent's last life."""
        deployment = self._registry.last(name.agent)
        if deployment is None:
            raise NotFoundError(
                "unknown_agent", f"there is no agent {name.agent!r}", agent=name.agent
            )
        return deployment

    async def _judged(self, given: dict[str, Any], names: Sequence[DecisionId]) -> Verification:
        """A record that names two decisions contradicts itself: the one of the two that explains
        more of it tells what was altered.
        """
        found = [await self._one(given, name) for name in names]
        if len(found) == 1:
            return found[0]
        contradicted = [each for each in found if each.verdict == "contradicted"]
        if not contradicted:
            expected = "/".join(map(str, names[-1]))
            altered = Difference(field="id", found=str(given.get("id")), expected=expected)
            return _contradicted(names[0], "its id is not that of its other fields", [altered])
        return min(contradicted, key=lambda each: len(each.differences))

    async def _one(self, given: dict[str, Any], name: DecisionId) -> Verification:
        deployment = self._deployment(name)
        place = Partition(name.topic, name.partition)
        timeline = self._maker.timeline(deployment, place)
        if name.epoch < deployment.life:
            return _unverifiable(name, "former_life")
        if impossible := await self._impossible(timeline, name):
            return impossible
        if name.epoch < timeline.epoch_at(name.offset):
            return _unverifiable(name, "void")
        remade = Remade()
        try:
            derivation = await self._maker.nearest(timeline, name.offset, remade)
        except RequestError as error:
            if error.code not in UNVERIFIABLE:
                raise
            return _unverifiable(name, error.code, error.text)
        except StateError as error:
            return _unverifiable(name, _code(error), str(error))
        await derivation.end()
        found = _compared(given, name, remade, derivation, timeline)
        start = derivation.course.start.vouched
        # First of all: what was passed over comes out otherwise whatever made it again.
        if found.verdict != "confirmed" and _is_forgotten(derivation, remade, given, name):
            # Where nothing is decided any more there is nothing to hold it against.
            differences = found.differences if remade.decision else ()
            return _unverifiable(name, "forgotten", differences=differences)
        if found.verdict == "contradicted" and start and start.versions != self._maker.versions:
            return _unverifiable(name, "other_build", found.text, found.differences)
        return found

    async def _impossible(self, timeline: Timeline, name: DecisionId) -> Verification | None:
        """What contradicts the decision before anything is learned: it is of no event."""
        source, began = timeline.deployment.source_topic, timeline.began
        if name.topic != source:
            altered = Difference(field="position.topic", found=name.topic, expected=source)
            return _contradicted(name, f"agent {name.agent!r} reads another topic", [altered])
        if began is None:
            text = f"agent {name.agent!r} has not begun in that partition"
            altered = Difference(field="position.partition", found=str(name.partition))
        elif not began <= name.offset < await self._end(name.agent, timeline.partition):
            text = f"agent {name.agent!r} has decided on no event at that offset"
            altered = Difference(field="position.offset", found=str(name.offset))
        else:
            return None
        return _contradicted(name, text, [altered])

    async def _end(self, agent: str, partition: Partition) -> int:
        """Below which offset the agent can have decided: of events that another worker may hold,
        only the log tells.
        """
        shard = self._holder.find(agent, partition)
        return (await self._logs.span(partition)).end if shard is None else shard.next_offset


def _never_was(timeline: Timeline, name: DecisionId) -> str:
    """Why there cannot be a decision of that id, whatever the logs hold; empty: there can."""
    deployment, began = timeline.deployment, timeline.began
    if name.topic != deployment.source_topic:
        return f"the agent reads the topic {deployment.source_topic!r}"
    if began is None:
        return f"the agent has not begun in partition {name.partition} of {name.topic!r}"
    if name.epoch > deployment.epoch or name.epoch < 1:
        return f"the agent has had no epoch {name.epoch}: its newest is {deployment.epoch}"
    if name.epoch >= deployment.life and name.offset < began:
        return f"the agent has begun at offset {began} there"
    return ""


def _compared(
    given: dict[str, Any],
    name: DecisionId,
    remade: Remade,
    derivation: Derivation,
    timeline: Timeline,
) -> Verification:
    start = derivation.course.start
    learned = events(timeline.stretches(start, name.offset))
    source = "the deploy" if start.vouched is None else start.vouched.snapshot_id
    differences: tuple[Difference, ...]
    text = f"made again from {source} and {counted(learned, 'event')}"
    if remade.decision is None:
        text += (
            f": its event is refused ({remade.refusal})"
            if remade.refusal
            else ": nothing is decided"
        )
        differences = (Difference(field="decision", found=_decided(given)),)
    else:
        differences = compared(given, remade.decision)
    if not differences:
        found = Verification(decision_id=_id(name), verdict="confirmed", text=text)
    elif start.vouched is None:
        # Another build may have decided: only a snapshot says which one it was.
        found = _unverifiable(name, "no_snapshot", text, differences)
    else:
        found = _contradicted(name, text, differences)
    return msgspec.structs.replace(
        found,
        snapshot_id="" if start.vouched is None else start.vouched.snapshot_id,
        events=learned,
        note=_withdrawn(timeline, name, str(given.get("key"))),
    )


def _is_forgotten(
    derivation: Derivation, remade: Remade, given: dict[str, Any], name: DecisionId
) -> bool:
    """Whether what was passed over explains the difference: the event itself, or, where keys are
    not alone in their models, one that has come since the start.
    """
    shard, forgotten = derivation.shard, derivation.shard.forgotten
    if not can_revert_keys(shard.learner.spec):
        return derivation.course.start.next_offset < forgotten.end
    nothing = remade.decision is None and not remade.refusal
    return nothing and forgotten.has_key(str(given.get("key")).encode(), name.offset)


def _withdrawn(timeline: Timeline, name: DecisionId, key: str) -> str:
    """Which rollback has replaced the state that made it, if one has and it still is."""
    validity = Validity(timeline.deployment, timeline.partition)
    by = ""
    for accepted in timeline.deployment.rollbacks():
        command = accepted.command
        assert isinstance(command, control.Rollback)
        counted = timeline.deployment.effect(command.id, timeline.partition)
        if counted is None or accepted.epoch <= name.epoch:
            continue
        if validity.stands(key, name.offset, accepted.epoch):
            by = ""
        elif not by:
            by = f"rollback {command.id} to {command.snapshot_id} has withdrawn it since"
    return by


def _unverifiable(
    name: DecisionId, reason: str, text: str = "", differences: Sequence[Difference] = ()
) -> Verification:
    meaning = UNVERIFIABLE[reason]
    return Verification(
        decision_id=_id(name),
        verdict="unverifiable",
        reason=reason,
        text=f"{meaning}: {text}" if text else meaning,
        differences=tuple(differences),
    )


def _contradicted(name: DecisionId, text: str, differences: Sequence[Difference]) -> Verification:
    return Verification(
        decision_id=_id(name), verdict="contradicted", text=text, differences=tuple(differences)
    )


def _read(record: bytes) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(record)
        json.loads(record, object_pairs_hook=_once)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError("invalid_request", f"the record is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise RequestError("invalid_request", "the record is no JSON object")
    return given


def _once(pairs: list[tuple[str, Any]]) -> None:
    """Refuse a field that is there twice: what is confirmed here may not be what others read.

    >>> _read(b'{"id": "a/1/t/0/7", "decision": "allow", "decision": "block"}')
    Traceback (most recent call last):
    headrace.errors.RequestError: the record has the field 'decision' twice: which one counts?
    """
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            text = f"the record has the field {name[:80]!r} twice: which one counts?"
            raise RequestError("invalid_request", text)
        seen.add(name)


def _id(name: DecisionId) -> str:
    return "/".join(map(str, name))


def _decided(given: dict[str, Any]) -> str:
    return msgspec.json.encode(given.get("decision")).decode()


def _code(error: StateError) -> str:
    if isinstance(error, ForeignStateError):
        return "other_build"
    return "snapshot_damaged" if isinstance(error, CorruptStateError) else "bad_state"
