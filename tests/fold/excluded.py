"""Which records a rewind or a refold leaves out."""

from __future__ import annotations

from typing import Any

from tests.fold.control import Migration, Rollback
from tests.fold.oracle import Origin
from tests.fold.reading import Entry


def is_excluded(what: Rollback | Migration, record: Entry, origin: Origin) -> bool:
    """Whether this rewind, or an earlier one that holds, leaves the record out."""
    return any(
        told["since"] <= record.offset < below and _is_named(told, record, origin)
        for told, below in what.excluded
    )


def _is_named(told: dict[str, Any], record: Entry, origin: Origin) -> bool:
    only = [key.encode() for key in told.get("only", ())]  # the keys of that rewind
    if only and record.key not in only:
        return False
    events = [name.split("/")[2:] for name in told.get("decisions", ())]
    if [origin.topic, str(origin.partition), str(record.offset)] in events:
        return True
    if record.key in [key.encode() for key in told.get("keys", ())]:
        return True
    begin, end = told.get("from_ms"), told.get("to_ms")
    if begin is None and end is None:
        return False
    return record.timestamp >= max(begin or 0, 0) and (end is None or record.timestamp < end)
