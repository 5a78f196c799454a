"""A spec: what a user deploys. Data, never code; the same digest is the same agent.

`load_spec` reads YAML or JSON strictly and names everything that is wrong at once. docs/spec.md
explains each field to people; `schema.json_schema` explains them to editors.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Unpack

import msgspec

from headrace.errors import SpecError, Violation
from headrace.models.spec.canonical import canonical_model, canonical_order, spec_to_dict
from headrace.models.spec.limits import oversized
from headrace.models.spec.model import Kind, build, kind_of, seed_of
from headrace.models.spec.parts import (
    Decide,
    Emit,
    Feature,
    Label,
    Source,
    StateLimits,
)
from headrace.models.spec.rules import check_rules, complete_label, default_metrics
from headrace.models.spec.sections import read_sections
from headrace.models.spec.text import read_document

if TYPE_CHECKING:
    from headrace.models.spec.river import Fields

__all__ = ["Spec", "load_spec", "spec_from_data"]


class Spec(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One agent's declaration, checked and with all defaults filled.

    >>> spec = load_spec('''
    ... agent: card-fraud
    ... source: {topic: transactions, key: $.card_id}
    ... features: {amount: {type: number, range: [0, 1e6]}}
    ... model: [preprocessing.StandardScaler, linear_model.LogisticRegression]
    ... label: {field: $.fraud}
    ... decide: {verdict: {block: 0.9, review: 0.6, else: allow}}
    ... ''')
    >>> spec.kind, spec.emit_topic, spec.metrics, spec.decide.names
    ('binary', 'decisions.card-fraud', ('Accuracy', 'F1', 'ROCAUC'), ('block', 'review', 'allow'))
    >>> load_spec(spec.canonical()) == spec
    True
    """

    agent: str
    source: Source
    features: dict[str, Feature]  # in declared order, which is the order in which models see them
    item: str | None  # the path of the interaction's item; rankers only
    model: Any  # as written: names and parameters
    scope: Literal["key", "shared"]
    label: Label | None
    decide: Decide
    metrics: tuple[str, ...]
    emit: Emit
    state: StateLimits
    kind: Kind

    @property
    def emit_topic(self) -> str:
        """The topic that decisions go to."""
        assert self.emit.topic is not None  # filled when the spec was read
        return self.emit.topic

    @property
    def shared(self) -> bool:
        """Whether one model learns from all keys."""
        return self.scope == "shared"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `canonical`, 64 hexadecimal digits: the spec's identity."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def canonical(self) -> bytes:
        """JSON with every default filled. Names are sorted, except where order has a meaning:
        features (models add up in that order), verdicts, and mappings inside the model.
        """
        return msgspec.json.encode(canonical_order(self.to_dict()))

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `spec_from_data` reads back, every default filled."""
        return spec_to_dict(self)

    def build_model(self, key: str) -> Any:
        """A new model of a key, with seeds from the agent and the key (`shared`: agent alone)."""
        estimator, violations = build(self.model, seed_of(self.agent, None if self.shared else key))
        assert not violations, violations  # a Spec exists only if its model builds
        return estimator

    @classmethod
    def from_river(cls, estimator: Any, **fields: Unpack[Fields]) -> Spec:
        """A River estimator or pipeline from a notebook as a spec: its parameters, not what it
        has learned. `Fields` lists the keywords. Raises SpecError.
        """
        from headrace.models.spec.river import spec_from_river

        return spec_from_river(estimator, fields)


def load_spec(text: bytes | str) -> Spec:
    """Reads YAML or JSON. Raises SpecError, which holds all violations.

    >>> try:
    ...     load_spec("{agent: Card, sauce: {}}")
    ... except SpecError as error:
    ...     print(error)
    $.agent: 'Card' is not a name: a-z first, then a-z, 0-9 and -, at most 63 in all
    $.source: is required (the topic to read and the path of its key)
    $.model: is required (an estimator's name, or a list of them for a pipeline)
    $.sauce: unknown field (did you mean source?)
    """
    return spec_from_data(read_document(text))


def spec_from_data(data: object) -> Spec:
    """The same from plain data (dicts, lists, strings, numbers). Raises SpecError."""
    found: list[Violation] = []
    sections = read_sections(data, found)
    estimator, kind = None, None
    if sections.model is not None:
        violations = oversized(sections.model, len(sections.features))
        if not violations:
            estimator, violations = build(sections.model, 0)
        found += violations
    if estimator is not None:
        kind = kind_of(estimator, sections.label_type)
    found += check_rules(sections, estimator, kind)
    if found:
        raise SpecError(found)
    assert sections.agent is not None
    assert sections.source is not None
    assert sections.decide is not None
    assert sections.emit is not None
    assert sections.state is not None
    assert kind is not None
    if sections.metrics is None:
        sections.metrics = default_metrics(sections, kind)
    return Spec(
        agent=sections.agent,
        source=sections.source,
        features=sections.features,
        item=sections.item,
        model=canonical_model(sections.model),
        scope="shared" if sections.scope == "shared" else "key",
        label=complete_label(sections, kind),
        decide=sections.decide,
        metrics=sections.metrics,
        emit=Emit(
            topic=sections.emit.topic or f"decisions.{sections.agent}", when=sections.emit.when
        ),
        state=sections.state,
        kind=kind,
    )
