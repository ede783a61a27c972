"""EmbeddingStore: a folder of shards that all hold vectors of one encoder fingerprint.

A store has no index file, only shards. Opening a store reads the headers of its shards, the first lookup reads
their keys, and only `read` reads vectors. Two writers write two shards; if both wrote the same row, the two rows are
equal. The `.part` files of a killed writer are ignored. Another process may merge shards at any time (see
`maintenance.compact`): if a shard vanishes while a store reads it, its rows are looked up anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ..encoder import FRAMES, VIEWS, EncoderInfo, Frames, Rows, Vectors, is_ragged
from ..encoders.hub import name_of
from ..errors import DataError, StoreError, UnknownName
from .key_index import ABSENT, Index, Keys, pack, unpack
from .shard import SUFFIX, Numbers, Result, Shard, VanishedShard, open_shards, retry_vanished, write_shard


class EmbeddingStore:
    """The vectors of one encoder, by content key.

    `folder` is `<cache>/<encoder>-<first 12 digits of the fingerprint>`. Raises StoreError if a shard is damaged,
    foreign, of another format version or of another fingerprint.
    """

    def __init__(self, folder: str | Path, info: EncoderInfo | None = None) -> None:
        self.folder = Path(folder)
        self._info = info
        self._shards: list[Shard] = []
        self._cached_index: Index | None = None
        self.refresh()

    @classmethod
    def of(cls, cache: str | Path, info: EncoderInfo) -> EmbeddingStore:
        """Return the store of one encoder in a cache folder; the store need not exist yet."""
        return cls(Path(cache) / f"{slug(info.name)}-{info.fingerprint[:12]}", info)

    @property
    def info(self) -> EncoderInfo:
        """The encoder that made the vectors. Raises StoreError for a folder without shards."""
        if self._info is None:
            raise StoreError(f"{self.folder}: holds no shards. Run `ser extract` first.")
        return self._info

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The headers of the shards, sorted by file name."""
        return tuple(self._shards)

    @property
    def keys(self) -> set[str]:
        """Every key that has at least one view."""
        return set(unpack(self.index.keys))

    @property
    def index(self) -> Index:
        """The shard and row of each key; the keys of the shards are read at the first access."""
        return self._retry(self._index)

    def missing(self, keys: Iterable[str], views: Iterable[str] = VIEWS) -> list[str]:
        """Return the distinct keys, in order, that lack a vector in at least one of the views."""
        distinct = list(dict.fromkeys(keys))
        packed, lacking = pack(distinct), np.zeros(len(distinct), bool)
        for name in (name for view in views for name in self.stored_names(view)):
            lacking |= self.index.find(packed, name)[:, 0] == ABSENT
        return [distinct[number] for number in np.flatnonzero(lacking)]

    @property
    def views(self) -> tuple[str, ...]:
        """Every view that at least one shard holds, sorted."""
        return tuple(sorted({view for shard in self._shards for view in shard.views}))

    def stored_names(self, view: str) -> tuple[str, ...]:
        """Return the names under which a view is stored.

        `frames` is the last layer's `frames:N`. `frames:all` is every `frames:N` that the store holds, or that of every
        layer if the store holds none. Any other view is stored under its own name.
        """
        if view not in (FRAMES, f"{FRAMES}:all"):
            return (view,)
        layers = [f"{FRAMES}:{layer}" for layer in range(self.info.n_layers)]
        if view == FRAMES:
            return (layers[-1],)
        return tuple([name for name in layers if name in self.views] or layers)

    def read(self, keys: Sequence[str], view: str) -> Vectors:
        """Return one row for each key, in order: `pooled` (n, dim), `layers` and `std` (n, n_layers, dim).

        Takes a few megabytes of memory in addition to the result. Raises StoreError if a key has no vector or its row
        is damaged, and for `frames:N`, which `read_frames` reads.
        """
        if is_ragged(view):
            raise StoreError(f"'{view}' has rows of different lengths. Use read_frames(keys, layer).")
        return self._retry(lambda: self._read(keys, view))

    def read_frames(self, keys: Sequence[str], layer: int = -1) -> Frames:
        """Return the frames of one layer for each key, in order: (T, dim) float16 each.

        A negative `layer` counts from the last. Raises StoreError as `read` does, and for a layer that does not exist.
        """
        n_layers = self.info.n_layers
        if not -n_layers <= layer < n_layers:
            raise StoreError(f"{self.folder.name}: got layer {layer}; wanted 0 to {n_layers - 1}.")
        return self._retry(lambda: self._read_frames(keys, f"{FRAMES}:{layer % n_layers}"))

    def rows(self, keys: Sequence[str], view: str) -> Rows:
        """Return one row for each key, in order, of any view by its stored name, ragged or not."""
        return self._retry(lambda: (self._read_frames if is_ragged(view) else self._read)(keys, view))

    def write(self, keys: Sequence[str], rows: Mapping[str, Rows]) -> Path:
        """Commit rows as one new shard, and return its path. Raises StoreError if the shard cannot be written."""
        path = write_shard(self.folder, self.info, keys, rows)
        try:
            self._add(Shard.open(path))
        except VanishedShard:  # another process has merged it already
            self.refresh()
        return path

    def verify(self) -> list[str]:
        """Check every checksum of every open shard, and return the complaints. See `maintenance.verify`."""
        return [complaint for shard in self._shards for complaint in shard.verify()]

    def refresh(self) -> None:
        """List the folder again, to find the shards that other processes have written since."""
        shards, faults = open_shards(self.folder, self._shards)
        if faults:
            raise faults[0][1]
        self._shards, self._cached_index = [], None
        for shard in shards:
            self._add(shard)

    def _read(self, keys: Sequence[str], view: str) -> Vectors:
        places = list(self._places(keys, view))
        shape = (self.info.dim,) if view == "pooled" else (self.info.n_layers, self.info.dim)
        result = np.empty((len(keys), *shape), dtype=np.float32)
        for shard, rows, shard_keys, positions in places:
            shard.read(view, rows, shard_keys, out=result, positions=positions)
        return result

    def _read_frames(self, keys: Sequence[str], view: str) -> Frames:
        places = list(self._places(keys, view))
        if not places:
            return Frames.of(np.empty((0, self.info.dim), np.float16), [])
        parts = [cast(Frames, shard.take(view, rows, shard_keys)) for shard, rows, shard_keys, _ in places]
        order = np.argsort(np.concatenate([positions for *_, positions in places]))
        return Frames.join(parts).take(order)

    def _places(self, keys: Sequence[str], view: str) -> Iterator[tuple[Shard, Numbers, Keys, NDArray[np.int64]]]:
        """Yield each shard that holds some of the keys, with its rows, their keys, and their positions in `keys`.

        For example, if shard 0 holds the keys a and c in its rows 5 and 6, and shard 1 holds b in its row 2, then the
        keys a, b, c yield (shard 0, rows [5, 6], keys [a, c], positions [0, 2]) and (shard 1, [2], [b], [1]).
        """
        packed = pack(keys)
        places = self._index().find(packed, view).astype(np.int64)
        if absent := int((places[:, 0] == ABSENT).sum()):
            raise StoreError(
                f"{self.folder.name}: no '{view}' vectors for {absent} of {len(keys)} clips. "
                f"Run `ser extract{'' if view in VIEWS else f' --views {view}'}`."
            )
        order = np.argsort(places[:, 0], kind="stable")
        numbers, begins = np.unique(places[order, 0], return_index=True)
        for number, positions in zip(numbers, np.split(order, begins)[1:], strict=True):
            yield self._shards[number], places[positions, 1], packed[positions], positions

    def _index(self) -> Index:
        if self._cached_index is None:
            self._cached_index = Index.of([(shard.keys(), tuple(shard.views)) for shard in self._shards])
        return self._cached_index

    def _retry(self, action: Callable[[], Result]) -> Result:
        """Return the result of `action`; whenever a shard vanishes, the store is refreshed and `action` runs again."""

        def attempt() -> Result:
            try:
                return action()
            except VanishedShard:
                self.refresh()
                raise

        return retry_vanished(self.folder, attempt)

    def _add(self, shard: Shard) -> None:
        if self._info is None:
            self._info = shard.info
        if shard.info.fingerprint != self._info.fingerprint:
            raise StoreError(
                f"{shard.path}: holds vectors of {shard.info.name} {shard.info.fingerprint[:12]}, its folder those of "
                f"{self._info.name} {self._info.fingerprint[:12]}. Move it into a folder of its own."
            )
        self._shards.append(shard)
        self._cached_index = None


