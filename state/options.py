"""How RocksDB is set, and what all shards of a process share of it."""

from __future__ import annotations

import rocksdict

_MIB = 1 << 20
_RUNS = 24
"""Sorted runs of a shard, any of which may hold a row, before some are merged. A checkpoint makes
one, and so does a full write buffer."""
_MERGED_MIN = 4  # runs of a merge
_ALIKE_PERCENT = 20  # by which the next run may exceed those before it, to be merged with them
_ALWAYS_OPEN = 8  # of a shard: its log, manifest, lock, two directories, LOG; some in passing


class StoreOptions:
    """What all open shards of a process share: block cache, write buffers, descriptors.

    Make one per process and hand it to every `ShardStore.open`. `cache_bytes` bounds the blocks
    read from disk plus the write buffers of *all* shards, of which the buffers may take
    `buffer_bytes`; `open_files` bounds the table files that one shard keeps open (besides some
    six descriptors that RocksDB always holds).

    >>> options = StoreOptions(cache_bytes=1 << 24, buffer_bytes=1 << 23, open_files=32)
    >>> options.buffers_used(), options.descriptors()
    (0, 40)
    """

    def __init__(
        self,
        *,
        cache_bytes: int = 128 * _MIB,
        buffer_bytes: int = 64 * _MIB,
        open_files: int = 64,
    ) -> None:
        assert 0 < buffer_bytes <= cache_bytes
        self.open_files = open_files
        self._cache = rocksdict.Cache(cache_bytes)
        # No stall: a full buffer makes the largest shard flush to its tables; writers go on.
        self._buffers = rocksdict.WriteBufferManager.new_write_buffer_manager_with_cache(
            buffer_bytes, False, self._cache
        )

    def descriptors(self) -> int:
        """How many file descriptors one open shard takes at most; it starts with about six."""
        return self.open_files + _ALWAYS_OPEN

    def buffers_used(self) -> int:
        """Bytes of write buffers in use, of all shards together."""
        return self._buffers.get_usage()

    def rocksdb(self, *, compact: bool) -> rocksdict.Options:
        """The options of one shard's database; whether it merges its tables by itself."""
        table = rocksdict.BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_cache_index_and_filter_blocks(True)  # else they escape the shared bound
        table.set_bloom_filter(10, False)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)  # whether it may be created is decided before
        options.set_block_based_table_factory(table)
        options.set_write_buffer_manager(self._buffers)
        options.set_write_buffer_size(16 * _MIB)
        # In levels, each fourth checkpoint of a shard whose keys change at random would write all
        # of it again: docs/decisions/0018-tables-are-merged-in-tiers.md has the figures.
        options.set_compaction_style(rocksdict.DBCompactionStyle.universal())
        merging = rocksdict.UniversalCompactOptions()
        merging.size_ratio = _ALIKE_PERCENT
        merging.min_merge_width = _MERGED_MIN
        options.set_universal_compaction_options(merging)
        options.set_level_zero_file_num_compaction_trigger(_RUNS)
        options.set_level_zero_slowdown_writes_trigger(2 * _RUNS)
        options.set_level_zero_stop_writes_trigger(3 * _RUNS)
        options.set_disable_auto_compactions(not compact)
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        options.set_max_open_files(self.open_files)
        # The default spreads the open files over 64 parts, each of which keeps at least one.
        options.set_table_cache_num_shard_bits(0)
        options.set_paranoid_checks(True)
        # A half-written last record is what a crash leaves. Anything else that is wrong in the
        # log must be an error: going back silently to where the log still reads is not ours.
        options.set_wal_recovery_mode(rocksdict.DBRecoveryMode.tolerate_corrupted_tail_records())
        # The former one goes when the database is opened: it may name keys that were forgotten.
        options.set_keep_log_file_num(1)
        options.set_max_log_file_size(_MIB)
        options.set_stats_dump_period_sec(0)
        options.set_stats_persist_period_sec(0)
        return options
