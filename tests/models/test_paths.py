"""Paths to fields, and names that no decoder takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import SpecError
from headrace.models.paths import format_path, parse_path
from headrace.models.spec import load_spec
from tests.models.test_spec import FRAUD, changed, violations

UNREADABLE = "".join(map(chr, range(0x20))) + '"\\'
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=UNREADABLE), min_size=1)


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_paths_round_trip(names: list[str]) -> None:
    """Every list of names has a text that reads back as the same path."""
    assert parse_path(format_path(tuple(names))) == tuple(names)


@pytest.mark.parametrize("character", UNREADABLE)
def test_fields_that_no_decoder_takes(character: str) -> None:
    """A field whose name the decoder cannot take is refused in the spec, written out or not."""
    name = f"a{character}b"
    path = format_path((name,))
    found = violations(changed(FRAUD, "features", {"sound": {"type": "number", "path": path}}))
    assert "no control character" in found["$.features.sound.path"]
    if ord(character) >= 0x20:  # else it is no feature's name either
        found = violations(changed(FRAUD, "features", {name: "number"}))
        assert "no control character" in found[f"$.features.{name}.path"]


def test_half_a_surrogate_in_a_spec() -> None:
    """An escape that no UTF-8 can hold is refused before it gets into digests and answers."""
    with pytest.raises(SpecError, match="surrogate"):
        load_spec('{"agent": "card", "\\ud800": 1, "\\ud800": 2}')
