"""What recommends: rankers whose state is rows per user and item, and the step that runs them.

The law of this package: a flush writes what changed and never a whole table, and a model that goes
on from its rows is bit-identical to the one that wrote them (`row_model` is the seam). `ranked` is
the step; `popular` and `cooccurrence` are estimators of ours, which `history_rows` keeps in rows;
`factor_rows` keeps River's matrix factorization there, and learns by `factor_step`.
"""

from headrace.models.recommend.cooccurrence import ItemCooccurrence
from headrace.models.recommend.popular import NO_HISTORY, MostPopular

__all__ = ["NO_HISTORY", "ItemCooccurrence", "MostPopular"]
