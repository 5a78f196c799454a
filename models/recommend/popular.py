"""The most popular items: the baseline of every recommender, and what the other rankers build on.

It knows each item by a number (the order in which items were first seen), counts interactions, and
keeps per user the distinct items of their last interactions, oldest first. Feedback is implicit: an
interaction counts whatever its reward.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from river.reco.base import Ranker

__all__ = ["ITEMS_MAX", "NO_HISTORY", "History", "MostPopular", "Scores"]

History = NDArray[
    np.int32
]  # item numbers, oldest first, distinct; replaced, never changed in place
Scores = NDArray[np.float64]  # one score per known item, by item number

NO_HISTORY: Final[History] = np.empty(0, dtype=np.int32)
ITEMS_MAX: Final = 200_000  # that one ranker knows; they are all in memory
SEEN_MAX: Final = 100_000  # per user; a user is one row
_FIRST_CAPACITY: Final = 64  # items; doubled when full


class MostPopular(Ranker):
    """Ranks items by their share of all interactions, the same for every user.

    Parameters: `seen_max`, how many distinct items are remembered of a user (1 to 100,000; the
    oldest go). The 200,001st item is refused with OverflowError.

    >>> model = MostPopular()
    >>> for user, item in [("ann", "up"), ("bob", "up"), ("bob", "alien")]:
    ...     model.learn_one(user, item, 5.0)
    >>> round(model.predict_one("ann", "up"), 4)
    0.6667
    >>> model.rank("ann", {"alien", "up", "unheard of"})
    ['up', 'alien', 'unheard of']
    """

    def __init__(self, seen_max: int = 10_000) -> None:
        super().__init__()
        if not 1 <= seen_max <= SEEN_MAX:
            raise ValueError(f"seen_max must be 1 to {SEEN_MAX}, not {seen_max}")
        self.seen_max = seen_max
        self.numbers: dict[Hashable, int] = {}  # item → its number
        self.items: list[Hashable] = []  # number → item
        self.total = 0  # interactions learned
        self._counts: NDArray[np.int64] = np.zeros(_FIRST_CAPACITY, dtype=np.int64)
        self._histories: dict[Hashable, History] = {}

    def learn_one(self, user: Hashable, item: Hashable, y: Any = None, x: Any = None) -> None:
        """Counts the interaction. `y` and `x` are not used."""
        self.require_room(item)
        self._histories[user] = self.absorb(self._histories.get(user, NO_HISTORY), item)

    def predict_one(  # type: ignore[override] # to mypy no float is a Number
        self, user: Hashable, item: Hashable, x: Any = None
    ) -> float:
        """The item's score for the user; 0.0 for an item that was never seen. Changes nothing."""
        number = self.numbers.get(item)
        if number is None:
            return 0.0
        return float(self.scores(self._histories.get(user, NO_HISTORY))[number])

    def rank(self, user: Hashable, items: Iterable[Hashable], x: Any = None) -> list[Hashable]:
        """`items` by score; ties by the order in which they were first seen, strangers last."""
        scores = self.scores(self._histories.get(user, NO_HISTORY))
        last = len(self.items)
        numbered = [(self.numbers.get(item, last), item) for item in items]
        numbered.sort(key=lambda pair: (-scores[pair[0]] if pair[0] < last else 1.0, pair[0]))
        return [item for _, item in numbered]

    # -- the same, with the histories kept elsewhere (as rows) ------------------------------

    def absorb(self, history: History, item: Hashable) -> History:
        """Learns that the owner of `history` took `item`; returns the history from now on."""
        number = self.numbers.get(item)
        if number is None:
            number = self.add(item)
        self._counts[number] += 1
        self.total += 1
        kept = history[history != number]
        kept = kept[max(0, len(kept) + 1 - self.seen_max) :]
        after = np.empty(len(kept) + 1, dtype=np.int32)
        after[:-1] = kept
        after[-1] = number
        return after

    def scores(self, history: History) -> Scores:
        """The score of every known item for the owner of `history`. Changes nothing."""
        return self.popularity()

    def popularity(self) -> Scores:
        """Each known item's share of all interactions, in [0, 1]."""
        counts = self._counts[: len(self.items)]
        return counts / max(self.total, 1)

    def count(self, number: int) -> int:
        """How many interactions the item of this number had."""
        return int(self._counts[number])

    def require_room(self, item: Hashable) -> None:
        """Raises OverflowError if `item` would be one too many."""
        if len(self.items) >= ITEMS_MAX and item not in self.numbers:
            raise OverflowError(f"{ITEMS_MAX} items are known already, there is no room for more")

    def add(self, item: Hashable, count: int = 0) -> int:
        """Gives an item that is not known yet the next number, and `count` interactions."""
        assert item not in self.numbers
        number = len(self.items)
        if number == len(self._counts):
            self._counts = np.append(self._counts, np.zeros_like(self._counts))
        self._counts[number] = count
        self.total += count
        self.items.append(item)
        self.numbers[item] = number
        return number
