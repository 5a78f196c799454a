"""What a model raises when an event or a parameter does not suit it.

River's Rust extension panics as `PanicException`, which is no `Exception`: a NaN, or a state of the
wrong length. It is the event's or the bytes' fault and must be caught; a `KeyboardInterrupt`, which
is no `Exception` either, must not.
"""

from __future__ import annotations

from typing import Final

_PANIC_MODULE: Final = "pyo3_runtime"

# River's Python code raises these on values that it does not take.
FAILURES: Final = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip


def is_panic(error: BaseException) -> bool:
    """Tell whether `error` is a panic of a Rust extension.

    >>> is_panic(KeyboardInterrupt()), is_panic(ValueError())
    (False, False)
    """
    return type(error).__module__ == _PANIC_MODULE


def failures(*more: type[BaseException]) -> tuple[type[BaseException], ...]:
    """What a model raises, panics included, for an `except` clause.

    The class of a panic is made at the first panic, so it is looked up when something is caught,
    which is when Python evaluates this. `more` are caught as well.
    """
    panics = (cls for cls in BaseException.__subclasses__() if cls.__module__ == _PANIC_MODULE)
    return (*FAILURES, *panics, *more)
