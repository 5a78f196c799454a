"""Every command that speaks to a service, for people and for machines."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.cli.program import program
from headrace.models.spec import load_spec
from tests.cli.conftest import BAD, GOOD, SPEC, Run, started


def test_a_dry_run_says_what_would_be_refused_and_where(run: Run, spec: Path) -> None:
    """187 of the last 200 would be accepted; the others are named with example positions."""
    text = run("deploy", str(spec), "--dry-run").stdout
    first, second = text.splitlines()
    assert first == "of the last 200 records 187 would be accepted; 13 refused:"
    assert second.startswith("  13 × ")
    assert "amount" in second
    assert "(missing; transactions[0]@0, transactions[0]@15, transactions[0]@30" in second
    found = run.json("deploy", str(spec), "--dry-run")
    assert (found["read"], found["accepted"]) == (200, GOOD)
    assert found["refused"][0]["count"] == BAD


def test_a_dry_run_without_records_says_so(run: Run, spec: Path) -> None:
    """Where the topic does not exist, the spec is still checked."""
    spec.write_text(SPEC.replace("transactions", "nothing-yet").replace("card-fraud", "other"))
    text = run("deploy", str(spec), "--dry-run").stdout
    assert "'nothing-yet' does not exist yet" in text
    assert "the spec itself is good" in text


def test_the_same_spec_again_changes_nothing(run: Run, spec: Path) -> None:
    """A deploy can be repeated; a spec may come from standard input."""
    told = "card-fraud: nothing to change: it runs this spec already\n"
    assert run("deploy", str(spec)).stdout == told
    assert run("deploy", "-", stdin=SPEC).stdout == told
    assert run.json("deploy", str(spec))["changed"] is False


def test_a_bad_spec_is_told_in_full(run: Run, spec: Path) -> None:
    """Every violation with its path and hint, exit 2; with --json as one object."""
    spec.write_text(SPEC.replace("StandardScaler", "StandardScalar").replace("hash", "hush"))
    result = run("deploy", str(spec))
    assert result.exit_code == 2
    assert "the spec cannot be deployed" in result.stderr
    assert "$.model[0]: no estimator is called 'preprocessing.StandardScalar'" in result.stderr
    assert "did you mean preprocessing.StandardScaler?" in result.stderr
    assert "$.features.shop.encode" in result.stderr
    assert result.stdout == ""
    result = run("deploy", str(spec), "--json")
    assert result.exit_code == 2
    paths = [each["path"] for each in json.loads(result.stderr)["error"]["violations"]]
    assert {"$.model[0]", "$.features.shop.encode"} <= set(paths)


def test_another_spec_under_the_name_is_refused(run: Run, spec: Path) -> None:
    """What is deployed stays; the spec itself is not wrong, so exit 1; a dry run says so, too."""
    spec.write_text(SPEC.replace("0.9", "0.8"))
    result = run("deploy", str(spec))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "card-fraud" in result.stderr
    tried = run("deploy", str(spec), "--dry-run")
    assert (tried.exit_code, tried.stdout, tried.stderr) == (1, "", result.stderr)


def test_another_spec_takes_over_when_its_migration_is_said(run: Run) -> None:
    """Each version is a new epoch; the agent says which it has."""
    first = SPEC.replace("card-fraud", "changing")
    second = first.replace("0.9", "0.8")
    third = second.replace("StandardScaler", "MinMaxScaler")
    assert run("deploy", "-", stdin=first).exit_code == 0
    kept = run("deploy", "-", "--migration", "keep", stdin=second)
    assert kept.stdout.startswith("deployed changing (spec version 2, epoch 2)\n")
    refused = run("deploy", "-", "--migration", "keep", stdin=third)
    assert (refused.exit_code, "$.model[0]: is" in refused.stderr) == (1, True)
    reset = run("deploy", "-", "--migration", "reset", "--yes", stdin=third)
    assert reset.stdout.startswith("deployed changing (spec version 3, epoch 3)\n")
    assert run.json("agents", "changing")["spec_version"] == 3
    assert f"former spec 1 to 2: see `{program()} agents changing --spec 2`" in (
        run("agents", "changing").stdout
    )
    # What is printed is a file: deployed, it is the very spec of then.
    second_again = run("agents", "changing", "--spec", "2").stdout
    assert load_spec(second_again.encode()).digest == load_spec(second.encode()).digest
    assert run.json("agents", "changing", "--spec", "3") == run.json("agents", "changing")["spec"]
    none = run("agents", "changing", "--spec", "4")
    assert (none.exit_code, none.stdout) == (1, "")
    assert "since its deploy it had 1 to 3" in none.stderr
    assert run("agents", "--spec", "1").exit_code == 2
    assert run("delete", "changing", "--yes").exit_code == 0


def test_agents_are_listed_and_shown(run: Run) -> None:
    """One line for each; one by name with its partitions and a spec that could be deployed."""
    text = run("agents").stdout
    assert "card-fraud" in text
    assert "running" in text
    assert "majority class" in text
    assert run.json("agents")[0]["name"] == "card-fraud"
    text = run("agents", "card-fraud").stdout
    assert "transactions[0]" in text
    assert "model: [preprocessing.StandardScaler, linear_model.LogisticRegression]\n" in text
    assert run.json("agents", "card-fraud")["shards"][0]["quarantined"] == BAD
    assert run("agents", "nobody").exit_code == 1


def test_learning_is_paused_and_resumed(run: Run) -> None:
    """Both say from where on they take effect."""
    text = run("pause", "card-fraud").stdout
    assert text.startswith("paused card-fraud")
    assert "takes effect at transactions[0]@" in text
    assert run.json("agents")[0]["state"] == "paused"
    assert run.json("resume", "card-fraud")["changed"] is True
    assert run("pause", "nobody").exit_code == 1


def test_a_prediction_reads_features_by_their_types(run: Run) -> None:
    """`shop=7` is the text "7", as the spec says that shops are categories."""
    text = run("predict", "card-fraud", "c1", "amount=12.5", "shop=7").stdout
    assert text.startswith("decision  allow\nscore     0.")
    assert "epoch 1, transactions[0] offset" in text
    answer = run.json("predict", "card-fraud", "c1", "amount=12.5", "shop=7")
    assert answer["standing"]["cold"] is False
    assert "COLD" in run("predict", "card-fraud", "new", "amount=1", "shop=7").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("nobody", "c1"), 1, "nobody"),
        (("card-fraud", "c1", "amount=far", "shop=7"), 2, "amount"),
        (("card-fraud", "c1", "amount=1", "shop=7", "hour=3"), 2, "hour"),
        (("card-fraud", "c1", "amount"), 2, "'amount' is not NAME=VALUE"),
        (("card-fraud", "c1", "-k", "3"), 2, "-k is for agents that `recommend`"),
        (("card-fraud", "c1", "--candidate", "a"), 2, "this one decides by `verdict`"),
        (("card-fraud", "c1", "--item", "a"), 2, "--item is for recommenders"),
        (("card-fraud", "c1", "--setpoint", "4"), 2, "--setpoint is for agents that `adjust`"),
    ],
)
def test_a_bad_question_is_refused(
    run: Run, arguments: tuple[str, ...], code: int, word: str
) -> None:
    """What is not there ends with 1, what is asked wrongly with 2; both name it."""
    result = run("predict", *arguments)
    assert result.exit_code == code
    assert result.stderr.startswith("error: ")
    assert word in result.stderr


def test_a_key_is_shown(run: Run) -> None:
    """Updates, when it last learned, its size, its model; a key that never came is not there."""
    text = run("key", "card-fraud", "c1").stdout
    assert "updates       4" in text
    assert "last learned  2023-11-14T22:13:20.000Z" in text
    assert "LogisticRegression" in text
    assert "learning_rate: 0.01" in text
    assert run.json("key", "card-fraud", "c1")["size_bytes"] > 100
    assert run("key", "card-fraud", "stranger").exit_code == 1


@pytest.fixture
def own(spec: Path) -> Iterator[Run]:
    """Commands against a service whose events no other test counts."""
    up = started()
    try:
        run = Run(up.found("gRPC"))
        assert run("deploy", str(spec)).exit_code == 0
        yield run
    finally:
        up.end(signal.SIGINT)


def test_an_event_is_appended(own: Run) -> None:
    """Its position is the answer; one that would be quarantined is refused at once."""
    event = '{"card": "sent", "amount": 3, "shop": "7", "fraud": false}'
    assert own("send", "card-fraud", "sent", event).stdout.startswith(
        "appended at transactions[0]@"
    )
    assert own.json("send", "card-fraud", "sent", event)["topic"] == "transactions"
    assert own("send", "card-fraud", "sent", "-", stdin=event).exit_code == 0
    result = own("send", "card-fraud", "sent", '{"card": "sent"}')
    assert result.exit_code == 2
    assert result.stderr == "error: $.amount: `amount` is missing (bad_event)\n"
    result = own("send", "card-fraud", "sent", '{"amount": 3, "shop": "7", "fraud": false}')
    assert result.stderr == "error: $.card: `key` is missing (bad_event)\n"
    event = event.replace('"fraud": false', '"fraud": "so"')
    result = own("send", "card-fraud", "sent", event)
    assert result.stderr.startswith("error: $.fraud: `label` ")


@pytest.mark.parametrize("watch", ["decisions", "withdrawn"])
def test_all_watches_take_the_same_options(run: Run, watch: str) -> None:
    """From the start to the end, or from the start on and for so long."""
    assert run("watch", watch, "card-fraud", "--from-start", "--no-follow").exit_code == 0
    assert run("watch", watch, "card-fraud", "--from-start", "-f", "--for", "0.5").exit_code == 0


def test_decisions_are_followed(run: Run) -> None:
    """One line for each decision, and no more than were asked for."""
    asked = ("watch", "decisions", "card-fraud", "--from-start", "--no-follow")
    assert len(run(*asked).stdout.splitlines()) >= GOOD
    assert (
        run(*asked, "-n", "1").stdout == "card-fraud/1/transactions/0/1 c1 allow; score 0.5 cold\n"
    )
    lines = run(*asked, "-n", "3", "--json").stdout.splitlines()
    assert [json.loads(line)["position"]["offset"] for line in lines] == [1, 2, 3]
    assert run("watch", "decisions", "nobody").exit_code == 1
    # Where nothing comes, `-n` alone would wait for ever.
    waited = run("watch", "decisions", "card-fraud", "-n", "1", "--for", "0.5")
    assert (waited.exit_code, waited.stdout) == (0, "")
    result = run("watch", "clicks")
    assert result.exit_code == 2
    assert "did you mean `headrace watch decisions clicks`?" in result.stderr


def test_the_quarantine_is_shown(run: Run) -> None:
    """Where each refused event is, why, and what it was."""
    result = run("quarantine", "card-fraud")
    assert "transactions[0]@0 card-fraud missing $.amount: " in result.stdout
    assert 'key c0, value {"card": "c0", "shop": "7", "fraud": true}' in result.stdout
    assert result.stderr == "13 shown\n"
    lines = run("quarantine", "-n", "2", "--json").stdout.splitlines()
    assert [json.loads(line)["position"]["offset"] for line in lines] == [0, 15]
    assert run("quarantine", "nobody").exit_code == 1
    assert run("quarantine", "card-fraud", "-f", "--for", "0.5").stderr == "13 shown\n"


def test_an_agent_is_deleted_only_on_purpose(run: Run) -> None:
    """Nobody there to be asked: it takes --yes."""
    assert run("deploy", "-", stdin=SPEC.replace("card-fraud", "gone")).exit_code == 0
    result = run("delete", "gone")
    assert result.exit_code == 2
    assert "say --yes" in result.stderr
    done = run("delete", "gone", "--yes")
    assert done.stdout.startswith("deleted gone")
    assert "events have taught, spec version 1" in done.stderr
    assert "the topics decisions.gone, transactions" in done.stderr
    assert run("delete", "gone", "--yes").exit_code == 1
