"""Probes of snapshots: made where a state was learned, tried where another build is to go on.

What another River, numpy, Python or Headrace wrote is taken over only if its models say and learn
here, bit for bit, what they said and learned there; see `models.probes`. Both happens on a copy
that nobody else has open, in a thread: nothing waits for it.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from headrace.errors import CorruptStateError, StateError
from headrace.logs import fields
from headrace.models import probes
from headrace.models.spec import Spec
from headrace.state.checkpoints import link_or_copy
from headrace.state.cut import Cut
from headrace.state.manifest import Manifest, Versions
from headrace.state.store import ShardStore

log = logging.getLogger(__name__)

AUTOMATIC_KEYS_MAX = 8
"""Keys with a probe in an automatic snapshot, of which there are many; else `probes.KEYS_MAX`."""

Specs = Callable[[str, str], Spec | None]
"""The spec of an agent that has that digest; None: nobody knows it any more. Raises StateError if
this build refuses it.
"""


class Probing:
    """What the build with these `versions` makes of snapshots. `specs` is set before it is asked;
    until then no spec is known.
    """

    def __init__(self, versions: Versions) -> None:
        self.versions = versions
        self.specs: Specs = lambda agent, digest: None

    def lacks(self, cut: Cut) -> bool:
        """Whether probes of it can be made: only the build that wrote a state can say how it goes
        on there.
        """
        return not cut.probes and cut.versions == self.versions

    def made(self, cut: Cut, checkpoint: Path, draft: Path) -> bytes:
        """The probes of a checkpoint, asked of a copy at `draft`, of which nothing stays.

        b"" if they cannot be made, which is logged: the snapshot is none the worse for this build.
        Raises DiskFullError, StateError if the copy cannot be made.
        """
        link_or_copy(checkpoint, draft)
        try:
            spec = self.specs(cut.agent, cut.spec_digest)
            if spec is None:
                return b""  # deleted meanwhile
            limit = AUTOMATIC_KEYS_MAX if cut.kind == "automatic" else probes.KEYS_MAX
            with ShardStore.open(draft, create=False, compact=False) as store:
                return probes.make(spec, store, limit)
        except CorruptStateError as error:
            at = fields(snapshot=cut.snapshot_id, partition=cut.partition, error=str(error))
            log.error("snapshot.not_probed", extra=at)  # noqa: TRY400 - the text says all
            return b""
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def accepts(self, manifest: Manifest, draft: Path) -> list[str]:
        """What the state at `draft` does not reproduce of a manifest's probes, in words."""
        try:
            spec = self.specs(manifest.agent, manifest.spec_digest)
        except StateError as error:
            return [str(error)]
        if spec is None:
            return ["the control log has no spec of that digest"]
        with ShardStore.open(draft, create=False, compact=False) as store:
            return probes.check(manifest.probes, spec, store)
