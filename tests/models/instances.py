"""Every instance that River's own unit-test parameters yield, and ours where River has none."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from river import base, compose
from river.checks.utils import seed_params

from headrace.models.catalog import build, catalog, estimator_kinds, kind_of_class
from headrace.models.catalog.builder import Builder
from headrace.models.catalog.entries import MODULES
from headrace.models.catalog.extensions import own_classes

SEED = 42
LINEAR = "linear_model.LinearRegression"
LOGISTIC = "linear_model.LogisticRegression"

# As a spec would give them: estimators that River cannot make without parameters, and variants
# that its unit tests leave out.
OURS: dict[str, list[dict[str, Any] | list[Any]]] = {
    "compose.Grouper": [{"transformer": "preprocessing.StandardScaler", "by": "level"}],
    "compose.Prefixer": [{"prefix": "a_"}],
    "compose.Renamer": [{"mapping": {"hour": "clock"}}],
    "compose.Select": [["amount", "hour"]],
    "compose.SelectType": [["float"]],
    "compose.Suffixer": [{"suffix": "_b"}],
    "compose.TransformerUnion": [
        ["preprocessing.StandardScaler", {"compose.Select": ["hour"]}],
        [
            [{"compose.Discard": ["level"]}, "preprocessing.StandardScaler"],
            [{"compose.Discard": ["amount", "hour"]}, "preprocessing.OneHotEncoder"],
            ["preprocessing.MinMaxScaler", {"compose.Prefixer": {"prefix": "m_"}}],
        ],
    ],
    "compose.TransformerProduct": [
        [[{"compose.Select": ["amount"]}, "preprocessing.StandardScaler"],
         {"compose.Select": ["hour"]}],
    ],
    "anomaly.QuantileFilter": [
        {"anomaly_detector": ["preprocessing.MinMaxScaler", "anomaly.HalfSpaceTrees"], "q": 0.95}
    ],
    "conf.RegressionJackknife": [{"regressor": ["preprocessing.StandardScaler", LINEAR]}],
    "ensemble.BaggingClassifier": [
        {"model": ["preprocessing.StandardScaler", LOGISTIC], "n_models": 3}
    ],
    "ensemble.VotingClassifier": [
        {"models": [LOGISTIC, "naive_bayes.GaussianNB"]},
        {"models": [["preprocessing.StandardScaler", LOGISTIC], "naive_bayes.GaussianNB"]},
    ],
    "feature_extraction.Agg": [{"on": "amount", "by": ["level"], "how": "stats.Mean"}],
    "feature_extraction.TargetAgg": [{"by": ["level"], "how": "stats.Mean"}],
    "imblearn.RandomOverSampler": [
        {"classifier": LOGISTIC, "desired_dist": {True: 0.5, False: 0.5}}
    ],
    "imblearn.RandomSampler": [
        {"classifier": LOGISTIC, "desired_dist": {True: 0.5, False: 0.5}}
    ],
    "imblearn.RandomUnderSampler": [
        {"classifier": LOGISTIC, "desired_dist": {True: 0.5, False: 0.5}}
    ],
    "linear_model.LogisticRegression": [{"optimizer": "optim.Adam"}, {"l2": 0.1}],
    "linear_model.LinearRegression": [{"optimizer": "optim.FTRLProximal"}],
    "model_selection.SuccessiveHalvingClassifier": [
        {"models": ["linear_model.SoftmaxRegression", "naive_bayes.GaussianNB"],
         "metric": "metrics.Accuracy",
         "budget": 100}
    ],
    "preprocessing.TargetMinMaxScaler": [{"regressor": LINEAR}],
    "preprocessing.TargetStandardScaler": [{"regressor": LINEAR}],
    "reco.BiasedMF": [{"n_factors": 4, "latent_optimizer": {"optim.SGD": {"lr": 0.05}}}],
    "headrace.ItemCooccurrence": [{}],
    "headrace.MostPopular": [{}],
}  # fmt: skip
# Text belongs into a field of the event.
TEXT = ("feature_extraction.BagOfWords", "feature_extraction.TFIDF", "preprocessing.GapEncoder")


# Out of the catalog, so no spec can make it.
OUT_PARAMS: dict[str, dict[str, Any]] = {"feature_selection.PoissonInclusion": {"p": 0.3}}
# They raise for an event that lacks a feature.
NEED_ALL = (
    "cluster.CluStream",
    "compose.Grouper",
    "feature_extraction.Agg",
    "feature_extraction.TargetAgg",
)


class Instance(NamedTuple):
    """One fresh estimator with every seed filled."""

    name: str  # as in the catalog, with a number where there are several
    entry: str
    model: Any


def candidates() -> dict[str, type]:
    """All estimators that River has in the catalog's modules, and ours, by name."""
    found: dict[str, type] = {}
    seen: set[type] = set()
    for module in sorted(MODULES):
        for attribute, cls in inspect.getmembers(
            importlib.import_module(f"river.{module}"), inspect.isclass
        ):
            fits = not attribute.startswith("_") and cls.__module__.startswith("river.")
            if fits and not inspect.isabstract(cls) and cls not in seen:
                seen.add(cls)
                if kind_of_class(cls) in estimator_kinds():
                    found[f"{module}.{attribute}"] = cls
    found.update(own_classes())
    return dict(sorted(found.items()))


