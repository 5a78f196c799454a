"""Rules that concern several sections of a spec at once."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.errors import Violation
from headrace.models.metrics import families, works_with
from headrace.models.paths import Path, parse_path
from headrace.models.spec.field_reader import did_you_mean
from headrace.models.spec.model import Kind, heavy_names, last_step, two_classes_only
from headrace.models.spec.parts import Adjust, Label, Recommend, Score, ValueType, Verdict
from headrace.models.spec.sections import Sections

_DEFAULT_METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("Accuracy", "F1", "ROCAUC"),
    "multiclass": ("Accuracy", "MacroF1"),
    "regressor": ("MAE", "RMSE"),
    "anomaly": ("ROCAUC", "AveragePrecision"),
    "ranker": ("MAE", "RMSE"),
    "clusterer": (),
}
_LABEL_TYPES: dict[str, tuple[ValueType, ...]] = {
    "binary": ("boolean",),
    "multiclass": ("category",),
    "regressor": ("number",),
    "anomaly": ("boolean",),
    "ranker": ("number",),
    "clusterer": (),
}


def default_metrics(sections: Sections, kind: Kind) -> tuple[str, ...]:
    """What is measured where the spec does not say."""
    if isinstance(sections.decide, Recommend):
        return ("HitRate",)
    return _DEFAULT_METRICS[kind] if sections.label is not None else ()


def check_rules(sections: Sections, estimator: Any, kind: Kind | None) -> list[Violation]:
    """All violations; `estimator` and `kind` are None where the model does not build."""
    found: list[Violation] = []
    _check_paths(sections, found)
    _check_emit(sections, found)
    if isinstance(sections.decide, Adjust):
        _check_adjust(sections, sections.decide, found)
    if estimator is not None:
        _check_scope(sections, kind, found)
    if estimator is not None and kind is None:
        name = type(last_step(estimator)).__name__
        text = f"{name}, the last step, predicts nothing that an agent can decide on"
        hint = "end with a classifier, a regressor, an anomaly detector, a ranker or a clusterer"
        found.append(Violation("$.model", text, hint))
    if kind is not None:
        _check_label(sections, kind, found)
        if kind == "multiclass" and two_classes_only(estimator):
            text = f"{type(last_step(estimator)).__name__} tells two classes apart, not several"
            hint = "put it into multiclass.OneVsRestClassifier, or declare a boolean label"
            found.append(Violation("$.model", text, hint))
        _check_policy(sections, kind, found)
        _check_metrics(sections, kind, found)
        if kind != "ranker" and not sections.features and sections.features_sound:
            found.append(Violation("$.features", "is required", "what is not listed is not seen"))
        if sections.features and not found and sections.features_sound:
            # Here, because rehearsing needs what is built upon specs.
            from headrace.models.rehearsal import rehearse

            failure = rehearse(estimator, sections.features, kind)
            found += [] if failure is None else [failure]
    return found


def _check_paths(sections: Sections, found: list[Violation]) -> None:
    """One field cannot be a value for one reader and an object for another."""
    paths = used_paths(sections)
    for where, path in paths:
        for other, longer in paths:
            if len(longer) > len(path) and longer[: len(path)] == path:
                text = f"reads ${'.' + '.'.join(path)} as a value, but {other} reads inside it"
                found.append(Violation(where, text))
                break


def used_paths(sections: Sections) -> list[tuple[str, Path]]:
    """Every path into an event, with the place in the spec that names it."""
    used: list[tuple[str, str | None]] = []
    if sections.source is not None:
        used += [("$.source.key", sections.source.key), ("$.source.time", sections.source.time)]
    used += [(f"$.features.{name}.path", f.path) for name, f in sections.features.items()]
    used.append(("$.item.field", sections.item))
    if sections.label is not None:
        used.append(("$.label", sections.label.path))
    if isinstance(sections.decide, Adjust):
        used.append(("$.decide.adjust.setpoint", sections.decide.setpoint_path))
    if isinstance(sections.decide, Recommend):
        used.append(("$.decide.recommend.candidates", sections.decide.candidates))
        used.append(("$.decide.recommend.exclude", sections.decide.exclude))
    return [(where, parse_path(path)) for where, path in used if path is not None]


def _check_emit(sections: Sections, found: list[Violation]) -> None:
    emit, source = sections.emit, sections.source
    if emit is None:
        return
    if source is not None and source.topic == (emit.topic or f"decisions.{sections.agent}"):
        text = f"{source.topic} is the agent's own source: it would read its decisions as events"
        found.append(Violation("$.emit.topic", text))
    if emit.when is None or sections.decide is None:
        return
    if not isinstance(sections.decide, Verdict):
        text = "selects verdicts, but this agent gives none"
        found.append(Violation("$.emit.when", text, "leave it out: every decision is emitted"))
        return
    for index, name in enumerate(emit.when):
        if name not in sections.decide.names:
            hint = did_you_mean(name, sections.decide.names)
            found.append(Violation(f"$.emit.when[{index}]", f"{name!r} is not a verdict", hint))


def _check_adjust(sections: Sections, adjust: Adjust, found: list[Violation]) -> None:
    feature = sections.features.get(adjust.actuator)
    where = "$.decide.adjust.actuator"
    if feature is None:
        if sections.features_sound:
            hint = did_you_mean(adjust.actuator, sections.features)
            found.append(Violation(where, f"{adjust.actuator!r} is not a declared feature", hint))
    elif feature.type != "number":
        text = f"{adjust.actuator} is a {feature.type}; an actuator is a number feature"
        found.append(Violation(where, text))
    elif adjust.low < feature.low or adjust.high > feature.high:
        text = f"[{adjust.low:g}, {adjust.high:g}] goes beyond the range of the feature"
        hint = f"{adjust.actuator} is declared within [{feature.low:g}, {feature.high:g}]"
        found.append(Violation("$.decide.adjust.range", text, hint))


def _check_scope(sections: Sections, kind: Kind | None, found: list[Violation]) -> None:
    if sections.scope == "shared":
        return
    if kind == "ranker":
        text = "a ranker learns from all users together, not from one key alone"
        found.append(Violation("$.scope", text, "write scope: shared"))
    for name in heavy_names(sections.model):
        text = f"{name} is heavy: one per key would exhaust the worker"
        found.append(Violation("$.scope", text, "write scope: shared, or take a lighter model"))


def _check_label(sections: Sections, kind: Kind, found: list[Violation]) -> None:
    label = sections.label
    if label is None:
        if kind in ("binary", "multiclass", "regressor") and sections.label_sound:
            text = "is required: this model learns from labels"
            found.append(Violation("$.label", text, "{field: $.truth} or {later: $.x, after: 30s}"))
        return
    allowed = _LABEL_TYPES[kind]
    if not allowed:
        found.append(Violation("$.label", "a clusterer learns without labels", "leave it out"))
    elif sections.label_type and sections.label_type not in allowed:
        text = f"a {sections.label_type} cannot be the label of a {kind} model"
        hint = f"it learns from a {allowed[0]}"
        if kind == "binary":
            hint = "boolean for two classes, category for several"
        found.append(Violation("$.label.type", text, hint))
    elif label.change and allowed[0] != "number":
        found.append(Violation("$.label.as", f"only a number changes, not a {allowed[0]}"))
    elif label.later and kind == "ranker":
        text = "a ranker's label is in the event itself"
        found.append(Violation("$.label.later", text, "use field: $.rating"))


def _check_policy(sections: Sections, kind: Kind, found: list[Violation]) -> None:
    decide = sections.decide
    if kind == "ranker" and sections.item is None and sections.item_sound:
        found.append(Violation("$.item", "is required: a ranker scores items", "{field: $.item}"))
    if kind != "ranker" and sections.item is not None:
        found.append(Violation("$.item", f"only a ranker has items, not a {kind} model"))
    if decide is None or isinstance(decide, Score):
        return
    if isinstance(decide, Recommend) and kind != "ranker":
        text = f"a {kind} model cannot recommend: it does not score items"
        found.append(Violation("$.decide.recommend", text, "take a ranker, as in reco.BiasedMF"))
    if isinstance(decide, Adjust) and kind != "regressor":
        text = f"a {kind} model cannot adjust: it predicts no number"
        found.append(Violation("$.decide.adjust", text, "take a regressor"))
    if isinstance(decide, Verdict):
        if kind not in ("binary", "anomaly", "regressor"):
            text = f"a {kind} model gives no single number to compare with thresholds"
            found.append(Violation("$.decide.verdict", text, "use score: {}"))
        for name, threshold in decide.thresholds:
            if kind == "binary" and not 0.0 <= threshold <= 1.0:
                text = f"{threshold:g} is no probability: a binary model scores from 0 to 1"
                found.append(Violation(f"$.decide.verdict.{name}", text))


def _check_metrics(sections: Sections, kind: Kind, found: list[Violation]) -> None:
    for index, name in enumerate(sections.metrics or ()):
        where = f"$.metrics[{index}]"
        if name not in families():
            hint = did_you_mean(name, families()) or "River's metric classes that need no parameter"
            found.append(Violation(where, f"{name!r} is not a metric", hint))
        elif not works_with(name, kind):
            found.append(Violation(where, f"{name} cannot judge a {kind} model"))
        elif name == "HitRate" and not isinstance(sections.decide, Recommend):
            text = "HitRate judges recommendations: decide: {recommend: …}"
            found.append(Violation(where, text))
        elif name != "HitRate" and sections.label is None and sections.label_sound:
            found.append(Violation(where, f"{name} needs a label to compare with"))


def complete_label(sections: Sections, kind: Kind) -> Label | None:
    """The label with the type that its model learns from."""
    if sections.label is None:
        return None
    allowed = _LABEL_TYPES[kind]
    return msgspec.structs.replace(sections.label, type=allowed[0] if allowed else "number")
