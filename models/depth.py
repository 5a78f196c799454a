"""How deep a JSON text is nested, asked before anything parses it.

Parsers give up where the C stack says so, which depends on who called them; what an event does
must not. Counting brackets first is fast: most events have fewer than the limit altogether.
"""

from __future__ import annotations

import re

import numpy as np

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def deeper_than(text: bytes, limit: int) -> bool:
    """Whether arrays and objects are nested more than `limit` deep. Any bytes will do.

    >>> deeper_than(b'{"a": [1, "[[["]}', 2), deeper_than(b'{"a": [[1]]}', 2)
    (False, True)
    """
    if text.count(b"{") + text.count(b"[") <= limit:
        return False
    brackets = _STRING.sub(b"", text).translate(_TO_SQUARE, _NO_BRACKETS)
    if len(brackets) <= limit:
        return False
    steps = np.where(np.frombuffer(brackets, np.uint8) == ord("["), np.int32(1), np.int32(-1))
    return bool(np.cumsum(steps, dtype=np.int32).max() > limit)
