"""The codec: canonical, typed, closed."""

from __future__ import annotations

import collections
import contextlib
import datetime
import functools
import math
import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import compose, drift, forest, linear_model, preprocessing, proba, stats, tree
from river.utils import VectorDict

from headrace.models.codec import CodecError, UnsupportedType, decode, digest, encode, register
from headrace.models.codec import tags as tag
from headrace.models.codec.unseeded import UNSEEDED, UnseededChance


def _same(item: Any) -> Any:
    data = encode(item)
    made = decode(data)
    assert type(made) is type(item)
    assert encode(made) == data
    return made


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()
)  # fmt: skip
KEYS = st.one_of(st.text(), st.integers(), st.booleans(), st.tuples(st.text(), st.integers()))
GRAPHS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(KEYS, inner),
        st.dictionaries(KEYS, inner).map(collections.OrderedDict),
        st.frozensets(KEYS),
        st.sets(KEYS),
        st.lists(inner, max_size=4).map(lambda items: collections.deque(items, maxlen=4)),
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(GRAPHS)
def test_any_graph_of_plain_values_comes_back_equal_and_canonical(item: Any) -> None:
    """Whatever scalars and containers nest, they come back equal, with types and order kept."""
    made = _same(item)
    assert made == item
    assert repr(made) == repr(item) or isinstance(item, (set, frozenset)) or "{" in repr(item)


@pytest.mark.parametrize(
    "item",
    [
        np.float64(0.1), np.int64(-3), np.bool_(True), np.float32(1.5), 2**70, -(2**70),
        np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([], dtype="i8"), np.array(["a", "bc"]),
        collections.Counter("abca"), collections.defaultdict(float, {"a": 1.0}),
        collections.defaultdict(functools.partial(collections.defaultdict, int), {"a": {}}),
        datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC), datetime.date(2026, 1, 2),
        datetime.timedelta(days=3, microseconds=1), complex(1, -2), math.inf, -0.0,
        VectorDict({"b": 1.0, "a": 2.0}, float, {"a", "b"}), {"a": {"b": [1, (2, 3)]}},
    ],
)  # fmt: skip
def test_numbers_arrays_and_collections_keep_type_and_value(item: Any) -> None:
    """Numpy values keep dtype and layout, collections their factory and order."""
    made = _same(item)
    assert repr(made) == repr(item)
    if isinstance(item, np.ndarray):
        assert made.flags.f_contiguous == item.flags.f_contiguous
        assert made.flags.writeable


def test_chance_goes_on_where_it_was() -> None:
    """Seeded generators of all three kinds draw the same numbers after a restore."""
    for chance in (random.Random(7), np.random.RandomState(7), np.random.default_rng(7)):
        chance.random()
        assert _same(chance).random() == chance.random()
    gauss = random.Random(7)
    gauss.gauss()
    assert _same(gauss).gauss() == gauss.gauss()


def test_unseeded_chance_is_a_mark_that_refuses_to_draw() -> None:
    """A generator whose owner has no seed costs a few bytes and is never silently another one."""
    gaussian = proba.Gaussian()
    made = _same(gaussian)
    assert len(encode(gaussian)) < 250
    assert made._rng is UNSEEDED
    with pytest.raises(UnseededChance):
        made.sample()
    assert len(encode(proba.Gaussian(seed=1))) > 2500


def test_shared_parts_and_cycles_are_kept() -> None:
    """Two references to one list stay two references to one list; a list may hold itself."""
    shared: list[Any] = [1]
    cycle: list[Any] = [shared, {"again": shared}, collections.deque([shared])]
    cycle.append(cycle)
    made = _same(cycle)
    assert made[0] is made[1]["again"] is made[2][0]
    assert made[3] is made
    assert encode([[1], [1]]) != encode([shared, shared])


def test_order_of_a_dict_is_state_and_order_of_a_set_is_not() -> None:
    """River sums in dict order, so that order is kept and differs; sets are written sorted."""
    assert encode({"a": 1, "b": 2}) != encode({"b": 2, "a": 1})
    words = [f"word{number}" for number in range(50)]
    assert encode(set(words)) == encode({*words[25:], *words[:25]})


def test_equal_models_have_equal_bytes_whatever_their_history() -> None:
    """Attributes set in another order, a built plan and interning make no difference."""
    one, two = linear_model.LinearRegression(), linear_model.LinearRegression()
    held = dict(reversed(list(vars(two).items())))
    vars(two).clear()
    vars(two).update(held)
    assert encode(one) == encode(two)
    fresh = compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
    used = compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
    used.predict_proba_one({})
    assert encode(fresh) == encode(used)


def test_a_plan_that_is_made_anew_is_the_plan_that_river_makes() -> None:
    """Reading a pipeline gives it the same execution plan as River's own."""
    model = compose.Pipeline(
        compose.TransformerUnion(preprocessing.StandardScaler(), preprocessing.MinMaxScaler()),
        preprocessing.Normalizer(),
        linear_model.LogisticRegression(),
    )
    simple = compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
    for pipeline in (model, simple, simple):
        made = decode(encode(pipeline))
        ours = repr((made._plan, made._inference_transformers, made._last_step_params))
        made._build_plan()
        assert ours == repr((made._plan, made._inference_transformers, made._last_step_params))
        assert made._last_step_cached is made[-1]


