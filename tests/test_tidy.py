"""The numbers and bans of CONTRIBUTING.md, held by a test. Generated stubs are exempt."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULE_LINES = 400
FUNCTION_LINES = 70
PARAMETERS = 5
LINE_LENGTH = 100
README_LINES = 120
BROAD_HANDLERS = 2  # the batch loop and the gRPC interceptor
VERBS = 10

BANNED_IMPORTS = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle"}
BANNED_CALLS = {"eval", "exec", "__import__"}
CLOCK_AND_CHANCE = {"time", "uuid", "secrets"}
CLOCK_CALLS = re.compile(r"(datetime\.)*(datetime|date)\.(now|utcnow|today)|os\.urandom")
# Drawing from a process-wide source. To make a source of a given state is no chance: models do.
CHANCE_CALLS = re.compile(r"(random|np\.random|numpy\.random)\.\w+")
SOURCES_OF_CHANCE = {
    "Random", "RandomState", "PCG64", "MT19937", "Generator", "SeedSequence", "default_rng",
}  # fmt: skip
BAD_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}
# Split, so that this file does not hold what it looks for.
WORDS = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")) + r")\b")
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


@cache
def tracked() -> tuple[Path, ...]:
    """Files that git tracks, or would on the next commit; of an unpacked archive, all of it."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    names = [Path(name) for name in listing.stdout.split("\0") if name]
    if listing.returncode != 0:
        names = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.suffix == ".py"]
    return tuple(name for name in names if (ROOT / name).is_file() and "_pb2" not in name.name)


def sources(*folders: str) -> list[Path]:
    """Our Python files, or those below `folders`; a room is listed once, not by its link too."""
    return [
        path
        for path in tracked()
        if path.suffix == ".py" and (not folders or path.parts[0] in folders)
    ]


PRODUCT = ("models", "state", "pipelines", "serving", "src")


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method, nested ones too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def dotted(node: ast.expr) -> str:
    """`a.b.c` as text; empty for what is not a dotted name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and dotted(node.value):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def imports(tree: ast.AST) -> set[str]:
    """Top-level names of all modules imported anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_rooms_are_looked_at() -> None:
    """The checks below see every room; a check that sees nothing always passes."""
    seen = {path.parts[0] for path in sources()}
    assert seen >= {"models", "state", "pipelines", "serving", "src", "tests"}


def test_modules_are_short() -> None:
    """No module has more than 400 lines."""
    lengths = {
        str(path): len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in sources()
    }
    assert {path: n for path, n in lengths.items() if n > MODULE_LINES} == {}


def test_functions_are_short() -> None:
    """No function has a body of more than 70 lines, docstring included."""
    long = [
        f"{path}:{node.lineno} {node.name}"
        for path in sources()
        for node in functions(parsed(path))
        if (node.end_lineno or 0) - node.body[0].lineno + 1 > FUNCTION_LINES
    ]
    assert long == []


def test_functions_have_few_parameters() -> None:
    """No function has more than five parameters, self and cls aside; more is a dataclass.

    The commands of the CLI are exempt: for typer, each option of a command is a parameter.
    """

    def count(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
        arguments = node.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        return len([name for name in names if name not in ("self", "cls")])

    many = [
        f"{path}:{node.lineno} {node.name} has {count(node)}"
        for path in sources()
        if path.parts[:3] != ("src", "headrace", "cli")
        for node in functions(parsed(path))
        if count(node) > PARAMETERS
    ]
    assert many == []


def test_lines_are_short() -> None:
    """No line of Python is longer than 100 characters."""
    long = [
        f"{path}:{number}"
        for path in sources()
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").split("\n"), 1)
        if len(line) > LINE_LENGTH
    ]
    assert long == []


def test_broad_handlers_stand_in_two_places_at_most() -> None:
    """`except Exception`, wider or bare, stands in two places of the product at most."""
    wide = {"Exception", "BaseException"}

    def names(handler: ast.ExceptHandler) -> set[str]:
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        return {dotted(kind) if kind is not None else "BaseException" for kind in kinds}

    broad = [
        f"{path}:{node.lineno}"
        for path in sources(*PRODUCT)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ExceptHandler) and names(node) & wide and not _raises_on(node)
    ]
    assert len(broad) <= BROAD_HANDLERS, broad


