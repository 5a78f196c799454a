"""Ctrl-C while a call begins, and workers that are away while a rollback is followed."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Any, cast

import pytest
from msgspec.structs import replace

from headrace.cli.client import interrupt_held
from headrace.cli.following import begun, followed
from headrace.errors import UnavailableError
from headrace.views import Position, RollbackView

BEGUN = RollbackView(
    control_id="r1",
    agent="a",
    mode="revert",
    snapshot_id="a.s",
    undo_snapshot_id="a.undo",
    undoes="",
    keys=(),
    epoch=2,
    partitions=1,
    positions=(),
)


def test_an_interrupt_waits_until_the_call_has_begun() -> None:
    """It is not raised in the middle, where gRPC would lose it, and it is not forgotten."""
    before, begun = signal.getsignal(signal.SIGINT), []

    def begin() -> None:
        with interrupt_held():
            signal.raise_signal(signal.SIGINT)
            begun.append("a call")

    with pytest.raises(KeyboardInterrupt):
        begin()
    assert begun == ["a call"]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_in_the_middle_of_a_look_ends_the_following() -> None:
    """What gRPC loses, whoever follows a rollback would wait out."""

    class Losing:
        """A client that loses an interrupt, as gRPC does while it begins a call."""

        def get_rollback(self, control_id: str) -> RollbackView:
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            return BEGUN

    with pytest.raises(KeyboardInterrupt):
        followed(cast(Any, Losing()), [BEGUN], 1.0)


def test_a_stop_in_the_middle_of_a_rollback_is_no_failure_of_it() -> None:
    """It may go on at the next start: who would ask once more has to look first, and for what."""
    ids: list[str] = []

    class Stopping:
        """A client of a worker that goes down when it has been asked."""

        def get_rollback(self, control_id: str) -> RollbackView:
            raise UnavailableError("unreachable", "nobody answers")

    def ask(request_id: str) -> RollbackView:
        ids.append(request_id)
        raise UnavailableError("stopping", "the control log is not followed any more")

    with pytest.raises(UnavailableError) as raised:
        begun(cast(Any, Stopping()), ask)
    assert raised.value.code == "stopping"
    told = raised.value.text
    assert told.startswith("the control log is not followed any more; the rollback may have begun")
    assert f"look for {ids[0]} with `" in told
    assert told.endswith("headrace rollbacks AGENT` before you ask again")


def test_a_worker_that_starts_again_is_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    """What it has begun it goes on with; that nobody answers is said once, each time."""
    done = replace(BEGUN, positions=(Position("events", 0, 7),))
    answers = [UnavailableError("not_ready", "it is starting"), None, UnavailableError("x", "y")]

    class Restarting:
        """A client of a worker that is away twice."""

        def get_rollback(self, control_id: str) -> RollbackView:
            if not answers:
                return done
            if (error := answers.pop(0)) is None:
                return BEGUN
            raise error

    assert followed(cast(Any, Restarting()), [BEGUN], 30.0) == [done]
    assert capsys.readouterr().err.count("asked again until it answers: it is starting") == 1
    gone = [UnavailableError("not_ready", "it is starting")] * 1000
    answers[:] = gone
    assert followed(cast(Any, Restarting()), [BEGUN], 1.0) == [BEGUN]
    assert capsys.readouterr().err.count("asked again until it answers") == 1
