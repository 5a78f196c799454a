"""River's biased matrix factorization with its state in rows: `row_model`.

Learning is River's own `reco.BiasedMF.learn_one` (Koren, Bell and Volinsky, "Matrix factorization
techniques for recommender systems", IEEE Computer 42(8), 2009), so the numbers are River's bit for
bit. Only reading differs: River draws factors when it predicts for somebody unknown, and so
predicts otherwise afterwards; here the unknown adds nothing and nothing is drawn before it learns.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from river import reco

from headrace.errors import CorruptStateError, SpecError, Violation
from headrace.models.recommend.factor_step import DOUBLES, FactorStep, Shared, Side, SlotVariable
from headrace.models.recommend.history_rows import history_of, packed
from headrace.models.recommend.in_rows import InRows, decoded
from headrace.models.recommend.popular import NO_HISTORY, History, MostPopular, Scores
from headrace.models.recommend.user_rows import UserRows

__all__ = ["FactorRows"]

Factors = NDArray[np.float64]

_FACTORS_MAX: Final = 1000
_FIRST_CAPACITY: Final = 64  # items; doubled when full
_GENERATOR: Final = "MT19937"  # of numpy's RandomState


class _UserRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    side: Side
    history: bytes


class _ItemRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    number: int
    count: int
    side: Side


_USER_DECODER = msgspec.msgpack.Decoder(_UserRow)
_ITEM_DECODER = msgspec.msgpack.Decoder(_ItemRow)
_SHARED_DECODER = msgspec.msgpack.Decoder(Shared)


class _User(NamedTuple):
    side: Side
    history: History


class FactorRows(InRows[_User]):
    """A `reco.BiasedMF` in rows. An event changes the rows of its user and item, and `s/model`.

    >>> model = FactorRows(reco.BiasedMF(n_factors=2, seed=7), users_max=1000)
    >>> for user, item, rating in [("ann", "up", 5.0), ("bob", "up", 2.0), ("ann", "alien", 1.0)]:
    ...     model.learn_one(user, item, rating)
    >>> round(model.predict_one("bob", "alien"), 4), round(model.predict_one("cem", "pi"), 4)
    (2.6038, 2.6667)
    >>> [scored.item for scored in model.top("bob", k=5)]
    ['alien']
    """

    def __init__(self, model: reco.BiasedMF, users_max: int) -> None:
        super().__init__()
        if not 1 <= model.n_factors <= _FACTORS_MAX:
            text = f"n_factors must be 1 to {_FACTORS_MAX}, not {model.n_factors}"
            raise SpecError([Violation("$.model", text)])
        self._untrained = model
        self.users = UserRows(_user_row, _user_of, users_max)
        self._reset()

    def predict_one(self, user: str, item: str) -> float:
        known = self.users.get(user)
        number = self.interactions.numbers.get(item)
        score = self._river.mean
        score += 0.0 if known is None else known.side.bias
        score += 0.0 if number is None else float(self._biases[number])
        if known is not None and number is not None:
            factors = np.frombuffer(known.side.factors, DOUBLES)
            score += float(np.dot(factors, self._factors[:, number].copy()))
        return score

    def learn_one(self, user: str, item: str, y: float) -> None:
        self.interactions.require_room(item)
        known = self.users.get(user)
        number = self.interactions.numbers.get(item)
        user_side = None if known is None else known.side
        item_side = None if number is None else self._item_side(number)
        user_after, item_after = self._river.learn(user, user_side, item, item_side, y)
        # Nothing below raises: the tables and the row of the user change together.
        history = self.interactions.absorb(NO_HISTORY if known is None else known.history, item)
        self.users.put(user, _User(user_after, history))
        number = self.interactions.numbers[item]
        self._set_item_side(number, item_after)
        self._items_changed[number] = None
        self._model_changed = True

    def describe(self, user: str) -> dict[str, Any]:
        known = self.users.get(user)
        if known is None:
            return {"items_seen": 0, "last_items": []}
        return {
            "items_seen": len(known.history),
            "last_items": self._last_items(known.history),
            "bias": known.side.bias,
            "factors": np.frombuffer(known.side.factors, DOUBLES).tolist(),
        }

    # -- tables -------------------------------------------------------------------------------

    def _reset(self) -> None:
        model = self._untrained.clone()
        self._river = FactorStep(model)
        self.interactions = MostPopular()
        self._biases: NDArray[np.float64] = np.zeros(_FIRST_CAPACITY)
        self._factors: Factors = np.zeros((model.n_factors, _FIRST_CAPACITY))  # a column per item
        self._slots: list[tuple[SlotVariable, ...]] = []  # what optimizers remember, by item

    def _history(self, known: _User) -> History:
        return known.history

    def _scores(self, known: _User | None) -> Scores:
        count = len(self.interactions.items)
        scores = (
            self._river.mean + (0.0 if known is None else known.side.bias) + self._biases[:count]
        )
        if known is not None:
            # Factor by factor, not a matrix product: each sum has one order on every machine.
            factors = np.frombuffer(known.side.factors, DOUBLES).tolist()
            for factor, column in zip(factors, self._factors, strict=True):
                scores += factor * column[:count]
        return scores

    def _item_side(self, number: int) -> Side:
        factors = self._factors[:, number].astype(DOUBLES, copy=False).tobytes()
        return Side(float(self._biases[number]), factors, self._slots[number])

    def _set_item_side(self, number: int, side: Side) -> None:
        if number == len(self._biases):
            self._biases = np.append(self._biases, np.zeros_like(self._biases))
            self._factors = np.append(self._factors, np.zeros_like(self._factors), axis=1)
        if number == len(self._slots):
            self._slots.append(())
        self._biases[number] = side.bias
        self._factors[:, number] = np.frombuffer(side.factors, DOUBLES)
        self._slots[number] = side.slots

    # -- rows ---------------------------------------------------------------------------------

    def _item_number(self, row: bytes, name: bytes) -> int:
        return decoded(row, _ITEM_DECODER, name).number

    def _item_row(self, number: int) -> bytes:
        row = _ItemRow(number, self.interactions.count(number), self._item_side(number))
        return msgspec.msgpack.encode(row)

    def _take_item(self, item: str, row: bytes, name: bytes) -> None:
        content = decoded(row, _ITEM_DECODER, name)
        if len(content.side.factors) != 8 * len(self._factors):
            raise CorruptStateError(f"row {name!r} was written with another number of factors")
        self._set_item_side(self.interactions.add(item, content.count), content.side)

    def _model_row(self) -> bytes:
        return msgspec.msgpack.encode(self._river.shared())

    def _take_model(self, row: bytes, name: bytes) -> None:
        try:
            self._river.take(decoded(row, _SHARED_DECODER, name))
        except ValueError as error:
            raise CorruptStateError(f"row {name!r} belongs to another kind of model") from error


def _user_row(user: _User) -> bytes:
    return msgspec.msgpack.encode(_UserRow(user.side, packed(user.history)))


def _user_of(row: bytes, name: bytes) -> _User:
    content = decoded(row, _USER_DECODER, name)
    return _User(content.side, history_of(content.history, name))
