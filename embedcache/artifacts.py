"""Where things lie in the output folder. Files are the only interface between the stages; these are their names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


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
