from __future__ import annotations

import re
from pathlib import Path

import pytest

from headrace.serving import agent_pb2, decision_pb2, prediction_pb2, snapshot_pb2, stubs

FILES = tuple(each.DESCRIPTOR for each in (agent_pb2, decision_pb2, prediction_pb2, snapshot_pb2))


def test_generating_again_gives_the_committed_bytes(tmp_path: Path) -> None:
    """The committed stubs are what protoc makes of the committed protos."""
    made = {path.name: path.read_bytes() for path in stubs.generate(tmp_path)}
    kept = {path.name: path.read_bytes() for path in stubs.ROOM.glob("*_pb2*.py*")}
    assert made == kept


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_protos_keep_to_buf_standard(file: object) -> None:
    """One request and one response per method, named after it; enums prefixed, zero unspecified."""
    assert file.package == "headrace.v1"  # type: ignore[attr-defined]
    for service in file.services_by_name.values():  # type: ignore[attr-defined]
        assert service.name.endswith("Service")
        for method in service.methods:
            assert method.input_type.name == f"{method.name}Request"
            assert method.output_type.name == f"{method.name}Response"
    for enum in file.enum_types_by_name.values():  # type: ignore[attr-defined]
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper()
        assert enum.values[0].name == f"{prefix}_UNSPECIFIED"
        assert all(value.name.startswith(f"{prefix}_") for value in enum.values)
