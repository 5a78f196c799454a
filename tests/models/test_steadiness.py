"""A model that one large number breaks for good is not deployed without a range."""

from __future__ import annotations

import pytest

from headrace.errors import SpecError
from headrace.models.rehearsal import require_deployable
from headrace.models.steadiness import unsteady
from tests.models.worlds import World, record, spec_of

FACTORS = "model: facto.FwFMRegressor\nlabel: {field: $.y, range: [-10, 10]}\n"


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_the_trouble_is_real() -> None:
    """One accepted event with a large number, and a factorization machine takes no other."""
    world = World(spec_of(FACTORS, ["u", "v"]))
    events = [{"k": "k", "u": 0.5, "v": 0.1 + n % 7 / 8, "y": n % 5} for n in range(60)]
    events[20]["u"] = 1e9
    world.run([record(n, event) for n, event in enumerate(events)])
    assert {refusal.offset for refusal in world.refusals} >= set(range(40, 60))


def test_it_is_refused_without_a_range() -> None:
    """Deploying says what would happen and what cures it; with ranges the same model is taken."""
    with pytest.raises(SpecError, match="narrower range"):
        require_deployable(spec_of(FACTORS, ["u", "v"]))
    ranged = "features: {u: {type: number, range: [0, 1]}, v: {type: number, range: [0, 1]}}\n"
    require_deployable(spec_of(ranged + FACTORS))


@pytest.mark.parametrize(
    "model",
    [
        "linear_model.LinearRegression",
        "[preprocessing.StandardScaler, linear_model.LinearRegression]",
        "tree.HoeffdingTreeRegressor",
        "neighbors.KNNRegressor",
        "rules.AMRules",
    ],
)
@pytest.mark.parametrize("label", ["field: $.y", "later: $.y, after: 1h"])
def test_others_get_over_it(model: str, label: str) -> None:
    """The usual models take ordinary events after the largest one, and are deployed as they are."""
    assert unsteady(spec_of(f"model: {model}\nlabel: {{{label}}}\n", ["u", "v"])) is None
