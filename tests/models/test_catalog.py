"""The catalog: names, typed parameters, and every violation at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from river import compose, forest, linear_model, neighbors, optim, preprocessing

from headrace.models.catalog import build, build_pipeline, catalog, name_of, out_of_catalog
from headrace.models.catalog.replacements import KNNClassifier
from headrace.models.codec import encode
from tests.models.catalog_page import PAGE, catalog_markdown

LOGISTIC = "linear_model.LogisticRegression"


def _texts(model: Any) -> list[tuple[str, str, str]]:
    made, wrong = build_pipeline(model, seed=1)
    assert (made is None) == bool(wrong)
    return [(violation.path, violation.text, violation.hint) for violation in wrong]


def test_the_page_is_up_to_date() -> None:
    """docs/catalog.md is what the generator writes now."""
    assert PAGE.read_text(encoding="utf-8") == catalog_markdown(), (
        "write it anew: python -m tests.models.catalog_page"
    )


def test_a_pipeline_is_built_as_river_would() -> None:
    """Nested optimizers, numbers and schedulers come to stand where River puts them."""
    made, wrong = build_pipeline(
        [
            "preprocessing.StandardScaler",
            {LOGISTIC: {"optimizer": {"optim.SGD": {"lr": 0.05}}, "l2": 0.1}},
        ],
        seed=1,
    )
    by_hand = preprocessing.StandardScaler() | linear_model.LogisticRegression(
        optimizer=optim.SGD(0.05), l2=0.1
    )
    assert wrong == []
    assert encode(made) == encode(by_hand)


@pytest.mark.parametrize(
    "model",
    [
        {"ensemble.VotingClassifier": {"models": [LOGISTIC, "naive_bayes.GaussianNB"]}},
        {"ensemble.BaggingClassifier": {"model": ["preprocessing.StandardScaler", LOGISTIC]}},
        {"feature_extraction.Agg": {"on": "a", "by": ["b"], "how": "stats.Mean"}},
        [{"compose.Select": ["a", "b"]}, LOGISTIC],
        [{"compose.SelectType": ["float"]}, LOGISTIC],
        [["preprocessing.StandardScaler", "preprocessing.Normalizer"], LOGISTIC],
        {LOGISTIC: {"loss": {"optim.losses.Log": {"weight_pos": 2}}}},
        {LOGISTIC: {"optimizer": {"optim.SGD": {"lr": {"optim.schedulers.InverseScaling": {
            "learning_rate": 0.1}}}}}},
        {"tree.HoeffdingTreeRegressor": {"splitter": "tree.splitter.TEBSTSplitter"}},
        {"anomaly.HalfSpaceTrees": {"limits": {"amount": [0, 10]}}},
        {"drift.DriftRetrainingClassifier": {"model": LOGISTIC,
            "drift_detector": "drift.binary.DDM"}},
        {"model_selection.BanditClassifier": {"models": [LOGISTIC, "naive_bayes.GaussianNB"],
            "metric": "metrics.Accuracy", "policy": {"bandit.EpsilonGreedy": {"epsilon": 0.1}}}},
        {"reco.BiasedMF": {"n_factors": 10, "latent_optimizer": {"optim.SGD": {"lr": 0.05}}}},
        {"feature_extraction.BagOfWords": {"on": "text", "ngram_range": [1, 2]}},
        "headrace.ItemCooccurrence",
        [{"compose.TransformerUnion": [[{"compose.Select": ["a"]}, "preprocessing.StandardScaler"],
            {"compose.Select": ["b"]}]}, LOGISTIC],
        {"ensemble.VotingClassifier": {"models": [["preprocessing.StandardScaler", LOGISTIC],
            "naive_bayes.GaussianNB"]}},
        [{"anomaly.QuantileFilter": {"q": 0.9, "anomaly_detector": ["preprocessing.MinMaxScaler",
            "anomaly.HalfSpaceTrees"]}}, LOGISTIC],
        {"conf.RegressionJackknife": {"regressor": ["preprocessing.StandardScaler",
            "linear_model.LinearRegression"]}},
        {"preprocessing.StatImputer": [["a", "stats.Mean"]]},
    ],
)  # fmt: skip
def test_what_a_spec_can_say_is_built(model: Any) -> None:
    """Estimators inside estimators, lists of names, types, unions, limits and detectors."""
    assert _texts(model) == []


def test_all_violations_come_at_once_with_their_paths_and_hints() -> None:
    """One round trip shows everything that is wrong, and what was probably meant."""
    model = [
        "preprocessing.StandardScalar",
        {LOGISTIC: {"optimiser": "optim.SGD", "l2": "x", "optimizer": {"optim.SGDD": {}}}},
        {"linear_model.PARegressor": {"C": float("nan"), "mode": "three"}},
    ]
    assert _texts(model) == [
        (
            "$.model[0]",
            "no estimator is called 'preprocessing.StandardScalar'",
            "did you mean preprocessing.StandardScaler?",
        ),
        (
            f"$.model[1].{LOGISTIC}.optimiser",
            f"{LOGISTIC} has no parameter optimiser",
            "did you mean optimizer?",
        ),
        (f"$.model[1].{LOGISTIC}.l2", "must be a number, not 'x'", ""),
        (
            f"$.model[1].{LOGISTIC}.optimizer.optim.SGDD",
            "no estimator is called 'optim.SGDD'",
            "did you mean optim.SGD?",
        ),
        ("$.model[2].linear_model.PARegressor.C", "must be finite, not nan", ""),
        ("$.model[2].linear_model.PARegressor.mode", "must be a number, not 'three'", ""),
    ]


@pytest.mark.parametrize(
    ("model", "path", "text"),
    [
        ([], "$.model", "is empty"),
        (None, "$.model", "must be an estimator's name"),
        ({"a": 1, "b": 2}, "$.model", "must be an estimator's name"),
        ({3: {}}, "$.model", "3 is no estimator's name"),
        ({LOGISTIC: 3}, f"$.model.{LOGISTIC}", "parameters must be a mapping"),
        ({LOGISTIC: [1]}, f"$.model.{LOGISTIC}", "takes named parameters, not a list"),
        ("optim.SGD", "$.model", "SGD is no estimator that can stand here"),
        ([LOGISTIC, "preprocessing.StandardScaler"], "$.model[0]", "nothing can follow it"),
        (
            {"ensemble.BaggingClassifier": {}},
            "$.model.ensemble.BaggingClassifier.model",
            "required",
        ),
        (
            {"ensemble.BaggingClassifier": {"model": "optim.SGD"}},
            "$.model.ensemble.BaggingClassifier.model",
            "must be a Classifier, not a SGD",
        ),
        ({LOGISTIC: {"optimizer": 0.3}}, f"$.model.{LOGISTIC}.optimizer", "must be an Optimizer"),
        ("compose.FuncTransformer", "$.model", "is not in the catalog: it takes a function"),
        ("time_series.SNARIMAX", "$.model", "a forecaster"),
        ("os.system", "$.model", "no estimator is called 'os.system'"),
        (
            {"feature_extraction.TFIDF": {"tokenizer": "builtins.eval"}},
            "$.model.feature_extraction.TFIDF.tokenizer",
            "takes a function, which a spec cannot give",
        ),
        (
            {"ensemble.VotingClassifier": {"models": [LOGISTIC, {"optim.losses.Lag": {}}]}},
            "$.model.ensemble.VotingClassifier.models[1].optim.losses.Lag",
            "no estimator is called",
        ),
        (
            {"linear_model.PAClassifier": {"mode": 99}},
            "$.model.linear_model.PAClassifier",
            "refuses its parameters",
        ),
    ],
)
def test_what_no_spec_can_say_is_refused_where_it_stands(model: Any, path: str, text: str) -> None:
    """Each mistake is told with its path, never as a traceback."""
    found = _texts(model)
    assert [f[0] for f in found] == [path]
    assert text in found[0][1]


UNION = "compose.TransformerUnion"


def test_all_that_is_wrong_in_branches_comes_at_once() -> None:
    """Each entry of a union is looked at: what it is, its parameters and its order."""
    branches = [
        ["preprocessing.StandardScaler", "linear_model.LinearRegression"],
        [{"compose.Selekt": ["a"]}, "preprocessing.StandardScaler"],
        [],
        [LOGISTIC, "preprocessing.StandardScaler"],
        [{"preprocessing.StandardScaler": {"with_std": "x"}}],
        "optim.SGD",
        3,
    ]
    where = f"$.model[0].{UNION}"
    assert [found[:2] for found in _texts([{UNION: branches}, LOGISTIC])] == [
        (
            f"{where}[0]",
            "must be a BaseTransformer, not a pipeline that ends in a LinearRegression",
        ),
        (f"{where}[1][0].compose.Selekt", "no estimator is called 'compose.Selekt'"),
        (f"{where}[2]", "is empty"),
        (f"{where}[3][0]", "LogisticRegression is no transformer, so nothing can follow it"),
        (
            f"{where}[4][0].preprocessing.StandardScaler.with_std",
            "must be a boolean, not 'x'",
        ),
        (f"{where}[5]", "must be a BaseTransformer, not a SGD"),
        (f"{where}[6]", "must be a BaseTransformer, not 3"),
    ]


def test_seeds_inside_branches_differ() -> None:
    """Two branches that are alike draw different numbers, and the same in every build."""
    branch = ["preprocessing.StandardScaler", "feature_extraction.RBFSampler"]
    one, two = (build_pipeline([{UNION: [branch, branch]}, LOGISTIC], seed=1)[0] for _ in range(2))
    assert encode(one) == encode(two)
    first, second = one["TransformerUnion"].transformers.values()
    assert first["RBFSampler"].seed != second["RBFSampler"].seed


def test_a_model_of_absurd_size_is_refused() -> None:
    """Neither a very deep nor a very wide model is built."""
    deep: Any = LOGISTIC
    for _ in range(40):
        deep = {"ensemble.BaggingClassifier": {"model": deep, "n_models": 1}}
    wide = {"ensemble.VotingClassifier": {"models": [LOGISTIC] * 3000}}
    branches = [{UNION: [["preprocessing.Normalizer"] * 30] * 50}, LOGISTIC]
    for model in [deep, wide, branches]:
        assert [text for _, text, _ in _texts(model)] == ["is too large a model"]


def test_every_seed_is_filled_from_the_given_one() -> None:
    """Two builds from one seed are one model; parts get seeds of their own; a given seed stays."""
    forest_ = {"forest.ARFClassifier": {"n_models": 2}}
    one, two, other = (build_pipeline([forest_], seed=s)[0] for s in (1, 1, 2))
    assert encode(one) == encode(two) != encode(other)
    union, _ = build_pipeline(
        [{"compose.TransformerUnion": ["feature_extraction.RBFSampler"] * 2}, LOGISTIC], seed=1
    )
    first, second = union["TransformerUnion"].transformers.values()
    assert first.seed != second.seed
    assert build("forest.ARFRegressor", {"seed": 9}, seed=1)[0].seed == 9
    plain = build_pipeline("forest.ARFClassifier", seed=4)[0].seed
    mapped = build_pipeline({"forest.ARFClassifier": {}}, seed=4)[0].seed
    assert plain == mapped


def test_classes_have_the_names_that_specs_use() -> None:
    """River's own class and ours in its place go by one name."""
    assert name_of(linear_model.LogisticRegression) == LOGISTIC
    assert name_of(neighbors.KNNClassifier) == name_of(KNNClassifier) == "neighbors.KNNClassifier"
    assert catalog()["neighbors.KNNClassifier"].cls is KNNClassifier
    assert name_of(compose.Select) == "compose.Select"
    assert name_of(int) is None


