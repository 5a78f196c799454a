"""The repository as a whole: what is pinned, linked, packed and promised in the README."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.tree import PRODUCT, ROOT, parsed, sources, tracked

README_LINES = 120
VERBS = 13
HOSTS = re.compile(
    "|".join(
        (
            r"index-" + "url",
            r"find-" + "links(?=[ =]*[/h])",
            r"files\.python" + "hosted",
            r"(pypi|repo\.maven|repo1\.maven|registry)\.[a-z.]+/(simple|maven2|packages)",
            r"https?://[a-z0-9.-]*(artifactory|nexus|devpi|mirror)[a-z0-9.-]*",
        )
    )
)
LINKS = {room: f"../../{room}" for room in ("models", "pipelines", "serving", "state")}


def test_no_tracked_file_names_a_registry() -> None:
    """Where packages were downloaded from on some machine is in no tracked file."""
    bad = []
    for path in tracked():
        text = (ROOT / path).read_bytes().decode("utf-8", "replace")
        bad += [f"{path}: {match.group()}" for match in HOSTS.finditer(text)]
    assert [entry for entry in bad if not entry.startswith("requirements/compile.sh")] == []


def test_requirements_are_pinned_with_hashes() -> None:
    """Every requirement is one version with SHA-256 sums and nothing else is in the files."""
    line = re.compile(
        r"#.*|[a-z0-9][a-z0-9._-]*(\[[a-z0-9,-]+\])?==\S+( ; [^\\]+)? \\|"
        r"    --hash=sha256:[0-9a-f]{64}( \\)?"
    )
    for name in ("runtime", "demo", "dev"):
        content = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        bad = [text for text in content.splitlines() if not line.fullmatch(text)]
        assert bad == [], name
        assert content.count("==") > 20


def test_rooms_say_their_law() -> None:
    """Each room's `__init__.py` has a paragraph."""
    for room in LINKS:
        text = ast.get_docstring(parsed(Path(room) / "__init__.py")) or ""
        assert len(text) > 200, room


@pytest.mark.parametrize("room", sorted(LINKS))
def test_room_links_are_relative(room: str) -> None:
    """src/headrace/<room> is a relative link to the room, so that tools see one tree."""
    link = ROOT / "src" / "headrace" / room
    assert link.is_symlink()
    assert link.readlink() == Path(LINKS[room])
    assert link.resolve() == ROOT / room


def test_every_package_is_packed() -> None:
    """Every folder of ours with an `__init__.py` or protos is in the wheel, and no others."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = set(
        re.findall(
            r'^  "(headrace[a-z0-9.]*)",$',
            text.split("packages = [")[1].split("]")[0],
            re.MULTILINE,
        )
    )
    folders = {path.parent for path in sources(*PRODUCT) if path.name == "__init__.py"}
    folders |= {path.parent for path in tracked() if path.suffix == ".proto"}
    named = {
        ".".join(folder.parts[1:])
        if folder.parts[0] == "src"
        else ".".join(("headrace", *folder.parts))
        for folder in folders
    }
    assert listed == named


def test_readme_is_short_and_its_verbs_exist() -> None:
    """The README has 120 lines at most, and each `make` verb in it is in the Makefile."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= README_LINES
    shown = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", readme, re.DOTALL))
    verbs = set(re.findall(r"\bmake ([a-z-]+)", shown))
    assert verbs <= makefile_verbs()


def makefile_verbs() -> set[str]:
    """The verbs that `make` prints."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):.* ## ", makefile, re.MULTILINE)) - {"help"}


def test_make_has_few_verbs() -> None:
    """`make` prints thirteen verbs at most."""
    assert 5 <= len(makefile_verbs()) <= VERBS


@pytest.mark.parametrize(
    "text",
    [
        "--index-" + "url=x",
        "--find-" + "links /opt/wheels",
        "https://files.python" + "hosted.org/x",
        "https://pypi." + "org/simple/x",
        "https://" + "nexus.example.org/x",
    ],
)
def test_the_check_of_registries_can_fail(text: str) -> None:
    """A line that says where packages came from is seen."""
    assert HOSTS.search(text)
