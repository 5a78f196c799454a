"""The numbers and bans of CONTRIBUTING.md, held by a test. Generated stubs are exempt."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.tree import PRODUCT, ROOT, parsed, sources, tracked

MODULE_LINES = 400
FUNCTION_LINES = 70
PARAMETERS = 5
LINE_LENGTH = 100
BROAD_HANDLERS = 2  # the batch loop and the gRPC interceptor

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


def test_files_are_named_by_a_noun() -> None:
    """No file is called utils or the like: what would be in it has a name."""
    assert [str(path) for path in sources() if path.stem in BAD_NAMES] == []


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


def test_types_are_known_before_threads_ask_for_them() -> None:
    """Msgspec learns a type of ours when it is first asked for, and two threads at once crash in
    that: a decoder is made when its module is imported.
    """
    bad = []
    for path in sources(*PRODUCT):
        for node in ast.walk(parsed(path)):
            if not (isinstance(node, ast.Call) and dotted(node.func).endswith(".decode")):
                continue
            named = [k.value for k in node.keywords if k.arg == "type"]
            bad += [f"{path}:{node.lineno} {one.id}" for one in named if isinstance(one, ast.Name)]
    assert bad == []


LOGS = re.compile(r"log\.(debug|info|warning|error|exception|log)")
EVENT = re.compile(r"[a-z_]+(\.[a-z_]+)+")


def test_logs_tell_constant_events() -> None:
    """What varies is in the fields: so events can be counted, and JSON lines have all."""
    bad = []
    for path in sources(*PRODUCT):
        for node in ast.walk(parsed(path)):
            if not (isinstance(node, ast.Call) and LOGS.fullmatch(dotted(node.func))):
                continue
            text = next((a.value for a in node.args if isinstance(a, ast.Constant)), None)
            if isinstance(text, str) and not EVENT.fullmatch(text):
                bad.append(f"{path}:{node.lineno} {text!r}")
    assert bad == []


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
    ("body", "found"),
    [("assert x", True), ("with pytest.raises(E): f()", True), ("law(make)", True), ("f()", False)],
)
def test_the_check_of_assertions_can_fail(body: str, found: bool) -> None:
    """A test without an assertion is seen."""
    assert any(_asserts(node) for node in ast.walk(ast.parse(body))) is found
