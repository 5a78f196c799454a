"""What a spec may say, what it means, and how it is refused."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import SpecError
from headrace.models.spec import Adjust, Cold, Verdict, load_spec, spec_from_data
from headrace.models.spec.durations import format_duration, parse_duration
from headrace.models.timestamps import to_milliseconds

FRAUD = """
agent: card-fraud
source: {topic: transactions, key: $.card_id, time: $.at, start: latest}
features:
  amount: {type: number, range: [0, 1e6], missing: reject}
  hour: {type: number, range: [0, 24], missing: 12}
  merchant: {type: category, encode: hash, buckets: 32}
model:
  - preprocessing.StandardScaler
  - linear_model.LogisticRegression: {optimizer: {optim.SGD: {lr: 0.01}}}
label: {field: $.fraud}
decide: {verdict: {block: 0.9, review: 0.6, else: allow}}
metrics: [Accuracy, F1]
emit: {topic: decisions.card-fraud, when: [block, review]}
state: {hot_keys_max: 50000, idle_ttl: 90d, flush_ms: 1000}
"""
HEATERS = """
agent: heaters
source: {topic: readings, key: $.machine.id}
features: {T: {type: number}, q: {type: number, range: [0, 100]}}
model: [preprocessing.StandardScaler, linear_model.LinearRegression]
label: {later: $.T, after: 30s, as: change}
decide:
  adjust:
    {actuator: q, setpoint: $.setpoint, range: [0, 100], search_step: 2, max_step: 10,
     cold: {updates: 20, value: {bias: -50, slope: 2}}, stale_after: 60s, safe: 0}
"""
TOP10 = """
agent: top10
source: {topic: ratings, key: $.user, start: earliest}
item: {field: $.item}
model: reco.BiasedMF
scope: shared
label: {field: $.rating}
decide: {recommend: {k: 10, candidates: $.shown}}
"""
SPECS = {"fraud": FRAUD, "heaters": HEATERS, "top10": TOP10}


def data_of(text: str) -> dict[str, Any]:
    """A spec's plain data, every default filled."""
    data = load_spec(text).to_dict()
    assert isinstance(data, dict)
    return data


def violations(data: Any) -> dict[str, str]:
    """Paths and texts of what is wrong."""
    with pytest.raises(SpecError) as caught:
        spec_from_data(data) if isinstance(data, dict) else load_spec(data)
    return {v.path: f"{v.text} ({v.hint})" for v in caught.value.violations}


def changed(text: str, path: str, value: Any) -> dict[str, Any]:
    """The spec's data with the value at `a/b/c` replaced; None: removed."""
    data: dict[str, Any] = yaml.safe_load(text.replace("1e6", "1.0e+6"))
    *way, last = path.split("/")
    inner = data
    for step in way:
        inner = inner[step]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return data


def test_a_label_that_comes_later_says_when() -> None:
    """`after: null` is as little of an answer as no `after` at all."""
    data = changed(HEATERS, "label/after", "")
    data["label"]["after"] = None
    assert "is required with later" in violations(data)["$.label.after"]


@pytest.mark.parametrize("name", SPECS)
def test_round_trip(name: str) -> None:
    """A spec's dict and canonical bytes both read back as the same spec with the same digest."""
    spec = load_spec(SPECS[name])
    assert spec_from_data(spec.to_dict()) == spec
    again = load_spec(spec.canonical())
    assert again == spec
    assert again.digest == spec.digest


def test_fields_of_a_verdict_spec() -> None:
    """What the YAML says stands in the parts, with units and defaults."""
    spec = load_spec(FRAUD)
    assert (spec.kind, spec.scope, spec.emit_topic) == ("binary", "key", "decisions.card-fraud")
    assert spec.decide == Verdict(thresholds=(("block", 0.9), ("review", 0.6)), otherwise="allow")
    assert spec.features["hour"].default == 12.0
    assert spec.features["amount"].high == 1_000_000.0
    assert spec.label is not None
    assert spec.label.type == "boolean"
    assert spec.state.idle_ttl_ms == 90 * 86_400_000
    assert spec.emit.when == ("block", "review")


