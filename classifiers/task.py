"""Task: the vectors, labels and speakers that heads are fitted on; made from a store, a manifest and a view."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache import Artifacts, DataError, EmbeddingStore, Manifest, UnknownName, find_stores
from embedcache.keys import SKIPPED

Strings = NDArray[np.str_]


@dataclass(frozen=True)
class Task:
    """What is fitted. Only X, y and speakers are needed; the rest says where they come from.

    X (n, n_layers * dim) float32, layers in order; y, speakers and clip_ids (n,) strings. `keys` and `texts` (n,) let
    the leak guard see identical audio and shared sentences; "" is unknown.
    """

    X: NDArray[np.float32]
    y: Strings
    speakers: Strings
    clip_ids: Strings | None = None
    keys: Strings | None = None
    texts: Strings | None = None
    dataset: str = ""
    encoder: str = ""
    fingerprint: str = ""
    view: str = "pooled"
    n_layers: int = 1
    n_frames: int = 1
    skipped: tuple[str, ...] = ()  # ids of clips that have no vector

    def __post_init__(self) -> None:
        """Raises DataError unless all columns have a row a clip."""
        for name in ("y", "speakers", "clip_ids", "keys", "texts"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.X):
                raise DataError(f"{name} has {len(column)} rows, X has {len(self.X)}; wanted one a clip in both.")

    @classmethod
    def load(
        cls,
        dataset: str | None = None,
        encoder: str | None = None,
        view: str = "pooled",
        artifacts: Artifacts | str | Path | None = None,
    ) -> Task:
        """The task of one extracted dataset and encoder; each may be left out where there is only one.

        Raises UnknownName, DataError or StoreError where it is not extracted, or not all of it.
        """
        place = artifacts if isinstance(artifacts, Artifacts) else Artifacts.at(artifacts)
        manifest = load_manifest(place, dataset)
        used = [clip for clip in manifest.clips if SKIPPED not in clip.extra]
        store = _store(place, manifest.dataset, [clip.key for clip in used], encoder, view)
        X = store.read([clip.key for clip in used], view)
        return cls(
            X=X.reshape(len(X), -1),
            y=np.array([clip.label for clip in used]),
            speakers=np.array([clip.speaker for clip in used]),
            clip_ids=np.array([clip.clip_id for clip in used]),
            keys=np.array([clip.key for clip in used]),
            texts=np.array([clip.extra.get("text", "") for clip in used]),
            dataset=manifest.dataset,
            encoder=store.info.name,
            fingerprint=store.info.fingerprint,
            view=view,
            n_layers=store.info.n_layers if view == "layers" else 1,
            skipped=tuple(clip.clip_id for clip in manifest.clips if SKIPPED in clip.extra),
        )

    def __len__(self) -> int:
        return len(self.X)

    @property
    def labels(self) -> tuple[str, ...]:
        """The distinct labels, sorted: the order of every head's columns."""
        return tuple(sorted(set(self.y.tolist())))

    @property
    def ids(self) -> Strings:
        """The clip ids, or row numbers where there are none."""
        return self.clip_ids if self.clip_ids is not None else np.arange(len(self)).astype(str)

    def to_view(self, view: str) -> Task:
        """The same clips in the view that a head reads: `pooled` is the last of `layers`. Raises DataError."""
        if view == self.view:
            return self
        if (self.view, view) == ("layers", "pooled"):
            last = np.ascontiguousarray(self.X.reshape(len(self), self.n_layers, -1)[:, -1])
            return replace(self, X=last, view="pooled", n_layers=1)
        raise DataError(f"this task has the view '{self.view}', the head reads '{view}'. Load it with view='{view}'.")


def load_manifest(artifacts: Artifacts, dataset: str | None = None) -> Manifest:
    """One extracted manifest by name; `folder` finds `folder-…`. Raises UnknownName or DataError."""
    have = sorted(path.stem for path in artifacts.manifests.glob("*.csv"))
    if not have:
        raise DataError(f"{artifacts.root}: nothing is extracted there. Run `ser extract --dataset … --root …` first.")
    matches = [name for name in have if dataset in (None, name)]
    matches = matches or [name for name in have if name.startswith(f"{dataset}-") and dataset == "folder"]
    if not matches:
        raise UnknownName("extracted dataset", str(dataset), have, f"Run `ser extract --dataset {dataset}` first")
    if len(matches) > 1:
        raise DataError(f"several datasets are extracted: {', '.join(matches)}. Pick one with --dataset.")
    return Manifest.from_csv(artifacts.manifest(matches[0]))


def encoders_of(artifacts: Artifacts, dataset: str | None = None) -> list[str]:
    """The encoders whose vectors of all of a dataset's clips are stored, by name or, where two share one, by folder."""
    manifest = load_manifest(artifacts, dataset)
    keys = [clip.key for clip in manifest.clips if SKIPPED not in clip.extra]
    whole = [store for store in find_stores(artifacts.cache) if not store.missing(keys, ["pooled"])]
    names = [store.info.name for store in whole]
    return [s.folder.name if names.count(s.info.name) > 1 else s.info.name for s in whole]


def _store(place: Artifacts, dataset: str, keys: list[str], encoder: str | None, view: str) -> EmbeddingStore:
    """The one store that was asked for and has every clip."""
    stores = find_stores(place.cache, encoder)
    whole = [store for store in stores if not store.missing(keys, [view])]
    if len(whole) == 1:
        return whole[0]
    if whole:
        names = ", ".join(store.folder.name for store in whole)
        raise DataError(f"several encoders have {dataset}: {names}. Pick one with --encoder.")
    have = "; ".join(
        f"{store.folder.name} has '{view}' of {len(keys) - len(store.missing(keys, [view]))}" for store in stores
    )
    asked = f" --encoder {encoder}" if encoder else ""
    raise DataError(
        f"{dataset}: no encoder has all {len(keys)} clips ({have or 'the cache is empty'}). "
        f"Run `ser extract --dataset {dataset}{asked}`: it adds what is missing."
    )
