"""The store: its laws against both kinds, and what it does with damage."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import rocksdict

from headrace.errors import CorruptStateError, ForeignStateError, LockedStateError, StateError
from headrace.state.checks import DURABLE_LAWS, LAWS, META, Make, Open
from headrace.state.memory import MemoryStore
from headrace.state.options import StoreOptions
from headrace.state.store import ShardStore, digest


def create(path: Path) -> ShardStore:
    return ShardStore.open(path, create=True)


def reopen(path: Path) -> ShardStore:
    return ShardStore.open(path, create=False)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_memory_store_keeps_the_law(law: Callable[[Make], None]) -> None:
    """The store in memory keeps every law of a store."""
    assert law(MemoryStore) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_shard_store_keeps_the_law(law: Callable[[Make], None], tmp_path: Path) -> None:
    """The store on disk keeps every law of a store."""
    assert law(lambda: create(tmp_path / "shard")) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("law", DURABLE_LAWS, ids=lambda law: law.__name__)
def test_shard_store_keeps_the_durable_law(
    law: Callable[[Open, Open, Path], None], tmp_path: Path
) -> None:
    """The store on disk keeps the laws of stores that survive their process."""
    law(create, reopen, tmp_path / "shard")
    assert (tmp_path / "shard" / "CURRENT").exists()


def test_absent_shard_is_not_made_by_reading(tmp_path: Path) -> None:
    """Opening a shard that is not there without `create` is refused and leaves nothing behind."""
    with pytest.raises(StateError, match="no shard at"):
        reopen(tmp_path / "shard")
    assert list(tmp_path.iterdir()) == []


def test_second_opener_is_told_to_stop_the_first(tmp_path: Path) -> None:
    """A shard that is open is locked, and the text says what to do."""
    store = create(tmp_path / "shard")
    with pytest.raises(LockedStateError, match="stop the worker that holds it"):
        reopen(tmp_path / "shard")
    store.close()


def test_altered_row_is_refused_by_name(tmp_path: Path) -> None:
    """A row whose payload changed under its digest is named with its shard, and only it."""
    path = tmp_path / "shard"
    store = create(path)
    store.write([(b"k/ada", b"weights"), (b"k/bob", b"others")], META)
    value = store._database.get(b"rk/ada") or b""
    store._database.put(b"rk/ada", value[:-1] + b"S")
    with pytest.raises(CorruptStateError) as refused:
        store.get(b"k/ada")
    assert str(path) in str(refused.value)
    assert "k/ada" in str(refused.value)
    assert "remove this directory" in str(refused.value)
    with pytest.raises(CorruptStateError, match="k/ada"):
        list(store.scan(b"k/"))
    assert store.get(b"k/bob") == b"others"
    store.close()


def test_row_under_another_name_is_refused(tmp_path: Path) -> None:
    """A whole, unaltered value that lies under another row's name is refused."""
    store = create(tmp_path / "shard")
    store.write([(b"k/ada", b"weights"), (b"k/bob", b"others")], META)
    store._database.put(b"rk/bob", store._database.get(b"rk/ada"))
    with pytest.raises(CorruptStateError, match="k/bob"):
        store.get(b"k/bob")
    store.close()


def test_truncated_row_is_refused(tmp_path: Path) -> None:
    """A value shorter than its digest is refused, the empty one too."""
    store = create(tmp_path / "shard")
    for stump in (b"", b"\x00" * 15):
        store._database.put(b"rk/ada", stump)
        with pytest.raises(CorruptStateError):
            store.get(b"k/ada")
    store.close()
    assert (tmp_path / "shard").exists()


