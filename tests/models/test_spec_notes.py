"""Remarks on specs that are allowed and seldom meant."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.models.spec import load_spec, spec_from_data
from headrace.models.spec.notes import notes
from tests.models.test_spec import FRAUD, HEATERS, changed

LOGISTIC = "linear_model.LogisticRegression"
UNION = "compose.TransformerUnion"
NUMBERS = [{"compose.Select": ["amount", "hour"]}, "preprocessing.StandardScaler"]


def _notes(*model: Any, encode: str = "hash") -> tuple[str, ...]:
    data = changed(FRAUD, "model", list(model))
    merchant = {"type": "category", "encode": encode}
    data["features"]["merchant"] = {**merchant, "buckets": 8} if encode == "hash" else merchant
    return notes(spec_from_data(data))


@pytest.mark.parametrize("encode", ["hash", "onehot"])
@pytest.mark.parametrize("scaler", ["StandardScaler", "MinMaxScaler", "RobustScaler"])
def test_a_category_in_front_of_a_scaler(encode: str, scaler: str) -> None:
    """It becomes 0 and is never seen, which the note says with its path and a way out."""
    (note,) = _notes(f"preprocessing.{scaler}", LOGISTIC, encode=encode)
    assert note.startswith(f"$.model[0]: preprocessing.{scaler} makes 0 of `merchant`")
    assert f"encode: {encode}" in note
    assert UNION in note


@pytest.mark.parametrize(
    "model",
    [
        [{UNION: [NUMBERS, {"compose.Discard": ["amount", "hour"]}]}, LOGISTIC],
        ["preprocessing.MaxAbsScaler", LOGISTIC],
        [*NUMBERS, LOGISTIC],
        [LOGISTIC],
        [{"drift.DriftRetrainingClassifier": {"model": [*NUMBERS, LOGISTIC]}}],
    ],
)
def test_no_note_where_the_category_goes_round_the_scaler(model: list[Any]) -> None:
    """Branches, scalers that keep a 1, and models without scalers are what is meant."""
    assert _notes(*model) == ()


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (
            [{UNION: [NUMBERS, ["preprocessing.StandardScaler"]]}, LOGISTIC],
            f"$.model[0].{UNION}[1][0]",
        ),
        (
            [{UNION: [{"compose.Select": ["hour"]}, {"compose.Discard": ["hour"]}]},
             "preprocessing.StandardScaler", LOGISTIC],
            "$.model[1]",
        ),
        (
            [{"ensemble.BaggingClassifier": {"model": ["preprocessing.MinMaxScaler", LOGISTIC]}}],
            "$.model[0].ensemble.BaggingClassifier.model[0]",
        ),
        (
            [{"ensemble.VotingClassifier": {"models": [
                LOGISTIC, ["preprocessing.MinMaxScaler", LOGISTIC]]}}],
            "$.model[0].ensemble.VotingClassifier.models[1][0]",
        ),
    ],
)  # fmt: skip
def test_the_path_leads_to_the_scaler(model: list[Any], path: str) -> None:
    """Branches, later steps and models inside models are followed."""
    (note,) = _notes(*model)
    assert note.startswith(f"{path}: ")


def test_each_is_told_once_and_most_specs_have_none() -> None:
    """A spec of numbers has no notes; the usual mistake makes one."""
    assert notes(load_spec(HEATERS)) == ()
    assert len(notes(load_spec(FRAUD))) == 1
