"""The catalogue of snapshots as a pure fold: which manifests are vouched for, and what is pinned.

The catalogue is a compacted topic of one partition. What vouches for one shard in one snapshot
stands under `<snapshot id>/<topic>/<partition>`, and under `pin/<snapshot id>` that it is to be
kept; a tombstone takes either back. Under `removed/<snapshot id>` stands for good when one that a
command had asked for was removed. The secrets by which keys are forgotten stand there too, see
`state.tombstones`. `Catalogue.apply` folds the records in order; what the fold holds depends on
each key's last record only, so it is the same before and after compaction; but for the count
`ignored`, and for `was_removed`, `removed_since`, `replaced_by` and `furthest`, which remember
tombstones and former records, and those go with compaction. Nothing raises for a record that this
build does not write: it vouches for nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, TypeVar

import msgspec

from headrace.state.cut import Kind, agent_of
from headrace.state.manifest import Count, ShardRef, Versions, is_snapshot_id
from headrace.state.tombstones import PREFIX, Secret
from headrace.state.viewing import view_of
from headrace.views import Partition, SnapshotView

RECORD_BYTES_MAX = 64 << 10
"""A larger record is none of ours: a topic's name and some numbers take less than 2 KiB."""
REMOVED_MAX = 10_000
"""Ids of removed snapshots that are remembered, the newest, so that who asks for one is told so;
and as many of those that stand as removed in the catalogue, which automatic ones do not."""
NAMED_MAX = 1_000
"""Named snapshots of one agent: whoever makes one looks, as they stay until somebody deletes them.
Automatic ones and undos are bounded by retention."""
_PIN = "pin/"
_REMOVED = "removed/"
_SHA256 = r"^[0-9a-f]{64}\Z"
_T = TypeVar("_T")

_SECRET_DECODER = msgspec.json.Decoder(Secret)


class Vouched(msgspec.Struct, frozen=True, kw_only=True):
    """One shard in one snapshot: the digest that its manifest must have, and what people ask for.

    `forgotten` as in `ShardMeta`, a place in the control log in which the agent's first life has
    the epoch `forgotten_life`; 0: in that of `epoch`. What contradicts itself raises ValueError.
    """

    snapshot_id: str
    agent: str
    kind: Kind
    epoch: Count
    spec_version: Count
    spec_digest: str
    topic: str
    partition: Count
    partitions: Count
    next_offset: Count
    created_ms: Count
    digest: Annotated[str, msgspec.Meta(pattern=_SHA256)]
    size_bytes: Count
    new_bytes: Count
    versions: Versions
    forgotten: int = -1
    forgotten_life: Count = 0
    replaces: tuple[str, ...] = ()  # digests of manifests in whose place it is, without some keys
    imported: bool = False  # its epoch and position are of another log, for all that is known
    asked: int = -1  # as in `Cut`
    schema: Literal[1] = 1

    def __post_init__(self) -> None:
        if not is_snapshot_id(self.snapshot_id) or agent_of(self.snapshot_id) != self.agent:
            raise ValueError(f"{self.snapshot_id[:80]!r} is no snapshot of {self.agent[:80]!r}")
        if not 0 <= self.partition < self.partitions:
            raise ValueError(f"there is no partition {self.partition} of {self.partitions}")

    @property
    def shard(self) -> Partition:
        """The partition whose shard it is."""
        return Partition(self.topic, self.partition)

    @property
    def ref(self) -> ShardRef:
        """What is needed to fetch it."""
        return ShardRef(self.snapshot_id, self.topic, self.partition, self.digest)

    @property
    def key(self) -> bytes:
        """The key of its record."""
        return f"{self.snapshot_id}/{self.topic}/{self.partition}".encode()

    def is_beside(self, other: Vouched) -> bool:
        """Whether both can be shards of one cut: they have in common what a cut has once."""
        names = ("kind", "epoch", "spec_version", "spec_digest", "topic", "partitions", "imported")
        return all(getattr(self, name) == getattr(other, name) for name in names)


