"""How processes end: signals, failed starts, readers that have gone."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.state.directory import Identity, StateDirectory
from tests.cli.conftest import FIXED, Run, Up, spawn, started

IDENTITY = Identity.of_this_build(app="headrace", cluster_id="c", codec="1", hash_seed="0")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_stops_cleanly(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 0, no traceback, no broker and no files left behind."""
    monkeypatch.setitem(FIXED, "TMPDIR", str(tmp_path))
    up = started()
    assert "memory: events are kept in memory" in "\n".join(up.said)
    assert "state    temporary: it goes with the process" in up.said
    assert list(tmp_path.iterdir())
    children = _children(up.process.pid)
    assert children
    code, out, err = up.end(number)
    assert (code, out) == (0, "stopped\n")
    assert "Traceback" not in err
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line) for line in err.splitlines())
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
    assert not list(tmp_path.iterdir())


def _children(pid: int) -> set[str]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return {child for task in tasks for child in task.read_text().split()}


def test_up_can_be_given_up_while_it_starts() -> None:
    """Ctrl-C while the broker does not answer: 130, and no traceback."""
    process = spawn("up", "--broker", "kafka://127.0.0.1:1", "--grpc-port", "0")
    assert process.stderr is not None
    line = ""
    while "does not answer yet" not in line:
        line = process.stderr.readline()
    assert line == "kafka://127.0.0.1:1 does not answer yet, waiting up to 30 s\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err


