"""Files that a stranger may have written are looked at before they are read: none makes `ser` wait or fills memory.

Only regular files are read, for a pipe can wait for ever and a device need not end, and none that is larger than its
reader has use for. Links are followed: what counts is where they lead.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from ..errors import SerError


def check_file(path: Path, largest: int, kind: type[SerError], advice: str = "") -> int:
    """The size of a regular file in bytes. Raises `kind`, with `advice`, for anything else, or more than `largest`."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise kind(f"{path}: cannot be read: {_reason(error)}. {advice}".rstrip()) from error
    if not stat.S_ISREG(status.st_mode):
        raise kind(f"{path}: cannot be read: it is a folder, a pipe or a device; wanted a file. {advice}".rstrip())
    if status.st_size > largest:
        raise kind(f"{path}: has {status.st_size:,} bytes; at most {largest:,} are read. {advice}".rstrip())
    return status.st_size


def read_json(path: Path, largest: int, kind: type[SerError], advice: str = "") -> Any:
    """What a JSON file says. Raises `kind`, with `advice`, for no JSON, and for what `check_file` refuses."""
    check_file(path, largest, kind, advice)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # RecursionError: thousands of brackets in brackets
        raise kind(f"{path}: cannot be read as JSON: {_reason(error)}. {advice}".rstrip()) from error


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).rstrip(".")
