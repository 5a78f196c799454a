"""Events sent from a file, before a small real backend and before a service."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from headrace.errors import OverloadError
from headrace.models.spec import load_spec
from headrace.views import AgentView
from tests.cli.conftest import FIXED, Run
from tests.cli.served import Served
from tests.serving.world import SPEC, World, view


@pytest.fixture
def served(served: Served) -> Served:
    served.world.views["card-fraud"] = _with_spec()
    return served


def _with_spec() -> AgentView:
    return replace(view(), spec=load_spec(SPEC.encode()).to_dict())


@pytest.fixture
def world(served: Served) -> World:
    return served.world


@pytest.fixture
def small(served: Served) -> Run:
    """Commands against that server."""
    return Run(served.target)


def events(count: int) -> list[bytes]:
    made = [{"card_id": f"c{n % 3}", "amount": n, "fraud": n % 2 == 0} for n in range(count)]
    return [json.dumps(each).encode() for each in made]


def written(tmp_path: Path, lines: list[bytes], name: str = "events.jsonl") -> str:
    data = b"\n".join(lines) + b"\n"
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(path)


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
def test_a_file_is_sent_as_it_is(small: Run, world: World, tmp_path: Path, name: str) -> None:
    """Every line once, in order, byte for byte, each with the key that the spec's path names."""
    lines = events(1_234)
    result = small("send", "card-fraud", "--from", written(tmp_path, lines, name))
    assert result.exit_code == 0, result.output
    assert world.log == lines
    assert world.keys == [f"c{n % 3}" for n in range(1_234)]
    head, where = result.stdout.splitlines()
    assert head.startswith("sent 1,234 of 1,234 events to card-fraud in ")
    assert head.endswith(" a second)")
    assert where == "  appended from transactions[0]@100 to transactions[0]@1333"


def test_standard_input_and_a_key_of_ones_own(small: Run, world: World) -> None:
    """`-` reads JSON lines; a KEY is that of every line."""
    text = b"\n".join(events(3)).decode()
    result = small("send", "card-fraud", "4711", "--from", "-", "--json", stdin=text)
    found = json.loads(result.stdout)
    assert (found["accepted"], found["refused"], found["upto_line"]) == (3, 0, 3)
    assert found["first"] == [{"topic": "transactions", "partition": 0, "offset": 100}]
    assert world.keys == ["4711"] * 3


def test_refused_lines_are_told_and_the_others_are_sent(
    small: Run, world: World, tmp_path: Path
) -> None:
    """By their numbers in the file, blank lines counted; the first ten of them."""
    lines = [*events(2), b"", b"{oops", *events(1), *[b"{no"] * 12]
    result = small("send", "card-fraud", "--from", written(tmp_path, lines))
    assert result.exit_code == 1
    assert len(world.log) == 3
    told = result.stderr.splitlines()
    assert told[0].startswith("refused: line 4: the agent would quarantine it")
    assert told[1].startswith("refused: line 6: ")
    assert len(told) == 10
    assert "sent 3 of 16 events to card-fraud" in result.stdout
    assert "13 were refused; the first 10 are told above" in result.stdout
    found = json.loads(small("send", "card-fraud", "--from", "-", "--json", stdin="{no").stdout)
    assert found["refusals"][0]["line"] == 1
    assert found["refusals"][0]["code"] == "bad_json"


def test_what_is_no_json_has_no_place_in_the_event(run: Run) -> None:
    """It is refused as a whole: before the reason stands the line alone."""
    result = run("send", "card-fraud", "--from", "-", stdin="{oops\n")
    assert result.exit_code == 1
    assert result.stderr.startswith("refused: line 1: not JSON: ")
    found = json.loads(run("send", "card-fraud", "--from", "-", "--json", stdin="{oops\n").stdout)
    assert found["refusals"][0]["code"] == "bad_json"
    assert found["refusals"][0]["text"].startswith("not JSON: ")


def test_a_csv_is_read_as_a_backtest_reads_it(small: Run, world: World, tmp_path: Path) -> None:
    """Typed by the spec; line numbers count the header, and cells with line ends in them."""
    path = tmp_path / "events.csv"
    path.write_text('card_id,amount,fraud,more\n7,1.5,true,"two\nlines"\n8,2,false,\n\n9,,true,\n')
    found = json.loads(small("send", "card-fraud", "--from", str(path), "--json").stdout)
    assert (found["accepted"], found["upto_line"]) == (3, 6)
    assert [json.loads(line) for line in world.log] == [
        {"card_id": "7", "amount": 1.5, "fraud": True},
        {"card_id": "8", "amount": 2, "fraud": False},
        {"card_id": "9", "fraud": True},
    ]
    assert small("send", "card-fraud", "--from", str(path), "--skip", "3").exit_code == 0
    assert [json.loads(line)["card_id"] for line in world.log[3:]] == ["8", "9"]


