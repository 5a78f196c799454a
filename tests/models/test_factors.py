"""Biased matrix factorization in rows: River's numbers, row by row."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from river import optim, reco

from headrace.errors import CorruptStateError, SpecError
from headrace.models.memory_rows import MemoryRows
from headrace.models.recommend.factor_rows import FactorRows
from headrace.models.recommend.row_model import RowModel, row_model
from tests.models.rowfold import (
    check_forgets_a_user,
    check_goes_on_from_its_rows,
    check_reading_changes_nothing,
    check_top_obeys_its_limits,
    fold,
    interactions,
)


def river_model(optimizer: str = "SGD", clip_gradient: float = 1e12) -> reco.BiasedMF:
    return reco.BiasedMF(
        n_factors=10,
        bias_optimizer=getattr(optim, optimizer)(0.01),
        latent_optimizer=getattr(optim, optimizer)(0.02),
        latent_initializer=optim.initializers.Normal(mu=0.0, sigma=0.1, seed=71),
        l2_bias=0.01,
        l2_latent=0.02,
        clip_gradient=clip_gradient,
    )


def make() -> RowModel:
    model = row_model(river_model("Adam"), users_max=7)
    assert model is not None
    return model


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdaGrad", "Momentum", "RMSProp"])
def test_learning_equals_rivers_own_bit_for_bit(optimizer: str) -> None:
    """5,000 ratings: each prediction for a known pair, and every bias and factor at the end."""
    river: Any = river_model(optimizer)
    ours = FactorRows(river_model(optimizer), users_max=20)
    ours.load(rows := MemoryRows())
    users, items = set[str](), set[str]()
    for count, (user, item, y) in enumerate(interactions(5000)):
        expected = river.predict_one(user, item)
        if user in users and item in items:
            assert ours.predict_one(user, item) == expected
        river.learn_one(user, item, y)
        ours.learn_one(user, item, y)
        users.add(user)
        items.add(item)
        if count % 500 == 0:
            rows.flush(ours)
    rows.flush(ours)
    assert len(rows.rows) == len(users) + len(items) + 1
    for name in users:
        bias, factors = msgspec.msgpack.decode(rows.rows[b"u/" + name.encode()])[0][:2]
        assert (bias, factors) == (river.u_biases[name], river.u_latents[name].tobytes())
    for name in items:
        bias, factors = msgspec.msgpack.decode(rows.rows[b"i/" + name.encode()])[2][:2]
        assert (bias, factors) == (river.i_biases[name], river.i_latents[name].tobytes())


def test_an_unknown_user_or_item_adds_nothing() -> None:
    """River draws factors when asked for a stranger; here a stranger gets the mean and biases."""
    model = FactorRows(river_model(), users_max=10)
    assert model.predict_one("ann", "up") == 0.0
    fold(model, [("ann", "up", 5.0), ("bob", "pi", 2.0)])
    assert model.predict_one("nobody", "nothing") == 3.5
    assert model.predict_one("ann", "nothing") == 3.5 + model.describe("ann")["bias"]


def test_goes_on_from_its_rows_bit_for_bit() -> None:
    """Restarts, flushes and evictions in mid-stream leave the rows of one uninterrupted fold."""
    check_goes_on_from_its_rows(make)


def test_reading_changes_nothing() -> None:
    """No read leaves a trace, in rows or in what is learned later."""
    check_reading_changes_nothing(make)


def test_top_obeys_its_limits() -> None:
    """Order, k, seen, excluded and candidate items."""
    check_top_obeys_its_limits(make)


def test_forgets_a_user() -> None:
    """The row goes, and does not come back from what is in memory."""
    check_forgets_a_user(make)


def test_one_event_changes_three_rows() -> None:
    """A flush writes the user, the item and the shared row, not the tables."""
    model, rows = make(), MemoryRows()
    model.load(rows)
    fold(model, interactions(300))
    rows.flush(model)
    model.learn_one("u1", "ï2", 3.0)
    assert sorted(rows.flush(model)) == [b"i/\xc3\xaf2", b"s/model", b"u/u1"]


@pytest.mark.parametrize("y", [math.nan, math.inf, 1e300])
@pytest.mark.parametrize("pair", [("u1", "ï2"), ("u1", "new"), ("new", "ï2"), ("new", "new")])
def test_a_step_that_leaves_the_finite_leaves_nothing(pair: tuple[str, str], y: float) -> None:
    """The rows after a refused rating are those without it, drawn numbers included."""
    spoiled, clean = (FactorRows(river_model("SGD", 1e308), users_max=7) for _ in range(2))
    spoiled_rows, clean_rows = MemoryRows(), MemoryRows()
    for model, rows in ((spoiled, spoiled_rows), (clean, clean_rows)):
        model.load(rows)
        fold(model, interactions(300))
    with pytest.raises(ArithmeticError):
        spoiled.learn_one(*pair, y)
    fold(spoiled, interactions(350)[300:])
    fold(clean, interactions(350)[300:])
    spoiled_rows.flush(spoiled)
    clean_rows.flush(clean)
    assert spoiled_rows.rows == clean_rows.rows


def test_an_optimizer_without_a_form_in_rows_is_refused_by_name() -> None:
    """Averager keeps one optimizer inside another: that is said when the model is made."""
    river = reco.BiasedMF(bias_optimizer=optim.Averager(optim.SGD(0.1)), seed=1)
    with pytest.raises(SpecError, match="Averager"):
        row_model(river)


@pytest.mark.parametrize("n_factors", [0, 10**9])
def test_a_number_of_factors_out_of_range_is_refused(n_factors: int) -> None:
    """A spec cannot ask for more memory than there is."""
    with pytest.raises(SpecError, match="n_factors must be 1 to 1000"):
        row_model(reco.BiasedMF(n_factors=n_factors, seed=1))


def test_other_estimators_have_no_rows() -> None:
    """Only what can be split is split."""
    assert row_model(reco.Baseline()) is None


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (b"i/up", b"\xc1"),
        (b"i/up", msgspec.msgpack.encode((3, 1, (0.0, np.zeros(10).tobytes(), ())))),
        (b"i/up", msgspec.msgpack.encode((0, 1, (0.0, np.zeros(9).tobytes(), ())))),
        (b"s/model", msgspec.msgpack.encode((0.0, 0.0, (1, 2), ()))),
    ],
)
def test_rows_of_something_else_are_refused(name: bytes, row: bytes) -> None:
    """Garbage, a gap in the numbers, another number of factors, other optimizers."""
    rows = MemoryRows()
    rows.rows[name] = row
    with pytest.raises(CorruptStateError):
        make().load(rows)
