"""A pipeline's execution plan: derived from its steps, so it is not state.

River builds it at the first call, by inspecting signatures (76 µs, most of what loading a model
would cost). Plans of simple steps depend on their classes alone, so one is kept per combination
of classes and filled with the steps of each pipeline that is read.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

from river import compose

from headrace.models.codec.class_table import ClassTable

_DERIVED: Final = frozenset(
    {"_plan", "_inference_transformers", "_last_step_cached", "_last_step_params"}
)
_MAX_PLANS: Final = 1024
_plans: dict[tuple[type, ...], tuple[list[tuple[Any, ...]], dict[str, Any]]] = {}


def install_pipeline_plan(table: ClassTable) -> None:
    """Teach `table` that a pipeline's plan is derived, and how to make it."""
    table.derived[compose.Pipeline] = _DERIVED
    table.after[compose.Pipeline] = build_plan


def build_plan(pipeline: compose.Pipeline) -> None:
    """Give `pipeline` the plan that River's own `_build_plan` would give it."""
    steps = tuple(pipeline.steps.values())
    kinds = tuple(map(type, steps))
    found = _plans.get(kinds)
    if found is None:
        plan = pipeline._build_plan()
        if all(map(_simple, kinds)) and len(_plans) < _MAX_PLANS:
            _plans[kinds] = (
                [(item[0], *item[2:]) for item in plan],
                pipeline._last_step_params,
            )
        return
    plan = tuple((item[0], step, *item[1:]) for item, step in zip(found[0], steps, strict=True))
    pipeline._plan = plan
    pipeline._inference_transformers = tuple(item[1] for item in plan[:-1] if item[0] != "anomaly")
    pipeline._last_step_cached = steps[-1]
    pipeline._last_step_params = found[1]


def _simple(kind: type) -> bool:
    """Whether supervision and signatures are the class's, never the instance's."""
    if issubclass(kind, compose.Pipeline | compose.TransformerUnion):
        return False
    static = inspect.getattr_static(kind, "_supervised", None)
    getter = static.fget if isinstance(static, property) else None
    return getter is not None and getter.__module__.startswith("river.base.")
