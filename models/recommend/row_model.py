"""The seam to models whose state is rows per user and item, so that a flush writes what changed.

A per-key River model is one row; a recommender is shared by all users of a shard, and its state is

    u/<user>   one user: items seen, and factors where the model has them; read when needed
    i/<item>   one item: its number, counts, factors or neighbours; all in memory after `load`
    s/model    what is neither: the running mean, optimizer steps, the state of the generator

Order of calls: `load` once, then `learn_one` for each event; whenever it suits, all of `changed`
into one atomic write and then `flushed`. Nothing may be learned between these two. Reading never
changes anything, not even what is held in memory. Equal state has equal rows, byte for byte, and a
model that goes on from its rows is bit-identical to the one that wrote them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

from river import reco

from headrace.models.recommend.factor_rows import FactorRows
from headrace.models.recommend.history_rows import HistoryRows
from headrace.models.recommend.popular import MostPopular
from headrace.ports import Rows
from headrace.views import ScoredItem

__all__ = ["Recommender", "RowModel", "row_model"]


class Recommender(Protocol):
    """The reading half: pure, and defined for users and items that were never seen."""

    def predict_one(self, user: str, item: str) -> float:
        """The predicted rating or score; one bounded vector operation at most."""

    def top(
        self,
        user: str,
        k: int,
        candidates: Sequence[str] | None = None,
        exclude: Collection[str] = (),
        exclude_seen: bool = True,
    ) -> tuple[ScoredItem, ...]:
        """The best `k` known items, best first, ties by the order of first sight.

        `candidates` narrows the choice; a candidate that no event has named is left out.
        """

    def popular(self, user: str, k: int, exclude_seen: bool = True) -> tuple[ScoredItem, ...]:
        """What the most-popular baseline would recommend from the same events."""

    def describe(self, user: str) -> dict[str, Any]:
        """What is known of the user, for people."""

    def row(self, user: str) -> bytes | None:
        """The user's row as it would be stored now; None where there is nothing."""


class RowModel(Recommender, Protocol):
    """The writing half."""

    def load(self, rows: Rows) -> None:
        """Forgets all and takes over what `rows` holds. Raises CorruptStateError."""

    def learn_one(self, user: str, item: str, y: float) -> None:
        """Learns one interaction, or raises and is as it was before.

        Raises ArithmeticError where a value would not stay finite.
        """

    def forget(self, user: str) -> None:
        """Deletes the user's row. What others learned from the user's events stays counted."""

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows that changed since `flushed` was last called; None for a deleted one."""

    def flushed(self) -> None:
        """They are durable now: `rows` gives them back, so users beyond the bound may leave."""


def row_model(estimator: Any, users_max: int = 50_000) -> RowModel | None:
    """`estimator`, as the catalog built it and untrained, in rows; None if it has no such form.

    At most `users_max` users and those changed since the last flush are held in memory, and all
    items. Raises SpecError for a BiasedMF with more than 1,000 factors, or whose optimizer has
    state that cannot be split into rows.
    """
    if isinstance(estimator, reco.BiasedMF):
        return FactorRows(estimator, users_max)
    if isinstance(estimator, MostPopular):
        return HistoryRows(estimator, users_max)
    return None
