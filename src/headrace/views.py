"""What rooms say to each other: frozen records without behaviour.

They are on the ground floor because `pipelines` and `serving`, which exchange most of them, never
import each other. All times are milliseconds since 1970 unless a name ends in `_s` (seconds).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

from headrace.errors import Violation


class Partition(NamedTuple):
    """A topic's partition."""

    topic: str
    partition: int


class Heard(NamedTuple):
    """What a broker said last of a partition: where the log ends, and when (ms since 1970)."""

    end_offset: int
    at_ms: int


class Position(msgspec.Struct, frozen=True, order=True):
    """Where a record stands in a log."""

    topic: str
    partition: int
    offset: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Which state an answer used: every answer carries it."""

    agent: str
    spec_version: int
    epoch: int
    partition: int
    offset: int  # the shard's next offset: all records below it are in this state
    cold: bool  # the key has not learned yet (or is expired): the answer is the cold-start one
    updates: int  # how often this key's model has learned
    topic: str = ""  # of the partition
    behind: int | None = None  # how many records of the log it lacks. None: nobody has said yet
    heard_ms: int | None = None  # how long ago the broker said so; it grows while that is away
    imported: bool = False  # an import's state: epoch, offset are those of the log it comes from


class ScoredItem(msgspec.Struct, frozen=True):
    """One recommended item."""

    item: str
    score: float


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction that somebody asks for. `features` are as in an event, by feature name."""

    agent: str
    key: str
    features: dict[str, Any] = {}
    candidates: tuple[str, ...] | None = None  # rank these; None: all known items
    exclude: tuple[str, ...] = ()
    k: int | None = None  # how many to recommend; None: as the spec says
    setpoint: float | None = None  # for adjust, where the spec reads it from the event
    item: str | None = None  # for recommenders that score one item


class AsOf(msgspec.Struct, frozen=True, kw_only=True):
    """A state of the past: exactly one of these."""

    snapshot_id: str | None = None
    offset: int | None = None  # of the key's partition: all records below it are in the state
    time_ms: int | None = None  # ... and all before the first record of that time or later


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says now and what the policy would decide. Nothing was learned from it."""

    standing: Standing
    score: float | None = None  # probability, value, anomaly score or predicted rating
    label: str | None = None  # most probable class, for classifiers
    probabilities: dict[str, float] = {}
    decision: str | None = None  # verdict's name
    value: float | None = None  # adjustment
    items: tuple[ScoredItem, ...] = ()


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """One key as it stands."""

    standing: Standing
    key: str
    last_learned_ms: int | None  # log time of the last update
    size_bytes: int  # of the key's row as it would be stored
    digest: str  # SHA-256 of that row, hexadecimal
    model: dict[str, Any]  # the estimator's parameters and learned weights, for people
    pending_labels: int


class MetricView(msgspec.Struct, frozen=True, kw_only=True):
    """A prequential metric beside the baseline's on the same events."""

    name: str
    value: float
    baseline: float | None
    baseline_name: str | None
    bigger_is_better: bool
    events: int  # that it measures; 0: there is no value yet


class ShardView(msgspec.Struct, frozen=True, kw_only=True):
    """One shard as it stands."""

    topic: str
    partition: int
    next_offset: int
    durable_offset: int  # what was learned of the records below it is on disk
    end_offset: int | None  # of the partition, when known; lag = end_offset - next_offset
    keys_hot: int
    accepted: int
    quarantined: int
    learned: int
    paused: bool
    unlabelled: int = 0  # accepted events whose label was empty
    labels_lost: int = 0  # waiting labels that were dropped at `state.pending_max`
    keys_full: int = 0  # keys that stopped learning at `state.row_bytes_max`
    heard_ms: int | None = None  # how long ago the broker said what `end_offset` is
    waits_for: str = ""  # what has to come before it can be flushed: say, room on the disk


class AgentView(msgspec.Struct, frozen=True, kw_only=True):
    """One agent as it stands."""

    name: str
    spec_version: int
    epoch: int
    digest: str
    state: str  # "starting" | "running" | "paused" | "failed" | "elsewhere"
    spec: dict[str, Any]
    shards: tuple[ShardView, ...]
    metrics: tuple[MetricView, ...]
    note: str = ""  # why it is not running, or what it waits for
    first_spec_version: int = 1  # that it was deployed with; those from here on can be shown


