"""How Python itself is set in a process that serves: turns of threads, and garbage."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_S = 0.0005
"""How long one thread may keep the others from running Python. By default it is 5 ms, and an answer
needs several turns of gRPC's threads while the fetching one unpacks records.
"""


def settle() -> None:
    """Call it when the process has started: what is loaded now stays, and is no garbage ever.

    A collection of all that was imported takes a tenth of a second, in which nothing is answered.
    """
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()


def keep() -> None:
    """Call it when a shard has been opened: its tables stay as long as it is open.

    Else each collection would walk through them: with 10⁵ keys that takes 50 ms, although their
    models are of no concern to it. What is garbage now stays too, so this is not for every event.
    """
    gc.freeze()


@contextmanager
def loading() -> Iterator[None]:
    """Within it something large is imported while the process serves; it stays, too.

    An import makes so many objects that Python would look for garbage again and again: with MLflow
    four times, 30 to 120 ms each, in which nothing is answered.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
