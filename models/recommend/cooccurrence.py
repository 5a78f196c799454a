"""An incremental item-to-item recommender: what others took close to what you took last.

Item-based collaborative filtering by conditional probability (Deshpande and Karypis, "Item-based
top-N recommendation algorithms", ACM TOIS 22(1), 2004), made incremental and bounded: each item
remembers its most recent neighbours only, so that the model follows taste as it drifts.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.models.recommend.popular import History, MostPopular, Scores

__all__ = ["ItemCooccurrence"]

N_LAST_MAX: Final = 1_000
N_NEIGHBOURS_MAX: Final = 100_000
_FIRST_CAPACITY: Final = 32  # neighbours of an item; doubled up to n_neighbours
_TIE_BREAK: Final = 1e-9  # weight of popularity: it orders what the neighbours leave equal


class ItemCooccurrence(MostPopular):
    """Ranks items by how often they lay near the user's last items in other users' sequences.

    When a user takes item *i*, *i* and each of the user's `n_last` items before it become
    neighbours, and each item keeps its `n_neighbours` most recent ones, repetitions included. An
    item *j* scores

        Σ_q w_q · count(j near h_q) / (neighbours of h_q + prior)  /  Σ_q w_q,  w_q = recency^q

    over the user's last items *h_0* (the newest), *h_1*, …: the estimated probability that a
    neighbour of what the user took lately is *j*, in [0, 1]. `prior` discounts items of which
    little is known. A user without a history gets the most popular items, by their share.

    Parameters: `n_last` 1 to 1,000; `recency` in (0, 1]; `n_neighbours` `n_last` to 100,000 (it
    bounds memory: 4 bytes each per item); `prior` ≥ 0, in neighbours; `seen_max` as in MostPopular.
    Raises ValueError for others.

    >>> model = ItemCooccurrence(prior=0)
    >>> for user, item in [("ann", "up"), ("ann", "wall-e"), ("bob", "alien"), ("cem", "up")]:
    ...     model.learn_one(user, item, 5.0)
    >>> round(model.predict_one("cem", "wall-e"), 6)
    1.0
    >>> model.rank("cem", {"alien", "wall-e"})
    ['wall-e', 'alien']
    """

    def __init__(
        self,
        n_last: int = 10,
        recency: float = 0.8,
        n_neighbours: int = 1000,
        prior: float = 50.0,
        seen_max: int = 10_000,
    ) -> None:
        super().__init__(seen_max)
        if not 1 <= n_last <= N_LAST_MAX:
            raise ValueError(f"n_last must be 1 to {N_LAST_MAX}, not {n_last}")
        if not 0 < recency <= 1:
            raise ValueError(f"recency must be above 0 and at most 1, not {recency}")
        if not n_last <= n_neighbours <= N_NEIGHBOURS_MAX:
            text = f"n_neighbours must be n_last ({n_last}) to {N_NEIGHBOURS_MAX}"
            raise ValueError(f"{text}, not {n_neighbours}")
        if not 0 <= prior < math.inf:
            raise ValueError(f"prior must be 0 or more, not {prior}")
        self.n_last = n_last
        self.recency = recency
        self.n_neighbours = n_neighbours
        self.prior = prior
        self._near: list[NDArray[np.int32]] = []  # by item: a ring of neighbours' numbers
        self._met: list[int] = []  # by item: neighbours ever written to its ring

    def absorb(self, history: History, item: Hashable) -> History:
        number = self.numbers.get(item)
        if number is None:
            number = self.add(item)
        last = history[-self.n_last :]
        last = last[last != number]
        for other in last.tolist():
            self._meet(other, number)
            self._meet(number, other)
        return super().absorb(history, item)

    def scores(self, history: History) -> Scores:
        popularity = self.popularity()
        last = history[-self.n_last :][::-1].tolist()
        if not last:
            return popularity
        rings = [self._ring(number) for number in last]
        sizes = [len(ring) for ring in rings]
        weights = self.recency ** np.arange(len(last))
        each = weights / (np.maximum(sizes, 1) + self.prior) / weights.sum()
        near = np.concatenate(rings, dtype=np.intp)
        found = np.bincount(near, weights=np.repeat(each, sizes), minlength=len(self.items))
        return found + _TIE_BREAK * popularity

    def neighbours(self, number: int) -> NDArray[np.int32]:
        """The item's remembered neighbours, oldest first, with repetitions: what a row holds."""
        ring, met = self._near[number], self._met[number]
        return np.roll(ring, -(met % len(ring))) if met > len(ring) else ring[:met].copy()

    def add(self, item: Hashable, count: int = 0) -> int:
        self._near.append(np.zeros(min(_FIRST_CAPACITY, self.n_neighbours), dtype=np.int32))
        self._met.append(0)
        return super().add(item, count)

    def set_neighbours(self, number: int, neighbours: NDArray[np.int32]) -> None:
        """Takes over what `neighbours` gave, here or in another process."""
        neighbours = neighbours[-self.n_neighbours :]
        size = len(neighbours)
        capacity = min(_FIRST_CAPACITY, self.n_neighbours)
        while capacity < size:
            capacity = min(2 * capacity, self.n_neighbours)
        ring = np.zeros(capacity, dtype=np.int32)
        ring[:size] = neighbours
        self._near[number], self._met[number] = ring, size

    def _ring(self, number: int) -> NDArray[np.int32]:
        return self._near[number][: self._met[number]]

    def _meet(self, number: int, other: int) -> None:
        ring, met = self._near[number], self._met[number]
        if met == len(ring) < self.n_neighbours:
            ring = np.resize(ring, min(2 * met, self.n_neighbours))
            ring[met:] = 0  # no rubbish: equal state has equal bytes
            self._near[number] = ring
        ring[met % len(ring)] = other
        self._met[number] = met + 1