_VOUCHED_DECODER = msgspec.json.Decoder(Vouched)


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """Retention keeps the snapshot, whatever its age. An id that is none raises ValueError."""

    snapshot_id: str
    schema: Literal[1] = 1

    def __post_init__(self) -> None:
        if not is_snapshot_id(self.snapshot_id):
            raise ValueError(f"{self.snapshot_id[:80]!r} is no id of a snapshot")

    @property
    def key(self) -> bytes:
        """The key of its record."""
        return f"{_PIN}{self.snapshot_id}".encode()


_PIN_DECODER = msgspec.json.Decoder(Pin)


class Removed(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A snapshot was removed: what asked for one of that id is over, wherever its shards still are
    on their way, if it stands below `control_offset` of the control log and is of no later epoch:
    such a one is of another control log. Of one id the greater one says more.
    """

    snapshot_id: str
    epoch: Count
    control_offset: Count
    schema: Literal[1] = 1

    @property
    def key(self) -> bytes:
        """The key of its record."""
        return f"{_REMOVED}{self.snapshot_id}".encode()


_REMOVED_DECODER = msgspec.json.Decoder(Removed)


def encode(record: Vouched | Pin | Removed | Secret) -> bytes:
    """The record as JSON with sorted keys."""
    return msgspec.json.encode(record, order="sorted")


class _Standing(NamedTuple):
    offset: int
    vouched: Vouched
    former: Vouched | None  # what it has replaced


class Catalogue:
    """All that a prefix of the catalogue's records amounts to.

    Order of calls: `apply` for each record, in order; everything else reads. `ignored` counts
    records that vouch for nothing because this build cannot read them.

    >>> vouched = Vouched(
    ...     snapshot_id="fraud.s1", agent="fraud", kind="named", epoch=1, spec_version=2,
    ...     spec_digest="5f", topic="payments", partition=0, partitions=1, next_offset=42,
    ...     created_ms=1_700_000_000_000, digest="ab" * 32, size_bytes=5_000, new_bytes=1_200,
    ...     versions=Versions(headrace="0", river="0.26.1", numpy="2", codec="1", python="3.11"),
    ... )
    >>> catalogue = Catalogue()
    >>> catalogue.apply(vouched.key, encode(vouched), 0)
    >>> [(s.snapshot_id, s.complete) for s in catalogue.snapshots("fraud")]
    [('fraud.s1', True)]
    >>> catalogue.apply(vouched.key, None, 1)
    >>> catalogue.get("fraud.s1"), catalogue.was_removed("fraud.s1")
    (None, True)
    """

    def __init__(self) -> None:
        # agent -> snapshot id -> shard -> what stands for it
        self._agents: dict[str, dict[str, dict[Partition, _Standing]]] = {}
        self._pinned: set[str] = set()
        self._secrets: dict[str, Secret] = {}  # oldest first
        # What was asked for since its records last changed: a list of all is asked for by pages.
        self._views: dict[str, SnapshotView] = {}
        self._removed: dict[str, int] = {}  # at which offset, oldest first
        self._over: dict[str, Removed] = {}  # likewise
        self._furthest: dict[str, Removed] = {}  # likewise
        self.next_offset = 0
        self.ignored = 0

    def apply(self, key: bytes | None, value: bytes | None, offset: int) -> None:
        """Take the record at `offset` into account; `value` None is a tombstone."""
        self.next_offset = offset + 1
        if key is not None and key.startswith(PREFIX.encode()):
            self._secret(key, value)
            return
        if key is not None and key.startswith(_REMOVED.encode()):
            self._mark_removed(key, value)
            return
        try:
            place = _read_key(key)
        except ValueError:
            self.ignored += 1
            return
        record = None if value is None else _read(place, value)
        if value is not None and record is None:
            self.ignored += 1
        snapshot_id, shard = place
        self._views.pop(snapshot_id, None)
        if shard is None:
            (self._pinned.add if record else self._pinned.discard)(snapshot_id)
        elif isinstance(record, Vouched):
            shards = self._agents.setdefault(record.agent, {}).setdefault(snapshot_id, {})
            was = shards.get(shard)
            same = was is not None and was.vouched == record  # a broker may have taken it twice
            former = was and (was.former if same else was.vouched)
            shards[shard] = _Standing(offset, record, former)
        else:
            # One that cannot be read replaces what was vouched for, as compaction does.
            self._remove(snapshot_id, shard, offset if value is None else None)

    def snapshots(self, agent: str | None) -> list[SnapshotView]:
        """The snapshots of one agent, or of all, newest first; complete ones or not."""
        agents = self._agents if agent is None else [agent]
        ids = [snapshot_id for name in agents for snapshot_id in self._agents.get(name, ())]
        views = [self._view(snapshot_id) for snapshot_id in ids]
        return sorted(views, key=lambda view: (view.created_ms, view.snapshot_id), reverse=True)

    def get(self, snapshot_id: str) -> SnapshotView | None:
        """One snapshot, or None: see `was_removed`, which tells why."""
        return self._view(snapshot_id) if self._found(snapshot_id) else None

    def was_removed(self, snapshot_id: str) -> bool:
        """Whether it was there and is not any more, as far as that is remembered."""
        known = snapshot_id in self._removed or snapshot_id in self._over
        return known and not self._found(snapshot_id)

    def removed_since(self, snapshot_id: str, offset: int) -> bool:
        """Whether there was nothing left of it for a moment, at or behind that offset."""
        return self._removed.get(snapshot_id, -1) >= offset

    def is_over(self, snapshot_id: str, epoch: int, control_offset: int) -> bool:
        """Whether a snapshot of that id was removed after one had been asked for there: at that
        place of the control log, in that epoch. As far as that is remembered.
        """
        over = self._over.get(snapshot_id)
        return over is not None and epoch <= over.epoch and control_offset < over.control_offset

    def free_from(self, snapshot_id: str, life: int) -> int:
        """The place of the control log from which on commands of that life for a snapshot of that
        id count; 0: all do.
        """
        removed = self._over.get(snapshot_id)
        return 0 if removed is None or removed.epoch < life else removed.control_offset

    def furthest(self, removed: Removed) -> Removed:
        """That, or what was said of the same snapshot before, if it says more."""
        return max(removed, self._furthest.get(removed.snapshot_id, removed))

    def stands(self, vouched: Vouched) -> bool:
        """Whether that is the last record of its shard."""
        there = self._found(vouched.snapshot_id).get(vouched.shard)
        return there is not None and there.vouched == vouched

    def replaced_by(self, vouched: Vouched) -> Vouched | None:
        """What had vouched for the shard when that came, if that stands; None: nothing had."""
        there = self._found(vouched.snapshot_id).get(vouched.shard)
        return there.former if there is not None and there.vouched == vouched else None

    def newest_epoch(self, agent: str) -> int:
        """The newest epoch of which the agent's own snapshots tell, removed ones too; or 0."""
        own = [view.epoch for view in self.snapshots(agent) if not view.imported]
        over = [each.epoch for each in self._over.values() if agent_of(each.snapshot_id) == agent]
        return max([*own, *over], default=0)

    def shards(self, snapshot_id: str) -> dict[Partition, Vouched]:
        """What is vouched for in a snapshot, by partition.

        Shards that contradict the newest record, as to epoch or spec or how many there are, are
        none of the same cut: they are left out, and without them the snapshot is not complete.
        """
        found = self._found(snapshot_id)
        if not found:
            return {}
        newest = max(found.values(), key=lambda standing: standing.offset).vouched
        told = ((shard, found[shard].vouched) for shard in sorted(found))
        return {shard: vouched for shard, vouched in told if vouched.is_beside(newest)}

    def newest(self, agent: str, topic: str, partition: int) -> list[Vouched]:
        """What is vouched for of one shard, newest first: by epoch, then by position.

        Of incomplete snapshots, too: a shard by itself needs no others. Imported ones are left out:
        a log does not go on from where they stand.
        """
        shard = Partition(topic, partition)
        found = [s[shard].vouched for s in self._agents.get(agent, {}).values() if shard in s]
        found = [vouched for vouched in found if not vouched.imported]
        return sorted(
            found, key=lambda v: (v.epoch, v.next_offset, v.created_ms, v.snapshot_id), reverse=True
        )

    def last_complete(self, agent: str) -> SnapshotView | None:
        """The newest complete snapshot of an agent, imported ones aside."""
        own = (view for view in self.snapshots(agent) if view.complete and not view.imported)
        return next(own, None)

    def pinned(self, snapshot_id: str) -> bool:
        """Whether retention keeps it."""
        return snapshot_id in self._pinned

    def secret(self, secret_id: str) -> Secret | None:
        """The secret of that id, if it is known."""
        return self._secrets.get(secret_id)

    def secret_ids(self) -> list[str]:
        """Those that are known, oldest first."""
        return list(self._secrets)

    def refs(self) -> list[ShardRef]:
        """All manifests that are vouched for."""
        return [
            standing.vouched.ref
            for snapshots in self._agents.values()
            for shards in snapshots.values()
            for standing in shards.values()
        ]

    def _secret(self, key: bytes, value: bytes | None) -> None:
        """One that is there stays: what was hashed with it must be found again."""
        secret = self._decoded(_SECRET_DECODER, value)
        if secret and secret.key == key:
            self._secrets.setdefault(secret.id, secret)

    def _decoded(self, decoder: msgspec.json.Decoder[_T], value: bytes | None) -> _T | None:
        try:
            return decoder.decode(value or b"")
        except (msgspec.MsgspecError, RecursionError):
            self.ignored += 1
            return None

    def _found(self, snapshot_id: str) -> dict[Partition, _Standing]:
        return self._agents.get(agent_of(snapshot_id), {}).get(snapshot_id, {})

    def _view(self, snapshot_id: str) -> SnapshotView:
        if snapshot_id not in self._views:
            shards = self.shards(snapshot_id).values()
            self._views[snapshot_id] = view_of(shards, pinned=self.pinned(snapshot_id))
        return self._views[snapshot_id]

    def _remove(self, snapshot_id: str, shard: Partition, told: int | None) -> None:
        agent, shards = agent_of(snapshot_id), self._found(snapshot_id)
        shards.pop(shard, None)
        if shards:
            return
        snapshots = self._agents.get(agent, {})
        snapshots.pop(snapshot_id, None)
        if not snapshots:
            self._agents.pop(agent, None)
        if told is not None:
            _remember(self._removed, snapshot_id, told)

    def _mark_removed(self, key: bytes, value: bytes | None) -> None:
        removed = self._decoded(_REMOVED_DECODER, value)
        if removed and removed.key == key and is_snapshot_id(removed.snapshot_id):
            _remember(self._furthest, removed.snapshot_id, self.furthest(removed))
            _remember(self._over, removed.snapshot_id, removed)


def _remember(known: dict[str, _T], snapshot_id: str, value: _T) -> None:
    """As the newest."""
    known.pop(snapshot_id, None)
    known[snapshot_id] = value
    if len(known) > REMOVED_MAX:
        del known[next(iter(known))]


def _read_key(key: bytes | None) -> tuple[str, Partition | None]:
    """The snapshot's id and the shard, None for a pin. Raises ValueError for another key."""
    text = (key or b"").decode("utf-8")
    if text.startswith(_PIN):
        snapshot_id, shard = text[len(_PIN) :], None
    else:
        snapshot_id, _, rest = text.partition("/")
        topic, slash, partition = rest.rpartition("/")
        shard = Partition(topic, int(partition))  # ValueError
        if not slash or str(shard.partition) != partition:
            raise ValueError(text)
    if not is_snapshot_id(snapshot_id):
        raise ValueError(text)
    return snapshot_id, shard


def _read(place: tuple[str, Partition | None], value: bytes) -> Vouched | Pin | None:
    """The record that stands there; None if it is none of this build, or another's."""
    if len(value) > RECORD_BYTES_MAX:
        return None
    snapshot_id, shard = place
    try:
        if shard is None:
            pin = _PIN_DECODER.decode(value)
            return pin if pin.snapshot_id == snapshot_id else None
        vouched = _VOUCHED_DECODER.decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return vouched if (vouched.snapshot_id, vouched.shard) == place else None
