"""What is looked at in the order of system calls: who synced what, and since when."""

from __future__ import annotations

import pytest

from tests.faults.order import broken, needless

TABLE, DRAFT = "/r/state/shards/a/1/t@0/000012.sst", "/r/state/drafts/x"
NAMED = "/r/state/shards/a/2/t@0"
WRITE = f'1 write(5<{TABLE}>, ""..., 9) = 9'
SYNC = f"2 fdatasync(5<{TABLE}>) = 0"
LINK = f'1 link("{TABLE}", "{DRAFT}/000012.sst") = 0'
NAMES = f"1 fsync(7<{DRAFT}>) = 0"
RENAME = f'1 rename("{DRAFT}", "{NAMED}") = 0'
ABOVE = "1 fsync(8</r/state/shards/a/2>) = 0"
DONE = '1 access("/journal/done", F_OK) = -1 ENOENT'
WHOLE = [WRITE, SYNC, LINK, NAMES, RENAME, ABOVE, DONE]


def test_a_link_to_what_another_thread_has_synced_is_durable() -> None:
    """Data belongs to the file, whichever name it was synced by."""
    assert broken(WHOLE, "/r") == []
    assert broken([WRITE, LINK, SYNC, NAMES, RENAME, ABOVE, DONE], "/r") == []


@pytest.mark.parametrize("without", [SYNC, NAMES, ABOVE])
def test_each_sync_is_missed(without: str) -> None:
    """Of the file that is linked, of its name, of the name of what it is in."""
    assert broken([call for call in WHOLE if call != without], "/r") != []
    assert needless(WHOLE, "/r") == (3, [])


def test_a_file_that_is_written_after_its_sync_is_not_durable() -> None:
    """By its first name, after the link was made."""
    assert broken([WRITE, SYNC, LINK, WRITE, NAMES, RENAME, ABOVE], "/r") != []


def test_a_sync_holds_what_was_there_when_it_began() -> None:
    """What another thread writes while it is under way may not be in it."""
    begun, ended = f"2 fdatasync(5<{TABLE}> <unfinished ...>", "2 <... fdatasync resumed>) = 0"
    rest = [LINK, NAMES, RENAME, ABOVE]
    assert broken([WRITE, begun, ended, *rest], "/r") == []
    assert broken([begun, WRITE, ended, *rest], "/r") != []


def test_a_log_that_is_not_synced_is_seen_at_the_next_record() -> None:
    """What is said to be flushed is on the disk."""
    write = '1 write(5</r/state/shards/a/1/t@0/000014.log>, ""..., 9) = 9'
    sync = "1 fdatasync(5</r/state/shards/a/1/t@0/000014.log>) = 0"
    assert broken([write, sync, DONE], "/r") == []
    assert broken([write, DONE], "/r") != []


def test_a_sync_that_repeats_another_is_needless() -> None:
    """Nothing was altered since."""
    assert needless([WRITE, SYNC, SYNC, LINK, NAMES, RENAME, ABOVE, DONE], "/r")[0] == 4
