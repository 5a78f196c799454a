"""When a store syncs what it has written, and who waits for it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.state.traced import run_under

_TWO_WRITES = """
import sys
from pathlib import Path
from headrace.state.checks import META
from headrace.state.store import ShardStore
store = ShardStore.open(Path(sys.argv[1]), create=True)
for name in (b"k/a", b"k/b"):
    print("before", flush=True)
    store.write([(name, b"weights")], META)
    print("after", flush=True)
store.close()
"""


def test_write_returns_after_its_log_is_synced(tmp_path: Path) -> None:
    """Between the start of a write and its return, the kernel is told to sync."""
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-e", "trace=fsync,fdatasync,write", "-o", str(trace)]
    ran = run_under(strace, _TWO_WRITES, str(tmp_path / "shard"))
    assert ran.returncode == 0, ran.stderr
    pieces = trace.read_text().split('"before')[1:]
    assert len(pieces) == 2
    for piece in pieces:
        assert re.search(r"\bf(data)?sync\(", piece.split('"after')[0])


_TICKING = """
import sys, threading, time
from pathlib import Path
from headrace.state.checks import META
from headrace.state.store import ShardStore
ticks, over = 0, threading.Event()
def tick():
    global ticks
    while not over.wait(0.001):
        ticks += 1
threading.Thread(target=tick, daemon=True).start()
store = ShardStore.open(Path(sys.argv[1]), create=True)
ticks = 0
store.write([(b"k/a", b"weights")], META)
print(ticks)
ticks = 0
store.checkpoint(Path(sys.argv[2]))
print(ticks)
store.close()
over.set()
"""


def test_other_threads_run_while_rows_and_tables_are_synced(tmp_path: Path) -> None:
    """Answers do not wait for a slow disk: here each sync of data takes half a second, in which a
    thread that ticks each millisecond goes on. In a checkpoint those of RocksDB's manifest remain.
    """
    slow = ["strace", "-f", "-o", "/dev/null", "-e", "inject=fdatasync:delay_enter=500000"]
    ran = run_under(slow, _TICKING, str(tmp_path / "shard"), str(tmp_path / "checkpoint"))
    assert ran.returncode == 0, ran.stderr
    written, checkpointed = map(int, ran.stdout.split())
    assert min(written, checkpointed) > 20