def test_feature_names_are_interned_when_read() -> None:
    """Names that a thousand models hold are held once."""
    scaler = preprocessing.StandardScaler()
    scaler.learn_one({"a feature": 1.0})
    made, other = decode(encode(scaler)), decode(encode(scaler))
    assert next(iter(made.means)) is next(iter(other.means)) is next(iter(made.counts))


def test_rust_state_goes_on() -> None:
    """ADWIN and the quantile keep their state inside the extension."""
    adwin, quantile = drift.ADWIN(), stats.Quantile(0.3)
    for number in range(300):
        adwin.update(number % 7)
        quantile.update(number % 11)
    assert _same(quantile).get() == quantile.get()
    assert _same(adwin).estimation == adwin.estimation


def test_deep_trees_are_written_without_deep_nesting() -> None:
    """A degenerate tree, deep as the stream is long, is written and read back."""
    model = tree.HoeffdingTreeRegressor(grace_period=10_000)
    for number in range(700):
        model.learn_one({"time": float(number)}, float(number % 5))
    made = _same(model)
    assert made.predict_one({"time": 3.0}) == model.predict_one({"time": 3.0})


def test_what_is_not_in_the_table_is_refused_by_name() -> None:
    """Objects of other classes, functions and arrays of objects cannot be written."""

    class Mine:
        pass

    for item, text in (
        (Mine(), "Mine is not in the table"),
        (lambda: 0, "<lambda> is not in the table"),
        (np.array([object()]), "an array of object"),
        (open, "open is not in the table"),
        ("\ud800", "not Unicode"),
        (preprocessing.StandardScaler().learn_one, None),
        ({Mine}, "Mine is not in the table"),
    ):
        if text is None:
            assert decode(encode(item))({"a": 1.0}) is None
            continue
        with pytest.raises(UnsupportedType, match=text):
            encode(item)
    model = linear_model.LinearRegression()
    vars(model)["extra"] = Mine()
    with pytest.raises(UnsupportedType, match=r"LinearRegression.extra: .*Mine"):
        encode(model)


class _Registered:
    __slots__ = ("cache", "count")

    def __init__(self) -> None:
        self.count = 3
        self.cache: list[int] | None = [9]


def _finish(item: _Registered) -> None:
    item.cache = None


def test_our_own_classes_register_with_derived_fields() -> None:
    """A registered class is written without its caches, which are made anew when it is read."""
    register(_Registered, "test.Registered", derived=frozenset({"cache"}), after=_finish)
    made = decode(encode(_Registered()))
    assert (made.count, made.cache) == (3, None)


def _pack(classes: list[Any], value: Any, deferred: list[Any] | None = None) -> bytes:
    return msgspec.msgpack.encode([tag.CODEC_VERSION, classes, value, deferred or []])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xdd\xff\xff\xff\xff",
        b"\x94\x01\x90" + b"\x91" * 100_000,
        encode([1, 2])[:-1],
        encode([1, 2]) + b"\x00",
        msgspec.msgpack.encode([99, [], None, []]),
        _pack([["builtins.eval", []]], [tag.OBJECT]),
        _pack([["linear_model.LinearRegression", ["__class__"]]], [tag.OBJECT, 1]),
        _pack([["linear_model.LinearRegression", ["l2"]]], [tag.OBJECT]),
        _pack([["copy.deepcopy", []]], [tag.OBJECT]),
        _pack([["numpy.array", []]], [tag.OBJECT]),
        _pack([], [tag.OBJECT]),
        _pack([], [tag.OBJECT - 1]),
        _pack([], [-3]),
        _pack([], [tag.REFERENCE, 0]),
        _pack([], [tag.LIST, [tag.REFERENCE, -1]]),
        _pack([], [tag.NAME, "os.system"]),
        _pack([], [tag.NAME, "river.datasets.base.Dataset"]),
        _pack([], [tag.METHOD, [tag.LIST], "append"]),
        _pack([], [tag.METHOD, [tag.LIST], "__reduce__"]),
        _pack([], [tag.PARTIAL, [tag.NAME, "float"], 3, 4]),
        _pack([], [tag.ARRAY, "|O", "C", [1], b"12345678"]),
        _pack([], [tag.ARRAY, "<f8", "C", [10**12], b"12345678"]),
        _pack([], [tag.DICT, "a"]),
        _pack([], [tag.DICT, [tag.LIST], 1]),
        _pack([], [tag.RUST, "rust.RsQuantile", [], b"short"]),
        _pack([], [tag.DEFERRED]),
        _pack([], []),
        _pack([], None, [1]),
    ],
)
def test_bytes_that_no_encoder_wrote_are_refused(data: bytes) -> None:
    """Other code, unknown tags, wrong lengths and bad references raise CodecError, always."""
    with pytest.raises(CodecError):
        decode(data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_flipped_byte_is_another_model_or_an_error_but_never_a_crash(data: Any) -> None:
    """Damaged bytes raise CodecError or give an object of the table; nothing else happens."""
    spot = data.draw(st.integers(0, len(_TRAINED) - 1))
    byte = data.draw(st.integers(0, 255))
    damaged = _TRAINED[:spot] + bytes([byte]) + _TRAINED[spot + 1 :]
    with contextlib.suppress(CodecError):
        decode(damaged)
    assert (digest(damaged) == digest(_TRAINED)) == (damaged == _TRAINED)


def _trained() -> bytes:
    model = preprocessing.StandardScaler() | forest.ARFClassifier(n_models=2, seed=3)
    for number in range(40):
        model.learn_one({"a": number % 3, "b": float(number % 5)}, number % 2 == 0)
    return encode(model)


_TRAINED = _trained()
