"""Stamps: what shows that a file changed, and when that can be trusted."""

import os
import time
from pathlib import Path

import pytest

from embedcache.files import stamps
from embedcache.files.stamps import is_settled, stamp


def test_a_stamp_is_size_and_both_times(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    os.utime(path, ns=(1, 2_000_000_000))
    status = path.stat()
    assert stamp(str(path)) == (5, 2_000_000_000, status.st_ctime_ns)


@pytest.mark.parametrize("moved", [1, 2], ids=["modified", "changed"])
def test_a_file_is_settled_once_both_its_times_are_old(moved: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10**18
    monkeypatch.setattr(time, "time_ns", lambda: now)
    old = now - stamps.GRAIN_NS - 1
    assert is_settled((0, old, old))
    for time_ns, settled in ((old, True), (old + 1, False), (now, False)):
        times = [0, old, old]
        times[moved] = time_ns
        assert is_settled(tuple(times)) == settled
    assert is_settled((now, old, old)), "a size is no time"
