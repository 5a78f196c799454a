"""What a user deploys: a spec, read strictly, checked as a whole, and data to the last field.

The law of this package: whoever deploys learns everything that is wrong at once, each with its path
and a hint, and a spec that was read can run. A text (`text`) becomes plain data, plain data becomes
sections (`sections`, `decide`, by `field_reader`), `rules` hold across sections, `limits` bound the
model before `model` builds it, and `parts` are what comes out. `canonical` is the way back, whose
digest is the spec's identity; `schema` tells editors, `river` takes a pipeline from a notebook, and
`notes` remark on what is allowed and seldom meant.
"""

from headrace.models.spec.parts import (
    Adjust,
    Cold,
    Decide,
    Emit,
    Feature,
    Label,
    Recommend,
    Score,
    Source,
    StateLimits,
    Verdict,
)
from headrace.models.spec.river import Fields
from headrace.models.spec.schema import json_schema
from headrace.models.spec.spec import Spec, load_spec, spec_from_data

__all__ = [
    "Adjust",
    "Cold",
    "Decide",
    "Emit",
    "Feature",
    "Fields",
    "Label",
    "Recommend",
    "Score",
    "Source",
    "Spec",
    "StateLimits",
    "Verdict",
    "json_schema",
    "load_spec",
    "spec_from_data",
]
