"""Snapshots and rollbacks on the command line, before a small real backend."""

from __future__ import annotations

import json
import signal

import pytest
from msgspec.structs import replace

from headrace.cli.moments import since_1970
from headrace.cli.program import program
from headrace.errors import OtherBuildError, RequestError
from headrace.views import Exclusion, RollbackRequest
from tests.cli.conftest import Run
from tests.cli.served import Served
from tests.cli.terminal import Terminal
from tests.serving.history import BEFORE, BEGAN_MS, MINUTE_MS
from tests.serving.world import World, view

SINCE = "2023-11-14T23:00Z"  # after all snapshots of the backend
DECISION = "card-fraud/3/transactions/0/17"


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
    assert removed.stderr.splitlines()[1].split() == newest.split()
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


def test_a_snapshot_whose_agent_is_gone_is_marked(run: Run, world: World) -> None:
    """It can be kept for long, and an import brings some of agents that were never here."""
    assert "named" in run("snapshot", "ls").stdout
    world.snapshots.take("heaters", "last", "named")
    del world.views["heaters"]
    newest, oldest = run("snapshot", "ls").stdout.splitlines()[1:]
    assert "named, no such agent now" in newest
    assert "no such agent" not in oldest


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
        "events since then": "160",
        "keys whose model changes": "40 of 1,000",
        "newest decisions that flip": "31 of 200",
        "F1 of the newest 120 events": "0.5000 → 0.7500",
    }
    table = run("rollback", "card-fraud", "--to", BEFORE, "--key", "a", "--preview").stdout
    assert lines(table)["events since then"] == "160 (of all keys)"
    given = ("--to", BEFORE, "--mode", "rewind", "--exclude-key", "k")
    found = run.json("rollback", "card-fraud", *given, "--preview")
    assert (found["mode"], found["events_excluded"]) == ("rewind", 7)
    table = run("rollback", "card-fraud", *given, "--preview").stdout
    since = {name: figure for name, figure in lines(table).items() if "events" in name}
    assert list(since.items())[:3] == [
        ("events since then", "160"),
        ("events left out", "7"),
        ("events learned again", "153"),
    ]
    world.rollbacks.earlier = 5
    table = run("rollback", "card-fraud", *given, "--preview").stdout
    assert lines(table)["- by what this rewind excludes"] == "2"
    assert lines(table)["- by earlier rewinds alone"] == "5"
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
    assert newest[:5] == ["r2", "2025-11-24T16:00:00Z", "revert", "card-fraud.undo-r1", "all"]
    assert newest[-3:] == ["takes", "back", "r1"]
    assert oldest[-4:] == ["taken", "back", "by", "r2"]
    assert [each["done"] for each in run.json("rollbacks", "card-fraud")] == [True, True]


def test_a_rollback_whose_answer_is_lost_is_looked_for(run: Run, world: World) -> None:
    """It may have begun all the same: then it is followed as any other."""
    world.rollbacks.lost = True
    result = run("rollback", "card-fraud", "--to", BEFORE, "--yes")
    assert (result.exit_code, len(world.rollbacks.views)) == (0, 1), result.output
    assert f"`{program()} undo card-fraud {world.rollbacks.ids[-1]}" in result.stdout
    undone = run("undo", "card-fraud", "--yes")
    assert (undone.exit_code, len(world.rollbacks.views)) == (0, 2), undone.output


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
    previewed, asked = world.rollbacks.asked
    assert previewed == wanted
    # Shown before it was done, and so to the snapshot that was shown.
    assert asked == replace(wanted, snapshot_id=BEFORE, before_ms=None)
    assert "  keys a, b; all other keys stay as they are" in result.stdout


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


def test_an_error_ends_with_its_code(run: Run, world: World) -> None:
    """That of the pages' tables, which say what to do; where only the text can say it, none."""
    there = ("rollback", "card-fraud", "--to", BEFORE, "--preview")
    world.rollbacks.unseen = RequestError("too_large", "101,000 events came since")
    assert run(*there).stderr == "error: 101,000 events came since (too_large)\n"
    done = run("rollback", "card-fraud", "--to", BEFORE, "--yes")
    assert done.stderr == "no preview: 101,000 events came since (too_large)\n"
    said = run("rollback", "card-fraud", "--preview").stderr
    assert said == "error: say either --to ID or --before TIME\n"
    world.rollbacks.unseen = OtherBuildError("another build wrote it")
    assert run(*there).stderr == "error: another build wrote it (other_build)\n"


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
    assert run("undo", "card-fraud", "r2").exit_code == 2


