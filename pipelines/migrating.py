"""Deploying another spec under a name that is in use: what is asked, checked, and planned.

What no migration can do is refused: an agent keeps its source topic, because all that it has done
is told in positions of that, and its topic of decisions, because those who read it would miss what
goes elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from headrace.clock import new_id
from headrace.errors import ConflictError, Violation
from headrace.models.migration import keep_problems
from headrace.models.spec import Spec
from headrace.pipelines import control
from headrace.pipelines.bases import bases, check_complete, check_life
from headrace.pipelines.reader import KafkaLogs
from headrace.pipelines.site import spec_of
from headrace.pipelines.snapshot_commands import SnapshotCommands
from headrace.pipelines.worker import Worker
from headrace.views import Migration, MigrationPlan, Partition, SnapshotView

ANOTHER_NAME = "deploy it under another name"
CHANGES_TOLD = 50


class Migrating:
    """Makes the command. Order of calls: any; nothing is changed here."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._logs = KafkaLogs(worker.broker.bootstrap)

    async def command(
        self, there: control.Deployment, spec: Spec, asked: Migration | None
    ) -> control.Migrate:
        """The command that was asked for, after everything that speaks against it.

        Raises ConflictError with all that does not go together, `agent_exists` if nothing was
        asked for; and what looking for a snapshot raises.
        """
        if asked is None:
            raise await self._which(there, spec)
        present = spec_of(there)
        # Now: all that follows is asked of this spec, whatever another migration brings meanwhile.
        replaces, anew = there.deploy.digest, not there.takes(spec.digest)
        if fixed := list(_fixed(present, spec)):
            raise _conflict(there, "no migration changes what an agent reads and writes", fixed)
        self._worker.controls.registry.check_replacing(there)
        if asked.how == "keep":
            await self._check_kept(there, spec)
        partitions = await self._worker.topics.partition_count(there.source_topic)
        return control.Migrate(
            id=new_id(),
            agent=there.agent,
            life=there.life,
            how=asked.how,
            replaces=replaces,
            spec=spec.to_dict(),
            digest=spec.digest,
            emit_topic=spec.emit_topic,
            partitions=partitions,
            snapshot_id=asked.snapshot_id,
            bases=await self._bases(there, spec, asked, partitions),
            anew=anew,
        )

    async def plan(
        self, there: control.Deployment, spec: Spec, command: control.Migrate
    ) -> MigrationPlan:
        """What that command would change, as far as this worker holds the agent's shards."""
        present = spec_of(there)
        problems = await self._keep_problems(there, spec)
        return MigrationPlan(
            spec_version=there.spec_version,
            new_spec_version=there.spec_version + 1,
            changes=tuple(_changes(present.to_dict(), spec.to_dict()))[:CHANGES_TOLD],
            keep_problems=tuple(problems),
            events=await self._events(command, there.source_topic),
        )

    async def _events(self, command: control.Migrate, topic: str) -> int:
        """How many events are learned again, or what was learned of so many goes."""
        shards = self._worker.shards.of_agent(command.agent)
        if command.how == "refold":
            stands = {shard.partition.partition: shard.next_offset for shard in shards}
            for base in command.bases:  # an agent whose state is refused has no shard
                if base.partition not in stands:
                    log_span = await self._logs.span(Partition(topic, base.partition))
                    stands[base.partition] = log_span.end
            return sum(max(stands[b.partition] - b.next_offset, 0) for b in command.bases)
        if command.how == "reset":
            return sum(shard.learner.learned for shard in shards)
        begins = {base.partition: base.next_offset for base in command.bases}
        told = (s.next_offset - begins.get(s.partition.partition, s.next_offset) for s in shards)
        return sum(max(events, 0) for events in told)

    async def _which(self, there: control.Deployment, spec: Spec) -> ConflictError:
        """What each migration would do: one has to be chosen."""
        fixed = list(_fixed(spec_of(there), spec))
        if fixed:
            text = "runs another spec, and no migration changes what an agent reads and writes"
            return _conflict(there, text, fixed, code="agent_exists")
        problems = await self._keep_problems(there, spec)
        keep = "cannot be, for what is listed" if problems else "goes on with what was learned"
        return ConflictError(
            "agent_exists",
            f"agent {there.agent!r} runs another spec: say how its state goes on (`--migration`, "
            f"or `migration`). keep: {keep}; "
            "reset: begins cold; refold: learns the log again under the new spec, while the old "
            "one answers; from=SNAPSHOT: goes on from a snapshot whose spec could be kept",
            violations=problems,
            agent=there.agent,
        )

    async def _keep_problems(self, there: control.Deployment, spec: Spec) -> list[Violation]:
        failed = there.failed(there.deploy.id)
        if failed:
            where = ", ".join(f"{p.topic}[{p.partition}]" for p in sorted(failed))
            text = f"could not be taken in {where}, which still has an older one: nothing is common"
            return [Violation("$", f"the present spec {text}", "reset it, refold it, or take one")]
        return await asyncio.to_thread(keep_problems, spec_of(there), spec)

    async def _check_kept(self, there: control.Deployment, spec: Spec) -> None:
        if problems := await self._keep_problems(there, spec):
            raise _conflict(there, "what was learned cannot go on under this spec", problems)

    async def _bases(
        self, there: control.Deployment, spec: Spec, asked: Migration, partitions: int
    ) -> tuple[control.Base, ...]:
        """What the command begins from in each partition."""
        if asked.how == "from":
            snapshot = SnapshotCommands(self._worker).get(asked.snapshot_id)
            check_life(there, snapshot)
            check_complete(snapshot)
            await self._check_taken(there, spec, snapshot)
            return await bases(self._worker.vault, snapshot)
        if asked.how == "refold":
            topic = there.source_topic
            return tuple(
                [
                    control.Base(
                        partition=number,
                        epoch=0,
                        next_offset=await self._begins(there, spec, Partition(topic, number)),
                        digest="",
                    )
                    for number in range(partitions)
                ]
            )
        return ()

    async def _check_taken(
        self, there: control.Deployment, spec: Spec, snapshot: SnapshotView
    ) -> None:
        """Raises ConflictError unless the snapshot's models can go on under the spec."""
        partition = Partition(there.source_topic, 0)
        old = spec_of(there, there.version_at(snapshot.epoch, partition))
        if problems := await asyncio.to_thread(keep_problems, old, spec):
            text = f"the models of {snapshot.snapshot_id!r} cannot go on under this spec"
            raise _conflict(there, text, problems)

    async def _begins(self, there: control.Deployment, spec: Spec, partition: Partition) -> int:
        """From where a refold learns: the new spec's `start`; `latest` is where the agent began.

        What retention has cut is left out.
        """
        log_span = await self._logs.span(partition)
        began = there.effect(there.commands[0].control_id, partition) or 0
        if spec.source.start == "earliest":
            began = 0
        elif spec.source.start_ms is not None:
            at = await self._logs.offset_at_time(partition, spec.source.start_ms)
            began = log_span.end if at is None else at
        return max(began, log_span.begin)


def _conflict(
    there: control.Deployment, text: str, problems: list[Violation], code: str = "spec_mismatch"
) -> ConflictError:
    return ConflictError(
        code,
        f"agent {there.agent!r}: {text}",
        violations=problems,
        agent=there.agent,
    )


def _fixed(old: Spec, new: Spec) -> Iterator[Violation]:
    pairs = (
        ("$.source.topic", old.source.topic, new.source.topic),
        ("$.emit.topic", old.emit_topic, new.emit_topic),
    )
    for path, before, after in pairs:
        if before != after:
            yield Violation(path, f"is {after!r}, and was {before!r}", ANOTHER_NAME)


def _changes(old: Any, new: Any, path: str = "$") -> Iterator[Violation]:
    """All places in which two trees differ, the larger ones as a whole where a kind differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            yield from _changes(old.get(name), new.get(name), f"{path}.{name}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _changes(before, after, f"{path}[{number}]")
    elif old != new:
        yield Violation(path, f"is {_said(new)}, and was {_said(old)}")


def _said(part: Any) -> str:
    return "not there" if part is None else repr(part)
