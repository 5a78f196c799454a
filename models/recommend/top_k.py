"""The choice of the best: the places of the highest scores, ties in a fixed order."""

from __future__ import annotations

import numpy as np

from headrace.models.recommend.popular import Scores

__all__ = ["best"]


def best(scores: Scores, k: int) -> list[int]:
    """The places of the `k` highest scores, best first, ties by place; -inf is never chosen.

    >>> best(np.array([1.0, 3.0, -np.inf, 3.0, 2.0]), 3)
    [1, 3, 4]
    """
    if k <= 0:
        return []
    if k < len(scores):
        # All that reach the k-th highest score, so that ties at the edge are seen as ties.
        edge = np.partition(scores, len(scores) - k)[len(scores) - k]
        among = np.flatnonzero(scores >= edge)
    else:
        among = np.arange(len(scores))
    among = among[scores[among] > -np.inf]
    order = np.argsort(-scores[among], kind="stable")[:k]
    return [int(place) for place in among[order]]