def test_a_rollback_is_followed_until_it_is_done(run: Run, world: World) -> None:
    """Partition by partition; who waits no longer is told how far it is, with exit 1."""
    world.rollbacks.slow = True
    result = run("rollback", "card-fraud", "--to", BEFORE, "--yes")
    assert result.exit_code == 0
    begun = "card-fraud: rollback r1 has begun; Ctrl-C leaves it to go on\n"
    assert result.stderr.endswith(begun)
    assert "rolled back card-fraud" in result.stdout
    short = run("undo", "card-fraud", "--yes", "--wait", "0")
    assert short.exit_code == 1
    assert short.stdout.startswith("on its way: r1 of card-fraud to card-fraud.undo-r1")
    later = f"it goes on: `{program()} rollbacks card-fraud --address"
    assert f"  0/2 partitions so far; {later}" in short.stdout
    assert "0/2" in run("rollbacks", "card-fraud").stdout
    assert run("undo", "card-fraud", "r1", "--yes").exit_code == 1  # another one is running


def test_what_is_done_unasked_is_shown_first(run: Run, world: World) -> None:
    """With --yes as well: on standard error, the very table of a preview; for machines one line."""
    shown = run("rollback", "card-fraud", "--to", BEFORE, "--preview").stdout
    done = run("rollback", "card-fraud", "--to", BEFORE, "--yes")
    assert done.stderr == shown
    assert "keys whose model changes" in run("undo", "card-fraud", "--yes").stderr
    machine = run("rollback", "card-fraud", "--to", BEFORE, "--yes", "--json")
    assert json.loads(machine.stderr)["preview"]["keys_changed"] == 40
    assert json.loads(machine.stdout)["done"] is True
    gone = run("snapshot", "rm", BEFORE, "--yes", "--json")
    assert json.loads(gone.stderr)["snapshot"]["snapshot_id"] == BEFORE


@pytest.mark.parametrize("whom", [("card-fraud", "--to", BEFORE), ("--all", "--before", SINCE)])
def test_too_much_for_a_preview_is_done_without_one(
    run: Run, world: World, whom: tuple[str, ...]
) -> None:
    """With --yes, and that is said; where somebody is asked, or looks only, it is refused."""
    world.views.pop("heaters")
    world.rollbacks.unseen = RequestError("too_large", "101,000 events came since")
    looked = run("rollback", *whom, "--mode", "rewind", "--preview")
    assert looked.exit_code != 0
    assert not world.rollbacks.views
    done = run("rollback", *whom, "--mode", "rewind", "--yes")
    assert done.exit_code == 0
    assert "101,000 events came since" in done.stderr
    assert f"rolled back card-fraud to {BEFORE} (rewind, epoch 4)" in done.stdout


def test_a_rollback_that_changes_no_key_says_so(run: Run, world: World) -> None:
    """It begins an epoch all the same, if that is wanted."""
    world.rollbacks.changed = 0
    same = "nothing differs: every key's model is as in the snapshot\n"
    asked = ("rollback", "card-fraud", "--to", BEFORE)
    assert run(*asked, "--preview").stderr == same + "nothing was changed\n"
    assert run(*asked, "--yes").stderr.endswith(same)
    assert "nothing differs" not in run(*asked, "--yes", "--json").stderr


def test_what_could_not_be_compared_says_why(run: Run, world: World) -> None:
    """No decision of none is no figure."""
    world.rollbacks.compared, world.rollbacks.note = 0, "of the newest 9 events 9 are left out"
    found = lines(run("rollback", "card-fraud", "--to", BEFORE, "--preview").stdout)
    assert found["newest decisions that flip"] == "not compared"
    assert "note: of the newest 9 events 9 are left out" in found


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
    lost = "error: nothing: nothing has no complete snapshot from before that (unknown_snapshot)\n"
    assert found.stderr == lost + "nothing was changed\n"
    done = run("rollback", "--all", "--before", SINCE, "--yes")
    assert (done.exit_code, done.stderr) == (1, found.stdout + lost)
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
    assert lines(err)["keys whose model changes"] == "40 of 1,000"
    assert "Roll card-fraud back? [y/N]:" in err
    assert err.endswith("nothing was changed\nAborted.\n")
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
    assert any("rollback r1 has begun" in line for line in terminal.process.stderr)
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
