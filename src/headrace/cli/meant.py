"""What an id that is not there may have been meant to be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING

from headrace.errors import NotFoundError

if TYPE_CHECKING:
    from headrace.serving.client import Client
    from headrace.views import RollbackView

NEAR = 0.7  # how much of two names must be the same; as for commands and estimators


@contextmanager
def snapshot_meant(client: Client, agent: str | None = None) -> Iterator[None]:
    """Where no snapshot has an id that was given, name one that may be meant: of that agent, or of
    any.
    """
    try:
        yield
    except NotFoundError as error:
        asked = error.context.get("snapshot", "")
        if error.code != "unknown_snapshot" or not asked:
            raise
        found = near(asked, [view.snapshot_id for view in client.snapshots(agent)])
        if not found:
            raise
        raise NotFoundError(error.code, f"{error.text}; did you mean {found}?") from None


def rollback_meant(client: Client, agent: str, control_id: str) -> RollbackView:
    """The rollback of that id, or the only one of the agent whose id begins so.

    Raises NotFoundError.
    """
    try:
        return client.get_rollback(control_id)
    except NotFoundError as error:
        if error.code != "unknown_rollback":
            raise
    found = [view for view in client.rollbacks(agent) if view.control_id.startswith(control_id)]
    if len(found) == 1:
        return found[0]
    count = f"{len(found)} rollbacks whose ids begin with" if found else "no rollback"
    text = f"{agent} has {count} {control_id!r}; `headrace rollbacks {agent}` lists them all"
    raise NotFoundError("unknown_rollback", text, agent=agent)


def near(asked: str, ids: Sequence[str]) -> str:
    """The id that is most like it, also where the agent's name was left out; empty: none is.

    >>> ids = ["card-fraud.before-batch", "heaters.winter"]
    >>> near("before-batch", ids), near("card-fraud.befor-batch", ids), near("sale", ids)
    ('card-fraud.before-batch', 'card-fraud.before-batch', '')
    >>> near("heater.winter", ids), near("card-fraud.winter", ids)
    ('heaters.winter', '')
    """
    agent, dot, name = asked.partition(".")
    same = [id_ for id_ in ids if id_.startswith(f"{agent}.")] if dot else ids
    if not same:  # then the agent's name is mistyped
        return "".join(get_close_matches(asked, ids, 1, NEAR))
    # Without the agent's name, which all of them begin with: it would make them all alike.
    named = {id_.partition(".")[2]: id_ for id_ in reversed(same)}
    found = get_close_matches(name if dot else asked, list(named), 1, NEAR)
    return named[found[0]] if found else ""
