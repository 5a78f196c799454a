"""The walks in the pages: what they tell to type can be typed, and gives what they show."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from headrace.cli.app import app
from headrace.cli.program import program
from headrace.cli.show import moment
from headrace.clock import SystemClock
from headrace.models.event_file import EventFile
from headrace.models.guard import Event, Guard
from headrace.models.spec import load_spec
from tests.cli.conftest import FIXED, Run, started
from tests.tree import ROOT

COMMANDS = 100  # there are more on all pages together
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def typed(text: str) -> Iterator[str]:
    """The `headrace` commands of a page, in its blocks (without what is piped into them) and within
    its sentences.
    """
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for said in re.findall(r"`headrace( [^`]*)`", prose):
        if "…" not in said:
            yield from re.split(r" && headrace| > \S+", said.replace("\n", " "))
    for block in re.findall(r"```(?:console)?\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.match(r"(?:\$ )?(?:[^#'\"|]*\| )?(?:\w+/bin/)?headrace( .*)", line)
            if found and "…" not in line:
                yield found[1].partition(" #")[0].partition(" && ")[0].partition(" > ")[0]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.name))
def test_every_command_of_a_page_is_one(path: Path) -> None:
    """It exists, and so do its options; nothing is asked of a service."""
    for line in typed(path.read_text()):
        command: Any = typer.main.get_command(app)
        words = shlex.split(line.replace("SPEC", "spec.yaml"))
        while hasattr(command, "commands") and words and not words[0].startswith("-"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        context = command.context_class(command, resilient_parsing=True)
        _, extra, _ = command.make_parser(context).parse_args(words)
        assert extra == [], line


def test_the_commands_are_found() -> None:
    """The test above is not one of nothing."""
    assert sum(len(list(typed(path.read_text()))) for path in PAGES) > COMMANDS


def test_what_the_pages_make_in_a_clone_is_none_of_its_own() -> None:
    """Their environments, brokers and state: git is told to look away, and nothing is there yet."""
    text = "".join(path.read_text() for path in PAGES)
    made = set(re.findall(r"(?:-m venv |local:|--state-dir )([a-z]+)", text))
    assert {"v", "old", "new", "kafka", "learned"} <= made
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert [name for name in made if f"/{name}/" not in ignored] == []


def files(text: str) -> dict[str, str]:
    """What the page writes by `cat > NAME <<'END'`."""
    return dict(re.findall(r"^cat > (\S+) <<'END'\n(.*?)^END$", text, re.MULTILINE | re.DOTALL))


def events(program: str, *arguments: str) -> str:
    """What the page's program prints."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=FIXED).stdout


def test_what_the_upgrade_is_walked_with_fits_together(tmp_path: Path) -> None:
    """Both specs can be deployed, and admit every event that the program makes."""
    written = files(page("upgrade.md"))
    made = tmp_path / "events.jsonl"
    made.write_text(events(written["events.py"], "0", "2400"))
    for name in ("fraud.yaml", "basket.yaml"):
        spec = load_spec(written[name].encode())
        guard = Guard(spec)
        rows = list(EventFile(spec, made))
        assert len(rows) == 2_400
        assert all(isinstance(guard.admit(row), Event) for row in rows)


