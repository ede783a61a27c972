"""Task: the vectors, labels and speakers that heads are fitted on; made from a store, a manifest and a view."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache import Artifacts, DataError, EmbeddingStore, EncoderInfo, Manifest, UnknownName, find_stores
from embedcache.store import whole_store

from .mapped import MappedRows, Matrix, write_rows

Strings = NDArray[np.str_]

# Bytes of X that are held in memory. A comparison in two processes holds it six times over: as the task, as the copy
# that both read, and in each its training rows and those scaled. With the libraries that is a machine of 8 GB.
IN_MEMORY = 2**30

STREAMED = 2**26  # bytes of X that are read from a store at once on their way to a file: about a shard


@dataclass(frozen=True)
class Task:
    """What is fitted. Only X, y and speakers are needed; the rest says where they come from.

    X (n, n_layers * dim) float32, layers in order; y, speakers and clip_ids (n,) strings. `keys` and `texts` (n,) let
    the leak guard see identical audio and shared sentences; "" is unknown. Where `load` finds more than `IN_MEMORY`
    bytes, X is `MappedRows` on a scratch file that goes with the last task on it.
    """

    X: Matrix
    y: Strings
    speakers: Strings
    clip_ids: Strings | None = None
    keys: Strings | None = None
    texts: Strings | None = None
    dataset: str = ""
    encoder: str = ""
    encoder_info: EncoderInfo | None = None  # what made X
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

        Raises UnknownName, DataError or StoreError where it is not extracted, or not all of it; DataError where it is
        larger than `IN_MEMORY` and the output folder has no room for it once more.
        """
        place = artifacts if isinstance(artifacts, Artifacts) else Artifacts.at(artifacts)
        manifest = load_manifest(place, dataset)
        used = manifest.usable
        keys = [clip.key for clip in used]
        store = whole_store(place.cache, manifest.dataset, keys, encoder, [view])
        return cls(
            X=_vectors(store, keys, view, place),
            y=np.array([clip.label for clip in used]),
            speakers=np.array([clip.speaker for clip in used]),
            clip_ids=np.array([clip.clip_id for clip in used]),
            keys=np.array(keys),
            texts=np.array([clip.extra.get("text", "") for clip in used]),
            dataset=manifest.dataset,
            encoder=_called(store),
            encoder_info=store.info,
            view=view,
            n_layers=1 if view == "pooled" else store.info.n_layers,
            skipped=tuple(clip.clip_id for clip in manifest.skipped),
        )

    @property
    def fingerprint(self) -> str:
        """The encoder's, or "" where X comes from elsewhere."""
        return self.encoder_info.fingerprint if self.encoder_info else ""

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
            last = self.X[:, -(self.X.shape[1] // self.n_layers) :]
            mapped = isinstance(last, MappedRows) and last.nbytes > IN_MEMORY
            return replace(self, X=last if mapped else np.ascontiguousarray(last), view="pooled", n_layers=1)
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
    manifest = Manifest.from_csv(artifacts.manifest(matches[0]))
    if manifest.dataset != matches[0]:
        raise DataError(
            f"{artifacts.manifest(matches[0])}: its rows name the dataset '{manifest.dataset}'; wanted '{matches[0]}'."
        )
    if blank := [clip.clip_id for clip in manifest.usable if not clip.key]:
        raise DataError(f"{artifacts.manifest(matches[0])}: {blank[0]} has no key. Run `ser extract` again.")
    return manifest


def encoders_of(artifacts: Artifacts, dataset: str | None = None) -> tuple[list[str], list[str]]:
    """The encoders whose vectors of all of a dataset's clips are stored, and a sentence on each that has only some."""
    manifest = load_manifest(artifacts, dataset)
    keys = [clip.key for clip in manifest.usable]
    whole, notes = [], []
    for store in find_stores(artifacts.cache):
        has = _count(store, keys, "pooled")
        if has == len(keys):
            whole.append(store.folder.name)
        elif has:
            notes.append(
                f"{store.folder.name} has {has} of the {len(keys)} clips of {manifest.dataset}, and is left out"
            )
    return whole, notes


def _vectors(store: EmbeddingStore, keys: list[str], view: str, place: Artifacts) -> Matrix:
    """(n, n_layers * dim): an array, or rows of a file where they are more than `IN_MEMORY` bytes."""
    width = store.info.dim * (1 if view == "pooled" else store.info.n_layers)
    if 4 * len(keys) * width <= IN_MEMORY:
        X = store.read(keys, view)
        return X.reshape(len(X), -1)
    step = max(1, STREAMED // (4 * width))
    made = (store.read(keys[i : i + step], view).reshape(-1, width) for i in range(0, len(keys), step))
    return write_rows(place.root / "scratch", (len(keys), width), made)


def _count(store: EmbeddingStore, keys: list[str], view: str) -> int:
    lacking = set(store.missing(keys, [view]))
    return sum(key not in lacking for key in keys)


def _called(store: EmbeddingStore) -> str:
    """The encoder's name, or its folder's where others go by the same name: one name a fingerprint."""
    name = store.folder.name.rpartition("-")[0]
    namesakes = [f for f in store.folder.parent.glob(f"{name}-*") if f.name.rpartition("-")[0] == name]
    return store.info.name if len(namesakes) == 1 else store.folder.name