def test_a_terminal_is_shown_how_far_it_is(served: Served, tmp_path: Path) -> None:
    """How many of how many, and how many a second."""
    path = written(tmp_path, events(3_000))
    ours, theirs = pty.openpty()
    command = ["send", "card-fraud", "--from", path, "-a", served.target]
    process = subprocess.Popen(
        [sys.executable, "-m", "headrace", *command],
        env={**FIXED, "TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the end of it
        while piece := os.read(ours, 65_536):
            shown += piece
    os.close(ours)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out.startswith("sent 3,000 of 3,000")) == (0, True), shown
    assert b"/3000" in shown
    assert b" a second" in shown


def test_where_it_stops_it_says_what_was_accepted(small: Run, world: World, tmp_path: Path) -> None:
    """And what may be in the log or not; with --skip it goes on, and nothing is sent twice."""
    lines = events(1_200)
    path = written(tmp_path, lines)
    world.away_from = 700
    result = small("send", "card-fraud", "--from", path)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "700 events were accepted, up to line 500; of lines 501 to 1,000 those" in result.stderr
    assert "--skip 1000 goes on behind them" in result.stderr
    assert world.log == lines[:700]
    world.away_from = None
    assert small("send", "card-fraud", "--from", path, "--skip", "1000").exit_code == 0
    assert world.log == [*lines[:700], *lines[1000:]]


def test_a_call_that_was_refused_has_sent_nothing(small: Run, world: World, tmp_path: Path) -> None:
    """Nothing is in doubt then, and it says from where it goes on; a call that broke may have."""
    path = written(tmp_path, events(1_200))
    world.shed_from = 500
    world.shed = ZeroDivisionError()
    doubtful = small("send", "card-fraud", "--from", path)
    assert doubtful.exit_code == 1
    assert "500 events were accepted, up to line 500; lines 501 to 1,000 may be" in doubtful.stderr
    world.log.clear()
    world.shed = OverloadError("overloaded", "too many calls", retry_s=0.1)
    result = small("send", "card-fraud", "--from", path)
    assert result.stderr.strip().endswith(
        "500 events were accepted, up to line 500; --skip 500 goes on from there (overloaded)"
    )
    assert len(world.log) == 500


def test_what_cannot_be_read_says_where(small: Run, world: World, tmp_path: Path) -> None:
    """A file that is cut off: what is before the cut is sent; one that is not there: nothing."""
    whole = gzip.compress(b"\n".join(events(3_000)))
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    result = small("send", "card-fraud", "--from", str(path))
    assert result.exit_code == 2
    count = len(world.log)
    assert 0 < count < 3_000
    assert f"cannot be read behind line {count:,}: " in result.stderr
    assert f"; {count:,} events were accepted, up to line {count:,}" in result.stderr
    missing = small("send", "card-fraud", "--from", str(tmp_path / "no.csv"))
    assert (missing.exit_code, "cannot read" in missing.stderr) == (2, True)
    assert small("send", "card-fraud", "--from", str(tmp_path / "no.txt")).exit_code == 2
    assert small("send", "nobody", "--from", str(path)).exit_code == 1
    assert small("send", "card-fraud").exit_code == 2
    assert small("send", "card-fraud", "k", "{}", "--from", str(path)).exit_code == 2


def test_ten_thousand_events_take_seconds(run: Run, tmp_path: Path) -> None:
    """On the embedded broker, beside learning: they are in the log once each, in their order."""
    spec = """
agent: loaded
source: {topic: loads, key: $.card, start: earliest}
features: {amount: {type: number}}
model: [preprocessing.StandardScaler, linear_model.LogisticRegression]
label: {field: $.fraud}
"""
    assert run("deploy", "-", stdin=spec).exit_code == 0
    lines = [
        json.dumps({"card": f"c{n % 7}", "amount": n, "fraud": n % 3 == 0}).encode()
        for n in range(10_000)
    ]
    lines[4_321] = b'{"card": "c1", "amount": "much", "fraud": true}'
    result = run("send", "loaded", "--from", written(tmp_path, lines), "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["accepted"], found["refused"]) == (9_999, 1)
    assert found["refusals"][0]["line"] == 4_322
    assert found["refusals"][0]["text"].startswith("$.amount: ")
    assert found["last"][0]["offset"] == 9_998
    assert found["seconds"] < 30  # one call for each took minutes
    while run.json("agents", "loaded")["shards"][0]["accepted"] < 9_999:
        pass
    decided = run("watch", "decisions", "loaded", "--no-follow", "--json").stdout.splitlines()
    offsets = [json.loads(line)["position"]["offset"] for line in decided]
    assert offsets == list(range(9_999))
    assert run("delete", "loaded", "--yes").exit_code == 0