class Refusals(msgspec.Struct, frozen=True, kw_only=True):
    """Events of a dry run that share a reason."""

    code: str
    text: str
    count: int
    examples: tuple[Position, ...]  # at most 3


How = Literal["reset", "keep", "from", "refold"]


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """How the state goes on when another spec is deployed under a name that is in use."""

    how: How
    snapshot_id: str = ""  # of `from`


class MigrationPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What another spec under a name that is in use would change. Nothing has been changed."""

    spec_version: int  # that the agent has
    new_spec_version: int
    changes: tuple[Violation, ...]  # all that differs between the two specs
    keep_problems: tuple[Violation, ...]  # why what was learned cannot be kept; empty: it can
    events: int  # whose learning goes (reset, from), or that are learned again (refold)


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a spec would do with the recent records of its topic."""

    read: int
    accepted: int
    refused: tuple[Refusals, ...]
    note: str = ""  # say: the topic does not exist yet
    migration: MigrationPlan | None = None  # where another spec has the name


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """How a control record took effect: one position per shard, and whether it changed anything."""

    control_id: str
    agent: str
    spec_version: int
    epoch: int
    positions: tuple[Position, ...]
    changed: bool  # False: a no-op, such as deploying the same digest again
    note: str = ""


class SnapshotShard(msgspec.Struct, frozen=True, kw_only=True):
    """One shard in a snapshot: where it stood, and how large it is."""

    topic: str
    partition: int
    next_offset: int
    size_bytes: int  # of all its files
    new_bytes: int  # of those that no earlier snapshot had brought


class SnapshotView(msgspec.Struct, frozen=True, kw_only=True):
    """A cut of one agent, as far as its shards have been published."""

    snapshot_id: str
    agent: str
    kind: str  # "automatic" | "named" | "undo": taken before a rollback, to take it back
    epoch: int
    spec_version: int
    spec_digest: str
    created_ms: int
    partitions: int  # of the input log
    shards: tuple[SnapshotShard, ...]  # by partition
    pinned: bool = False
    imported: bool = False  # its epoch and positions are of another log, for all that is known
    former: bool = False  # of a life of the agent that is over: nothing goes back to it

    @property
    def complete(self) -> bool:
        """Whether every partition's shard is in it; else it can be used for nothing."""
        return len(self.shards) == self.partitions


class NewestSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The newest complete snapshot of an agent that it made itself."""

    agent: str
    age_s: float  # since it was cut
    behind: int  # records that this worker's shards have learned since: a restore learns them again


class SnapshotsStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How the snapshots of a worker are doing."""

    refused: int  # that were not as the logs say, since the start
    owed: int  # shards that are taken and not published yet
    owed_s: float  # since the oldest of these was taken
    newest: tuple[NewestSnapshot, ...]  # by agent; none of one that has no complete snapshot


class RowCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows of a kind the later state has alone, the earlier alone, and both, otherwise."""

    kind: str  # "key", "user", "item", or "shard": what belongs to a shard as a whole
    added: int
    removed: int
    changed: int


class RowChange(msgspec.Struct, frozen=True, kw_only=True):
    """One row that differs."""

    kind: str  # as of RowCount
    name: str  # the key, the user, the item, or what the shard keeps there
    partition: int
    how: str  # "added" | "removed" | "changed"


class SnapshotDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two states of an agent, row by row."""

    agent: str
    earlier: str  # a snapshot's id
    later: str  # the same, or empty: the state as it is now
    partitions: int  # that were compared
    counts: tuple[RowCount, ...]  # of the kinds of which there are rows that differ
    first: tuple[RowChange, ...]  # some of them, by partition and name
    note: str = ""


class Exclusion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events that a `rewind` does not learn again: those that match any of the parts given."""

    decisions: tuple[str, ...] = ()  # ids agent/epoch/topic/partition/offset: their events
    keys: tuple[str, ...] = ()
    from_ms: int | None = None  # the record's timestamp in Kafka, from here ...
    to_ms: int | None = None  # ... to before here; one of both may be left open
    header: tuple[str, str] | None = None  # name and value (UTF-8) of a record's header


class RollbackRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be rolled back, and to which snapshot: by id, or the newest before a time."""

    agent: str
    snapshot_id: str | None = None
    before_ms: int | None = None
    mode: str = "revert"  # | "rewind"
    keys: tuple[str, ...] = ()  # empty: the whole agent
    exclude: Exclusion | None = None  # rewind only


