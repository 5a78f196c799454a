"""What the README tells people to type works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.cli.example import EXAMPLE
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


def test_there_is_one_example_of_a_spec() -> None:
    """The README's and that of `headrace spec --example` are the same."""
    assert load_spec(block("yaml")).digest == load_spec(EXAMPLE).digest


def test_the_five_lines_can_be_typed_on_a_fresh_machine() -> None:
    """A system's own pip takes no packages (PEP 668), and what is installed is not on the path."""
    own_topic = README.partition("## Your own topic")[2].partition("\n## ")[0]
    lines = own_topic.partition("```console\n")[2].partition("```")[0].splitlines()
    assert lines[0].startswith("python3 -m venv v && v/bin/pip install .")
    assert "'.[demo]'" in lines[0]
    assert all(line.startswith("v/bin/headrace ") for line in lines[1:])
    assert "`make up`" in own_topic
    assert "On `kafka://` the source topic" in own_topic
    assert "`headrace watch decisions card-fraud --from-start`" in own_topic


@pytest.mark.parametrize(
    "page", [p.name for p in ROOT.glob("*.md")] + ["docs/spec.md", "docs/client.md"]
)
def test_links_lead_somewhere(page: str) -> None:
    """Each relative link of a page leads to a file that is there."""
    path = ROOT / page
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []
