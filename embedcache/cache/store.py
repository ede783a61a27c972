"""EmbeddingStore: one folder of shards, all of one encoder fingerprint.

There is no index file: the shards are the truth. Opening a store reads their heads, the first question their keys,
and only `read` reads vectors. Two writers write two shards; a row that both wrote is the same row. `.part` files of a
killed writer are passed over. Shards may be merged by another process at any time (`upkeep.compact`): what vanishes
under a reader is looked up anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ..encoder import FRAMES, VIEWS, EncoderInfo, Frames, Rows, Vectors, is_ragged
from ..errors import DataError, StoreError, UnknownName
from .key_index import ABSENT, Index, Keys, pack, unpack
from .shard import SUFFIX, Numbers, Result, Shard, VanishedShard, open_shards, patiently, write_shard


class EmbeddingStore:
    """The vectors of one encoder, by content key.

    `folder` is `<cache>/<encoder>-<first 12 digits of the fingerprint>`. Raises StoreError where a shard is damaged,
    foreign, of another format version or of another fingerprint.
    """

    def __init__(self, folder: str | Path, info: EncoderInfo | None = None) -> None:
        self.folder = Path(folder)
        self._info = info
        self._shards: list[Shard] = []
        self._known: Index | None = None
        self.refresh()

    @classmethod
    def of(cls, cache: str | Path, info: EncoderInfo) -> EmbeddingStore:
        """The store of one encoder below a cache folder; it need not exist yet."""
        return cls(Path(cache) / f"{slug(info.name)}-{info.fingerprint[:12]}", info)

    @property
    def info(self) -> EncoderInfo:
        """What made the vectors. Raises StoreError for a folder without shards."""
        if self._info is None:
            raise StoreError(f"{self.folder}: holds no shards. Run `ser extract` first.")
        return self._info

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The heads of the shards, in the order of their names."""
        return tuple(self._shards)

    @property
    def keys(self) -> set[str]:
        """Every key that has at least one view."""
        return set(unpack(self.index.keys))

    @property
    def index(self) -> Index:
        """Where each row lies; read from the shards' keys when it is first asked for."""
        return self._again(self._index)

    def missing(self, keys: Iterable[str], views: Iterable[str] = VIEWS) -> list[str]:
        """The keys, each once and in order, that lack a vector in any of the views."""
        asked = list(dict.fromkeys(keys))
        packed, lacks = pack(asked), np.zeros(len(asked), bool)
        for stored in (name for view in views for name in self.named(view)):
            lacks |= self.index.find(packed, stored)[:, 0] == ABSENT
        return [asked[number] for number in np.flatnonzero(lacks)]

    @property
    def views(self) -> tuple[str, ...]:
        """Every view that a shard holds, of some keys at least, sorted."""
        return tuple(sorted({view for shard in self._shards for view in shard.views}))

    def named(self, view: str) -> tuple[str, ...]:
        """A view by its stored names: `frames` is the last layer's, `frames:all` all that are here, or could be."""
        if view not in (FRAMES, f"{FRAMES}:all"):
            return (view,)
        every = [f"{FRAMES}:{layer}" for layer in range(self.info.n_layers)]
        return tuple([name for name in every if name in self.views] or every) if view != FRAMES else (every[-1],)

    def read(self, keys: Sequence[str], view: str) -> Vectors:
        """One row a key, in order: `pooled` (n, dim), `layers` and `std` (n, n_layers, dim).

        Takes a few megabytes beside the result. Raises StoreError where a key has no vector or its row is damaged, and
        for `frames`: see `read_frames`.
        """
        if is_ragged(view):
            raise StoreError(f"'{view}' has rows of different lengths: they are read by read_frames(keys, layer).")
        return self._again(lambda: self._read(keys, view))

    def read_frames(self, keys: Sequence[str], layer: int = -1) -> Frames:
        """The frames of one layer, one clip a key, in order: (T, dim) float16 each. Raises StoreError as `read`."""
        n_layers = self.info.n_layers
        if not -n_layers <= layer < n_layers:
            raise StoreError(f"{self.folder.name}: has layers 0 to {n_layers - 1}; got {layer}.")
        return self._again(lambda: self._read_frames(keys, f"{FRAMES}:{layer % n_layers}"))

    def rows(self, keys: Sequence[str], view: str) -> Rows:
        """Rows of any view by its name, ragged or not."""
        return self._again(lambda: (self._read_frames if is_ragged(view) else self._read)(keys, view))

    def write(self, keys: Sequence[str], rows: Mapping[str, Rows]) -> None:
        """Commit rows as one new shard. Raises StoreError where it cannot be written."""
        path = write_shard(self.folder, self.info, keys, rows)
        try:
            self._add(Shard.open(path))
        except VanishedShard:  # merged by another process already
            self.refresh()

    def verify(self) -> list[str]:
        """Every checksum of every shard that was opened: the complaints, or an empty list. See `upkeep.verify`."""
        return [complaint for shard in self._shards for complaint in shard.verify()]

    def refresh(self) -> None:
        """Look through the folder again: what other processes have written since is found."""
        shards, faults = open_shards(self.folder, self._shards)
        if faults:
            raise faults[0][1]
        self._shards, self._known = [], None
        for shard in shards:
            self._add(shard)

    def _read(self, keys: Sequence[str], view: str) -> Vectors:
        places = list(self._places(keys, view))
        shape = (self.info.dim,) if view == "pooled" else (self.info.n_layers, self.info.dim)
        result = np.empty((len(keys), *shape), dtype=np.float32)
        for shard, rows, packed, here in places:
            shard.read(view, rows, packed, into=result, at=here)
        return result

    def _read_frames(self, keys: Sequence[str], view: str) -> Frames:
        places = list(self._places(keys, view))
        if not places:
            return Frames.of(np.empty((0, self.info.dim), np.float16), [])
        parts = [cast(Frames, shard.take(view, rows, packed)) for shard, rows, packed, _ in places]
        order = np.argsort(np.concatenate([here for *_, here in places]))
        return Frames.join(parts).take(order)

    def _places(self, keys: Sequence[str], view: str) -> Iterator[tuple[Shard, Numbers, Keys, NDArray[np.int64]]]:
        """Each shard that holds some of the keys: in which of its rows, for which keys, and which of all that is."""
        packed = pack(keys)
        places = self._index().find(packed, view).astype(np.int64)
        if absent := int((places[:, 0] == ABSENT).sum()):
            raise StoreError(
                f"{self.folder.name}: no '{view}' vectors for {absent} of {len(keys)} clips. "
                f"Run `ser extract{'' if view in VIEWS else f' --views {view}'}`."
            )
        order = np.argsort(places[:, 0], kind="stable")
        numbers, begins = np.unique(places[order, 0], return_index=True)
        for number, here in zip(numbers, np.split(order, begins)[1:], strict=True):
            yield self._shards[number], places[here, 1], packed[here], here

    def _index(self) -> Index:
        if self._known is None:
            self._known = Index.of([(shard.keys(), tuple(shard.views)) for shard in self._shards])
        return self._known

    def _again(self, action: Callable[[], Result]) -> Result:
        """The action's result; while shards vanish under it, the folder is looked through and it is done again."""

        def attempt() -> Result:
            try:
                return action()
            except VanishedShard:
                self.refresh()
                raise

        return patiently(self.folder, attempt)

    def _add(self, shard: Shard) -> None:
        if self._info is None:
            self._info = shard.info
        if shard.info.fingerprint != self._info.fingerprint:
            raise StoreError(
                f"{shard.path}: holds vectors of {shard.info.name} {shard.info.fingerprint[:12]}, its folder those of "
                f"{self._info.name} {self._info.fingerprint[:12]}. Move it into a folder of its own."
            )
        self._shards.append(shard)
        self._known = None


