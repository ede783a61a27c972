"""What tells that a file has changed, without reading it: its size and its times."""

from __future__ import annotations

import time
from pathlib import Path

Stamp = tuple[int, int, int]  # size in bytes, modification time and change time in nanoseconds
GRAIN_NS = 2_000_000_000  # nanoseconds within which a clock may give two changes the same time


def is_settled(seen: Stamp) -> bool:
    """Whether a file was last touched longer ago than the clock's grain."""
    return time.time_ns() - max(seen[1:]) > GRAIN_NS


def stamp(path: str) -> Stamp:
    """What changes with a file's content, without reading it."""
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
