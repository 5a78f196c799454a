"""Which rollbacks of an agent stand, and can be taken back, from what the service lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from headrace.errors import ConflictError

if TYPE_CHECKING:
    from headrace.views import RollbackView


def standing(views: Iterable[RollbackView]) -> Iterator[RollbackView]:
    """Those that hold, in the same order. `views`: all of one agent, newest first.

    What is undone undoes nothing itself, and what could be done in no partition does not either.
    """
    undone: set[str] = set()
    for view in views:
        if view.control_id not in undone and view.failed < view.partitions:
            undone.add(view.undoes)
            yield view


def check_standing(view: RollbackView, views: Iterable[RollbackView]) -> None:
    """Raises ConflictError `not_standing` if that one of `views` was taken back already."""
    found = list(standing(views))
    if any(other.control_id == view.control_id for other in found):
        return
    text = (
        f"rollback {view.control_id} could be done in no partition: there is nothing to take back"
    )
    for other in found:
        if other.undoes == view.control_id:
            text = f"rollback {view.control_id} was taken back by {other.control_id} already; "
            text += f"`headrace undo {view.agent} {other.control_id}` takes that back"
    raise ConflictError("not_standing", text, rollback=view.control_id)
