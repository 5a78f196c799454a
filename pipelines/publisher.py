"""Publishing what was taken, in the background, one after the other.

The files of a cut go into the repository, then its manifest, then the digest of that into the
catalogue. What a crash cuts short goes on after the next start: a checkpoint knows what it is.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from headrace.clock import Clock
from headrace.errors import AwayStateError, CorruptStateError, StateError
from headrace.logs import fields
from headrace.pipelines.fetcher import CatalogueTopic, Fetcher, is_imported
from headrace.pipelines.precedence import Precedence
from headrace.pipelines.threads import behind_others, in_a_thread
from headrace.state.catalogue import Vouched, encode
from headrace.state.cut import Cut
from headrace.state.directory import StateDirectory
from headrace.state.manifest import Versions
from headrace.state.publishing import Published, publish
from headrace.state.repository import Repository
from headrace.views import Partition

log = logging.getLogger(__name__)

PUBLISH_AGAIN_S = 5.0
"""After this a snapshot that could not be published is tried again, and after each failure twice
that; while the repository is away one of all is."""
PUBLISH_AGAIN_MAX_S = 60.0

DROPPED = "its checkpoint has gone meanwhile"
TAKEN = "an import has brought a snapshot of that id meanwhile"
GONE = "it has been removed meanwhile"
ANOTHERS = "a snapshot of that name of a later life has taken its place"
AGAIN = "a removal of that name is under way, so it is tried again"


class _Pause(NamedTuple):
    """Until when, by the loop's clock, something that failed is not tried again, and how long that
    is since it did.

    >>> pause = _Pause().longer(100.0)
    >>> pause, pause.longer(107.0)
    (_Pause(until_s=105.0, length_s=5.0), _Pause(until_s=117.0, length_s=10.0))
    """

    until_s: float = 0.0
    length_s: float = 0.0

    def longer(self, now_s: float) -> _Pause:
        length_s = min(2 * self.length_s or PUBLISH_AGAIN_S, PUBLISH_AGAIN_MAX_S)
        return _Pause(now_s + length_s, length_s)


class Publisher(Fetcher):
    """Order of calls: `Vault.take` at any time, for what there is to publish; `publish` is a task
    that runs for ever.
    """

    def __init__(
        self,
        directory: StateDirectory,
        repository: Repository,
        topic: CatalogueTopic,
        versions: Versions,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(directory, repository, topic, versions, clock)
        self._owed: deque[Cut] = deque(self._checkpoints.owed())
        self._unpublished: dict[tuple[str, Partition], _Pause] = {}  # what was tried in vain
        self._away = _Pause()  # nothing is tried meanwhile
        self._told_failure = False
        self._woken = asyncio.Event()

    def owed(self) -> tuple[int, float]:
        """How many shards are taken and not published yet, and for how many seconds the oldest."""
        taken_ms = [cut.created_ms for cut in self._owed_here()]
        return len(taken_ms), max(0, self.now_ms() - min(taken_ms)) / 1000 if taken_ms else 0.0

    def owes(self, snapshot_id: str) -> bool:
        """Whether a shard in that snapshot is taken and not published yet."""
        return any(cut.snapshot_id == snapshot_id for cut in self._owed_here())

    def owes_any(self, agent: str) -> bool:
        """Whether a shard of that agent is taken and not published yet."""
        return any(cut.agent == agent for cut in self._owed_here())

    def _owe(self, cut: Cut) -> None:
        if _name(cut) in self._unpublished:  # a former one of that name
            self._unpublished[_name(cut)] = _Pause()
        self._owed.append(cut)
        self._woken.set()

    async def publish(self, precedence: Precedence) -> None:
        """Publish what was taken, for ever, one after the other. What fails waits by itself, and
        others go on; while the repository is away all wait, so that it is asked once and not by
        each of them.
        """
        clock = asyncio.get_running_loop().time
        while True:
            await precedence.free()
            cut, when = self._next()
            if cut is not None and when <= clock():
                await self._try(cut, precedence)
                continue
            self._woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(None if cut is None else when):
                    await self._woken.wait()

    def _next(self) -> tuple[Cut | None, float]:
        """The one that is to be tried next, and when, by the loop's clock: those that have not
        failed come first, then the one that has waited longest. None: nothing is owed.

        An undo snapshot of a shard's former epochs comes before what is of a later one; see `base`.
        """
        undos: dict[tuple[str, Partition], int] = {}  # the first epoch of which there is one
        for undo in self._owed:
            if undo.kind == "undo":
                place = (undo.agent, undo.shard)
                undos[place] = min(undo.epoch, undos.get(place, undo.epoch))

        def may_be_next(cut: Cut) -> bool:
            return cut.epoch <= undos.get((cut.agent, cut.shard), cut.epoch)

        def due_s(cut: Cut) -> float:
            return self._unpublished.get(_name(cut), _Pause()).until_s

        first = min(filter(may_be_next, self._owed), key=due_s, default=None)
        return first, max(self._away.until_s, 0.0 if first is None else due_s(first))

    async def _try(self, cut: Cut, precedence: Precedence) -> None:
        place = self._owed.index(cut)  # it stays: only this removes any
        try:
            cut = self._owed[place] = await self._probed(cut)
            await precedence.free()
            published = await self._publish(cut)
        except StateError as error:
            self._owed.remove(cut)
            if self._lies_here(cut) is None:  # removed meanwhile, and its files with it
                self._tell_settled(cut, published=False)
                return
            self._tell_failure(cut, error)
            self._unpublished[_name(cut)] = self._pause_after(cut, error)
            self._owed.append(cut)
        else:
            self._owed.remove(cut)
            self._tell_settled(cut, published=published)
            if published:
                self._away = _Pause()

    def _tell_failure(self, cut: Cut, error: StateError) -> None:
        """Once, until others are published again: `owed` tells how many wait."""
        if not self._told_failure:
            _tell_not_published(cut, str(error))
        self._told_failure = True

    def _pause_after(self, cut: Cut, error: StateError) -> _Pause:
        """For the cut alone, unless it has found the repository away: then for all."""
        now_s = asyncio.get_running_loop().time()
        pause = self._unpublished.get(_name(cut), _Pause())
        if not isinstance(error, AwayStateError):
            return pause.longer(now_s)
        self._away = self._away.longer(now_s)
        return pause._replace(until_s=self._away.until_s)  # behind those that are due before

    def _tell_settled(self, cut: Cut, *, published: bool) -> None:
        """It is published, or dropped: at any rate it fails no longer. Only what is published shows
        that it is over.
        """
        self._unpublished.pop(_name(cut), None)
        if published and self._told_failure and not self._unpublished:
            self._told_failure = False
            log.warning("snapshots.published_again", extra=fields(snapshot=cut.snapshot_id))

    def _owed_here(self) -> list[Cut]:
        """What is owed, but for what was dropped while it was."""
        return [cut for cut in self._owed if self._lies_here(cut) is not None]

    def _lies_here(self, cut: Cut) -> Path | None:
        return self._checkpoints.path_of(cut)

    async def _probed(self, cut: Cut) -> Cut:
        """The cut with its probes, made now: while it was taken its shard waited."""
        path = self._lies_here(cut)
        if path is None or not self.probing.lacks(cut):
            return cut
        draft = self._directory.draft()
        probes = await in_a_thread(lambda: self.probing.made(cut, path, draft))  # opens a store
        if self._lies_here(cut) is None:
            return cut
        return await asyncio.to_thread(self._checkpoints.probed, cut, probes)

    async def _publish(self, cut: Cut) -> bool:
        """Whether it did; not if it is given up. Raises StateError if it is to be tried again."""
        path, why = self._lies_here(cut), self._refusal(cut)
        if path is None or why:
            return await self._give_up(cut, why)
        await self._claim()
        try:
            done = await self._brought(cut, path)
        except CorruptStateError as error:
            await self._lose(cut, error)
            return False
        if why := self._refusal(cut):
            return await self._give_up(cut, why)
        vouched = done.vouched(cut)
        await self._topic.append(vouched.key, encode(vouched))
        if why := await self._refusal_behind(cut, vouched):
            await self._take_back(vouched)
            if why == AGAIN:
                raise StateError(why)
            return await self._give_up(cut, why)
        await asyncio.to_thread(self._checkpoints.published, cut, done.digest, done.files)
        log.info(
            "snapshot.published",
            extra=fields(
                snapshot=cut.snapshot_id,
                topic=cut.topic,
                partition=cut.partition,
                next_offset=cut.next_offset,
                new_bytes=done.new_bytes,
            ),
        )
        return True

    async def _brought(self, cut: Cut, path: Path) -> Published:
        """It, in the repository. A process ends when its threads have: if this is cancelled, no
        file follows the one that is on its way there. The rest goes on after the next start.

        Raises StateError.
        """
        left = threading.Event()
        try:
            return await behind_others(
                lambda: publish(cut, path, self._repository, self._sums, left.is_set)
            )
        finally:
            left.set()

    def _refusal(self, cut: Cut) -> str:
        """Why it is not to be published any more. Empty: it is to be."""
        there = self.catalogue.shards(cut.snapshot_id)
        mine = there.get(cut.shard)
        if self._lies_here(cut) is None:
            return DROPPED
        if any(vouched.imported for vouched in there.values()):
            return TAKEN  # nothing is put in the place of an import
        if self._is_over(cut):
            return GONE
        return ANOTHERS if mine is not None and mine.epoch > cut.epoch else ""

    async def _refusal_behind(self, cut: Cut, vouched: Vouched) -> str:
        """The same, when the record that vouches for it has come back: what removed the snapshot
        may stand before that, and be read just now. Empty: it is published. Raises StateError.
        """
        if (why := self._refusal(cut)) or not await self._is_missing(vouched):
            return why
        # If a command had asked for it and it is not over, whoever has taken its manifest meant a
        # former one of that name. Of one that nobody asks for there is no other.
        return self._refusal(cut) or (AGAIN if cut.asked >= 0 else GONE)

    async def _give_up(self, cut: Cut, why: str) -> bool:
        """Nobody wants it any more. What stayed here would be owed for ever, and hold keys that are
        to be forgotten; nor does what vouches for it, if a crash came between that and this.

        Returns False: it is not published. Raises StateError.
        """
        there = self.catalogue.shards(cut.snapshot_id).get(cut.shard)
        if there is not None and self._is_over(there):
            await self._take_back(there)
        await asyncio.to_thread(self._checkpoints.drop, cut)
        if why != DROPPED:
            _tell_not_published(cut, why)
        return False

    async def _lose(self, cut: Cut, error: CorruptStateError) -> None:
        """Its files are not those that were hashed, and never will be. Nor may anybody go back to
        them: an undo would open them as they are, since nothing vouches for what they were, and the
        next process, which has hashed none of them, would publish the damage as what was taken.
        Raises StateError.
        """
        if self._lies_here(cut) is None:  # removed meanwhile
            return
        await asyncio.to_thread(self._checkpoints.drop, cut)
        log.error("snapshot.lost", extra=fields(snapshot=cut.snapshot_id, error=str(error)))

    def _is_over(self, taken: Cut | Vouched) -> bool:
        """Whether its snapshot was removed after it had been asked for. One that nobody asks for is
        told by its name, while that is removed here: there is no other; but for an import.
        """
        if taken.asked >= 0:
            return self.catalogue.is_over(taken.snapshot_id, taken.epoch, taken.asked)
        return self.uses.is_going(taken.snapshot_id) and not is_imported(taken)

    async def _is_missing(self, vouched: Vouched) -> bool:
        """Whether its manifest is not there, or cannot be read any more. Raises StateError."""
        try:
            await asyncio.to_thread(self._repository.manifest, *vouched.ref)
        except CorruptStateError:
            return True
        return False

    async def _take_back(self, vouched: Vouched) -> None:
        """Vouch for it no longer. What has taken its place in the catalogue stays there; and what
        it has taken the place of stands again, if that is another snapshot's: its record may have
        been on its way while the name was given anew, and that published. Raises StateError.
        """
        former = self.catalogue.replaced_by(vouched)
        back = former is not None and await self._outlasts(former, vouched)
        if not self.catalogue.stands(vouched):
            return
        if former is None or not back:
            await self._topic.append(vouched.key, None)
            return
        await self._topic.append(former.key, encode(former))
        if not await self._outlasts(former, vouched) and self.catalogue.stands(former):
            await self._topic.append(former.key, None)  # it has been removed meanwhile

    async def _outlasts(self, former: Vouched, gone: Vouched) -> bool:
        """Whether it is of another snapshot than what is taken back, and of one that is there."""
        same = {former.digest, *former.replaces} & {gone.digest, *gone.replaces}
        return not (same or self._is_over(former) or await self._is_missing(former))


def _name(cut: Cut) -> tuple[str, Partition]:
    return cut.snapshot_id, cut.shard


def _tell_not_published(cut: Cut, why: str) -> None:
    log.warning("snapshot.not_published", extra=fields(snapshot=cut.snapshot_id, error=why))
