"""Files that are equal, byte for byte."""

from __future__ import annotations

import filecmp
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

BLOCK = 1 << 16  # bytes from the middle of a file; recordings often begin with equal headers and silence


def equal_files(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield a file and the first one that is equal to it, for each file that is not the first of its kind.

    Links count as the files that they lead to. What cannot be read, or is no file, such as a pipe, is left out.
    """
    like: dict[tuple[int, bytes], list[str]] = defaultdict(list)  # size and hash of the middle -> files
    for path in filter(os.path.isfile, paths):
        try:
            firsts = like[_likeness(path)]
            if first := next((first for first in firsts if filecmp.cmp(first, path, shallow=False)), ""):
                yield path, first
            else:
                firsts.append(path)
        except OSError:
            continue


def _likeness(path: str) -> tuple[int, bytes]:
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(size // 2)
        return size, hashlib.sha256(file.read(BLOCK)).digest()
