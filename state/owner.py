"""Whose a repository of snapshots is, as a file in it says."""

from __future__ import annotations

from typing import Literal

import msgspec

OWNER = "owner.json"
"""The name of that file."""


class Owner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose snapshots a repository keeps: an app's, whose logs are in that cluster.

    Only they say what is still needed there, so two may not share one: each would collect the
    other's files.
    """

    app: str
    cluster_id: str
    schema: Literal[1] = 1


_DECODER = msgspec.json.Decoder(Owner)


def told(content: bytes | None) -> str:
    """Whose it is, in words.

    >>> told(msgspec.json.encode(Owner(app="shop", cluster_id="c")))
    "those of app 'shop' in cluster c"
    """
    try:
        owner = _DECODER.decode(content or b"")
    except (msgspec.MsgspecError, RecursionError):
        return f"somebody else's, as its {OWNER} says"
    return f"those of app {owner.app!r} in cluster {owner.cluster_id}"