@pytest.mark.usefixtures("quiet_logs")
class TestFailedStart:
    def test_broker_away(self, alone: Run) -> None:
        """It waits no longer than it was told to, and says what to do."""
        broker = ("--broker", "kafka://127.0.0.1:1", "--broker-wait-s", "0.3")
        result = alone("up", *broker, "--grpc-port", "0")
        assert result.exit_code == 1
        assert "broker at 127.0.0.1:1 does not answer after 0.3 s" in result.stderr
        assert "start it, or name another with --broker" in result.stderr
        assert "--broker-wait-s" in result.stdout  # the settings that are not default

    def test_unknown_broker(self, alone: Run) -> None:
        """The kinds that there are stand in the sentence; it is the caller's to mend, so exit 2."""
        result = alone("up", "--broker", "carrier:pigeon")
        assert result.exit_code == 2
        assert "known are kafka://, local:, memory:" in result.stderr
        result = alone("up", "--broker", "localhost:9092")
        assert result.exit_code == 2
        assert "did you mean kafka://localhost:9092?" in result.stderr

    def test_port_taken(self, alone: Run) -> None:
        """The port is named, and no broker is left."""
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            port = holder.getsockname()[1]
            before = _children(os.getpid())
            result = alone("up", "--grpc-port", str(port), "--metrics-port", "off")
        assert result.exit_code == 1
        assert f"error: port {port} is taken on 127.0.0.1" in result.stderr
        assert _children(os.getpid()) == before

    def test_what_cannot_be_is_said_before_a_broker_is_started(
        self, alone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A taken port, MLflow that is not installed; Kafka would take seconds."""
        kept = tmp_path / "kafka"
        given = ("up", "--broker", f"local:{kept}", "--metrics-port", "off")
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            port = str(holder.getsockname()[1])
            taken = alone(*given, "--grpc-port", port)
        assert f"error: port {port} is taken on 127.0.0.1" in taken.stderr
        monkeypatch.setattr("headrace.state.mlflow_sink.find_spec", lambda _: None)
        lacking = alone(*given, "--grpc-port", "0", "--mlflow", "http://127.0.0.1:9")
        assert "-m pip install '.[mlflow]'`" in lacking.stderr
        assert "ready" not in lacking.stdout
        assert not kept.exists()

    def test_state_locked(self, alone: Run, service: Up, tmp_path: Path) -> None:
        """Another worker holds the directory: its process is named."""
        with StateDirectory.open(tmp_path / "state", IDENTITY):
            result = _up_on(alone, service, tmp_path / "state")
        assert result[0] == 1
        assert f"is in use by process {os.getpid()}: stop that worker first" in result[1]

    def test_state_of_another_log(self, alone: Run, service: Up, tmp_path: Path) -> None:
        """State that was learned from another log is refused."""
        StateDirectory.open(tmp_path / "state", IDENTITY).close()
        result = _up_on(alone, service, tmp_path / "state")
        assert result[0] == 1
        assert "belongs to the log of cluster c, app headrace" in result[1]

    def test_state_that_cannot_be_written(self, alone: Run, service: Up) -> None:
        """The system's own words, and what to do."""
        result = _up_on(alone, service, Path("/proc/nowhere"))
        assert result[0] == 1
        assert "name another --state-dir" in result[1]

    @pytest.mark.parametrize("said_by", ["--state-dir", "HEADRACE_STATE_DIR"])
    def test_state_of_a_log_that_goes(self, alone: Run, said_by: str, tmp_path: Path) -> None:
        """It could be used once only: refused before anything is started, with what to do."""
        state = tmp_path / "state"
        environ = {said_by: str(state)} if said_by.startswith("HEADRACE") else {}
        given = () if environ else (said_by, str(state))
        result = alone("up", "--grpc-port", "0", *given, **environ)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"  {said_by}: {state} would be refused at the next start" in result.stderr
        assert "name --broker local:DIR" in result.stderr
        assert not state.exists()

    def test_bad_settings(self, alone: Run) -> None:
        """All of them at once, exit 2."""
        result = alone("up", "--grpc-host", "0.0.0.0", "--log-level", "loud")
        assert result.exit_code == 2
        assert "--log-level: must be debug, info, warning or error, not 'loud'" in result.stderr
        assert "--grpc-host: 0.0.0.0 can be reached by others" in result.stderr
        result = alone("up", "--metrics-port", "abc")
        assert "--metrics-port: must be a port, 0 to 65535" in result.stderr


def _up_on(alone: Run, service: Up, state: Path) -> tuple[int, str]:
    """A start on that state and the broker of another service."""
    given = ("--broker", f"kafka://{service.found('events')}", "--state-dir", str(state))
    result = alone("up", "--grpc-port", "0", "--metrics-port", "off", *given)
    return result.exit_code, result.stderr


def test_a_watch_ends_with_ctrl_c(service: Up) -> None:
    """130, and nothing but the decisions was written."""
    process = spawn(
        *("watch", "decisions", "card-fraud", "--from-start", "-a", service.found("gRPC"))
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("card-fraud/1/transactions/0/1 c1 allow")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")


def test_a_watch_without_a_terminal_says_what_it_waits_for(service: Up) -> None:
    """What was decided before is not shown, and whoever reads a log of it has to learn why."""
    process = spawn("watch", "decisions", "card-fraud", "-a", service.found("gRPC"))
    assert process.stderr is not None
    said = "waiting for decisions of card-fraud (0 so far; those made before: --from-start)"
    assert process.stderr.readline() == f"{said}; Ctrl-C ends\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == ("", "")


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_reader_that_has_gone_is_no_error(service: Up, form: tuple[str, ...]) -> None:
    """`headrace watch … | head -1` ends quietly, as any Unix program does."""
    asked = ("watch", "decisions", "card-fraud", "--from-start", *form)
    process = spawn(*asked, "-a", service.found("gRPC"))
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(20) == 141
    process.stderr.close()


def test_the_hash_seed_is_fixed_by_a_second_start(tmp_path: Path) -> None:
    """`headrace` starts itself anew with it, from wherever it was found, flags and all."""
    (tmp_path / "typer.py").write_text("raise SystemExit('not this one')")
    environ = {name: value for name, value in FIXED.items() if name != "PYTHONHASHSEED"}
    command = [sys.executable, "-P", "-m", "headrace", "--version"]
    done = subprocess.run(
        command, env=environ, check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("headrace ")
    deaf = [sys.executable, "-I", "-m", "headrace", "--version"]
    done = subprocess.run(deaf, env=FIXED, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Python ignores PYTHONHASHSEED" in done.stderr
