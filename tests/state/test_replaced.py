"""Manifests that another one has replaced, and those that only look as if."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from headrace.errors import CorruptStateError
from headrace.state.manifest import ShardRef
from headrace.state.repository import ShelfRepository
from tests.state.snapshot import made


def test_only_what_was_replaced_is_withdrawn(kept: ShelfRepository, checkpoint: list[Path]) -> None:
    """Two workers have written one in the place of the same; the catalogue may come to vouch for
    the one that has forgotten less, whoever withdraws what.
    """
    former = made(kept, checkpoint)
    less, more = (structs.replace(former, forgotten=upto) for upto in (5, 7))
    beside = structs.replace(former, partition=0)
    refs = [
        ShardRef(each.snapshot_id, each.topic, each.partition, kept.add_manifest(each))
        for each in (former, less, more, beside)
    ]
    for _ in range(2):
        kept.withdraw(refs[2], [refs[0].digest, refs[2].digest])
        with pytest.raises(CorruptStateError, match="is missing"):
            kept.manifest(*refs[0])
        assert [kept.manifest(*ref) for ref in refs[1:]] == [less, more, beside]