class Walk:
    """The session of docs/rollback.md, as far as all of `page` begin with it."""

    def __init__(self, run: Run, tmp_path: Path, text: str) -> None:
        self.run = run
        self._spec = tmp_path / "fraud.yaml"
        self._text = text
        self._program = files(page("rollback.md"))["events.py"]

    def to_the_bad_batch(self) -> list[str]:
        """All but the rollback. Gives the time of the bad batch, from and to."""
        self._spec.write_text(Run()("spec", "--example").stdout)
        assert self.run("deploy", str(self._spec)).exit_code == 0
        self._send("0", "600")
        self.shown(600)
        assert self.run("snapshot", "create", "card-fraud", "before-batch").exit_code == 0
        begun = SystemClock().time()
        self._send("600", "900", "wrong")
        ended = SystemClock().time() + 0.002
        while SystemClock().time() < ended:
            pass
        self._send("900", "1200")
        self.shown(1_200)
        return [datetime.fromtimestamp(at, UTC).isoformat() for at in (begun, ended)]

    def shown(self, learned: int) -> None:
        """The metric of now is on docs/rollback.md, the answer on the page that is walked."""
        while (view := self.run.json("agents", "card-fraud"))["shards"][0]["learned"] < learned:
            pass
        assert f"{learned:,} " in page("rollback.md")
        assert f"Accuracy {view['metrics'][0]['value']:.4f}" in page("rollback.md")
        self.answered()

    def answered(self, *as_of: str) -> None:
        """What is predicted is on the page."""
        features = ("amount=900", "hour=3", "merchant=shop 1")
        answer = self.run.json("predict", "card-fraud", "4711", *features, *as_of)
        assert f"decision  {answer['decision']}\nscore     {answer['score']:.6g}" in self._text

    def _send(self, *arguments: str) -> None:
        rows = events(self._program, *arguments)
        done = self.run("send", "card-fraud", "--from", "-", stdin=rows)
        assert done.exit_code == 0, done.output


@pytest.fixture
def run() -> Iterator[Run]:
    """The commands, over a service of their own."""
    up = started()
    try:
        yield Run(up.found("gRPC"))
    finally:
        up.end(signal.SIGINT)


def test_the_walk_through_a_rollback_gives_what_it_shows(run: Run, tmp_path: Path) -> None:
    """From a fresh service to the undo: each figure of the page comes out again."""
    text = page("rollback.md")
    walk = Walk(run, tmp_path, text)
    begun, ended = walk.to_the_bad_batch()
    asked = ["rollback", "card-fraud", "--to", "card-fraud.before-batch", "--mode", "rewind"]
    asked += ["--exclude-from", begun, "--exclude-to", ended]
    looked = run(*asked, "--preview").stdout
    for at, shown in ((begun, "2026-11-28T09:19:26.000Z"), (ended, "2026-11-28T09:19:30.000Z")):
        read = moment(round(datetime.fromisoformat(at).timestamp() * 1000))
        looked = looked.replace(read, shown)  # the page has its own
    for line in looked.splitlines()[1:10]:
        name, figure = re.split(r"  +", line.strip().replace(program(), "headrace"))
        assert re.search(rf"{re.escape(name)} +{re.escape(figure)}", text), line
    assert run(*asked, "--yes").stdout.startswith("rolled back card-fraud to card-fraud.before")
    walk.shown(900)
    undone = run("undo", "card-fraud", "--yes")
    assert "keys whose model changes             1 of 3" in undone.stderr
    assert "newest decisions that flip           115 of 1,200" in undone.stderr
    assert "decisions reinstated                 up to 600" in undone.stderr
    assert undone.exit_code == 0


def _named(said: str) -> str:
    """As if no automatic snapshot had come in between."""
    return re.sub(
        r"card-fraud\.auto\S+ and \d+ events", "card-fraud.before-batch and 150 events", said
    )


def test_the_walk_into_the_past_gives_what_it_shows(run: Run, tmp_path: Path) -> None:
    """Answers of then, and what `verify` says of a decision and of one that was altered."""
    text = page("past.md")
    walk = Walk(run, tmp_path, page("rollback.md") + text)
    walk.to_the_bad_batch()
    walk.answered("--as-of", "card-fraud.before-batch")
    walk.answered("--as-of", "offset:750")
    decision = "card-fraud/1/transactions/0/750"
    confirmed = run("verify", decision)
    assert (confirmed.exit_code, _named(confirmed.stdout) in text) == (0, True), confirmed.output
    kept = run("watch", "decisions", "card-fraud", "--no-follow", "--json").stdout
    line = next(row for row in kept.splitlines() if f'"{decision}"' in row)
    altered = re.sub(r'"decision":"\w+"', '"decision":"block"', line)
    contradicted = run("verify", "-", stdin=altered)
    told = _named(re.sub(r" +$", "", contradicted.stdout, flags=re.MULTILINE))
    assert (contradicted.exit_code, told in text) == (1, True), contradicted.output
