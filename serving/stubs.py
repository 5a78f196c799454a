"""Writes the gRPC stubs from the protos: `python -m headrace.serving.stubs [DIRECTORY]`.

The files keep their canonical names (`headrace/v1/prediction.proto`), which reflection shows and
by which a client's own stubs agree with ours in one process. protoc therefore writes imports of
`headrace.v1`; they are turned into imports of this room, where the stubs live. Needs grpcio-tools
(a development dependency, pinned because newer stubs need a newer protobuf than tritonclient has).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOM = Path(__file__).parent
PROTOS = ("agent", "decision", "position", "prediction", "snapshot")
HEADER = "# mypy: ignore-errors\n# ruff: noqa\n# fmt: off\n"


def generate(target: Path) -> list[Path]:
    """Write all stubs into `target` and return them. Raises CalledProcessError on a bad proto."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(command(Path(scratch)), check=True)
        made = sorted(Path(scratch, "headrace", "v1").glob("*_pb2*.py*"))
        empty = {path for path in made if path.match("*_grpc.py") and not _services(path)}
        return [_adopt(path, target / path.name) for path in made if path not in empty]


def command(out: Path) -> list[str]:
    """The protoc call that writes the raw stubs under `out`."""
    spec = find_spec("google.rpc")
    assert spec is not None
    assert spec.submodule_search_locations
    google = Path(next(iter(spec.submodule_search_locations))).parent.parent
    flags = [f"-I{ROOM / 'proto'}", f"-I{google}"]
    flags += [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    files = [f"headrace/v1/{name}.proto" for name in PROTOS]
    return [sys.executable, "-m", "grpc_tools.protoc", *flags, *files]


def _services(stub: Path) -> bool:
    return "\nclass " in stub.read_text(encoding="utf-8")


def _adopt(made: Path, kept: Path) -> Path:
    """Copy one stub, importing its neighbours from this room; checkers leave it as it is."""
    text = made.read_text(encoding="utf-8")
    text = re.sub(
        r"^from headrace\.v1 import", "from headrace.serving import", text, flags=re.MULTILINE
    )
    kept.write_text(HEADER + text, encoding="utf-8")
    return kept


if __name__ == "__main__":
    for stub in generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOM):
        sys.stdout.write(f"{stub}\n")
