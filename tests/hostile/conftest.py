"""A hostile afternoon needs a service that comes and goes on the broker of the run."""

from __future__ import annotations

from tests.service.conftest import start

__all__ = ["start"]
