"""docs/trouble.md shows lines of the log: each event is logged by the module that it names."""

from __future__ import annotations

import re

import pytest

from tests.tree import ROOT

PAGE = (ROOT / "docs" / "trouble.md").read_text(encoding="utf-8")
SHOWN = sorted(
    set(re.findall(r"^(?:INFO|WARNING|ERROR) headrace\.(\S+) (\S+)", PAGE, re.MULTILINE))
)


def test_the_page_shows_lines() -> None:
    """Else the next test would hold of nothing."""
    assert len(SHOWN) >= 5


@pytest.mark.parametrize(("module", "event"), SHOWN)
def test_a_line_that_is_shown_is_logged_there(module: str, event: str) -> None:
    """Whoever searches for a line finds it under the name of the page."""
    source = (ROOT / "src" / "headrace" / module.replace(".", "/")).with_suffix(".py")
    assert f'"{event}"' in source.read_text(encoding="utf-8")
