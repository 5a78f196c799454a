"""A request's features against the spec's declarations: the same rules as for events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.errors import EventError, RequestError, Violation
from headrace.models.fields import Want, checked
from headrace.models.spec import Spec
from headrace.models.spec_reader import did_you_mean
from headrace.models.spec_sections import MAX_CATEGORY


def check_question(spec: Spec, features: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values in declared order, None where one is missing and may be.

    Raises RequestError with all violations; its code is the first one's: unknown_feature,
    missing_feature, wrong_type, not_finite, out_of_range, too_long or bad_utf8.
    """
    found: list[tuple[str, Violation]] = []
    for name in features:
        if name not in spec.features:
            hint = did_you_mean(str(name), spec.features)
            violation = Violation(f"features.{name}", "the agent has no such feature", hint)
            found.append(("unknown_feature", violation))
    values: list[Any] = []
    for name, feature in spec.features.items():
        value = features.get(name)
        if value is None:
            values.append(None)
            if feature.missing == "reject":
                violation = Violation(f"features.{name}", f"`{name}` is missing")
                found.append(("missing_feature", violation))
            continue
        want = Want(
            name=name,
            path=(name,),
            kind="text" if feature.type == "category" else feature.type,
            required=True,
            low=feature.low,
            high=feature.high,
            longest=MAX_CATEGORY,
        )
        try:
            values.append(checked(want, value))
        except EventError as error:
            found.append((error.code, Violation(f"features.{name}", error.text)))
    if found:
        violations = [violation for _, violation in found]
        text = "; ".join(v.text if "`" in v.text else f"{v.path}: {v.text}" for v in violations)
        raise RequestError(found[0][0], text, violations=violations)
    return tuple(values)
