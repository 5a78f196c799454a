"""Snapshots and rollbacks on the command line, before a small real backend."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from headrace.cli.moments import since_1970
from headrace.cli.program import program
from headrace.errors import RequestError
from headrace.views import Exclusion, RollbackRequest
from tests.cli.conftest import Run
from tests.cli.served import Served
from tests.cli.terminal import Terminal
from tests.serving.history import BEFORE, BEGAN_MS, MINUTE_MS
from tests.serving.world import World, view

SINCE = "2023-11-14T23:00Z"  # after all snapshots of the backend
DECISION = "card-fraud/3/transactions/0/17"


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.stop()


@pytest.fixture
def world(served: Served) -> World:
    """Two agents; `card-fraud` has a snapshot named `before`."""
    served.world.views["heaters"] = view("heaters")
    served.world.snapshots.take("card-fraud", "before", "named")
    return served.world


@pytest.fixture
def run(served: Served) -> Run:
    """Commands against that server."""
    return Run(served.target)


def lines(text: str) -> dict[str, str]:
    """`name  value` by name."""
    return {name.strip(): value.strip() for name, _, value in map(_parted, text.splitlines())}


def _parted(line: str) -> tuple[str, str, str]:
    return line.strip().partition("  ")


def test_a_snapshot_is_made_listed_shown_and_removed(run: Run, world: World) -> None:
    """Each says what one wants to know of it; removing takes --yes where nobody can be asked."""
    text = run("snapshot", "create", "card-fraud", "sale").stdout
    assert lines(text)["snapshot"] == "card-fraud.sale"
    assert lines(text)["kept"] == "until it is deleted"
    assert lines(text)["partitions"] == "2/2"
    assert lines(text)["size"] == "6.0 kB, 2.0 kB of it new"
    assert "transactions[1]    20  3.0 kB  1.0 kB" in text
    assert run("snapshot", "show", "card-fraud.sale").stdout == text
    head, newest, oldest = run("snapshot", "ls", "card-fraud").stdout.splitlines()
    assert head.split() == ["snapshot", "kind", "made", "shards", "size", "new"]
    assert newest.split()[:4] == ["card-fraud.sale", "named", "2023-11-14T22:15:20Z", "2/2"]
    assert oldest.split()[0] == BEFORE
    refused = run("snapshot", "rm", "card-fraud.sale")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "say --yes" in refused.stderr
    removed = run("snapshot", "rm", "card-fraud.sale", "--yes")
    assert removed.stdout == "removed card-fraud.sale\n"
    assert run("snapshot", "rm", "card-fraud.sale", "--yes").exit_code == 1


def test_snapshots_for_machines(run: Run, world: World) -> None:
    """Views as they are, and whether they are complete."""
    world.snapshots.take("heaters", "half", "automatic", shards=1)
    found = run.json("snapshot", "ls")
    assert [(each["snapshot_id"], each["complete"]) for each in found] == [
        ("heaters.half", False),
        (BEFORE, True),
    ]
    assert run.json("snapshot", "show", BEFORE) == found[1]
    assert run.json("snapshot", "create", "heaters", "x")["shards"][0]["size_bytes"] == 3_000
    assert run.json("snapshot", "pin", BEFORE)["pinned"] is True
    assert run.json("snapshot", "rm", BEFORE, "--yes") == {"removed": BEFORE}


def test_what_a_snapshot_is_kept_for(run: Run, world: World) -> None:
    """An automatic one goes with age unless it is pinned; one that is not complete says so."""
    world.snapshots.take("card-fraud", "auto-3-20260101-000000", "automatic", shards=1)
    id_ = "card-fraud.auto-3-20260101-000000"
    text = run("snapshot", "show", id_).stdout
    assert lines(text)["kept"] == "until it is thinned out with age"
    assert "not complete yet: nothing can be rolled back to it" in text
    assert run("snapshot", "pin", id_).stdout == f"pinned {id_}\n"
    assert lines(run("snapshot", "show", id_).stdout)["kept"] == "pinned: until it is deleted"
    assert "automatic, pinned" in run("snapshot", "ls").stdout
    assert run("snapshot", "pin", id_, "--off").stdout == f"unpinned {id_}\n"


def test_without_snapshots_it_says_how_to_make_one(run: Run, world: World) -> None:
    """And a name that is not there is not an empty list."""
    assert "snapshot create AGENT NAME`" in run("snapshot", "ls", "heaters").stdout
    assert run("snapshot", "ls", "nobody").exit_code == 1
    assert run("rollbacks", "heaters").stdout == "nothing was rolled back\n"
    bad = run("snapshot", "create", "heaters", "Bad/Name")
    assert bad.exit_code == 2
    assert "a-z, 0-9" in bad.stderr


def test_a_preview_is_a_table(run: Run, world: World) -> None:
    """One figure a line, and nothing was changed."""
    result = run("rollback", "card-fraud", "--before", SINCE, "--preview")
    assert result.exit_code == 0
    assert result.stderr == "nothing was changed\n"
    assert lines(result.stdout) == {
        "revert card-fraud": "",
        "goes back to": BEFORE,
        "events since then, unlearned": "160",
        "keys whose state changes": "40 of 1,000",
        "newest decisions that flip": "31 of 200",
        "F1 of the newest 120 events": "0.5000 → 0.7500",
    }
    given = ("--to", BEFORE, "--mode", "rewind", "--exclude-key", "k")
    found = run.json("rollback", "card-fraud", *given, "--preview")
    assert (found["mode"], found["events_excluded"]) == ("rewind", 7)
    assert "events left out" in run("rollback", "card-fraud", *given, "--preview").stdout
    assert not world.rollbacks.views


def test_a_rollback_tells_how_to_take_it_back(run: Run, served: Served, world: World) -> None:
    """The very command that it prints does that."""
    result = run("rollback", "card-fraud", "--to", BEFORE, "--yes")
    assert result.exit_code == 0
    first, where, undo = result.stdout.splitlines()
    assert first == f"rolled back card-fraud to {BEFORE} (revert, epoch 4)"
    assert where == "  counts from transactions[0]@90, transactions[1]@90"
    command = undo.partition(f"`{program()} ")[2].rstrip("`").split()
    assert command == ["undo", "card-fraud", "r1", "--address", served.target]
    undone = Run()(*command, "--yes").stdout
    assert undone.startswith("took back r1 of card-fraud to card-fraud.undo-r1 (revert, epoch 5)")
    _, newest, oldest = map(str.split, run("rollbacks", "card-fraud").stdout.splitlines())
    assert newest[:4] == ["r2", "revert", "card-fraud.undo-r1", "all"]
    assert newest[-3:] == ["takes", "back", "r1"]
    assert oldest[-4:] == ["taken", "back", "by", "r2"]
    assert [each["done"] for each in run.json("rollbacks", "card-fraud")] == [True, True]


def test_every_option_reaches_the_worker(run: Run, world: World) -> None:
    """Keys, exclusions and times, in whatever zone they are given."""
    exclude = Exclusion(
        decisions=(DECISION,),
        keys=("c", "d"),
        from_ms=BEGAN_MS,
        to_ms=BEGAN_MS + MINUTE_MS,
        header=("src", "a=b"),
    )
    wanted = RollbackRequest(
        agent="card-fraud", before_ms=BEGAN_MS * 2, mode="rewind", keys=("a", "b"), exclude=exclude
    )
    given = ["--mode", "rewind", "--key", "a", "--key", "b", "--exclude-decision", DECISION]
    given += ["--exclude-key", "c", "--exclude-key", "d", "--exclude-header", "src=a=b"]
    given += ["--exclude-from", "2023-11-14T22:13:20Z", "--exclude-to", "2023-11-15T00:14:20+02:00"]
    result = run("rollback", "card-fraud", "--before", "2077-09-27T20:26:40", *given, "--yes")
    assert result.exit_code == 0, result.output
    assert world.rollbacks.asked == [wanted]
    assert "  keys a, b; all other keys stay as they are" in result.stdout


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "name an AGENT, or say --all; say either --to ID or --before TIME"),
        (("a", "--all", "--before", "1m"), "name an AGENT, or say --all"),
        (("a",), "say either --to ID or --before TIME"),
        (("a", "--to", "a.b", "--before", "1m"), "say either --to ID or --before TIME"),
        (("--all", "--to", "a.b"), "--to is one agent's"),
        (("--all", "--before", "1m", "--key", "k"), "--key is for one agent"),
        (
            ("--all", "--before", "1m", "--mode", "rewind", "--exclude-decision", "d"),
            "--exclude-decision is one agent's",
        ),
        (("a", "--to", "a.b", "--exclude-key", "k"), "is for --mode rewind"),
        (("a", "--to", "a.b", "--exclude-header", "k"), "'k' is not NAME=VALUE"),
        (("a", "--before", "yesterday"), "'yesterday' is no time"),
        (("a", "--before", "1969-01-01"), "is before 1970"),
        (("a", "--to", "a.b"), "nobody is here to be asked: say --yes"),
    ],
)
def test_what_contradicts_itself_is_refused(alone: Run, given: tuple[str, ...], words: str) -> None:
    """In the words of the options, before a worker is looked for."""
    result = alone("rollback", *given, "--address", "127.0.0.1:1")
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""


def test_what_the_worker_refuses_is_told(run: Run, world: World) -> None:
    """With --json as an object with its code."""
    result = run("rollback", "card-fraud", "--to", "card-fraud.other", "--yes", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stderr)["error"]["code"] == "unknown_snapshot"
    assert run("undo", "card-fraud", "--yes").stderr.startswith("error: card-fraud has no rollback")
    assert run("undo", "card-fraud", "c", "--yes").exit_code == 1
    run("rollback", "card-fraud", "--to", BEFORE, "--yes")
    wrong = run("undo", "heaters", "r1", "--yes")
    assert wrong.exit_code == 2
    assert "r1 is of card-fraud, not of heaters" in wrong.stderr
    world.rollbacks.log_start = 80
    short = run("rollback", "card-fraud", "--to", BEFORE, "--mode", "rewind", "--yes")
    assert "the log reaches back to offset 80" in short.stderr


def test_an_undo_takes_back_the_last_one_that_stands(run: Run, world: World) -> None:
    """Undone twice it goes one further back; an undo itself is taken back by its id."""
    run("rollback", "card-fraud", "--to", BEFORE, "--key", "a", "--yes")
    run("rollback", "card-fraud", "--to", BEFORE, "--yes")
    assert run.json("undo", "card-fraud", "--preview")["snapshot_id"] == "card-fraud.undo-r2"
    assert run.json("undo", "card-fraud", "--yes")["undoes"] == "r2"
    first = run.json("undo", "card-fraud", "--yes")
    assert (first["undoes"], first["keys"]) == ("r1", ["a"])
    assert run("undo", "card-fraud", "--yes").exit_code == 1
    assert run.json("undo", "card-fraud", "r3", "--yes")["undoes"] == "r3"
    assert run("undo", "card-fraud").exit_code == 2


def test_a_rollback_is_followed_until_it_is_done(run: Run, world: World) -> None:
    """Partition by partition; who waits no longer is told how far it is, with exit 1."""
    world.rollbacks.slow = True
    result = run("rollback", "card-fraud", "--to", BEFORE, "--yes")
    assert result.exit_code == 0
    begun = "card-fraud: rollback r1 has begun; Ctrl-C leaves it to go on\n"
    assert result.stderr == begun
    assert "rolled back card-fraud" in result.stdout
    short = run("undo", "card-fraud", "--yes", "--wait", "0")
    assert short.exit_code == 1
    assert short.stdout.startswith("on its way: r1 of card-fraud to card-fraud.undo-r1")
    later = f"it goes on: `{program()} rollbacks card-fraud --address"
    assert f"  0/2 partitions so far; {later}" in short.stdout
    assert "0/2" in run("rollbacks", "card-fraud").stdout
    assert run("undo", "card-fraud", "r1", "--yes").exit_code == 1  # another one is running


def test_all_agents_go_back_each_to_its_own(run: Run, world: World) -> None:
    """What one is refused does not stop the others, and is told with exit 1."""
    world.views["nothing"] = view("nothing")
    world.snapshots.take("heaters", "early", "named")
    found = run("rollback", "--all", "--before", SINCE, "--preview")
    assert found.exit_code == 1
    head, *rows = found.stdout.splitlines()
    assert head.split()[:3] == ["agent", "back", "to"]
    assert [row.split()[:2] for row in rows] == [
        ["card-fraud", BEFORE],
        ["heaters", "heaters.early"],
    ]
    lost = "error: nothing: nothing has no complete snapshot from before that\n"
    assert found.stderr == lost + "nothing was changed\n"
    done = run("rollback", "--all", "--before", SINCE, "--yes")
    assert (done.exit_code, done.stderr) == (1, lost)
    assert f"rolled back card-fraud to {BEFORE} (revert, epoch 4)" in done.stdout
    assert "rolled back heaters to heaters.early (revert, epoch 5)" in done.stdout
    del world.views["nothing"]
    assert run("rollback", "--all", "--before", SINCE, "--yes").exit_code == 0


def test_all_agents_for_machines(run: Run, world: World) -> None:
    """One object for each agent: its rollback or preview, or its error."""
    result = run("rollback", "--all", "--before", SINCE, "--yes", "--json")
    assert result.exit_code == 1
    first, second = json.loads(result.stdout)
    assert (first["agent"], first["rollback"]["done"]) == ("card-fraud", True)
    assert (second["agent"], second["error"]["code"]) == ("heaters", "unknown_snapshot")
    result = run("rollback", "--all", "--before", SINCE, "--preview", "--json")
    assert json.loads(result.stdout)[0]["preview"]["snapshot_id"] == BEFORE
    world.views.clear()
    assert run("rollback", "--all", "--before", SINCE, "--yes").stdout == "no agents to roll back\n"


def test_it_shows_the_preview_and_asks(served: Served, world: World) -> None:
    """On standard error, so that a result can be piped; no means that nothing was changed."""
    asked = ("rollback", "card-fraud", "--before", SINCE, "--address", served.target)
    code, out, err = Terminal(*asked).answer("n\n")
    assert (code, out) == (1, "")
    assert lines(err)["keys whose state changes"] == "40 of 1,000"
    assert "Roll card-fraud back? [y/N]:" in err
    assert not world.rollbacks.views
    code, out, err = Terminal(*asked, "--json").answer("y\n")
    assert code == 0, err
    assert json.loads(out)["snapshot_id"] == BEFORE
    # What was shown is what is done, though a newer snapshot may have come meanwhile.
    assert world.rollbacks.asked[-1].snapshot_id == BEFORE


def test_all_and_snapshots_are_asked_about_too(served: Served, world: World) -> None:
    """Agents without a snapshot are told before the question and left alone after it."""
    to = ("--address", served.target)
    code, out, err = Terminal("rollback", "--all", "--before", SINCE, *to).answer("y\n")
    assert code == 1
    assert "error: heaters: heaters has no complete snapshot" in err
    assert "Roll 1 agent back? [y/N]:" in err
    assert out.startswith(f"rolled back card-fraud to {BEFORE}")
    code, out, err = Terminal("snapshot", "rm", BEFORE, *to).answer("n\n")
    assert (code, out) == (1, "")
    assert f"Remove {BEFORE} for good? [y/N]:" in err
    assert "6.0 kB" in err
    assert BEFORE in world.snapshots.views


def test_ctrl_c_leaves_it_to_go_on(served: Served, world: World) -> None:
    """130; what was begun stays begun, and has said its id."""
    world.rollbacks.slow = world.rollbacks.stuck = True
    asked = ("rollback", "card-fraud", "--to", BEFORE, "--yes", "-a", served.target)
    terminal = Terminal(*asked)
    assert terminal.process.stderr is not None
    assert "rollback r1 has begun" in terminal.process.stderr.readline()
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.answer("")[0] == 130
    assert not world.rollbacks.views["r1"].done


def test_a_time_is_a_date_or_how_long_ago() -> None:
    """Seconds to days; what has no zone is UTC."""
    now_s = 1_700_000_000.0
    ago = {"90s": 90, "1.5m": 90, "2h": 7_200, "1 d": 86_400}
    for text, seconds in ago.items():
        assert since_1970(text, now_s) == (1_700_000_000 - seconds) * 1000
    for text in ("2023-11-14T22:13:20", "2023-11-14T22:13:20Z", "2023-11-14T23:13:20+01:00"):
        assert since_1970(text, now_s) == 1_700_000_000_000
    for text in ("", "m", "-5m", "5y", "9999999999d", "2023-13-01", "now"):
        with pytest.raises(RequestError):
            since_1970(text, now_s)
