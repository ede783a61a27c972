"""The vectors of clips, read from the one store that has them: an array, or a file where they are many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from embedcache import Artifacts, DataError, EmbeddingStore
from embedcache.cache.store import whole_store
from embedcache.encoder import is_ragged

from .memmap import Floats, Matrix, is_large, write_rows
from .views import MOST_NUMBERS, N_FRAMES, OTHERS, check_view, layers_in, rows_of

STREAMED = 2**26  # bytes of X that are read from a store at once on their way to a file: about a shard


@dataclass(frozen=True)
class StoredVectors:
    """What a store has of some keys, in a view."""

    X: Matrix
    store: EmbeddingStore
    view: str  # `frames:all` of some layers alone is called by them
    n_layers: int
    n_frames: int


def read_vectors(
    place: Artifacts, named: str, keys: list[str], encoder: str | None, view: str, frames: int | None
) -> StoredVectors:
    """The view of every key, from the one store that has it. Raises as `Task.load` does."""
    check_view(view)
    store = whole_store(place.cache, named, keys, encoder, view.split("+"))
    parts = [part for name in view.split("+") for part in store.named(name)]
    n_layers = layers_in(parts, store.info.n_layers)
    n_frames = (frames or N_FRAMES.get(store.info.name, OTHERS)) if is_ragged(view) else 1
    dim = store.rows(keys[:1], parts[0]).values.shape[1] if is_ragged(view) else 0  # type: ignore[union-attr]
    if n_frames * dim > MOST_NUMBERS:
        most = f"at most {MOST_NUMBERS // dim:,} frames of {dim} numbers are read"
        raise DataError(f"--frames {n_frames}: {most}. Ask for fewer.")
    called = "+".join(parts) if view == "frames:all" and n_layers < store.info.n_layers else view
    return StoredVectors(_vectors(store, keys, parts, n_frames, place), store, called, n_layers, n_frames)


def _vectors(store: EmbeddingStore, keys: list[str], parts: Sequence[str], n_frames: int, place: Artifacts) -> Matrix:
    """(n, layers * frames * dim): an array, or rows of a file where they are more than `IN_MEMORY` bytes."""

    def read(some: list[str]) -> Floats:
        return rows_of({part: store.rows(some, part) for part in parts}, parts, n_frames)

    width = read(keys[:1]).shape[1]
    if not is_large(4 * len(keys) * width):
        return read(keys)
    step = max(1, STREAMED // (4 * width))
    made = (read(keys[i : i + step]) for i in range(0, len(keys), step))
    return write_rows(place.root / "scratch", (len(keys), width), made)


def encoder_called(store: EmbeddingStore) -> str:
    """The encoder's name, or its folder's where others go by the same name: one name a fingerprint."""
    name = store.folder.name.rpartition("-")[0]
    namesakes = [f for f in store.folder.parent.glob(f"{name}-*") if f.name.rpartition("-")[0] == name]
    return store.info.name if len(namesakes) == 1 else store.folder.name