def _raises_on(handler: ast.ExceptHandler) -> bool:
    """A handler that tidies up and raises the same error again swallows nothing."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_no_pickle_and_no_eval() -> None:
    """Nothing in the repository can run code that came as data."""
    bad = [
        f"{path}: import {name}"
        for path in sources()
        for name in imports(parsed(path)) & BANNED_IMPORTS
    ]
    bad += [
        f"{path}:{node.lineno} {dotted(node.func)}()"
        for path in sources()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and dotted(node.func) in BANNED_CALLS
    ]
    assert bad == []


def test_clock_and_chance_have_one_place() -> None:
    """Only clock.py reads a clock or draws a random number."""
    bad = [
        f"{path}: import {name}"
        for path in sources(*PRODUCT)
        if path.name != "clock.py"
        for name in imports(parsed(path)) & CLOCK_AND_CHANCE
    ]
    bad += [
        f"{path}:{node.lineno} {dotted(node.func)}()"
        for path in sources(*PRODUCT)
        if path.name != "clock.py"
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and _reads_clock_or_draws(node)
    ]
    assert bad == []


def _reads_clock_or_draws(call: ast.Call) -> bool:
    name = dotted(call.func)
    if CLOCK_CALLS.fullmatch(name):
        return True
    if not CHANCE_CALLS.fullmatch(name):
        return False
    # A source made without a state takes its state from the machine.
    seeded = name.rpartition(".")[2] in SOURCES_OF_CHANCE and (call.args or call.keywords)
    return not seeded


def test_environment_has_one_place() -> None:
    """Only config.py reads the environment."""
    readers = {
        str(path)
        for path in sources(*PRODUCT)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and dotted(node) in ("os.environ", "os.getenv")
    }
    assert readers == {"src/headrace/config.py"}


def test_no_word_puts_work_off() -> None:
    """No tracked file says that something is to be done later by nobody in particular."""
    bad = []
    for path in tracked():
        text = (ROOT / path).read_bytes().decode("utf-8", "replace")
        bad += [f"{path}: {word}" for word in WORDS.findall(text)]
    assert bad == []


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


def test_files_are_named_by_a_noun() -> None:
    """No file is called utils or the like: what would be in it has a name."""
    assert [str(path) for path in sources() if path.stem in BAD_NAMES] == []


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
    """Every folder with an `__init__.py` or protos that is ours is in the wheel's list, and no others."""
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


def test_every_test_states_a_fact_and_asserts_it() -> None:
    """Every test function has a sentence and at least one assertion, its own or a `check`'s."""
    bad = []
    for path in sources("tests"):
        for node in functions(parsed(path)):
            if not node.name.startswith("test_"):
                continue
            sentence = ast.get_docstring(node) or ""
            if len(sentence.split()) < 4 or not sentence.rstrip().endswith("."):
                bad.append(f"{path}:{node.lineno} {node.name} has no sentence")
            if not any(_asserts(child) for child in ast.walk(node)):
                bad.append(f"{path}:{node.lineno} {node.name} asserts nothing")
    assert bad == []


def _asserts(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.Call):
        return False
    name = dotted(node.func).rpartition(".")[2]
    return name in ("raises", "fail", "law") or name.startswith(("assert_", "check_"))


def test_readme_is_short_and_its_verbs_exist() -> None:
    """The README has 120 lines at most, and each `make` verb in it is in the Makefile."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= README_LINES
    shown = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", readme, re.DOTALL))
    verbs = set(re.findall(r"\bmake ([a-z]+)", shown))
    assert verbs <= makefile_verbs()


def makefile_verbs() -> set[str]:
    """The verbs that `make` prints."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z]+):.* ## ", makefile, re.MULTILINE)) - {"help"}


def test_make_has_few_verbs() -> None:
    """`make` prints ten verbs at most."""
    assert 5 <= len(makefile_verbs()) <= VERBS


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("datetime.now()", True),
        ("datetime.datetime.utcnow()", True),
        ("date.today()", True),
        ("os.urandom(8)", True),
        ("random.random()", True),
        ("random.Random()", True),
        ("random.Random(7)", False),
        ("np.random.rand(3)", True),
        ("np.random.default_rng()", True),
        ("np.random.default_rng(7)", False),
        ("datetime.fromtimestamp(moment, UTC)", False),
        ("model.predict_one(x)", False),
    ],
)
def test_the_check_of_clocks_can_fail(call: str, found: bool) -> None:
    """What reads a clock or draws from the machine is seen, what is given a state is let pass."""
    node = ast.parse(call).body[0]
    assert isinstance(node, ast.Expr)
    assert isinstance(node.value, ast.Call)
    assert _reads_clock_or_draws(node.value) is found


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


@pytest.mark.parametrize(
    ("body", "found"),
    [("assert x", True), ("with pytest.raises(E): f()", True), ("law(make)", True), ("f()", False)],
)
def test_the_check_of_assertions_can_fail(body: str, found: bool) -> None:
    """A test without an assertion is seen."""
    assert any(_asserts(node) for node in ast.walk(ast.parse(body))) is found