@pytest.mark.parametrize("suffix", [".sst", ".log"])
def test_flipped_bit_on_disk_never_becomes_state(tmp_path: Path, suffix: str) -> None:
    """A bit flipped in a table or in the write-ahead log gives an error or one whole write."""
    path = tmp_path / "shard"
    store = create(path)
    for number in (1, 2, 3):
        payload = bytes([number]) * 2_000
        rows = [(f"k/{n}".encode(), payload) for n in range(10)]
        store.write(rows, msgspec.structs.replace(META, next_offset=number))
    if suffix == ".sst":
        store._database.flush()
    image = tmp_path / "image"
    shutil.copytree(path, image)  # before close, which would empty the write-ahead log
    store.close()
    file = max(image.glob(f"*{suffix}"), key=lambda candidate: candidate.stat().st_size)
    whole = file.read_bytes()
    outcomes = []
    for place in range(len(whole) // 50, len(whole), len(whole) // 20):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        copy = tmp_path / f"copy-{place}"
        shutil.copytree(image, copy)
        outcomes.append(_outcome(copy))
    assert set(outcomes) <= {"refused", "no write", "write 1", "write 2", "write 3"}
    assert outcomes.count("refused") >= len(outcomes) // 2


def _outcome(path: Path) -> str:
    try:
        store = reopen(path)
    except StateError:
        return "refused"
    try:
        payloads = set(dict(store.scan(b"")).values())
    except StateError:
        return "refused"
    finally:
        store.close()
    if store.meta is None:
        return "rows alone" if payloads else "no write"
    number = store.meta.next_offset
    return f"write {number}" if payloads == {bytes([number]) * 2_000} else "a mixture"


def test_rows_without_a_position_are_refused(tmp_path: Path) -> None:
    """A shard that lost its position must not start again at the beginning on top of its rows."""
    store = create(tmp_path / "shard")
    store.write([(b"k/ada", b"weights")], META)
    store._database.delete(b"m")
    store.close()
    with pytest.raises(CorruptStateError, match="rows but no position"):
        reopen(tmp_path / "shard")


def test_altered_position_is_refused(tmp_path: Path) -> None:
    """A position whose bytes changed is refused at open."""
    store = create(tmp_path / "shard")
    store.write([], META)
    value = store._database.get(b"m") or b""
    store._database.put(b"m", value[:-1] + bytes([value[-1] ^ 1]))
    store.close()
    with pytest.raises(CorruptStateError, match="position does not match"):
        reopen(tmp_path / "shard")


def test_layout_of_another_headrace_is_refused(tmp_path: Path) -> None:
    """A layout number that is not ours is refused with what to do."""
    store = create(tmp_path / "shard")
    payload = b"\x63" + msgspec.msgpack.encode({"something": "else"})
    store._database.put(b"m", digest(b"m", payload) + payload)
    store.close()
    with pytest.raises(ForeignStateError, match=r"layout 99.*--state-dir elsewhere"):
        reopen(tmp_path / "shard")


def test_a_position_of_another_headrace_is_refused(tmp_path: Path) -> None:
    """The layout is ours, and the position has a field that a later build has added."""
    store = create(tmp_path / "shard")
    fields = {**msgspec.structs.asdict(META), "later": 1}
    payload = b"\x01" + msgspec.msgpack.encode(fields)
    store._database.put(b"m", digest(b"m", payload) + payload)
    store.close()
    for _ in range(2):  # it was closed: the second time it is not locked
        with pytest.raises(ForeignStateError, match=r"field `later`.*--state-dir elsewhere"):
            reopen(tmp_path / "shard")


@pytest.mark.parametrize("flushed", [True, False], ids=["tables", "write-ahead log only"])
def test_lost_current_file_is_no_new_shard(tmp_path: Path, flushed: bool) -> None:
    """A shard whose file CURRENT is gone is damaged; it must not become an empty one."""
    store = create(tmp_path / "shard")
    store.write([(b"k/ada", b"weights")], META)
    if flushed:
        store._database.flush()
    shutil.copytree(tmp_path / "shard", tmp_path / "image")  # before close, which flushes too
    store.close()
    (tmp_path / "image" / "CURRENT").unlink()
    with pytest.raises(CorruptStateError, match="CURRENT is missing"):
        create(tmp_path / "image")


def test_crash_while_a_shard_is_made_leaves_a_new_shard(tmp_path: Path) -> None:
    """What RocksDB leaves before its first CURRENT is taken as nothing."""
    path = tmp_path / "shard"
    path.mkdir()
    for name in ("LOCK", "LOG", "IDENTITY", "MANIFEST-000001"):
        (path / name).write_bytes(b"")
    store = create(path)
    assert store.meta is None
    store.close()


def test_shards_share_cache_and_buffers(tmp_path: Path) -> None:
    """Shards opened with the same options count into the same write buffer."""
    options = StoreOptions(cache_bytes=1 << 24, buffer_bytes=1 << 23)
    stores = [ShardStore.open(tmp_path / str(n), create=True, options=options) for n in range(3)]
    used = [options.buffers_used()]
    for store in stores:
        store.write([(b"k/a", os.urandom(500_000))], META)
        used.append(options.buffers_used())
    assert used == sorted(used)
    assert used[-1] >= used[0] + 1_500_000
    for store in stores:
        store.close()


def test_a_shard_that_is_opened_again_shares_them_too(tmp_path: Path) -> None:
    """What RocksDB wrote beside it of its options does not count: it would have a cache of its own
    and no filters.
    """
    create(tmp_path / "shard").close()
    options = StoreOptions(cache_bytes=1 << 24, buffer_bytes=1 << 23)
    store = ShardStore.open(tmp_path / "shard", create=False, options=options)
    assert store._database.property_int_value("rocksdb.block-cache-capacity") == 1 << 24
    store.close()
    assert "filter_policy: bloomfilter" in (tmp_path / "shard" / "LOG").read_text()


def test_a_draft_merges_no_tables(tmp_path: Path) -> None:
    """Else its close would wait for that; the shard that it becomes merges them again."""
    create(tmp_path / "shard").close()
    store = ShardStore.open(tmp_path / "shard", create=False, compact=False)
    for number in range(8):
        store.write([(b"k/%d" % number, os.urandom(1_000))], META)
        store._database.flush()
    assert store._database.property_value("rocksdb.num-files-at-level0") == "8"
    store.close()
    ShardStore.open(tmp_path / "shard", create=False).close()
    newest = max((tmp_path / "shard").glob("OPTIONS-*"))
    assert "disable_auto_compactions=false" in newest.read_text()


def test_checkpoint_can_be_taken_while_another_thread_writes(tmp_path: Path) -> None:
    """Rows and position in a checkpoint agree, whatever is being written beside it."""
    store = create(tmp_path / "shard")
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            store.write(
                [(b"k/%d" % key, b"%d" % number) for key in range(20)],
                msgspec.structs.replace(META, next_offset=number),
            )

    store.write([(b"k/%d" % key, b"0") for key in range(20)], META)
    writer = threading.Thread(target=write)
    writer.start()
    for attempt in range(5):
        store.checkpoint(tmp_path / f"checkpoint-{attempt}")
    stop.set()
    writer.join()
    store.close()
    for attempt in range(5):
        copy = reopen(tmp_path / f"checkpoint-{attempt}")
        numbers = {payload for _, payload in copy.scan(b"k/")}
        assert copy.meta is not None
        assert len(numbers) == 1
        assert numbers == {b"%d" % copy.meta.next_offset} or numbers == {b"0"}
        copy.close()


_WRITER = """
import sys
from pathlib import Path
import msgspec
from headrace.state.checks import META
from headrace.state.store import ShardStore
store = ShardStore.open(Path(sys.argv[1]), create=True)
for number in range(1, 1_000_000):
    rows = [(b"k/%d" % key, b"%d" % number) for key in range(50)]
    store.write(rows, msgspec.structs.replace(META, next_offset=number))
    print(number, flush=True)
"""


def test_kill_leaves_a_whole_write(tmp_path: Path) -> None:
    """After SIGKILL rows and position are of one write: the last that returned, or the next."""
    path = tmp_path / "shard"
    reached = 0
    for lines in (1, 7, 40):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                reached = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            said = [int(line) for line in writer.stdout.read().split("\n")[:-1] if line]
        reached = said[-1] if said else reached
        store = reopen(path)
        numbers = {payload for _, payload in store.scan(b"k/")}
        assert store.meta is not None
        assert numbers == {b"%d" % store.meta.next_offset}
        assert store.meta.next_offset in (reached, reached + 1)
        store.close()


def open_files() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/dev/fd").iterdir()))


def test_open_shards_stay_within_their_descriptors(tmp_path: Path) -> None:
    """A shard with many tables takes no more descriptors than its options say."""
    options = StoreOptions(open_files=20)
    before = open_files()
    store = ShardStore.open(tmp_path / "shard", create=True, options=options)
    store._database.set_options({"disable_auto_compactions": "true"})
    for number in range(60):
        store.write([(b"k/%d" % number, b"x")], META)
        store._database.flush()
    assert len(list(store.scan(b""))) == 60
    assert len(list((tmp_path / "shard").glob("*.sst"))) > options.descriptors()
    assert open_files() - before <= options.descriptors()
    store.close()


def test_rocksdict_raises_bare_exceptions(tmp_path: Path) -> None:
    """The pinned rocksdict raises exactly `Exception`, which the store translates by its class."""
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(False)
    with pytest.raises(Exception, match="does not exist") as raised:
        rocksdict.Rdict(str(tmp_path / "none"), options)
    assert type(raised.value) is Exception
