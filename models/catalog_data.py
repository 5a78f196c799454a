"""What was measured of each estimator: its cost, and why it is out of the catalog."""

from typing import Any, Final

COST: Final[dict[str, Any]] = {}
OUT: Final[dict[str, str]] = {}
