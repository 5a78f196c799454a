"""Forgetting a key in one shard: its rows go, and no file of the shard has a byte of them.

The steps, between two events: all that was learned is durable, and its decisions are acknowledged;
the effect is in the control log and has been read back, position X; the rows are deleted, durably;
tables, write-ahead log and RocksDB's own records are written anew without them. Whoever opens a
state from X or below later does the same before anybody asks it anything, and passes the key's
records below X over. So a crash at any step brings nothing back, and leaves no decision out.
"""

from __future__ import annotations

import asyncio

from msgspec import structs

from headrace.errors import UnavailableError
from headrace.models.slots import KEY_ROW
from headrace.pipelines import control
from headrace.pipelines.forgotten import Forgotten, forgotten_in, lost
from headrace.pipelines.shard import Shard
from headrace.pipelines.threads import in_a_thread
from headrace.pipelines.vault import Vault
from headrace.state.erasing import rows_of, take_out
from headrace.state.store import Store
from headrace.views import Partition

LOOK_S = 0.02
SECRET_WAIT_S = 30.0
"""How long the catalogue may lag behind the control log before a secret counts as lost."""


class Forgetting:
    """One command `forget` in one shard. Order of calls: `prepare`, then `ready` and `work` under
    the shard's turn.
    """

    def __init__(
        self, vault: Vault, deployment: control.Deployment, accepted: control.Accepted
    ) -> None:
        assert isinstance(accepted.command, control.Forget)
        self._vault = vault
        self._deployment = deployment
        self._command: control.Forget = accepted.command
        forgets = deployment.forgets()
        ids = [earlier.control_id for earlier in forgets if earlier.offset < accepted.offset]
        former = {earlier.control_id for earlier in deployment.former_forgets}
        self._earlier = [control_id for control_id in ids if control_id not in former]

    async def prepare(self, shard: Shard) -> None:
        """Wait until the secret is known, earlier forgets have counted, and the shard learns only
        what is new: below the effect nothing must be left to decide, nor above it what was there
        before the command.

        Raises StateError if the secret is lost, UnavailableError `stopping`.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + SECRET_WAIT_S
        while not self._is_due(shard):
            if shard.leaving:
                raise UnavailableError("stopping", "the shard is being closed")
            if not self._is_known() and clock() > until:
                raise lost(self._command)
            await asyncio.sleep(LOOK_S)

    async def ready(self, shard: Shard) -> None:
        """Make durable what came before. Raises UnavailableError `stopping`."""
        if not await shard.settle():
            raise UnavailableError("stopping", "the shard is being closed")

    async def work(self, shard: Shard) -> bool:
        """Do it; False: the shard is being closed. Raises StateError."""
        if not await shard.settle():
            return False
        forgotten = self._forgotten(shard.partition)
        owed = forgotten.owed(epoch=shard.origin.epoch, known=shard.forgotten.newest)
        rows = await in_a_thread(lambda: rows_of(shard.store, owed.has_row))
        shard.forgotten = forgotten
        return await shard.erase(rows, {row[len(KEY_ROW) :].decode() for row in rows})

    def _forgotten(self, partition: Partition) -> Forgotten:
        return forgotten_in(self._deployment, partition, self._vault.catalogue)

    def _is_known(self) -> bool:
        return self._vault.catalogue.secret(self._command.secret_id) is not None

    def _is_due(self, shard: Shard) -> bool:
        counted = self._deployment.effect
        earlier = all(counted(i, shard.partition) is not None for i in self._earlier)
        return self._is_known() and earlier and not (shard.relearns or shard.apart)


def honour(store: Store, forgotten: Forgotten) -> None:
    """Let an open store forget what it has yet to; nobody reads it meanwhile. Raises StateError."""
    meta = store.meta
    if meta is None:
        return
    owed = forgotten.owed(epoch=meta.epoch, known=meta.forgotten)
    if not owed:
        return
    gone = rows_of(store, owed.has_row)
    meta = structs.replace(meta, forgotten=forgotten.newest)
    store.write([(row, None) for row in gone], meta)
    if gone:
        take_out(store, gone)
