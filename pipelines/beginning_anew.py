"""Where nobody can read an agent's state any more: who begins anew, and where."""

from __future__ import annotations

from headrace.errors import OtherBuildError
from headrace.pipelines import control
from headrace.pipelines.exclusions import left_out
from headrace.pipelines.leading import leading_here
from headrace.pipelines.shardstart import ShardStart
from headrace.pipelines.site import Site
from headrace.pipelines.vault import Vault
from headrace.state.catalogue import Vouched
from headrace.state.restoring import REFOLD, differing
from headrace.state.store import ShardMeta
from headrace.views import Partition


class BeginningAnew:
    """What concerns one shard of it. Reads only."""

    def __init__(
        self, site: Site, vault: Vault, deployment: control.Deployment, partition: Partition
    ) -> None:
        self._site = site
        self._vault = vault
        self._deployment = deployment
        self._partition = partition

    def check_former(self) -> None:
        """Raises OtherBuildError if another build has left a state here that nothing replaces: it
        is not learned again, from further back perhaps, unless somebody says so.
        """
        life = range(self._deployment.life, self._deployment.epoch + 1)
        agent, versions = self._deployment.agent, self._vault.probing.versions
        for wrote in self._site.directory.former(agent, life, *self._partition):
            raise OtherBuildError(
                f"the state of agent {agent!r} here was written with {differing(wrote, versions)},"
                f" and it has no snapshot whose probes could show how its models go on: start the"
                f" build that wrote it and take one (`headrace snapshot create {agent} NAME`),"
                f" {REFOLD}"
            )

    def agreed(self) -> control.Accepted | None:
        """The command by which somebody has said so; None: nobody has, or it is used up."""
        accepted = next(iter(self._deployment.replacements()[::-1]), None)
        if accepted is None or not control.begins_anew(accepted.command):
            return None
        failed = self._partition in self._deployment.failed(accepted.control_id)
        return None if failed or self._has_begun(accepted.epoch) else accepted

    def meta(self, accepted: control.Accepted, effect: int) -> ShardMeta:
        """Of the store with nothing in it. A refold learns the log, and has nothing to answer with
        meanwhile; else it goes on behind what was decided in the state that is left.
        """
        command = accepted.command
        assert isinstance(command, control.Migrate)
        refold = command.how == "refold"
        return ShardMeta(
            next_offset=command.base(self._partition.partition).next_offset if refold else effect,
            epoch=accepted.epoch,
            spec_digest=command.digest,
            control_offset=accepted.offset,
            cluster_id=self._site.cluster_id,
        )

    def start(self, epoch: int, start: ShardStart) -> ShardStart:
        """A refold that began anew learns what its agent decided in earlier epochs, and decides
        none of it again. Nor does it refuse again what was refused when a snapshot was taken: what
        was sent after that, nobody can say.
        """
        for accepted in self._deployment.replacements():
            effect = self._deployment.effect(accepted.control_id, self._partition)
            if accepted.epoch == epoch and effect is not None and start.next_offset < effect:
                rule = left_out(self._deployment, accepted, self._partition)
                told_below = max(start.told_below, effect)
                published = self._published()
                kept = [each.next_offset for each in published if each.epoch < epoch]
                refused_below = max(kept, default=0)
                return start._replace(
                    told_below=told_below, refused_below=refused_below, left_out=rule
                )
        return start

    def _has_begun(self, epoch: int) -> bool:
        """Whether a state has been made since the agent began anew: that consent is used up."""
        agent, since = self._deployment.agent, range(epoch, self._deployment.epoch + 1)
        published = self._published()
        return any(vouched.epoch in since for vouched in published) or bool(
            self._site.directory.former(agent, since, *self._partition)
        )

    def _published(self) -> list[Vouched]:
        return leading_here(self._vault.catalogue, self._deployment, self._partition)
