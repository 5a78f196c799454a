"""Rankers that know a user by what the user took, kept in rows: `row_model`."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from headrace.errors import CorruptStateError
from headrace.models.recommend.cooccurrence import ItemCooccurrence
from headrace.models.recommend.in_rows import InRows, decoded
from headrace.models.recommend.popular import NO_HISTORY, History, MostPopular, Scores
from headrace.models.recommend.user_rows import UserRows
from headrace.ports import Rows

__all__ = ["HistoryRows", "history_of", "packed"]


class _UserRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    history: bytes


class _ItemRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    number: int
    count: int
    neighbours: bytes


_USER_DECODER = msgspec.msgpack.Decoder(_UserRow)
_ITEM_DECODER = msgspec.msgpack.Decoder(_ItemRow)


def packed(numbers: History) -> bytes:
    """Item numbers as bytes: four each, little-endian, in order."""
    return numbers.astype("<i4").tobytes()


def history_of(data: bytes, name: bytes) -> History:
    """What `packed` gave. Raises CorruptStateError naming the row."""
    if len(data) % 4:
        raise CorruptStateError(f"row {name!r} cannot be read: {len(data)} bytes of item numbers")
    return np.frombuffer(data, dtype="<i4").astype(np.int32)


class HistoryRows(InRows[History]):
    """MostPopular or ItemCooccurrence in rows. A learned event changes the row of its user, of its
    item and, for ItemCooccurrence, of the user's `n_last` items before it.

    >>> ranker = HistoryRows(ItemCooccurrence(prior=0), users_max=1000)
    >>> for user, item in [("ann", "up"), ("ann", "wall-e"), ("cem", "up")]:
    ...     ranker.learn_one(user, item, 5.0)
    >>> [(scored.item, round(scored.score, 6)) for scored in ranker.top("cem", k=2)]
    [('wall-e', 1.0)]
    >>> sorted(name for name, _ in ranker.changed())
    [b'i/up', b'i/wall-e', b'u/ann', b'u/cem']
    """

    def __init__(self, model: MostPopular, users_max: int) -> None:
        super().__init__()
        self._untrained = model
        self.users = UserRows(_user_row, _user_of, users_max)
        self._reset()

    def predict_one(self, user: str, item: str) -> float:
        number = self.interactions.numbers.get(item)
        return 0.0 if number is None else float(self._scores(self.users.get(user))[number])

    def learn_one(self, user: str, item: str, y: float) -> None:
        if not math.isfinite(y):
            raise ArithmeticError(f"the reward {y} is not finite")
        self.interactions.require_room(item)
        known = self.users.get(user)
        history = NO_HISTORY if known is None else known
        # Nothing below raises: the model's tables and the row of the user change together.
        self.users.put(user, self.interactions.absorb(history, item))
        touched = [self.interactions.numbers[item]]
        if isinstance(self.interactions, ItemCooccurrence):
            touched += history[-self.interactions.n_last :].tolist()
        self._items_changed.update(dict.fromkeys(touched))

    def describe(self, user: str) -> dict[str, Any]:
        known = self.users.get(user)
        history = NO_HISTORY if known is None else known
        return {"items_seen": len(history), "last_items": self._last_items(history)}

    def _reset(self) -> None:
        self.interactions = self._untrained.clone()

    def _history(self, known: History) -> History:
        return known

    def _scores(self, known: History | None) -> Scores:
        return self.interactions.scores(NO_HISTORY if known is None else known)

    def _item_number(self, row: bytes, name: bytes) -> int:
        return decoded(row, _ITEM_DECODER, name).number

    def _item_row(self, number: int) -> bytes:
        model = self.interactions
        near = model.neighbours(number) if isinstance(model, ItemCooccurrence) else NO_HISTORY
        return msgspec.msgpack.encode(_ItemRow(number, model.count(number), packed(near)))

    def load(self, rows: Rows) -> None:
        super().load(rows)
        if isinstance(self.interactions, ItemCooccurrence):
            known = len(self.interactions.items)
            for number, item in enumerate(self.interactions.items):
                near = self.interactions.neighbours(number)
                if len(near) and not 0 <= near.min() <= near.max() < known:
                    raise CorruptStateError(f"the row of item {item!r} names items without a row")

    def _take_item(self, item: str, row: bytes, name: bytes) -> None:
        content = decoded(row, _ITEM_DECODER, name)
        number = self.interactions.add(item, content.count)
        if isinstance(self.interactions, ItemCooccurrence):
            self.interactions.set_neighbours(number, history_of(content.neighbours, name))


def _user_row(history: History) -> bytes:
    return msgspec.msgpack.encode(_UserRow(packed(history)))


def _user_of(row: bytes, name: bytes) -> History:
    return history_of(decoded(row, _USER_DECODER, name).history, name)
