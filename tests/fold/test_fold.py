"""The fold and the learner agree on every log; a learner that is wrong is found."""

from __future__ import annotations

import ast
import collections
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from headrace.models.decisions import Origin as ServiceOrigin
from headrace.models.decisions import encode_decision
from headrace.models.learner import Learner
from headrace.models.memory_rows import MemoryRows
from headrace.models.spec import load_spec
from headrace.pipelines.quarantine import encode, quarantined
from tests.fold import compare, oracles
from tests.fold.control import Course
from tests.fold.events import Row, log
from tests.fold.fold import fold
from tests.fold.oracle import Oracle, Origin
from tests.fold.state import Folded
from tests.tree import ROOT

# What the fold may import of the product: to compare bytes, and to read a broker's topics.
ALLOWED = {
    "compare.py": {"headrace.models"},
    "kafka.py": {"headrace.pipelines", "headrace.views"},
}
STANDS_ON = {
    "learner", "keyed", "guard", "slots", "labels", "logtime", "policies", "forecasts", "metrics",
    "features", "wants", "typed_reader", "decisions", "adjust", "fastlearn", "baselines", "shard",
    "shards", "worker", "linear", "spec",
}  # fmt: skip


class Service:
    """The learner over rows in memory: what a shard would leave behind."""

    def __init__(self, oracle: Oracle, agent: str) -> None:
        spec = load_spec(oracle.spec)
        self.spec = spec
        self.origin = ServiceOrigin(agent, 1, 1, spec.source.topic, 0)
        self.rows = MemoryRows()
        self.learner = Learner(spec, self.origin, self.rows)
        self.decisions: list[bytes] = []
        self.quarantine: list[bytes] = []
        self.paused = False

    def step(self, records: Sequence[Row]) -> None:
        """One batch."""
        outcome = self.learner.step(records, learning=not self.paused)
        by_offset = {record.offset: record for record in records}
        self.decisions += [encode_decision(decision) for decision in outcome.decisions]
        for refusal in outcome.refusals:
            record = by_offset[refusal.offset]
            self.quarantine.append(encode(quarantined(refusal, record, self.origin)))

    def restart(self) -> None:
        """Flush and go on with a new learner, as after a stop."""
        self.rows.flush(self.learner)
        self.learner = Learner(self.spec, self.origin, self.rows)

    def differences(self, folded: Folded) -> list[str]:
        """Where the fold differs from what is here."""
        self.rows.flush(self.learner)
        origin = Origin(self.origin.agent, 1, 1, self.origin.topic, 0)
        return [
            *compare.rows(folded, self.rows),
            *compare.decisions(folded, self.decisions, origin),
            *compare.quarantined(folded, self.quarantine, origin),
        ]


def pauses_of(seed: int, count: int) -> list[tuple[int, bool]]:
    """Where a log of so many records is paused and resumed."""
    at = sorted(random.Random(seed).sample(range(count), 4))
    return list(zip(at, (True, False, True, False), strict=True))


def run(make: Callable[[], Oracle], seed: int, count: int = 260) -> tuple[Service, Folded]:
    """A log through the learner, in batches, with pauses and restarts, and through the fold."""
    oracle = make()
    records, pauses = log(seed, count), pauses_of(seed, count)
    service = Service(oracle, make.__name__)
    chance = random.Random(-seed)
    edges = sorted({0, count, *(at for at, _ in pauses), *chance.sample(range(count), 12)})
    for begin, end in pairwise(edges):
        service.paused = dict(pauses).get(begin, service.paused)
        service.step(records[begin:end])
        if chance.random() < 0.3:
            service.restart()
    return service, folded_of(oracle, service, records, pauses)


def folded_of(
    oracle: Oracle, service: Service, records: Sequence[Row], pauses: Sequence[tuple[int, bool]]
) -> Folded:
    """The fold of the records for the service's origin."""
    origin = Origin(service.origin.agent, 1, 1, service.origin.topic, 0)
    return fold(oracle, origin, records, Course(pauses=tuple(pauses)))


def test_the_fold_imports_the_codec_and_a_reader_of_topics_only() -> None:
    """No module of the fold names the learner, the shard, or anything else of the product."""
    seen = {}
    for path in sorted((ROOT / "tests" / "fold").glob("*.py")):
        if path.name.startswith("test_"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        named |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        seen[path.name] = {name for name in named if name.split(".")[0] == "headrace"}
    assert {name: of for name, of in seen.items() if of} == ALLOWED
    source = (ROOT / "tests" / "fold" / "compare.py").read_text(encoding="utf-8")
    assert "from headrace.models import codec\n" in source


def test_the_fold_loads_nothing_that_the_learner_stands_on() -> None:
    """A process that has loaded the fold has not loaded the learner, its guard, or its rows."""
    code = (
        "import sys, tests.fold.kafka, tests.fold.oracles;"
        "print(*(name for name in sys.modules if name.startswith('headrace.')))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    loaded = {name.rpartition(".")[2] for name in told.stdout.split()}
    assert "codec" in loaded
    assert loaded & STANDS_ON == set()


@pytest.mark.parametrize("make", oracles.ALL, ids=lambda make: make.__name__)
@pytest.mark.parametrize("seed", range(4))
def test_fold_and_learner_agree(make: Callable[[], Oracle], seed: int) -> None:
    """Rows, decisions and refusals of a log with bad events, pauses and restarts are the fold's."""
    service, folded = run(make, seed)
    assert service.differences(folded) == []
    assert folded.learned > 20
    assert folded.refused


@pytest.mark.parametrize("seed", range(3))
def test_keys_come_back_after_they_expired(seed: int) -> None:
    """The logs of these tests hold keys that expire and come back, and the fold sees it."""
    _, folded = run(oracles.visits, seed, 400)
    assert folded.expired > 0


def test_every_reason_is_met() -> None:
    """The bad events of these tests are refused for every reason that bytes can give."""
    met = collections.Counter[str]()
    for make in (oracles.fraud, oracles.visits):
        records = log(77, 1000, bad_share=0.9)
        origin = Origin(make.__name__, 1, 1, "t", 0)
        met.update(fold(make(), origin, records, Course()).refused.values())
    assert met.keys() >= {
        "null_value", "too_large", "too_deep", "bad_utf8", "bad_json", "not_an_object",
        "key_missing", "key_mismatch", "missing", "wrong_type", "not_finite", "out_of_range",
        "too_long", "bad_time",
    }  # fmt: skip
