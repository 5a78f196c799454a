"""Which parameters differ between two models of one shape, and whether River lets them change.

River says by `_mutable_attributes` what may be set on a live model. What it does not list may not:
changing it would leave a model that no sequence of events could have made.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeAlias

from river import base, compose, optim

from headrace.models import codec
from headrace.models.catalog import name_of

__all__ = ["Changes", "Refused", "changes_between"]

Changes: TypeAlias = dict[str, Any]
"""What River's `mutate` takes: values by attribute, nested where an object keeps what it knows."""

Refused: TypeAlias = list[tuple[str, str]]
"""Paths and what differs there."""

# Parts that remember nothing, so that another one can take their place.
_WITHOUT_MEMORY = (optim.base.Loss, optim.base.Scheduler, optim.base.Initializer)


def changes_between(old: Any, new: Any, path: str = "$.model") -> tuple[Changes, Refused]:
    """How to make `old`'s parameters those of `new`, and what of it River does not let happen.

    Both are as a spec builds them, untrained and of one key; `path` is where they stand.

    >>> from river import linear_model
    >>> old = linear_model.LinearRegression(optim.SGD(0.1), intercept_init=1.0)
    >>> new = linear_model.LinearRegression(optim.SGD(0.2), intercept_init=2.0)
    >>> changes, refused = changes_between(old, new)
    >>> changes
    {'optimizer': {'lr': {'learning_rate': 0.2}}}
    >>> refused
    [('$.model.linear_model.LinearRegression.intercept_init', 'is 2.0, and was 1.0')]
    """
    refused: Refused = []
    return _between(old, new, path, refused), refused


def _between(old: Any, new: Any, path: str, refused: Refused) -> Changes:
    if type(old) is not type(new):
        refused.append((path, f"is {_called(new)}, and was {_called(old)}"))
        return {}
    if isinstance(old, compose.Pipeline):
        return _parts(old.steps, new.steps, path, refused)
    if isinstance(old, compose.TransformerUnion):
        where = f"{path}.{_called(old)}"
        return _parts(old.transformers, new.transformers, where, refused)
    changes: Changes = {}
    for name in inspect.signature(type(old)).parameters:
        before, after = getattr(old, name, None), getattr(new, name, None)
        if codec.encode(before) == codec.encode(after):
            continue
        where = f"{path}.{_called(old)}.{name}"
        if name not in old._mutable_attributes:
            refused.append((where, _said(before, after)))
            continue
        change = _attribute(before, after, where, refused)
        if change != {}:
            changes[name] = change
    return changes


def _parts(old: Mapping[str, Any], new: Mapping[str, Any], path: str, refused: Refused) -> Changes:
    if len(old) != len(new):
        refused.append((path, f"has {len(new)} parts, and had {len(old)}"))
        return {}
    changes: Changes = {}
    for index, (name, before, after) in enumerate(
        zip(old, old.values(), new.values(), strict=True)
    ):
        change = _between(before, after, f"{path}[{index}]", refused)
        if change:
            changes[name] = change
    return changes


def _attribute(before: Any, after: Any, path: str, refused: Refused) -> Any:
    """What a mutable attribute is set to; empty if nothing may be."""
    if isinstance(before, base.Base) and type(before) is type(after):
        inner: Refused = []
        changes = _between(before, after, path, inner)
        if not inner:
            return changes
        if isinstance(before, _WITHOUT_MEMORY):
            return after
        refused.extend(inner)
        return {}
    both = isinstance(before, _WITHOUT_MEMORY) and isinstance(after, _WITHOUT_MEMORY)
    if isinstance(before, base.Base) or isinstance(after, base.Base):
        if both:
            return after
        refused.append((path, _said(before, after)))
        return {}
    return after


def _said(before: Any, after: Any) -> str:
    if type(before) is not type(after) and (
        isinstance(before, base.Base) or isinstance(after, base.Base)
    ):
        return f"is {_called(after)}, and was {_called(before)}"
    if isinstance(before, base.Base):
        return f"is another {_called(after)} than it was, and cannot change"
    return f"is {after!r}, and was {before!r}"


def _called(part: Any) -> str:
    return name_of(type(part)) or (
        type(part).__name__ if isinstance(part, base.Base) else repr(part)
    )
