"""Where things lie in the output folder. Files are the only interface between the stages; these are their names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from .errors import SerError


@dataclass(frozen=True)
class Artifacts:
    """The output folder: `--artifacts`, else `$SER_ARTIFACTS`, else `artifacts`."""

    root: Path

    @classmethod
    def at(cls, root: str | Path | None = None) -> Artifacts:
        """The folder that was asked for, or the environment's, or the default."""
        return cls(Path(root or os.environ.get("SER_ARTIFACTS") or "artifacts"))

    @property
    def cache(self) -> Path:
        """One folder of shards per encoder and fingerprint."""
        return self.root / "cache"

    @property
    def manifests(self) -> Path:
        """One CSV per dataset."""
        return self.root / "manifests"

    @property
    def runs(self) -> Path:
        """One folder per comparison."""
        return self.root / "runs"

    @property
    def models(self) -> Path:
        """One folder per fitted head."""
        return self.root / "models"

    def manifest(self, dataset: str) -> Path:
        """The manifest of one dataset."""
        return self.manifests / f"{dataset}.csv"

    def keys(self, dataset: str) -> Path:
        """The remembered content keys of one dataset's files."""
        return self.manifests / f"{dataset}.keys.json"


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[str]]:
    """Write a file that is complete or absent: a temporary neighbour, flushed and synced, then renamed.

    Raises SerError where the folder cannot be written or the disk is full; the old file then stays as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        encoding = None if "b" in mode else "utf-8"
        newline = None if "b" in mode else ""
        with NamedTemporaryFile(
            mode,
            dir=path.parent,
            prefix=f".{path.name}.",
            suffix=".part",
            delete=False,
            encoding=encoding,
            newline=newline,
        ) as part:
            try:
                yield part
                part.flush()
                os.fsync(part.fileno())
                Path(part.name).replace(path)
            except BaseException:
                with suppress(OSError):
                    Path(part.name).unlink()
                raise
    except OSError as error:
        raise SerError(
            f"cannot write {path}: {error.strerror or error}. Free space or choose another folder with --artifacts."
        ) from error
