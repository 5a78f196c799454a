"""Chance without a seed, after a restore: it raises instead of deciding something.

River makes a `random.Random` in many objects that never use it (each probability distribution has
one, 2.5 KB). The codec writes one that was given no seed as a mark only; what is read back is
this, one object for all. Models of the catalog have every seed filled, so nothing draws from it;
if something did, two replays would differ, and the law `encode_decode_continue_identical` fails.
"""

from __future__ import annotations

import random
from typing import Any, Final, NoReturn, Self


class UnseededChance(RuntimeError):
    """A model drew from a source of chance that nobody seeded."""


class UnseededRandom(random.Random):
    """Stands for a `random.Random` without a seed. Drawing raises UnseededChance."""

    def random(self) -> NoReturn:
        raise UnseededChance("a restored model draws from an unseeded random.Random")

    def getrandbits(self, k: int, /) -> NoReturn:
        raise UnseededChance("a restored model draws from an unseeded random.Random")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class UnseededState:
    """Stands for a `numpy.random.RandomState` without a seed. Any use raises UnseededChance."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UnseededChance(f"a restored model draws {name} from an unseeded RandomState")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


UNSEEDED: Final = UnseededRandom(0)
UNSEEDED_STATE: Final = UnseededState()
