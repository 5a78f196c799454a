"""Models that a spec may not ask for because they are too large."""

from __future__ import annotations

from typing import Any

import pytest

from tests.models.test_spec import FRAUD, changed, violations

BAG = "ensemble.BaggingClassifier"


@pytest.mark.parametrize(
    ("model", "where", "says"),
    [
        ({"anomaly.HalfSpaceTrees": {"height": 40}}, ".height", "40 is more than 15"),
        ({"anomaly.HalfSpaceTrees": {"height": 15, "n_trees": 50}}, "", "nodes in its trees"),
        ({BAG: {"model": "tree.HoeffdingTreeClassifier", "n_models": 10**9}}, ".n_models", "more"),
        (
            {BAG: {"n_models": 100, "model": {BAG: {"n_models": 100, "model": "x"}}}},
            f".model.{BAG}",
            "10,000 copies",
        ),
    ],
)
def test_oversized_models_are_never_built(model: Any, where: str, says: str) -> None:
    """A few digits too many cost a violation, not the worker's memory."""
    (name,) = model
    found = violations(changed(FRAUD, "model", model))
    assert says in found[f"$.model.{name}{where}"]


def test_what_is_too_large_in_a_branch() -> None:
    """Bounds hold inside the branches of a union as anywhere else."""
    branch = [
        "preprocessing.StandardScaler",
        {"feature_extraction.RBFSampler": {"n_components": 10**9}},
    ]
    model = [{"compose.TransformerUnion": [branch]}, "linear_model.LogisticRegression"]
    found = violations(changed(FRAUD, "model", model))
    where = "[0].compose.TransformerUnion[0][1].feature_extraction.RBFSampler.n_components"
    assert "is more than 10,000" in found[f"$.model{where}"]


def test_polynomials_of_many_features() -> None:
    """The terms of a polynomial are counted before they are made."""
    data = changed(FRAUD, "features", {f"f{number}": "number" for number in range(500)})
    data["model"] = [
        {"feature_extraction.PolynomialExtender": {"degree": 3}},
        "linear_model.LogisticRegression",
    ]
    assert "terms of 500 features" in str(violations(data))
