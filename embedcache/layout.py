"""Where things lie in the output folder. Files are the only interface between the stages; these are their names."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

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
    def encoders(self) -> Path:
        """What is known of encoders without loading them."""
        return self.cache / "encoders.json"

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

    @property
    def checkpoints(self) -> Path:
        """One folder per fine-tuned encoder, or per protocol, with a folder a fold."""
        return self.root / "checkpoints"

    def manifest(self, dataset: str) -> Path:
        """The manifest of one dataset."""
        return self.manifests / f"{dataset}.csv"

    def copies(self, dataset: str) -> Path:
        """The transformed copies of one dataset's clips, as its last `ser extract --augment` stored them: a manifest.

        It lies beside the manifests' folder, not in it, where each CSV is a dataset.
        """
        return self.root / "copies" / f"{dataset}.csv"

    @property
    def lists(self) -> list[Path]:
        """Every CSV of clips that there is: manifests, then copies."""
        return [path for folder in (self.manifests, self.root / "copies") for path in sorted(folder.glob("*.csv"))]

    def keys(self, dataset: str) -> Path:
        """The remembered content keys of one dataset's files."""
        return self.manifests / f"{dataset}.keys.json"


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
