"""What the operator is told when a stored row is not what was written: the fault and the remedy."""

from __future__ import annotations

from types import TracebackType
from typing import Final

import msgspec

from headrace.errors import CorruptStateError

__all__ = ["REMEDY", "RowReading"]

REMEDY: Final = (
    "stop the worker, then restore the state directory from a copy, or delete it: "
    "the shard is then learned again from its log"
)


class RowReading:
    r"""Stands around the code that reads durable rows; adds the remedy to what it raises.

    Raises CorruptStateError, also where msgspec finds a row of another form.

    >>> try:
    ...     with RowReading():
    ...         msgspec.msgpack.decode(b"\xc1")
    ... except CorruptStateError as error:
    ...     print(str(error).partition(":")[0])
    a row cannot be read
    """

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, CorruptStateError):
            raise CorruptStateError(f"{error}: {REMEDY}") from error
        if isinstance(error, msgspec.MsgspecError):
            raise CorruptStateError(f"a row cannot be read: {error}: {REMEDY}") from error
