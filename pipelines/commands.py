"""Deploying, pausing, resuming and deleting agents: commands on their way into the control log.

Each command is checked first, appended, and waited for: it answers with the positions at which it
took effect, or with what the control log decided against it. A command whose answer was lost can
be sent again: the same spec deployed twice changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from headrace.clock import new_id
from headrace.errors import (
    OtherBuildError,
    RequestError,
    SpecError,
    UnavailableError,
    Violation,
)
from headrace.models.dryrun import examine, key_violation
from headrace.models.rehearsal import require_deployable
from headrace.models.spec import Spec, load_spec
from headrace.models.spec.notes import notes as spec_notes
from headrace.pipelines import control, reader
from headrace.pipelines.decided import NEWEST_DECISIONS, newest_epoch
from headrace.pipelines.migrating import Migrating
from headrace.pipelines.submission import Submission
from headrace.pipelines.worker import Worker
from headrace.views import DryRun, Effect, How, Migration, MigrationPlan, Partition

SAMPLE_RECORDS = 200
"""Recent records that a dry run reads, and that a deploy compares keys with."""


class Tried(NamedTuple):
    """A spec that could be deployed, and what is known of it before it is."""

    spec: Spec
    record: control.Deploy | control.Migrate
    partitions: int  # of its source, or with how many it is going to be made
    sample: DryRun | None  # None: there is no source yet
    notes: list[str]
    plan: MigrationPlan | None = None  # where another spec has the name


class Commands:
    """Implements `ports.Controls`."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._submission = Submission(worker)
        self._migrating = Migrating(worker)
        self._arriving = 0  # shards of deploys that are under way

    async def deploy(self, spec: bytes, migration: Migration | None = None) -> Effect:
        """Raises SpecError (all violations), ConflictError, RequestError `topic_missing`,
        OverloadError `no_room`, StateError; and NotFoundError for a snapshot to migrate from.
        """
        tried = await self._tried(spec, migration)
        if isinstance(tried.record, control.Migrate):
            return await self._migrated(tried.record, tried.notes)
        record, partitions, notes = tried.record, tried.partitions, list(tried.notes)
        source = tried.spec.source
        if tried.sample is None:
            # A broker of our own is empty at first and has no tools around it.
            await self._worker.topics.ensure(source.topic, partitions=partitions, ours=False)
            notes.append(f"topic {source.topic!r} did not exist: it was created")
        new = source.topic not in self._worker.streams.topics
        with self._room_for(record, partitions):
            # Before the command is in the log: a topic that cannot be used is then the caller's
            # to mend, and not a command that every worker fails to carry out.
            await self._worker.topics.ensure(record.emit_topic, partitions=partitions, ours=False)
            record = msgspec.structs.replace(
                record, epoch_min=await self._unused_epoch(record, partitions)
            )
            effect = await self._submission.submit(record)
        if not effect.changed:
            return _runs_it_already(effect, None if migration is None else migration.how)
        if new:
            notes.append(f"topic {source.topic!r} was not read before: joining took a moment")
        if source.start == "latest" and any(p.offset for p in effect.positions):
            notes.append("earlier records are not read (source.start: latest)")
        return msgspec.structs.replace(effect, note="; ".join(notes))

    async def _migrated(self, command: control.Migrate, notes: list[str]) -> Effect:
        """Returns when all shards here answer from the new epoch; a refold may go on. At once, if
        another call was quicker to ask for the same, whose command may be on its way.
        """
        try:
            effect = await self._submission.submit(command)
            if not effect.changed:
                return _runs_it_already(effect, command.how)
            await self._submission.swapped(command)
        except UnavailableError as error:
            if error.code != "control_timeout" or command.how != "refold":
                raise
            notes = [*notes, "it is learning; the old spec answers until it has caught up"]
            effect = self._submission.standing(command)
        return msgspec.structs.replace(effect, note="; ".join(filter(None, [effect.note, *notes])))

    async def dry_run(self, spec: bytes, migration: Migration | None = None) -> DryRun:
        """What the spec would do with the last 200 records, and what would change where another
        spec has the name. Deploys nothing.

        Raises what `deploy` would raise.
        """
        tried = await self._tried(spec, migration)
        with self._room_for(tried.record, tried.partitions):
            pass
        if await self._worker.topics.partition_count(tried.record.emit_topic):
            # It is there, so this makes nothing: it says whether decisions could go there.
            await self._worker.topics.ensure(
                tried.record.emit_topic, partitions=tried.partitions, ours=False
            )
        if tried.sample is not None:
            return msgspec.structs.replace(tried.sample, migration=tried.plan)
        note = f"topic {tried.spec.source.topic!r} does not exist yet"
        return DryRun(read=0, accepted=0, refused=(), note=note)

    async def _tried(self, text: bytes, migration: Migration | None) -> Tried:
        """A spec that nothing speaks against, as far as can be told without making anything."""
        spec, partitions = await self._checked(text)
        record = control.Deploy(
            id=new_id(),
            agent=spec.agent,
            spec=spec.to_dict(),
            digest=spec.digest,
            emit_topic=spec.emit_topic,
        )
        command = None
        if migration is not None and migration.how == "from":
            self._worker.controls.registry.get(spec.agent)  # there is something to go on from
        there = self._worker.controls.registry.changed(record)
        if there is None and migration is not None:
            there = self._unchanged(spec, migration)
        if there is not None:
            command = await self._migrating.command(there, spec, migration)
        else:
            self._worker.controls.registry.check_deploy(record)
        notes, sample = list(spec_notes(spec)), None
        if partitions:
            sample = await self._examine(spec, partitions)
            if (wrong := key_violation(sample)) is not None:
                raise SpecError([wrong])
            notes.extend(_sampled(sample))
        elif not self._worker.broker.own:
            topic = spec.source.topic
            raise RequestError(
                "topic_missing",
                f"topic {topic!r} does not exist: create it first, with as many partitions as it "
                "is to keep",
                topic=topic,
            )
        if there is None or command is None:
            return Tried(spec, record, partitions or 1, sample, notes)
        plan = await self._migrating.plan(there, spec, command)
        return Tried(spec, command, partitions, sample, notes, plan)

    async def pause(self, agent: str) -> Effect:
        return await self._submission.submit(control.Pause(id=new_id(), agent=agent))

    async def resume(self, agent: str) -> Effect:
        return await self._submission.submit(control.Resume(id=new_id(), agent=agent))

    def _unchanged(self, spec: Spec, migration: Migration) -> control.Deployment | None:
        """The agent, if something is asked for that changes its state and not its spec: to leave a
        state that is another build's, or to take that of a snapshot, unless that was the last thing
        that was done: a deploy whose answer was lost can be repeated.
        """
        registry = self._worker.controls.registry
        if migration.how == "from":
            there = registry.get(spec.agent)
            last = next((done.command for done in reversed(there.replacements())), None)
            taken = isinstance(last, control.Migrate) and last.snapshot_id == migration.snapshot_id
            return None if taken else there
        broken = self._worker.holdings.broken.get(spec.agent)
        if migration.how == "keep" or not isinstance(broken, OtherBuildError):
            return None
        return registry.get(spec.agent)

    async def delete(self, agent: str) -> Effect:
        return await self._submission.submit(control.Delete(id=new_id(), agent=agent))

    async def _unused_epoch(self, deploy: control.Deploy, partitions: int) -> int:
        """One that no decision and no snapshot under this name has: ids are given once."""
        where = [Partition(deploy.emit_topic, number) for number in range(partitions)]
        newest = await reader.recent(
            self._worker.broker.bootstrap, where, NEWEST_DECISIONS * partitions
        )
        decided = newest_epoch((record for _, record in newest), deploy.agent)
        return 1 + max(decided, self._worker.vault.catalogue.newest_epoch(deploy.agent))

    @contextmanager
    def _room_for(
        self, deploy: control.Deploy | control.Migrate, partitions: int
    ) -> Iterator[None]:
        """Holds room for the shards of an agent until they are open. Raises OverloadError."""
        there = self._worker.controls.registry.last(deploy.agent)
        more = partitions if there is None or there.deleted else 0
        self._worker.shards.check_room(more + self._arriving)
        self._arriving += more
        try:
            yield
        finally:
            self._arriving -= more

    async def _checked(self, text: bytes) -> tuple[Spec, int]:
        """The spec, and how many partitions its topic has (0: there is none). Raises SpecError."""
        self._worker.check_ready()
        self._worker.presence.check()
        spec = await asyncio.to_thread(_read, text)  # a model that is built and tried takes a while
        partitions = await self._worker.topics.partition_count(spec.source.topic)
        found = self._reserved(spec)
        if spec.shared and partitions > 1:
            found.append(
                Violation(
                    "$.scope",
                    f"shared needs a topic of one partition, {spec.source.topic!r} has "
                    f"{partitions}",
                    "for now an agent reads one topic that is keyed by its key, and `shared` "
                    "a topic of one partition",
                )
            )
        if spec.source.start_ms is not None and not self._worker.broker.can_start_at_timestamp:
            found.append(
                Violation(
                    "$.source.start",
                    "the embedded broker cannot find a position by time",
                    "use `latest` or `earliest`, or a broker of kind local: or kafka:",
                )
            )
        if found:
            raise SpecError(found)
        return spec, partitions

    def _reserved(self, spec: Spec) -> list[Violation]:
        """The service's own topics are nobody's source and take nobody's decisions."""
        worker = self._worker
        own = (
            worker.control_topic,
            worker.catalogue_topic,
            worker.quarantine_topic,
            worker.withdrawn_topic,
        )
        used = (("$.source.topic", spec.source.topic), ("$.emit.topic", spec.emit_topic))
        return [
            Violation(path, f"{topic!r} is a topic of the service itself", "name another topic")
            for path, topic in used
            if topic in own
        ]

    async def _examine(self, spec: Spec, partitions: int) -> DryRun:
        topic = spec.source.topic
        where = [Partition(topic, number) for number in range(partitions)]
        records = await reader.recent(self._worker.broker.bootstrap, where, SAMPLE_RECORDS)
        return examine(spec, topic, records)


def _runs_it_already(effect: Effect, how: How | None) -> Effect:
    """What is answered where the agent has that spec; `how`: the migration asked for, if any."""
    note = "nothing to change: it runs this spec already"
    if how in ("reset", "refold"):
        note += "; to begin anew all the same, delete it and deploy it"
    return msgspec.structs.replace(effect, note=note)


def _sampled(sample: DryRun) -> list[str]:
    """What the recent records of its topic say about a spec that is being deployed."""
    if sample.read and not sample.accepted:
        why = "; ".join(group.text for group in sample.refused[:3])
        return [f"none of the last {sample.read} records would be accepted: {why}"]
    return [sample.note] if sample.read and sample.note else []


def _read(text: bytes) -> Spec:
    spec = load_spec(text)
    require_deployable(spec)
    return spec
