"""Stamps: the size and the times of a file, which show that the file has changed without reading it."""

from __future__ import annotations

import time
from pathlib import Path

Stamp = tuple[int, int, int]  # size in bytes, modification time and change time in nanoseconds
GRAIN_NS = 2_000_000_000  # nanoseconds; within this time, two changes may get the same time from a coarse clock


def is_settled(stamp: Stamp) -> bool:
    """Whether a file was last changed longer ago than GRAIN_NS, so that another change would give another stamp."""
    return time.time_ns() - max(stamp[1:]) > GRAIN_NS


def stamp(path: str) -> Stamp:
    """Return the stamp of a file: its size in bytes, modification time and change time in nanoseconds."""
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