def test_kinds_are_those_of_the_estimators() -> None:
    """What an agent can be is known before anything is built."""
    kinds = {
        LOGISTIC: "binary",
        "forest.ARFClassifier": "multiclass",
        "linear_model.LinearRegression": "regressor",
        "anomaly.HalfSpaceTrees": "anomaly",
        "reco.BiasedMF": "ranker",
        "headrace.ItemCooccurrence": "ranker",
        "cluster.KMeans": "clusterer",
        "preprocessing.StandardScaler": "transformer",
        "optim.SGD": "optimizer",
        "optim.losses.Log": "loss",
        "drift.ADWIN": "drift detector",
    }
    assert {name: catalog()[name].kind for name in kinds} == kinds
    assert isinstance(forest.ARFClassifier(), catalog()["forest.ARFClassifier"].cls)
    assert not set(catalog()) & set(out_of_catalog())


PLUGIN = '''
from river import base

class Last(base.Regressor):
    """Says the last label."""

    def __init__(self, start: float = 0.0):
        self.start = start
        self.last = start

    def learn_one(self, x, y):
        self.last = y

    def predict_one(self, x):
        return self.last
'''
USE = """
from headrace.models.catalog import build_pipeline, catalog
from headrace.models.checks import check_estimator
from headrace.models.codec import decode, encode
model, wrong = build_pipeline(
    ["preprocessing.StandardScaler", {"acme.Last": {"start": 2.5}}], seed=1
)
assert not wrong, wrong
assert catalog()["acme.Last"].kind == "regressor"
assert decode(encode(model)).predict_one({"x": 1.0}) == 2.5
assert check_estimator(model) == []
"""


def test_an_installed_package_adds_estimators_by_entry_point(tmp_path: Path) -> None:
    """`headrace.estimators` is read from installed packages: catalog, codec and laws know it."""
    (tmp_path / "acme_river.py").write_text(PLUGIN)
    info = tmp_path / "acme_river-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-river\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[headrace.estimators]\nacme.Last = acme_river:Last\n")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{USE}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
