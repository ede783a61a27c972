"""Files that are complete or absent, however the machine stops."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..errors import SerError


@contextmanager
def atomic_write(
    path: Path,
    mode: str = "w",
    kind: type[SerError] = SerError,
    advice: str = "Make room, or choose another --artifacts.",
) -> Iterator[IO[Any]]:
    """Write a file that is complete or absent: a `.part` neighbour, flushed and synced, then renamed.

    Raises `kind`, with `advice`, where the folder cannot be written or the disk is full; an old file stays as it was.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open(mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise kind(f"cannot write {path}: {error.strerror or error}. {advice}") from error
    finally:
        with suppress(OSError):
            part.unlink()


def sync_files(folder: Path) -> None:
    """Make what other libraries wrote into a folder durable: every file, then their names."""
    for path in folder.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the rename itself durable; where a folder cannot be opened (Windows) the system sees to it."""
    with suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
