"""Spoilt specs: refused with paths, or a working spec; never anything else."""

from __future__ import annotations

import yaml

from headrace.models.spec import Spec, spec_from_data
from tests.hostile.specs import TRAPS, run_specs


def test_spoilt_specs_are_refused_with_paths_or_work() -> None:
    """Thousands of spoilt specs and every trap, each within seconds."""
    afternoon = run_specs(2_500, "specs")
    assert afternoon.findings == []
    assert afternoon.refused["refused"] > 2_000
    assert afternoon.refused["works"] > 10


def test_a_trusting_reader_is_found() -> None:
    """A loader that hands on what a YAML library makes of a text does not get through."""

    def trusting(text: bytes) -> Spec:
        return spec_from_data(yaml.safe_load(text[:3_000]))

    afternoon = run_specs(len(TRAPS), "specs", loader=trusting)
    assert afternoon.refused["raised"] > 10
    assert any("RecursionError" in finding for finding in afternoon.findings)
