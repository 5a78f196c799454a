"""Which options of a question an agent can make use of, as its spec says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.errors import RequestError

FOR_LISTS = ("-k", "--candidate", "--exclude")


def check(agent: str, spec: Mapping[str, Any], options: Sequence[str]) -> None:
    """Refuse options that the agent would pass over in silence.

    >>> check("films", {"decide": {"recommend": {"k": 10}}, "item": {"field": "$.item"}}, ["-k"])

    Raises RequestError with all of them.
    """
    reasons = [reason for option in options if (reason := _why_not(spec, option))]
    if reasons:
        raise RequestError("invalid_request", f"{agent}: {'; '.join(dict.fromkeys(reasons))}")


def _why_not(spec: Mapping[str, Any], option: str) -> str:
    """Why the option is of no use; empty where it is."""
    decide = spec.get("decide", {})
    does = ", ".join(decide) or "score"
    if option in FOR_LISTS and "recommend" not in decide:
        return f"{option} is for agents that `recommend`; this one decides by `{does}`"
    if option == "--item" and not spec.get("item"):
        return "--item is for recommenders; this agent's spec has no `item`"
    if option == "--setpoint":
        if "adjust" not in decide:
            return f"--setpoint is for agents that `adjust`; this one decides by `{does}`"
        fixed = decide["adjust"].get("setpoint")
        if isinstance(fixed, int | float):
            return f"--setpoint is of no use: the spec fixes the set-point at {fixed:g}"
    return ""
