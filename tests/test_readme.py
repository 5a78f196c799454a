"""What the README tells people to type works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.models.spec import load_spec

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    """The README's first code block in a language."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_notebook_code_runs_and_equals_river() -> None:
    """Both lines that it prints tell the same accuracy."""
    ran = subprocess.run(
        [sys.executable, "-c", block("python")], capture_output=True, text=True, check=True
    )
    river, ours = ran.stdout.splitlines()
    assert river == "Accuracy: 89.28%"
    assert "name='Accuracy', value=0.8928," in ours


def test_the_spec_can_be_deployed() -> None:
    """The YAML that it shows is a spec without violations."""
    assert load_spec(block("yaml")).agent == "card-fraud"


@pytest.mark.parametrize("page", [p.name for p in ROOT.glob("*.md")] + ["docs/spec.md"])
def test_links_lead_somewhere(page: str) -> None:
    """Each relative link of a page leads to a file that is there."""
    path = ROOT / page
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []
