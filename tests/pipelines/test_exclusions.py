"""What a rewind left out stays out, and nothing else does."""

from __future__ import annotations

from typing import NamedTuple

from headrace.pipelines import control
from headrace.pipelines.exclusions import left_out
from headrace.views import Exclusion, Partition

WHERE = Partition("t", 0)


class Row(NamedTuple):
    offset: int
    key: bytes
    timestamp: int = 0
    value: bytes = b"{}"
    headers: tuple[tuple[str, bytes], ...] = ()


class History:
    """One agent, and the rewinds that it has done."""

    def __init__(self) -> None:
        self.registry = control.Registry()
        self._offset = 0
        self._log(control.Deploy(id="d", agent="a", spec={}, digest="1", emit_topic="e"))

    def rewind(self, name: str, begin: int, at: int, key: str | None = None) -> control.Accepted:
        """To a snapshot that ends at `begin`; it counts at `at`, and leaves the key out."""
        base = control.Base(partition=0, epoch=1, next_offset=begin, digest="")
        exclude = None if key is None else Exclusion(keys=(key,))
        command = control.Rollback(
            id=name, agent="a", life=1, snapshot_id="a.s", bases=(base,), mode="rewind",
            exclude=exclude,
        )  # fmt: skip
        accepted = self._log(command)
        assert accepted is not None
        effect = control.ShardEffect(
            id=f"effect of {name}", control_id=name, agent="a", epoch=accepted.epoch,
            topic="t", partition=0, next_offset=at, worker="w",
        )  # fmt: skip
        self._log(effect)
        return accepted

    def _log(self, record: control.ControlRecord) -> control.Accepted | None:
        self._offset += 1
        return self.registry.apply(record, self._offset)


def test_a_later_rewind_leaves_out_what_an_earlier_one_did_and_no_more() -> None:
    """That had learned again from its own snapshot to where it counted: what lies before was
    learned all the time, and what came behind, too.
    """
    history = History()
    history.rewind("first", 60, 70, "ada")
    second = history.rewind("second", 50, 90)
    is_left_out = left_out(history.registry.get("a"), second, WHERE)
    rows = [Row(offset, b"ada") for offset in range(50, 90)]
    assert [row.offset for row in rows if is_left_out(row)] == list(range(60, 70))
    assert not is_left_out(Row(65, b"bob"))
