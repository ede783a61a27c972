"""Task: the vectors, labels and speakers that heads are fitted on; made from a store, a manifest and a view."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache import Artifacts, DataError, EmbeddingStore, EncoderInfo, Manifest, UnknownName, find_stores

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

        Raises UnknownName, DataError or StoreError where it is not extracted, or not all of it.
        """
        place = artifacts if isinstance(artifacts, Artifacts) else Artifacts.at(artifacts)
        manifest = load_manifest(place, dataset)
        used = manifest.usable
        keys = [clip.key for clip in used]
        store = _store(place, manifest.dataset, keys, encoder, view)
        X = store.read(keys, view)
        return cls(
            X=X.reshape(len(X), -1),
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


def _store(place: Artifacts, dataset: str, keys: list[str], encoder: str | None, view: str) -> EmbeddingStore:
    """The one store that was asked for and has every clip."""
    stores = find_stores(place.cache, encoder)
    whole = [store for store in stores if not store.missing(keys, [view])]
    if len(whole) == 1:
        return whole[0]
    if whole:
        names = ", ".join(store.folder.name for store in whole)
        raise DataError(f"several encoders have {dataset}: {names}. Pick one with --encoder.")
    have = "; ".join(f"{store.folder.name} has '{view}' of {_count(store, keys, view)}" for store in stores)
    raise DataError(
        f"{dataset}: no encoder has all {len(keys)} clips ({have or 'the cache is empty'}). Run `ser extract` for "
        "that encoder again, as before: it adds what is missing."
    )


def _count(store: EmbeddingStore, keys: list[str], view: str) -> int:
    lacking = set(store.missing(keys, [view]))
    return sum(key not in lacking for key in keys)


def _called(store: EmbeddingStore) -> str:
    """The encoder's name, or its folder's where others go by the same name: one name a fingerprint."""
    name = store.folder.name.rpartition("-")[0]
    namesakes = [f for f in store.folder.parent.glob(f"{name}-*") if f.name.rpartition("-")[0] == name]
    return store.info.name if len(namesakes) == 1 else store.folder.name
