"""Read the embeddings of clips from the store that has them: as an array, or as rows of a file if they are large.

`a+b` names two encoders, whose embeddings stand side by side in one row. The order is that of their names, so that
`b+a` is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from embedcache import Artifacts, ConfigError, DataError, EmbeddingStore, UnknownName, find_stores
from embedcache.cache.store import count_missing, whole_store
from embedcache.encoder import is_ragged

from .memmap import Floats, Matrix, is_large, write_rows
from .views import (
    DEFAULT_N_FRAMES,
    MAX_VALUES_PER_LAYER,
    N_FRAMES,
    check_joinable,
    check_view,
    joined_rows,
    layers_in,
)

BYTES_PER_READ = 2**26  # bytes of X read from a store at a time on their way to a file: about one shard


@dataclass(frozen=True)
class StoredVectors:
    """The embeddings of some keys in one view."""

    X: Matrix  # (n, n_layers * n_frames * dim)
    view: str  # `frames:all` is replaced by the stored layers, such as `frames:3+frames:6`, if some are missing
    n_layers: int
    n_frames: int


def encoders_in(artifacts: Artifacts, encoder: str | None) -> list[str | None]:
    """Return the names of the encoders that `encoder` joins by `+`, or `encoder` alone if it joins none.

    The name of one encoder may contain a +, since it may be that of a checkpoint's folder. Raises ConfigError if it is
    unclear whether one encoder or several are meant.
    """
    names = (encoder or "").split("+")
    if encoder is None or len(names) < 2:
        return [encoder]
    is_one = _is_extracted(artifacts, encoder)
    parts = ("+".join(names[i:j]) for i, j in combinations(range(len(names) + 1), 2) if 1 < j - i < len(names))
    is_unclear = "" in names or any(_is_extracted(artifacts, part) for part in parts)
    if all(_is_extracted(artifacts, name) for name in names) if is_one else is_unclear:
        raise ConfigError(
            f"got --encoder {encoder}; wanted the names of encoders joined by +. If the + is part of a name, use the "
            "name of the store instead, which `ser cache ls` lists."
        )
    return [encoder] if is_one else [*names]


def _is_extracted(artifacts: Artifacts, encoder: str) -> bool:
    try:
        return bool(find_stores(artifacts.cache, encoder))
    except UnknownName:
        return False


def find_joined_stores(
    artifacts: Artifacts, dataset: str, keys: Sequence[str], encoder: str | None, view: str, copies: int = 0
) -> tuple[list[EmbeddingStore], NDArray[np.bool_]]:
    """Return the store of each encoder that `encoder` names, in the order of their names, and which keys all have (n,).

    Raises as `find_store`; ConfigError if an encoder is named twice, and DataError if the view cannot be joined.
    """
    names = encoders_in(artifacts, encoder)
    if len(names) > 1:
        check_view(view)
        check_joinable(view, str(encoder))
    found = [find_store(artifacts, dataset, keys, name, view, copies) for name in names]
    found.sort(key=lambda pair: (pair[0].info.name, pair[0].info.fingerprint))
    stores = [store for store, _ in found]
    if len({store.info.fingerprint for store in stores}) < len(stores):
        twice = " and ".join(store.folder.name for store in stores)
        raise ConfigError(f"got --encoder {encoder}, which names an encoder twice ({twice}); wanted each once.")
    return stores, np.logical_and.reduce([has_vector for _, has_vector in found])


def find_store(
    artifacts: Artifacts, dataset: str, keys: Sequence[str], encoder: str | None, view: str, copies: int = 0
) -> tuple[EmbeddingStore, NDArray[np.bool_]]:
    """Return the only store that has a view of all keys, and (n,) True.

    If there is none, an imported store may have the view of some keys, and the array says of which: nobody can add the
    others, as `ser extract` would. `dataset` names the keys in messages; with `copies`, all keys are needed. Raises
    UnknownName, DataError or StoreError as `Task.load` does.
    """
    check_view(view)
    views = view.split("+")
    try:
        return whole_store(artifacts.cache, dataset, keys, encoder, views), np.ones(len(keys), bool)
    except DataError:
        partial = [] if copies else [s for s in find_stores(artifacts.cache, encoder) if _is_partial(s, keys, views)]
        if len(partial) != 1:
            raise
    missing = set(partial[0].missing(keys, views))
    return partial[0], np.array([key not in missing for key in keys])


def _is_partial(store: EmbeddingStore, keys: Sequence[str], views: Sequence[str]) -> bool:
    """Whether a store is imported, and has some of the keys, but not all."""
    return store.info.is_imported and 0 < count_missing(store, keys, views) < len(keys)


def read_vectors(
    artifacts: Artifacts, stores: Sequence[EmbeddingStore], keys: list[str], view: str, frames: int | None
) -> StoredVectors:
    """Return the embeddings of all keys in a view from stores that have them. Those of several stores are one layer.

    `frames` is the number of frames per clip in a view of frames; None takes the default of the encoder. Raises
    DataError or StoreError as `Task.load` does.
    """
    if len(stores) > 1:
        return StoredVectors(_read_matrix(stores, keys, view.split("+"), 1, artifacts), view, 1, 1)
    (store,) = stores
    parts = [part for name in view.split("+") for part in store.stored_names(name)]
    n_layers = layers_in(parts, store.info.n_layers)
    n_frames = (frames or N_FRAMES.get(store.info.name, DEFAULT_N_FRAMES)) if is_ragged(view) else 1
    dim = store.rows(keys[:1], parts[0]).values.shape[1] if is_ragged(view) else 0  # type: ignore[union-attr]
    if n_frames * dim > MAX_VALUES_PER_LAYER:
        raise DataError(
            f"got --frames {n_frames}; wanted at most {MAX_VALUES_PER_LAYER // dim:,} frames of {dim} values each. "
            "Ask for fewer frames."
        )
    stored_view = "+".join(parts) if view == "frames:all" and n_layers < store.info.n_layers else view
    return StoredVectors(_read_matrix(stores, keys, parts, n_frames, artifacts), stored_view, n_layers, n_frames)


def _read_matrix(
    stores: Sequence[EmbeddingStore], keys: list[str], parts: Sequence[str], n_frames: int, artifacts: Artifacts
) -> Matrix:
    """Return (n, layers * frames * dim): an array, or rows of a scratch file above `memmap.IN_MEMORY` bytes."""

    def read(some: list[str]) -> Floats:
        return joined_rows([{part: store.rows(some, part) for part in parts} for store in stores], parts, n_frames)

    width = read(keys[:1]).shape[1]
    if not is_large(4 * len(keys) * width):
        return read(keys)
    step = max(1, BYTES_PER_READ // (4 * width))
    blocks = (read(keys[i : i + step]) for i in range(0, len(keys), step))
    return write_rows(artifacts.root / "scratch", (len(keys), width), blocks)


def encoder_name(store: EmbeddingStore) -> str:
    """Return the name of the encoder of a store, or the name of the store's folder if several encoders share the name.

    Thus encoders with different fingerprints never have the same name.
    """
    name = store.folder.name.rpartition("-")[0]
    namesakes = [f for f in store.folder.parent.glob(f"{name}-*") if f.name.rpartition("-")[0] == name]
    return store.info.name if len(namesakes) == 1 else store.folder.name
