"""What a command does to a shard besides counting there."""

from __future__ import annotations

from headrace.pipelines import control
from headrace.pipelines.changes import Change
from headrace.pipelines.forgetting import Forgetting
from headrace.pipelines.migrations import Keep, Refold, Reset, Taken
from headrace.pipelines.replacement import Replacement
from headrace.pipelines.revert import Revert
from headrace.pipelines.rewind import Rewind, Watch
from headrace.pipelines.shard import Shard
from headrace.pipelines.site import Commands, Site
from headrace.pipelines.snapshotting import NamedSnapshot
from headrace.pipelines.unchanged import Unchanged
from headrace.pipelines.vault import Vault
from headrace.views import How, Partition

Work = Replacement | NamedSnapshot | Forgetting

REPLACEMENTS: dict[control.Mode | How, type[Replacement]] = {
    "revert": Revert,
    "rewind": Rewind,
    "reset": Reset,
    "keep": Keep,
    "from": Taken,
    "refold": Refold,
}


def replacement(
    site: Site,
    vault: Vault,
    deployment: control.Deployment,
    accepted: control.Accepted,
    partition: Partition | None = None,
) -> Replacement:
    """What a rollback or a migration does; in a partition where the log says that it could not be
    done, or where there is nothing to take back, that is nothing but the epoch.
    """
    command = accepted.command
    assert isinstance(command, control.Rollback | control.Migrate)
    if partition is not None:
        failed = partition in deployment.failed(command.id)
        if failed or deployment.leaves(accepted, partition):
            return Unchanged(site, vault, deployment, accepted)
    how = command.mode if isinstance(command, control.Rollback) else command.how
    return REPLACEMENTS[how](site, vault, deployment, accepted)


class Works:
    """Makes the works of commands, for the shards of one worker."""

    def __init__(self, site: Site, controls: Commands, vault: Vault) -> None:
        self._site = site
        self._controls = controls
        self._vault = vault

    def of(self, accepted: control.Accepted, partition: Partition | None = None) -> Work | None:
        """What the command does; None: nothing besides. With `partition`: where it counts."""
        command = accepted.command
        if isinstance(command, control.Forget):
            return Forgetting(self._vault, self._deployment(accepted), accepted)
        if isinstance(command, control.Snapshot):
            return NamedSnapshot(self._vault, accepted)
        if isinstance(command, control.Rollback | control.Migrate):
            deployment = self._deployment(accepted)
            return replacement(self._site, self._vault, deployment, accepted, partition)
        return None

    def unchanged(self, accepted: control.Accepted) -> Unchanged:
        """What is done where a replacement could not be."""
        return Unchanged(self._site, self._vault, self._deployment(accepted), accepted)

    def change(self, shard: Shard, accepted: control.Accepted, offset: int) -> Change:
        """A command that counts from there on; what the shard's state holds already is done."""
        work = self.of(accepted, shard.partition)
        if isinstance(work, Replacement):
            done = accepted.epoch <= shard.origin.epoch
        elif isinstance(work, Forgetting):
            done = accepted.offset <= shard.forgotten.newest  # since it was opened
        elif isinstance(work, NamedSnapshot) and accepted.epoch < shard.origin.epoch:
            done = True  # before what made this state; it is not the one to keep
        else:
            done = offset < shard.next_offset
        if work is None or done:
            return Change(offset, accepted.kind, accepted.offset)
        return Change(offset, accepted.kind, accepted.offset, work.work)

    def rewind(self, command: control.Rollback, watch: Watch) -> Rewind:
        """A rewind as it would be if it were accepted now, for a preview that watches it."""
        registry = self._controls.registry
        deployment = registry.get(command.agent)
        accepted = control.Accepted(
            command=command,
            life=deployment.life,
            epoch=deployment.epoch + 1,
            spec_version=deployment.spec_version,
            offset=registry.next_offset,
        )
        rewind = Rewind(self._site, self._vault, deployment, accepted)
        rewind.watch = watch
        return rewind

    def _deployment(self, accepted: control.Accepted) -> control.Deployment:
        registry = self._controls.registry
        deployment = registry.life(accepted.agent, accepted.life) or registry.last(accepted.agent)
        assert deployment is not None
        return deployment