def test_fields_of_an_adjust_spec() -> None:
    """A later label and its change, durations in milliseconds, an open loop while cold."""
    spec = load_spec(HEATERS)
    assert isinstance(spec.decide, Adjust)
    assert spec.decide.cold == Cold(updates=20, bias=-50.0, slope=2.0)
    assert (spec.decide.setpoint, spec.decide.setpoint_path) == (None, "$.setpoint")
    assert spec.decide.stale_after_ms == 60_000
    assert spec.label is not None
    assert (spec.label.after_ms, spec.label.change) == (30_000, True)
    assert (spec.kind, spec.metrics) == ("regressor", ("MAE", "RMSE"))


def test_format_does_not_change_the_digest() -> None:
    """YAML or JSON, another order of names, defaults written out: the same agent."""
    spec = load_spec(FRAUD)
    as_json = json.dumps(changed(FRAUD, "agent", "card-fraud"), indent=3)
    assert load_spec(as_json).digest == spec.digest
    reordered = dict(reversed(changed(FRAUD, "agent", "card-fraud").items()))
    reordered["state"] = dict(reversed(reordered["state"].items()))
    assert spec_from_data(reordered).digest == spec.digest
    assert spec_from_data(changed(FRAUD, "scope", "key") | {"scope": "key"}).digest == spec.digest


def test_order_of_features_changes_the_digest() -> None:
    """Models add up in the order of features, so another order is another agent."""
    data = changed(FRAUD, "agent", "card-fraud")
    data["features"] = dict(reversed(data["features"].items()))
    assert spec_from_data(data).digest != load_spec(FRAUD).digest


def test_order_of_parameters_does_not_change_the_digest() -> None:
    """Parameters of an estimator are named: their order means nothing."""
    digests = set()
    for parameters in ({"l2": 0.1, "intercept_lr": 0.2}, {"intercept_lr": 0.2, "l2": 0.1}):
        data = changed(FRAUD, "model", [{"linear_model.LogisticRegression": parameters}])
        digests.add(spec_from_data(data).digest)
    usual: list[Any] = ["linear_model.LogisticRegression", {"linear_model.LogisticRegression": {}}]
    for empty in usual:
        digests.add(spec_from_data(changed(FRAUD, "model", [empty])).digest)
    assert len(digests) == 2


def test_all_violations_at_once() -> None:
    """Everything wrong in every section is named in one go, each with its path."""
    text = """
    agent: Card Fraud
    source: {topic: "a b", key: card, start: yesterday}
    features: {amount: {type: numbr, range: [5, 1]}, hour: {type: number, missin: skip}}
    model: linear_model.LogisticRegresion
    scope: keys
    label: {field: $.fraud, after: 3}
    decide: {verdict: {review: 0.6, block: 0.9}}
    emit: {when: []}
    state: {hot_keys: 5}
    sauce: 1
    """
    found = violations(text)
    assert set(found) == {
        "$.agent", "$.source.topic", "$.source.key", "$.source.start", "$.features.amount.type",
        "$.features.amount.range", "$.features.hour.missin", "$.model", "$.scope", "$.label.after",
        "$.decide.verdict.else", "$.decide.verdict.block", "$.emit.when", "$.state.hot_keys",
        "$.sauce", "$.label",
    }  # fmt: skip
    assert "did you mean missing?" in found["$.features.hour.missin"]
    assert "did you mean hot_keys_max?" in found["$.state.hot_keys"]
    assert "did you mean linear_model.LogisticRegression?" in found["$.model"]
    assert "write $.card" in found["$.source.key"]


