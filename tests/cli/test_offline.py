"""Commands without a service, settings, help, and how things are shown."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import rich.console
import typer
from rich.text import Text

from headrace.cli import console
from headrace.cli.app import app
from headrace.cli.ask import read_features
from headrace.cli.client import connect
from headrace.cli.example import EXAMPLE
from headrace.cli.manual import manual
from headrace.config import Config
from headrace.models.backtest import backtest
from headrace.models.guard import Event, Guard
from headrace.models.spec import load_spec
from headrace.ports import Record
from tests.cli.conftest import SPEC, Run
from tests.tree import ROOT


def _commands(command: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        return [(path, command)]
    return [
        found for name, each in command.commands.items() for found in _commands(each, (*path, name))
    ]


COMMANDS = _commands(typer.main.get_command(app))


@pytest.mark.parametrize("path", [path for path, _ in COMMANDS], ids=" ".join)
def test_every_command_teaches(alone: Run, path: tuple[str, ...]) -> None:
    """`--help` ends well, says what the command changes, and shows an example of it."""
    result = alone(*path, "--help")
    assert result.exit_code == 0
    words = " ".join(result.stdout.split())
    assert f"Example: headrace {' '.join(path)}" in words
    assert re.search(r"[.:!)`] Changes\b", words), words


@pytest.mark.parametrize(
    "path", [(), ("watch",), ("snapshot",), *(path for path, _ in COMMANDS)], ids=" ".join
)
def test_a_flag_takes_no_value(alone: Run, path: tuple[str, ...]) -> None:
    """So help shows none."""
    assert "<bool>" not in alone(*path, "--help").stdout


def test_every_setting_shows_its_default(alone: Run) -> None:
    """In the help and on the page, those that tune, too."""
    text = " ".join(alone("up", "--help").stdout.replace("│", " ").split())
    page = manual().partition("\n## up\n")[2].partition("\n## ")[0]
    for field in dataclasses.fields(Config):
        default = field.default
        if isinstance(default, bool) or not isinstance(default, int | float | str):
            continue
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        assert f"[default: ({shown})]" in text, field.name
        (line,) = [each for each in page.splitlines() if each.startswith(f"- `{flag(field)}`")]
        assert line.endswith(f" Default: `{shown}`.")


def flag(field: Any) -> str:
    """How a setting is given on the command line."""
    return f"--{field.name.replace('_', '-')}"


def test_the_page_is_up_to_date() -> None:
    """docs/cli.md is what the generator writes now."""
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == manual(), "write it anew: python -m headrace.cli.manual > docs/cli.md"


def test_every_setting_has_a_flag() -> None:
    """The flags of `up` are the settings, so that there is one list of them."""
    (up,) = [command for path, command in COMMANDS if path == ("up",)]
    flags = {parameter.name for parameter in up.params} - {"help", "config"}
    assert flags == {field.name for field in dataclasses.fields(Config)} - {"sources"}


HEAVY = {"river", "numpy", "scipy", "faust", "rocksdict", "aiokafka"}


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["spec", "--example"], HEAVY | {"grpc"}),
        (["agents", "--address", "127.0.0.1:1"], HEAVY),
        (["send", "a", "k", "{}", "--address", "127.0.0.1:1"], HEAVY),
        (["watch", "decisions", "a", "--address", "127.0.0.1:1"], HEAVY),
        (["undo", "a", "--yes", "--address", "127.0.0.1:1"], HEAVY),
    ],
    ids=["an example", "agents", "send", "watch", "undo"],
)
def test_light_commands_load_nothing_heavy(arguments: list[str], heavy: set[str]) -> None:
    """Help, an example, and what a worker is asked wait for neither River nor Faust."""
    code = (
        "import sys; from headrace.cli.app import app\n"
        f"try: app({arguments})\n"
        "except SystemExit: pass\n"
        f"print({heavy} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_no_worker_is_told_with_what_to_do(alone: Run) -> None:
    """The address follows the settings, and the sentence says what to start."""
    result = alone("agents", HEADRACE_GRPC_PORT="1")
    assert result.exit_code == 1
    assert result.stderr == ("error: no worker at 127.0.0.1:1; start one with `headrace up`\n")
    result = alone("agents", "--json", HEADRACE_GRPC_PORT="1")
    assert json.loads(result.stderr)["error"]["code"] == "no_worker"
    result = alone("agents", HEADRACE_GRPC_PORT="0")
    assert result.exit_code == 2
    assert "say --address" in result.stderr


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("localhost", "localhost:50051"),
        ("localhost:6000", "localhost:6000"),
        ("::1", "[::1]:50051"),
        ("[::1]", "[::1]:50051"),
        ("[::1]:6000", "[::1]:6000"),
    ],
)
def test_an_address_needs_no_port(given: str, target: str) -> None:
    """The usual one stands for it."""
    with connect(given) as client:
        assert client.target == target


def test_a_misspelt_setting_is_told(alone: Run) -> None:
    """It is never just ignored, not by a client either."""
    result = alone("agents", HEADRACE_GRCP_PORT="1")
    assert result.exit_code == 2
    assert "HEADRACE_GRCP_PORT: is not a setting" in result.stderr


def test_the_example_is_a_good_spec(alone: Run, tmp_path: Path) -> None:
    """What `--example` prints passes the check, which tells the digest."""
    file = tmp_path / "spec.yaml"
    file.write_text(alone("spec", "--example").stdout)
    result = alone("spec", str(file))
    assert result.stdout.startswith("good: card-fraud can be deployed\n")
    found = alone.json("spec", str(file))
    assert found["digest"] in result.stdout
    assert (found["kind"], found["spec"]["agent"]) == ("binary", "card-fraud")


def test_the_example_can_be_learned() -> None:
    """Where fraud hangs on the merchant alone, the example's model finds that out."""
    shops = ("grocer", "fuel", "casino", "books", "cinema")
    events = [
        {
            "card_id": f"c{n % 5}",
            "at": 1_700_000_000_000 + n,
            "amount": float(n * 37 % 101),
            "hour": float(n * 7 % 24),
            "merchant": shops[n * n * 13 // 7 % 5],
            "fraud": shops[n * n * 13 // 7 % 5] == "casino",
        }
        for n in range(2_000)
    ]
    report = backtest(load_spec(EXAMPLE + "metrics: [ROCAUC]\n"), events)
    assert report.accepted == 2_000
    assert report.metrics[0].value > 0.95


def _example_of(name: str) -> list[str]:
    """The words of the example in a command's help."""
    (command,) = [command for path, command in COMMANDS if path == (name,)]
    return shlex.split(command.help.partition("Example: `")[2].rstrip().removesuffix("`"))


def test_the_examples_of_help_fit_the_example() -> None:
    """What `predict --help` and `send --help` show is a good question and a good event of it."""
    spec = load_spec(EXAMPLE)
    _, _, agent, key, *features = _example_of("predict")
    assert agent == spec.agent
    declared = spec.to_dict()["features"]
    assert Guard(spec).question(read_features(features, declared))["amount"] == 12.5
    _, _, agent, key, value = _example_of("send")
    assert agent == spec.agent
    record = SimpleNamespace(offset=0, timestamp=0, key=key.encode(), value=value.encode())
    event = Guard(spec).admit(cast("Record", record))
    assert isinstance(event, Event), event
    assert (event.y, event.x["hour"]) == (False, 14.0)


def test_a_spec_is_checked_on_the_features_that_it_declares(alone: Run, spec: Path) -> None:
    """A model may name features; what is good but odd is noted before a deploy."""
    spec.write_text(
        "{agent: a, source: {topic: t, key: $.id}, label: {field: $.y}, features: {\n"
        "  wind: {type: number}, mode: {type: category, encode: onehot}},\n"
        " model: [{compose.TransformerUnion: [\n"
        "  [{compose.Select: [wind]}, preprocessing.StandardScaler],\n"
        "  [{compose.Discard: [wind]}, preprocessing.StandardScaler]]},\n"
        "  linear_model.LinearRegression]}"
    )
    result = alone("spec", str(spec))
    assert result.stdout.startswith("good: a can be deployed\n"), result.stderr
    assert "note: " in result.stdout
    assert "makes 0 of `mode`" in result.stdout
    assert len(alone.json("spec", str(spec))["notes"]) == 1


def test_a_bad_spec_is_told_offline(alone: Run, spec: Path) -> None:
    """All violations at once, exit 2, as the service would."""
    spec.write_text(SPEC.replace("key:", "kee:").replace("hash", "hush"))
    result = alone("spec", str(spec))
    assert result.exit_code == 2
    assert "$.source.kee: unknown field (did you mean key?)" in result.stderr
    assert "$.features.shop.encode" in result.stderr
    assert alone("spec").exit_code == 2
    assert alone("spec", "missing.yaml").exit_code == 2


def test_the_schema_is_json(alone: Run) -> None:
    """Editors can read it."""
    assert json.loads(alone("spec", "--schema").stdout)["title"] == "Headrace agent"


def test_a_backtest_reports(alone: Run, spec: Path, tmp_path: Path) -> None:
    """Metrics beside baselines, slowest keys, and what was refused with its rows."""
    data = tmp_path / "events.csv"
    rows = [f"c{n % 3},{n},a,{str(n % 2 == 0).lower()}" for n in range(60)]
    data.write_text("\n".join(["card,amount,shop,fraud", *rows, "c1,,a,false"]) + "\n")
    text = alone("backtest", str(spec), str(data)).stdout
    assert text.startswith("card-fraud: 61 events, 60 accepted, 60 learned, 3 keys")
    assert "Accuracy 0." in text
    assert "slowest keys" in text
    assert "1 refused" in text
    assert "rows 60" in text
    report = alone.json("backtest", str(spec), str(data), "--limit", "10")
    assert report["events"] == 10
    data.rename(tmp_path / "events.txt")
    result = alone("backtest", str(spec), str(tmp_path / "events.txt"))
    assert result.exit_code == 2
    assert "events.txt is none of .csv, .jsonl" in result.stderr


def test_the_catalog_lists_and_explains(alone: Run) -> None:
    """A list, one in detail, and why some may not be named."""
    listed = alone("catalog").stdout
    assert "linear_model.LogisticRegression" in listed
    assert "l2=0.0" in listed
    text = alone("catalog", "linear_model.LogisticRegression").stdout
    assert "kind      binary" in text
    assert "BinaryLoss or null" in text
    found = alone.json("catalog", "optim.SGD")
    assert found["parameters"][0] == {
        "name": "lr",
        "takes": "integer or number or Scheduler",
        "default": "0.01",
        "required": False,
    }
    assert {entry["kind"] for entry in alone.json("catalog", "--kind", "optimizer")} == {
        "optimizer"
    }
    result = alone("catalog", "TextClust")
    assert result.exit_code == 1
    assert "cluster.TextClust cannot be named in a spec: it needs" in result.stderr
    assert alone("catalog", "NoSuchThing").exit_code == 1
    assert "kinds are " in alone("catalog", "--kind", "magic").stderr


def test_a_narrow_terminal_gets_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where columns would cut words, each row stands as lines; where they fit, as a table."""
    shown = []
    for width in (20, 60):
        narrow = console.Console()
        narrow.file, narrow.width = io.StringIO(), width
        monkeypatch.setattr(console, "out", narrow)
        console.grid(("agent", ">learned", "metric"), [("card-fraud", "1,234", "Accuracy 0.9")])
        shown.append(narrow.file.getvalue())
    assert shown[0] == "agent    card-fraud\nlearned  1,234\nmetric   Accuracy 0.9\n\n".replace(
        "Accuracy 0.9", "Accuracy \n0.9"
    )
    assert [line.split() for line in shown[1].splitlines()] == [
        ["agent", "learned", "metric"],
        ["card-fraud", "1,234", "Accuracy", "0.9"],
    ]


@pytest.mark.parametrize("width", [120, 100, 60])
def test_no_table_breaks_an_id_nor_lines_that_belong_together(width: int) -> None:
    """On a terminal: sentences are folded first, and where that is not enough there are blocks."""
    terminal = rich.console.Console(file=io.StringIO(), width=width, force_terminal=True)
    columns = ("snapshot", "metric", "baseline", "note")
    name, note = "card-fraud.auto-1-20261128-091930", "its undo snapshot has been removed since"
    row = (name, "F1 0.8402\nROCAUC 0.9284", "0.4959 majority class\n0.4739 share of true", note)
    console.grid(columns, [row], on=cast(console.Console, terminal))
    text = Text.from_ansi(terminal.file.getvalue()).plain  # type: ignore[attr-defined]
    together = re.search(r"^.*F1 0\.8402.*0\.4959 majority class", text, re.MULTILINE)
    assert name in text
    assert (together is not None) == (width > 60)
    assert "0.4959 majority class" in text