class RollbackView(msgspec.Struct, frozen=True, kw_only=True):
    """A rollback on its way, or done."""

    control_id: str
    agent: str
    mode: str
    snapshot_id: str  # whose state it goes back to
    undo_snapshot_id: str  # the state that it replaced
    undoes: str  # control id of the rollback that it takes back; empty: none
    keys: tuple[str, ...]
    epoch: int  # the one that it began
    partitions: int
    positions: tuple[Position, ...]  # where it counts, for each partition that has done it
    note: str = ""
    published: int = 0  # partitions of which all ids are in the topic of withdrawn decisions
    withdrawn: int = 0  # ids of decisions that it has withdrawn, in those partitions
    reinstated: int = 0  # likewise, those that it has taken back into force
    failed: int = 0  # partitions in which it could not be done: they go on with what they had
    left: int = 0  # ... in which what it undoes did not hold: there was nothing to take back
    undone_by: str = ""  # control id of the undo that takes it back, as things stand; empty: none
    asked_ms: int = 0  # by the clock of the worker that was asked; 0: an older build did not say

    @property
    def done(self) -> bool:
        """Whether every partition answers from the new epoch."""
        return len(self.positions) == self.partitions


class MetricChange(msgspec.Struct, frozen=True, kw_only=True):
    """A metric over the newest events, as they were decided and as they would be."""

    name: str
    now: float
    then: float
    bigger_is_better: bool
    events: int


class RollbackPreview(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollback would change. Nothing has been changed."""

    agent: str
    mode: str
    snapshot_id: str
    events_back: int  # between the snapshot and now, over all partitions; imported: not known
    events_excluded: int  # of these, those that a rewind leaves out
    events_excluded_earlier: int = 0  # of these, those that earlier rewinds alone leave out
    keys_changed: int  # whose model would be another one; shared: whose events have taught it
    keys_total: int
    decisions_compared: int  # of the newest events
    decisions_flipped: int  # that the other state would decide otherwise
    metrics: tuple[MetricChange, ...]
    note: str = ""
    imported: bool = False  # the snapshot: where it ends in this log nobody knows
    withdrawn_most: int = 0  # events whose decisions would be withdrawn, as far as there are any
    reinstated_most: int = 0  # ... reinstated


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A field of a decision that is not what it must be; both as JSON, empty: there is nothing."""

    field: str  # such as position.offset
    found: str = ""
    expected: str = ""


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What came of making a decision again."""

    decision_id: str
    verdict: str  # "confirmed" | "contradicted" | "unverifiable"
    reason: str = ""  # why it is unverifiable; empty otherwise
    text: str  # for people: how it was made again, or why it cannot be
    differences: tuple[Difference, ...] = ()
    snapshot_id: str = ""  # from which it was made again; empty: from the deploy, or not at all
    events: int = 0  # learned again since
    note: str = ""  # say: a rollback has withdrawn it since


class ForgetView(msgspec.Struct, frozen=True, kw_only=True):
    """A key that is being forgotten, or was; without a control id: what forgetting it would do."""

    control_id: str
    agent: str
    known: bool | None = None  # whether a shard knows the key; None: not asked, or others may
    partitions: int
    positions: tuple[Position, ...] = ()  # where it counts, for each partition that has done it
    deleting: tuple[str, ...] = ()  # snapshots that may still hold it: the service's own
    rewriting: tuple[str, ...] = ()  # ... those that people named or pinned
    rollbacks: tuple[str, ...] = ()  # only before it is done: those that cannot be undone then
    gone_by_ms: int  # when the last file of those is gone, if all manifests there can be read
    note: str  # what is not erased

    @property
    def done(self) -> bool:
        """Whether it counts everywhere, and no snapshot holds the key."""
        counts = len(self.positions) >= self.partitions > 0
        return counts and not self.deleting and not self.rewriting