@pytest.mark.parametrize(
    ("text", "path", "value", "where", "says"),
    [
        (FRAUD, "label", None, "$.label", "is required"),
        (FRAUD, "features", None, "$.features", "is required"),
        (FRAUD, "features/hour/missing", 25, "$.features.hour.missing", "not within the range"),
        (FRAUD, "features/hour/missing", "noon", "$.features.hour.missing", "cannot stand in"),
        (FRAUD, "features/hour/encode", "hash", "$.features.hour.encode", "only a category"),
        (FRAUD, "features/merchant/buckets", None, "$.features.merchant.buckets", "is required"),
        (FRAUD, "features/merchant/range", [0, 1], "$.features.merchant.range", "only a number"),
        (FRAUD, "features/amount/range", [0, float("nan")], "$.features.amount.range", "[low"),
        (FRAUD, "features/amount/path", "$.a[0]", "$.features.amount.path", "arrays"),
        (FRAUD, "features/amount/path", "$.card_id.x", "$.source.key", "reads inside it"),
        (FRAUD, "label/type", "number", "$.label.type", "cannot be the label of a binary"),
        (FRAUD, "label/type", "category", "$.model", "tells two classes apart"),
        (FRAUD, "label/as", "change", "$.label", "belong to a label that comes later"),
        (FRAUD, "metrics", ["MAE"], "$.metrics[0]", "cannot judge a binary model"),
        (FRAUD, "metrics", ["Acuracy"], "$.metrics[0]", "did you mean Accuracy?"),
        (FRAUD, "emit/when", ["blok"], "$.emit.when[0]", "did you mean block?"),
        (FRAUD, "emit/topic", "transactions", "$.emit.topic", "its own source|own source"),
        (FRAUD, "item", {"field": "$.i"}, "$.item", "only a ranker has items"),
        (FRAUD, "decide", {"recommend": {}}, "$.decide.recommend", "cannot recommend"),
        (FRAUD, "decide", {"adjst": {}}, "$.decide.adjst", "did you mean adjust?"),
        (FRAUD, "decide/verdict/block", 1.5, "$.decide.verdict.block", "no probability"),
        (FRAUD, "decide/verdict/block", "high", "$.decide.verdict.block", "must be a number"),
        (FRAUD, "state/idle_ttl", "90 days", "$.state.idle_ttl", "90d"),
        (FRAUD, "model", "preprocessing.StandardScaler", "$.model", "predicts nothing"),
        (FRAUD, "model", "headrace.MostPopular", "$.scope", "scope: shared"),
        (HEATERS, "label", {"later": "$.T"}, "$.label.after", "is required"),
        (HEATERS, "decide/adjust/actuator", "Q", "$.decide.adjust.actuator", "not a declared"),
        (HEATERS, "decide/adjust/range", [0, 200], "$.decide.adjust.range", "beyond the range"),
        (HEATERS, "decide/adjust/search_step", 1e-9, "$.decide.adjust.search_step", "steps"),
        (HEATERS, "decide/adjust/safe", 101, "$.decide.adjust.safe", "not within"),
        (HEATERS, "decide/adjust/safe", None, "$.decide.adjust.safe", "is required"),
        (HEATERS, "decide/adjust/cold", None, "$.decide.adjust.cold", "is required"),
        (HEATERS, "features/q", {"type": "boolean"}, "$.decide.adjust.actuator", "a boolean"),
        (TOP10, "item", None, "$.item", "a ranker scores items"),
        (TOP10, "scope", "key", "$.scope", "all users together"),
        (TOP10, "decide", {"verdict": {"a": 1, "else": "b"}}, "$.decide.verdict", "no single"),
        (TOP10, "decide/recommend/k", 0, "$.decide.recommend.k", "1..1000"),
    ],
)  # fmt: skip
def test_refused(text: str, path: str, value: Any, where: str, says: str) -> None:
    """Each rule of a spec names the field and says what is wrong or what to do."""
    found = violations(changed(text, path, value))
    assert where in found
    assert any(part in found[where] for part in says.split("|"))


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("label", {"topic": "frauds", "field": "$.fraud"}, "$.label.topic"),
        ("label", {"field": "$.fraud", "key": "$.tx"}, "$.label.key"),
        ("source/topic", ["a", "b"], "$.source.topic"),
        ("source/key", ["$.a", "$.b"], "$.source.key"),
        ("source/join", {"topic": "cards"}, "$.source.join"),
        ("joins", [], "$.joins"),
    ],
)
def test_other_topics_and_keys_come_later(path: str, value: Any, where: str) -> None:
    """Labels from elsewhere, joins and re-keying are refused in these words."""
    text = "for now an agent reads one topic that is keyed by its key"
    assert violations(changed(FRAUD, path, value))[where].startswith(text)


def test_a_model_that_cannot_take_the_features() -> None:
    """A text that walks into a model of numbers is found before every event fails on it."""
    data = changed(FRAUD, "features/merchant", {"type": "category"})
    found = violations(data)
    assert "fails on events of the declared features" in found["$.model"]
    assert "`merchant` reaches the model as a text" in found["$.model"]
    for works in (
        "tree.HoeffdingTreeClassifier",
        [{"compose.Discard": ["merchant"]}, *data["model"]],
    ):
        assert spec_from_data(data | {"model": works}).kind == "binary"


