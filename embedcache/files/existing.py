"""What a command does if the path that it writes exists already. The policy of all commands:

- What was computed at length or learned (runs, models, checkpoints, enrolled speakers) is never replaced. Without a
  name, it gets a new one; a name that exists is refused.
- What is written from these and can be written again (reports, tables, folds, files of vectors, ONNX files) is replaced
  if ser wrote it, in one step, and a note says so.
- Anything else that exists is refused, with what to do.

Stores and downloads only grow: what they hold already is kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

from ..errors import SerError


def refuse_existing(path: Path, kind: type[SerError], advice: str) -> None:
    """Raise an error of the class `kind` if a path exists, also as a dead link; `advice` says what to do."""
    if os.path.lexists(path):
        raise kind(f"{path} exists already. {advice}")


def check_writable(folder: Path, kind: type[SerError], advice: str) -> None:
    """Raise an error of the class `kind` if a folder, or the nearest above it that exists, cannot be written.

    Long work checks this before it begins. `advice` says what to do.
    """
    nearest = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    try:
        with TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise kind(f"{folder} cannot be written: {error.strerror or error}. {advice}") from error


def check_replaceable(
    path: Path, is_own: Callable[[Path], bool], log: Callable[[str], None], kind: type[SerError], option: str
) -> None:
    """Raise an error of the class `kind` if a path exists and `is_own` does not know it as written by ser.

    `log` receives a line if the path will be replaced. `option` is where another path can be given, such as `--out`.
    """
    if not os.path.lexists(path):
        return
    try:
        own = path.exists() and is_own(path)
    except OSError:  # what cannot be read is not known
        own = False
    if not own:
        refuse_existing(path, kind, f"ser did not write it, so it stays. Choose another {option}, or remove it.")
    log(f"note: replaces {path}, which ser wrote.")


def begins_with(start: bytes) -> Callable[[Path], bool]:
    """Return a function that tells whether a path is a file that begins with these bytes."""

    def begins(path: Path) -> bool:
        return path.is_file() and _read(path, 0, len(start)) == start

    return begins


def ends_with(end: bytes) -> Callable[[Path], bool]:
    """Return a function that tells whether a path is a file that ends with these bytes."""

    def ends(path: Path) -> bool:
        return path.is_file() and _read(path, max(0, path.stat().st_size - len(end)), len(end)) == end

    return ends


def _read(path: Path, start: int, length: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(length)
    except OSError:
        return b""
