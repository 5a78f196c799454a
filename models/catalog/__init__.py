"""What a spec may name: estimators and their parts, and how they are built from plain data.

The law of this package: what is in the catalog keeps the laws of `headrace.models.checks`, and what
breaks one is out, with the reason (`data`, which also has the measured costs). `entries` is the
catalog, `parameters` what each of them takes, `builder` makes models with every seed filled.
`replacements` stand in for River's classes under River's names; `extensions` finds ours and those
of installed packages. `read_conditions` says when reading an estimator writes nothing.
"""

from headrace.models.catalog.entries import (
    Entry,
    build,
    build_pipeline,
    catalog,
    estimator_kinds,
    kind_of_class,
    name_of,
    out_of_catalog,
)
from headrace.models.catalog.parameters import Parameter

__all__ = [
    "Entry",
    "Parameter",
    "build",
    "build_pipeline",
    "catalog",
    "estimator_kinds",
    "kind_of_class",
    "name_of",
    "out_of_catalog",
]