def slug(name: str) -> str:
    """A name as part of a folder's: no separators."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-")


def find_stores(cache: str | Path, encoder: str | None = None) -> list[EmbeddingStore]:
    """The stores below a cache folder; with `encoder`, those of that name, checkpoint or folder.

    Raises UnknownName where `encoder` was never extracted.
    """
    folders = store_folders(cache)
    if encoder is None:
        return [EmbeddingStore(folder) for folder in folders]
    # The folder's name starts with the encoder's: stores of others stay unread, and a fault in one hurts no other.
    checkpoint = str(Path(encoder).resolve()) if Path(encoder).is_dir() else encoder
    name = slug(Path(encoder).name)
    named = [EmbeddingStore(folder) for folder in folders if folder.name.startswith(name)]
    found = [s for s in named if encoder == s.info.name or checkpoint == s.info.checkpoint or s.folder.name == name]
    if not found:
        have = {folder.name.rpartition("-")[0] for folder in folders}
        raise UnknownName("extracted encoder", encoder, have, f"Run `ser extract --encoder {encoder}` first")
    return found


def whole_store(
    cache: str | Path, dataset: str, keys: Sequence[str], encoder: str | None = None, views: Sequence[str] = VIEWS
) -> EmbeddingStore:
    """The one store that was asked for and has these views of every key; `dataset` is what the keys are called.

    Raises UnknownName or DataError where there is none, or more than one.
    """
    stores = find_stores(cache, encoder)
    lacking = [lacks(store, keys, views) for store in stores]
    whole = [store for store, count in zip(stores, lacking, strict=True) if not count]
    if len(whole) == 1:
        return whole[0]
    if whole:
        names = ", ".join(store.folder.name for store in whole)
        raise DataError(f"several encoders have {dataset}: {names}. Pick one with --encoder.")
    have = "; ".join(f"{s.folder.name} lacks {n}" for s, n in zip(stores, lacking, strict=True))
    more = "" if set(views) <= set(VIEWS) else f" with --views {','.join(views)}"
    raise DataError(
        f"{dataset}: no encoder has {' and '.join(views)} of all {len(keys)} clips ({have or 'the cache is empty'}). "
        f"Run `ser extract` for that encoder again{more}: it adds what is missing."
    )


def lacks(store: EmbeddingStore, keys: Sequence[str], views: Sequence[str]) -> int:
    """How many of the keys, some of which may be the same, lack a view."""
    missing = set(store.missing(keys, views))
    return sum(key in missing for key in keys)


def store_folders(cache: str | Path) -> list[Path]:
    """The folders below a cache that hold shards, whatever state these are in."""
    folders = sorted({path.parent for path in Path(cache).glob(f"*/*{SUFFIX}")}, reverse=True)
    return sorted({folder.resolve(): folder for folder in folders}.values())  # of links to one folder, the first