def slug(name: str) -> str:
    """Return a name without separators, as part of a folder's name."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-")


def find_stores(cache: str | Path, encoder: str | None = None) -> list[EmbeddingStore]:
    """Return the stores in a cache folder, by default all.

    `encoder` selects stores by the encoder's name, by its checkpoint (a folder, or a hub id with the revision that was
    asked for) or by the store's folder name. Raises UnknownName if there is no such store.
    """
    folders = store_folders(cache)
    if encoder is None:
        return [EmbeddingStore(folder) for folder in folders]
    # A store's folder name starts with the name of its encoder, so only these stores are opened: a fault in the store
    # of another encoder does no harm.
    checkpoint = str(Path(encoder).resolve()) if Path(encoder).is_dir() else encoder
    name = slug(name_of(checkpoint))
    named = [EmbeddingStore(folder) for folder in folders if folder.name.startswith(name)]
    found = [s for s in named if encoder == s.info.name or checkpoint == s.info.checkpoint or s.folder.name == name]
    if not found:
        have = {folder.name.rpartition("-")[0] for folder in folders}
        raise UnknownName("extracted encoder", encoder, have, f"Run `ser extract --encoder {encoder}` first")
    return found


def whole_store(
    cache: str | Path, dataset: str, keys: Sequence[str], encoder: str | None = None, views: Sequence[str] = VIEWS
) -> EmbeddingStore:
    """Return the only store that holds these views of every key, among all stores or those of `encoder`.

    `dataset` is the name of the keys' dataset, for messages. Raises UnknownName or DataError if no store holds them
    all, or more than one.
    """
    stores = find_stores(cache, encoder)
    counts = [count_missing(store, keys, views) for store in stores]
    whole = [store for store, count in zip(stores, counts, strict=True) if not count]
    if len(whole) == 1:
        return whole[0]
    if whole:
        names = ", ".join(store.folder.name for store in whole)
        raise DataError(f"several encoders have vectors of {dataset}: {names}. Choose one with --encoder.")
    have = "; ".join(f"{store.folder.name} lacks {count}" for store, count in zip(stores, counts, strict=True))
    option = "" if set(views) <= set(VIEWS) else f" with --views {','.join(views)}"
    again = f"Run `ser extract` for that encoder again{option}: it adds what is missing."
    if stores and all(store.info.is_imported for store in stores):
        again = "These vectors were imported. Import a file that holds what is missing."
    raise DataError(
        f"{dataset}: no encoder has {' and '.join(views)} of all {len(keys)} clips ({have or 'the cache is empty'}). "
        f"{again}"
    )


def count_missing(store: EmbeddingStore, keys: Sequence[str], views: Sequence[str]) -> int:
    """Return the number of keys that lack a view; a key that is given twice counts twice."""
    missing = set(store.missing(keys, views))
    return sum(key in missing for key in keys)


def store_folders(cache: str | Path) -> list[Path]:
    """Return the folders in a cache that hold shards, sound or damaged; of several links to a folder, the first."""
    folders = sorted({path.parent for path in Path(cache).glob(f"*/*{SUFFIX}")}, reverse=True)
    return sorted({folder.resolve(): folder for folder in folders}.values())
