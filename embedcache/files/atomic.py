"""Write files that are complete or absent, even if the process is killed or the machine stops."""

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
    """Open a file for writing that is complete or absent afterwards.

    The data go to a temporary `.part` file in the same folder, which is flushed, synced to disk and then renamed to
    `path`. Text is encoded as UTF-8 and newlines are not translated. Raises an error of the class `kind`, whose message
    ends with `advice`, if the folder cannot be written or the disk is full; an existing file at `path` is then
    unchanged.
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
    """Sync every file in a folder to disk, and then the folder itself; for files that other libraries wrote."""
    for path in folder.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Sync a folder to disk, so that the renaming of its files survives a power failure.

    Does nothing where a folder cannot be opened: Windows makes renames durable itself.
    """
    with suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
