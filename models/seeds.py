"""Where a model's chance comes from: numbers derived from one seed, never from the machine."""

from __future__ import annotations

import hashlib

__all__ = ["derive"]


def derive(seed: int, path: str) -> int:
    """The seed, 0 to 2³²-1, of the parameter at `path` in a model that is built from `seed`.

    Two parts of a model get different seeds, so that two forests in one pipeline do not draw the
    same trees; the same part of two models built from one seed gets the same.

    >>> derive(7, "$.model[0]"), derive(7, "$.model[1]")
    (2381551417, 2495419155)
    """
    data = hashlib.sha256(f"{seed}\0{path}".encode()).digest()
    return int.from_bytes(data[:4], "big")
