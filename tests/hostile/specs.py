"""A hostile afternoon for specs: a good one with faults in it is refused with paths, or works.

Nothing but SpecError may come out, within a bounded time, and what is accepted must say the same
again from its canonical form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec
import yaml

from headrace.clock import SystemClock
from headrace.errors import SpecError
from headrace.models.catalog import catalog
from headrace.models.rehearsal import require_deployable
from headrace.models.spec import Spec, load_spec
from tests.hostile.events import Afternoon, Progress, nobody
from tests.hostile.fuzzer import Fuzzer
from tests.hostile.targets import TARGETS

LONGEST_S = 5.0  # of one spec, on a machine that does other things too
Loader = Callable[[bytes], Spec]

# What a spec that was written to hurt would hold.
TRAPS: tuple[bytes, ...] = (
    b"", b" ", b"\x00", b"[]", b"1",
    b"null", b"~", b"{}", b"--- a\n--- b\n", b"\xff\xfe{}", b"%YAML 1.1\n---\n",
    b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    b"a: &a\n  b: *a\n",
    b"[" * 100_000,
    b"{" * 100_000,
    b"- " * 50_000,
    b"? " * 50_000,
    b"a:\n" + b" a:\n" * 1000,
    b'{"a":' * 40 + b"1" + b"}" * 40,
    b"agent: !!python/object/apply:os.system ['true']\n",
    b"agent: !!binary aGVhZHJhY2U=\n",
    b"agent: x\nagent: y\n",
    b'{"agent": "x", "agent": "y"}',
    b'{"agent": ' + b"9" * 5_000 + b"}",
    b"agent: " + b"9" * 5_000,
    b"agent: " + b"1e" + b"9" * 100,
    b'{"agent": NaN, "source": -Infinity}',
    b"agent: .nan\nsource: .inf\n",
    b"features: {" + b"a: number, " * 20_000 + b"}",
    b"x: '" + b"y" * 255_000 + b"'",
    b"x: " + b"y" * 300_000,
    b"model: [" * 31 + b"]" * 31,
    b"# " * 100_000,
    b"a: |\n" + b" \n" * 100_000,
    b"\t\ta: b",
    b"a: \xed\xa0\x80",
    b"<<: {agent: x}",
    b"agent: x\r\nsource: y\x85",
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 10**18,
    10**30, -(10**30), 0.5, 1e300, -1e-300, "", " ", "x" * 5_000,
    "$", "$.", "$..a", "$.a[0]", "$['" + "a" * 300 + "']",
    "\u0000", "𝄞", "\u202e", "a\nb", "1h", "-1s",
    "9" * 40 + "d", [], {}, [[]], [None], {"": None}, {"a": {"a": {"a": {}}}}, ["x"] * 300, "None",
    "__class__", "optim.SGD", "linear_model.LinearRegression", "forest.ARFClassifier",
    "preprocessing.StandardScaler", {"optim.SGD": {"lr": -1}}, {"preprocessing.OneHotEncoder": {}},
    {"ensemble.BaggingClassifier": {"model": "tree.HoeffdingTreeClassifier", "n_models": 10**9}},
    {"anomaly.HalfSpaceTrees": {"height": 10**6}}, {"compose.Select": ["a"]},
)  # fmt: skip


def run_specs(
    count: int, seed: int | str, *, progress: Progress = nobody, loader: Loader = load_spec
) -> Afternoon:
    """`count` specs: traps, good ones with odd values in them, and good ones with spoilt bytes."""
    codes: Counter[str] = Counter()
    findings: list[str] = []
    for text in _specs(count, seed):
        code, finding = _try(text, loader)
        codes[code] += 1
        findings += [finding] if finding else []
        progress(1)
    return Afternoon(count, codes, findings)


def _specs(count: int, seed: int | str) -> Iterator[bytes]:
    fuzzer = Fuzzer(seed)
    good = [target.text.encode() for target in TARGETS.values()]
    trees = [yaml.safe_load(text) for text in good]
    names = sorted(catalog())
    for number in range(count):
        if number < len(TRAPS):
            yield TRAPS[number]
        elif number % 50 == 0:
            tree = dict(fuzzer.chance.choice(trees), model=fuzzer.chance.choice(names))
            yield msgspec.json.encode(tree)
        elif number % 3 == 0:
            yield fuzzer.spoil(fuzzer.chance.choice(good), good)
        elif number % 3 == 1:
            tree = _changed(fuzzer.chance.choice(trees), fuzzer.chance)
            yield fuzzer.spoil(msgspec.json.encode(tree))
        else:
            tree = fuzzer.chance.choice(trees)
            for _ in range(fuzzer.chance.randint(1, 3)):
                tree = _changed(tree, fuzzer.chance)
            if fuzzer.chance.random() < 0.5:
                yield yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace")
            else:
                yield msgspec.json.encode(tree)


def _changed(tree: Any, chance: Random) -> Any:
    """A copy with something odd in one place: a value, a name, one field more or less."""
    if chance.random() < 0.25 or not isinstance(tree, (dict, list)) or not tree:
        return chance.choice(ODD)
    if isinstance(tree, list):
        at = chance.randrange(len(tree))
        return [*tree[:at], _changed(tree[at], chance), *tree[at + 1 :]]
    name = chance.choice(list(tree))
    changed = dict(tree)
    kind = chance.randrange(6)
    if kind == 0:
        del changed[name]
    elif kind == 1:
        changed[chance.choice(["", "colour", "agent", "range", "k" * 200, "a.b"])] = tree[name]
    else:
        changed[name] = _changed(tree[name], chance)
    return changed


def _try(text: bytes, loader: Loader) -> tuple[str, str]:
    """What a spec came to, and what is wrong with that; the text is in it, to be replayed."""
    clock = SystemClock()
    began = clock.monotonic()
    shown = f"{text[:2000]!r}"
    try:
        code = _loaded(text, loader)
    except SpecError as error:
        code = "refused"
        paths = [violation.path for violation in error.violations]
        if not all(path.startswith("$") for path in paths):
            return code, f"paths {paths} of {shown}"
        str(error).encode()  # it goes into logs and answers
    except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError,
            RecursionError, MemoryError, RuntimeError, yaml.YAMLError) as error:  # fmt: skip
        return "raised", f"{type(error).__name__}: {error} by {shown}"
    took = clock.monotonic() - began
    return code, f"took {took:.1f} s: {shown}" if took > LONGEST_S else ""


def _loaded(text: bytes, loader: Loader) -> str:
    spec = loader(text)
    again = load_spec(spec.canonical())
    assert again == spec, "its canonical form is another spec"
    assert again.digest == spec.digest, "its canonical form has another digest"
    require_deployable(spec)
    return "works"