@functools.cache
def instances() -> tuple[Instance, ...]:
    """All of them, in the order of their names."""
    return tuple(_instances())


def _instances() -> Iterator[Instance]:
    for name, cls in candidates().items():
        made = [*_rivers(name, cls), *_ours(name)]
        for number, model in enumerate(made):
            yield Instance(f"{name}#{number}", name, model)


def _rivers(name: str, cls: Any) -> Iterator[Any]:
    if cls is compose.Pipeline or not hasattr(cls, "_unit_test_params"):
        return
    for params in [OUT_PARAMS[name]] if name in OUT_PARAMS else cls._unit_test_params():
        extra = {"on": "note"} if name in TEXT else {}
        try:
            model = cls(**params, **extra)
        except (TypeError, ValueError, RuntimeError):
            continue  # OURS has it, or out_of_catalog tells why it cannot be made
        yield model.clone(seed_params(model._get_params(), SEED))


def _ours(name: str) -> Iterator[Any]:
    if name not in catalog():
        return
    for params in OURS.get(name, []):
        builder = Builder(catalog(), SEED)
        model = builder.named(name, params, "$.model")
        assert not builder.violations, builder.violations
        yield model


def parts() -> Iterator[tuple[str, Any]]:
    """Instances of what is no estimator: optimizers, statistics, losses, metrics, detectors …"""
    for name, entry in catalog().items():
        if entry.kind in estimator_kinds() or not issubclass(entry.cls, base.Base):
            continue
        for number, params in enumerate(entry.cls._unit_test_params()):
            try:
                made = entry.cls(**params)
            except (TypeError, ValueError, RuntimeError):
                continue
            yield f"{name}#{number}", made


def cheapest(name: str) -> Any:
    """The instance whose cost is the estimator's: with River's defaults, where they suffice."""
    if not any(p.required or p.many for p in catalog()[name].parameters.values()):
        made, wrong = build(name, {"on": "note"} if name in TEXT else {}, seed=SEED)
        assert not wrong, wrong
        return made
    return next(instance.model for instance in instances() if instance.entry == name)


if __name__ == "__main__":  # prints the COST table of headrace.models.catalog.data
    from headrace.models.catalog.costs import cost_class, measured_bytes, measured_us

    for entry in dict.fromkeys(i.entry for i in instances() if i.entry in catalog()):
        size, us = measured_bytes(cheapest(entry)), measured_us(cheapest(entry))
        sys.stdout.write(f'    "{entry}": ("{cost_class(size, us)}", {size}, {us:.0f}),\n')
