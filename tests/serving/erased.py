"""A small real `ports.Forgets`: what it was told to forget, in a dict."""

from __future__ import annotations

from collections.abc import Callable

from headrace.errors import NotFoundError
from headrace.views import ForgetView, Position


class Erased:
    """Each forget counts at once in the one partition; a named snapshot holds the key until it is
    asked for the second time.
    """

    def __init__(self, check: Callable[[str], None]) -> None:
        self._check = check
        self.asked: list[tuple[str, str]] = []
        self._views: dict[str, ForgetView] = {}

    async def preview(self, agent: str, key: str) -> ForgetView:
        self._check(agent)
        return self._view(agent, "", known={"4711": True, "elsewhere": None}.get(key, False))

    async def forget(self, agent: str, key: str) -> ForgetView:
        self._check(agent)
        self.asked.append((agent, key))
        control_id = f"{len(self.asked):032x}"
        view = self._view(agent, control_id)
        self._views[control_id] = self._view(agent, control_id, rewriting=())
        return view

    def get(self, control_id: str) -> ForgetView:
        if control_id not in self._views:
            raise NotFoundError("unknown_forget", "nobody was told so")
        return self._views[control_id]

    def _view(
        self,
        agent: str,
        control_id: str,
        *,
        known: bool | None = None,
        rewriting: tuple[str, ...] = ("card-fraud.friday",),
    ) -> ForgetView:
        return ForgetView(
            control_id=control_id,
            agent=agent,
            known=known,
            partitions=1,
            positions=(Position("transactions", 0, 90),) if control_id else (),
            deleting=("card-fraud.auto-3-20261126-120000",) if not control_id else (),
            rewriting=rewriting,
            rollbacks=("r1",) if not control_id else (),
            gone_by_ms=1_764_000_000_000,
            note="the topics still hold what they held",
        )
