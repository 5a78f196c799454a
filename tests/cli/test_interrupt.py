"""Ctrl-C while a call begins."""

from __future__ import annotations

import signal

import pytest

from headrace.cli.client import interrupt_held


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
