"""What a model raises when an event or a parameter does not suit it.

River's Rust extension panics as `PanicException`, which is no `Exception`: a NaN, or a state of the
wrong length. It is the event's or the bytes' fault and must be caught; a `KeyboardInterrupt`, which
is no `Exception` either, must not.
"""

from __future__ import annotations

from typing import Final

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
    return type(error).__module__ == "pyo3_runtime"


def is_failure(error: BaseException) -> bool:
    """Tell whether `error` is what a model raises, a panic included.

    >>> is_failure(KeyError("x")), is_failure(KeyboardInterrupt())
    (True, False)
    """
    return isinstance(error, FAILURES) or is_panic(error)
