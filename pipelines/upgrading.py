"""Before an upgrade: which agents keep their state in this build, and which must learn again.

It reads what a service of another build has written, or is writing still: the control log, the
catalogue, and of each shard the newest snapshot. Those are tried as the start of a service would
try them. It joins no group and writes nothing but drafts in a directory of its own.
"""

from __future__ import annotations

import asyncio
import functools
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from aiokafka.structs import ConsumerRecord

from headrace.errors import (
    AwayStateError,
    BadDiskError,
    ConfigError,
    DiskFullError,
    OtherBuildError,
    StateError,
    Violation,
)
from headrace.pipelines import control, reader
from headrace.pipelines.controllog import decoded
from headrace.pipelines.leading import leading_here, worth_a_try
from headrace.pipelines.probing import Probing
from headrace.pipelines.reader import KafkaLogs
from headrace.pipelines.site import spec_named, spec_of
from headrace.pipelines.topics import Topics
from headrace.state.catalogue import Catalogue, Vouched
from headrace.state.checkpoints import Checkpoints
from headrace.state.manifest import Versions
from headrace.state.repositories import open_repository
from headrace.state.restoring import Sources, manifest_of, restore
from headrace.views import Partition


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of an agent in this build. `wrote`: the builds of the snapshots that it would
    begin from, or that do not go on here; `again`: how many events after them are learned again;
    `why` it does not keep its state, for people, one text each.
    """

    agent: str
    wrote: tuple[Versions, ...] = ()
    again: int = 0
    why: tuple[str, ...] = ()

    @property
    def keeps(self) -> bool:
        """Whether it keeps its state."""
        return not self.why


class _Refused(Exception):
    """Of one shard: who wrote it, as far as that is known, and why it does not go on here."""

    def __init__(self, wrote: Versions | None, *why: str) -> None:
        super().__init__(*why)
        self.wrote = wrote
        self.why = why


class Upgrade:
    """Order of calls: `outlooks`, once. `snapshots`: URL of the repository; `place`: an empty
    directory for drafts. Raises StateError for a URL that is none of a repository.
    """

    def __init__(
        self, topics: Topics, bootstrap: str, snapshots: str, probing: Probing, place: Path
    ) -> None:
        self._topics = topics
        self._bootstrap = bootstrap
        self._logs = KafkaLogs(bootstrap)
        self._probing = probing
        self._place = place
        self._url = snapshots
        repository = open_repository(snapshots)
        self._sources = Sources(Checkpoints(place / "checkpoints"), repository)
        self._catalogue = Catalogue()
        self._registry = control.Registry()

    async def outlooks(self, app: str) -> list[Outlook]:
        """Of every agent of that app, by name.

        Raises StateError if there is no service of that name or the repository cannot be read,
        ConfigError if none of its snapshots is there, UnavailableError `broker_away`.
        """
        async for record in self._stored(f"{app}.control"):
            self._registry.apply(decoded(record), record.offset)
        async for record in self._stored(f"{app}.snapshots"):
            self._catalogue.apply(record.key, record.value, record.offset)
        await asyncio.to_thread(self._check_repository, app)
        self._probing.specs = functools.partial(spec_named, self._registry)
        return [await self._of_agent(deployment) for deployment in self._registry.live()]

    async def _stored(self, topic: str) -> AsyncIterator[ConsumerRecord]:
        """All records of a topic of the service. Raises StateError if there is none."""
        if not await self._topics.partition_count(topic):
            raise StateError(
                f"there is no topic {topic} at {self._bootstrap}: no service of that app has kept "
                "snapshots there. Name the service's own --app and --broker"
            )
        async for record in reader.stored(self._bootstrap, [Partition(topic, 0)]):
            yield record

    def _check_repository(self, app: str) -> None:
        """In a thread. Raises ConfigError if the catalogue names snapshots, and the repository has
        none of them: then it is another one, and says nothing of the agents. StateError.
        """
        named = {ref.snapshot_id for ref in self._catalogue.refs()}
        if named and named.isdisjoint(self._sources.repository.snapshots()):
            text = f"no snapshots of this service ({app}) in {self._url}: it has {len(named):,}"
            hint = "name its own --state-dir, or where it keeps them by --snapshots"
            raise ConfigError([Violation("snapshots", f"{text} elsewhere", hint)])

    async def _of_agent(self, deployment: control.Deployment) -> Outlook:
        agent, topic = deployment.agent, deployment.source_topic
        try:
            spec_of(deployment)
        except StateError as error:
            return Outlook(agent=agent, why=(str(error),))
        wrote: dict[Versions, None] = {}
        why: dict[str, None] = {}
        again = 0
        for number in range(self._topics.known_partition_count(topic)):
            try:
                begin = await self._of_shard(deployment, Partition(topic, number))
            except _Refused as refused:
                wrote.update({} if refused.wrote is None else {refused.wrote: None})
                why.update(dict.fromkeys(refused.why))
                continue
            wrote[begin.versions] = None
            again += (await self._logs.span(begin.shard)).end - begin.next_offset
        return Outlook(agent=agent, wrote=tuple(wrote), again=max(again, 0), why=tuple(why))

    async def _of_shard(self, deployment: control.Deployment, partition: Partition) -> Vouched:
        """The snapshot that the shard would begin from. Raises _Refused, and what says nothing of
        the snapshot and would not begin a shard from an older one either: AwayStateError,
        DiskFullError, BadDiskError.
        """
        take_one = f"`headrace snapshot create {deployment.agent} NAME` makes one"
        refused = _Refused(None, f"it has no snapshot: {take_one}")
        published = leading_here(self._catalogue, deployment, partition)
        for number, vouched in enumerate(worth_a_try(published, self._probing.versions)):
            try:
                await asyncio.to_thread(self._try, vouched)
            except (AwayStateError, DiskFullError, BadDiskError):
                raise
            except StateError as error:
                differences = error.differences if isinstance(error, OtherBuildError) else ()
                if not number:  # the newest says it best
                    refused = _Refused(vouched.versions, *(differences or (str(error),)))
                continue
            begin = (await self._logs.span(partition)).begin
            if vouched.next_offset < begin:
                raise _Refused(
                    vouched.versions,
                    f"{partition.topic}[{partition.partition}] begins at offset {begin}, and "
                    f"{vouched.snapshot_id} goes on from {vouched.next_offset}: take a newer one",
                )
            return vouched
        raise refused

    def _try(self, vouched: Vouched) -> None:
        """In a thread. Raises StateError if the shard would not begin from it."""
        probing, draft = self._probing, self._place / "draft"
        try:
            if vouched.versions == probing.versions:
                manifest_of(vouched.ref, self._sources)
            else:
                restore(vouched.ref, self._sources, draft, probing.versions, probing.accepts)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
