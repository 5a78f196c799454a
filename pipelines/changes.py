"""The commands that a shard knows and has yet to reach, in the order of their offsets."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from headrace.pipelines.control import Kind

if TYPE_CHECKING:
    from headrace.pipelines.shard import Shard

Work = Callable[["Shard"], Awaitable[bool]]
"""What a command does besides: it may `settle` the shard and `renew` it. False: it was not done,
because the shard is being closed; it is done by the next one that is opened here."""


class Change(NamedTuple):
    """A command that takes effect before the record at `offset` is handled.

    `control_offset` is its place in the control log.
    """

    offset: int
    kind: Kind
    control_offset: int
    work: Work | None = None


def in_order(changes: Sequence[Change]) -> list[Change]:
    """As a shard comes to them: a rewind counts when it has caught up, and others overtake it.

    >>> [change.kind for change in in_order([Change(9, "rollback", 1), Change(7, "pause", 2)])]
    ['pause', 'rollback']
    """
    return sorted(changes, key=lambda change: (change.offset, change.control_offset))


class Changes:
    """Order of calls: `add` in the order in which they count; `due`, and `took` when it is done.

    >>> changes = Changes()
    >>> changes.add(Change(7, "pause", 1))
    >>> changes.due(6), changes.next_offset, changes.due(7).kind
    (None, 7, 'pause')
    >>> changes.took()
    >>> changes.due(7), changes.knows(1), changes.knows(2)
    (None, True, False)
    """

    def __init__(self) -> None:
        self.control_offset = -1  # the newest command that is done, or waits
        self._waiting: deque[Change] = deque()
        self._known: set[int] = set()  # a rewind counts when it has caught up: others overtake it

    @property
    def next_offset(self) -> int | None:
        """Where the first one counts that waits."""
        return self._waiting[0].offset if self._waiting else None

    def behind(self, offset: int) -> int:
        """The first offset, from `offset` on, that none counts behind."""
        return max([offset, *(change.offset for change in self._waiting)])

    def knows(self, control_offset: int) -> bool:
        """Whether that command was added."""
        return control_offset in self._known

    def add(self, change: Change) -> None:
        assert not self.knows(change.control_offset)
        self._waiting.append(change)
        self._known.add(change.control_offset)
        self.control_offset = max(self.control_offset, change.control_offset)

    def due(self, offset: int) -> Change | None:
        """The first one, if it counts before the record at `offset` is handled."""
        if self._waiting and self._waiting[0].offset <= offset:
            return self._waiting[0]
        return None

    def took(self) -> None:
        """The first one is done."""
        self._waiting.popleft()
