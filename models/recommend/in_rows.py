"""What all models in rows share: items by number, users when needed, the answers from scores."""

from __future__ import annotations

import abc
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
import numpy as np

from headrace.errors import CorruptStateError
from headrace.models.recommend.popular import History, MostPopular, Scores
from headrace.models.recommend.top_k import best
from headrace.models.recommend.user_rows import UserRows
from headrace.ports import Rows
from headrace.views import ScoredItem

__all__ = ["InRows", "decoded"]

User = TypeVar("User")
Row = TypeVar("Row")

_ITEM: Final = b"i/"
_MODEL: Final = b"s/model"


class InRows(abc.ABC, Generic[User]):
    """A recommender in rows, but for the model itself: see `row_model`."""

    interactions: MostPopular  # numbers of items, how often each was taken, and who took what
    users: UserRows[User]

    def __init__(self) -> None:
        self._items_changed: dict[int, None] = {}
        self._model_changed = False

    def top(
        self,
        user: str,
        k: int,
        candidates: Sequence[str] | None = None,
        exclude: Collection[str] = (),
        exclude_seen: bool = True,
    ) -> tuple[ScoredItem, ...]:
        known = self.users.get(user)
        scores = self._scores(known)
        numbers = self.interactions.numbers
        if candidates is not None:
            allowed = [numbers[item] for item in candidates if item in numbers]
            narrowed = np.full(len(scores), -np.inf)
            narrowed[allowed] = scores[allowed]
            scores = narrowed
        scores[[numbers[item] for item in exclude if item in numbers]] = -np.inf
        return self._chosen(scores, k, known if exclude_seen else None)

    def popular(self, user: str, k: int, exclude_seen: bool = True) -> tuple[ScoredItem, ...]:
        known = self.users.get(user) if exclude_seen else None
        return self._chosen(self.interactions.popularity(), k, known)

    def row(self, user: str) -> bytes | None:
        return self.users.row(user)

    def load(self, rows: Rows) -> None:
        self._reset()
        self.users.attach(rows)
        self._items_changed.clear()
        self._model_changed = False
        found = [(self._item_number(row, name), name, row) for name, row in rows.scan(_ITEM)]
        found.sort()
        if [number for number, _, _ in found] != list(range(len(found))):
            raise CorruptStateError(
                "the rows of items do not have the numbers 0, 1, 2, … once each"
            )
        for _, name, row in found:
            try:
                item = name[len(_ITEM) :].decode()
            except UnicodeDecodeError as error:
                raise CorruptStateError(f"row {name!r} has a name that is not UTF-8") from error
            self._take_item(item, row, name)
        model = rows.get(_MODEL)
        if model is not None:
            self._take_model(model, _MODEL)

    def forget(self, user: str) -> None:
        self.users.drop(user)

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]:
        yield from self.users.changed()
        for number in self._items_changed:
            yield _ITEM + str(self.interactions.items[number]).encode(), self._item_row(number)
        if self._model_changed:
            yield _MODEL, self._model_row()

    def flushed(self) -> None:
        self.users.flushed()
        self._items_changed.clear()
        self._model_changed = False

    def _chosen(self, scores: Scores, k: int, seen_by: User | None) -> tuple[ScoredItem, ...]:
        if seen_by is not None:
            scores[self._history(seen_by)] = -np.inf
        items = self.interactions.items
        return tuple(ScoredItem(str(items[n]), float(scores[n])) for n in best(scores, k))

    def _last_items(self, history: History, count: int = 10) -> list[Any]:
        return [self.interactions.items[number] for number in history[::-1][:count].tolist()]

    # -- what the model adds ------------------------------------------------------------------

    @abc.abstractmethod
    def _reset(self) -> None: ...

    @abc.abstractmethod
    def _history(self, known: User) -> History: ...

    @abc.abstractmethod
    def _scores(self, known: User | None) -> Scores:
        """A fresh array that the caller may change."""

    @abc.abstractmethod
    def _item_number(self, row: bytes, name: bytes) -> int: ...

    @abc.abstractmethod
    def _item_row(self, number: int) -> bytes: ...

    @abc.abstractmethod
    def _take_item(self, item: str, row: bytes, name: bytes) -> None: ...

    def _model_row(self) -> bytes | None:
        return None

    def _take_model(self, row: bytes, name: bytes) -> None:
        raise CorruptStateError(f"row {name!r} belongs to another kind of model")


def decoded(row: bytes, decoder: msgspec.msgpack.Decoder[Row], name: bytes) -> Row:
    """A row's content. Raises CorruptStateError naming the row."""
    try:
        return decoder.decode(row)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptStateError(f"row {name!r} cannot be read: {error}") from error
