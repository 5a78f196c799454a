"""Another build, without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from river import optim


@pytest.fixture
def steps_otherwise(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and from then on River learns by a slightly larger rate."""
    step_of: Any = optim.SGD._step_with_vector

    def larger(self: Any, w: Any, g: Any) -> Any:
        return step_of(self, w, g * (1 + 2**-50))

    return lambda: monkeypatch.setattr(optim.SGD, "_step_with_vector", larger)