def test_heavy_models_are_shared() -> None:
    """A forest per key would exhaust the worker; one for all keys may be deployed."""
    data = changed(FRAUD, "model", "forest.ARFClassifier")
    assert "forest.ARFClassifier is heavy" in violations(data)["$.scope"]
    assert spec_from_data(data | {"scope": "shared"}).shared
    data = changed(FRAUD, "model", ["preprocessing.StandardScaler", "anomaly.HalfSpaceTrees"])
    assert "anomaly.HalfSpaceTrees is heavy" in violations(data)["$.scope"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &x 1\nb: *x", "anchor"),
        ("a: [*x]", "alias"),
        ("a: !!python/object:os.system x", "tag"),
        ("a: !!binary aGk=", "tag"),
        ("--- {}\n--- {}", "several YAML documents"),
        ("agent: a\nagent: b", "given twice"),
        ('{"agent": "a", "agent": "b"}', "given twice"),
        ("state: {flush_ms: 1, flush_ms: 2}", "given twice"),
        ("agent: [", "not YAML"),
        ("agent: .nan", "not a finite number"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ("agent: 1e999", "too large a number"),
        ("? [a]\n: b", "field's name is not text"),
        ("[" * 5000, "nested deeper"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "nested deeper"),
        ("a: " + "x" * 300_000, "at most 262,144"),
        ("a: [" + "1," * 60_000 + "1]", "more than 50,000 values"),
        ("[]", "must be a mapping"),
        ("", "must be a mapping"),
        ("\x00", "not YAML"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_texts_that_are_no_spec(text: str | bytes, says: str) -> None:
    """YAML's traps and JSON's are refused, each with its reason."""
    with pytest.raises(SpecError) as caught:
        load_spec(text)
    assert says in str(caught.value)


def test_yaml_means_what_json_means() -> None:
    """`yes`, `on`, `012` and dates are texts; `1e6` is a number."""
    text = FRAUD.replace("start: latest", "start: 2024-01-31T09:30:00Z")
    text = text.replace("block", "on").replace("allow", "no")
    spec = load_spec(text)
    assert spec.source.start_ms == to_milliseconds("2024-01-31T09:30:00Z") == 1_706_693_400_000
    assert isinstance(spec.decide, Verdict)
    assert spec.decide.names == ("on", "review", "no")


def test_seeds() -> None:
    """A key's model draws the same wherever it is built; another key's draws otherwise."""
    data = changed(TOP10, "agent", "top10")
    data["model"] = {"reco.BiasedMF": {"n_factors": 3}}
    shared = spec_from_data(data)
    assert shared.build_model("a").seed == shared.build_model("b").seed
    bagging = {"ensemble.BaggingClassifier": {"model": "linear_model.LogisticRegression"}}
    keyed = spec_from_data(changed(FRAUD, "model", bagging))
    assert keyed.build_model("a").seed == keyed.build_model("a").seed
    assert keyed.build_model("a").seed != keyed.build_model("b").seed


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.binary(), st.text("{}[]:,-\"'\n ab&*!|>%@#$.0e", max_size=60)))
def test_any_text_is_a_spec_or_a_spec_error(text: str | bytes) -> None:
    """No text makes the reader raise anything else."""
    with pytest.raises(SpecError):
        load_spec(text)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


def _places(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = data.items() if isinstance(data, dict) else enumerate(data)
    places = [at] if at else []
    for name, value in inner:
        if isinstance(value, (dict, list)):
            places += _places(value, (*at, name))
        else:
            places.append((*at, name))
    return places


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(SPECS)), st.data())
def test_any_value_anywhere_is_a_spec_or_a_spec_error(name: str, draw: Any) -> None:
    """Whatever stands in a field, the answer is a spec that round-trips, or violations."""
    data = copy.deepcopy(data_of(SPECS[name]))
    *way, last = draw.draw(st.sampled_from(_places(data)))
    inner: Any = data
    for step in way:
        inner = inner[step]
    inner[last] = draw.draw(JSON)
    try:
        spec = spec_from_data(data)
    except SpecError:
        return
    assert load_spec(spec.canonical()).digest == spec.digest


@given(st.integers(0, 10**12))
def test_durations_round_trip(milliseconds: int) -> None:
    """Every duration has a text that reads back as the same milliseconds."""
    assert parse_duration(format_duration(milliseconds)) == milliseconds


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1 week", "1e3s", "5 m s", "99999999999d"])
def test_no_durations(text: str) -> None:
    """A number without a unit, or more than a hundred years, is no duration."""
    with pytest.raises(ValueError, match=r"duration|longer"):
        parse_duration(text)
