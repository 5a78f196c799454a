"""Rust panics: River's extension raises them as `PanicException`, which is no `Exception`.

They come from bad arguments (a NaN, a state of the wrong length), so they are the event's or the
bytes' fault and must be caught; a `KeyboardInterrupt`, which is no `Exception` either, must not.
"""

from __future__ import annotations


def is_panic(error: BaseException) -> bool:
    """Tell whether `error` is a panic of a Rust extension.

    >>> is_panic(KeyboardInterrupt()), is_panic(ValueError())
    (False, False)
    """
    return type(error).__module__ == "pyo3_runtime"
