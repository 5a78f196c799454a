"""Ctrl-C while a call begins."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Any, cast

import pytest

from headrace.cli.client import interrupt_held
from headrace.cli.following import followed
from headrace.views import RollbackView


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
    begun = RollbackView(
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

    class Losing:
        """A client that loses an interrupt, as gRPC does while it begins a call."""

        def get_rollback(self, control_id: str) -> RollbackView:
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            return begun

    with pytest.raises(KeyboardInterrupt):
        followed(cast(Any, Losing()), [begun], 1.0)
