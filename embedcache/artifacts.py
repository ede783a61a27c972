"""Paths of the files in the output folder. Files are the only interface between the two stages."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Artifacts:
    """The output folder and the paths of the files in it."""

    root: Path

    @classmethod
    def at(cls, root: str | Path | None = None) -> Artifacts:
        """Return the output folder at `root`; the default is `$SER_ARTIFACTS`, or else `artifacts`."""
        return cls(Path(root or os.environ.get("SER_ARTIFACTS") or "artifacts"))

    @property
    def cache(self) -> Path:
        """The folder of the stores. A store is a folder of shards for one encoder fingerprint."""
        return self.root / "cache"

    @property
    def encoders(self) -> Path:
        """The JSON file that holds facts about encoders, so that they are available without loading an encoder."""
        return self.cache / "encoders.json"

    @property
    def manifests(self) -> Path:
        """The folder of the manifests, one CSV file for each dataset."""
        return self.root / "manifests"

    @property
    def runs(self) -> Path:
        """The folder of the runs, one folder for each comparison."""
        return self.root / "runs"

    @property
    def models(self) -> Path:
        """The folder of the saved models, one folder for each fitted head."""
        return self.root / "models"

    @property
    def checkpoints(self) -> Path:
        """The folder of the fine-tuned checkpoints.

        It holds one folder for each fine-tuned encoder, or one for each protocol with a subfolder for each fold.
        """
        return self.root / "checkpoints"

    def manifest(self, dataset: str) -> Path:
        """Return the path of the manifest of a dataset."""
        return self.manifests / f"{dataset}.csv"

    def copies(self, dataset: str) -> Path:
        """Return the path of the manifest that lists the augmented copies of a dataset's clips.

        The file holds the copies that the last `ser extract --augment` stored. It is not in the folder of the
        manifests, because each CSV file there is a dataset.
        """
        return self.root / "copies" / f"{dataset}.csv"

    def skipped(self, dataset: str) -> Path:
        """Return the path of the CSV file that lists the clips of a dataset which the last `ser extract` skipped.

        There is no such file if none was skipped. It is not in the folder of the manifests, because each CSV file there
        is a dataset.
        """
        return self.root / "skipped" / f"{dataset}.csv"

    @property
    def manifest_paths(self) -> list[Path]:
        """The paths of all manifests that exist, first those of datasets, then those of augmented copies."""
        return [path for folder in (self.manifests, self.root / "copies") for path in sorted(folder.glob("*.csv"))]

    def keys(self, dataset: str) -> Path:
        """Return the path of the JSON file that stores the content keys of a dataset's files."""
        return self.manifests / f"{dataset}.keys.json"
