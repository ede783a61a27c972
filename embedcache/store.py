"""EmbeddingStore: one folder of shards, all of one encoder fingerprint.

There is no index file: the shards are the truth, and opening a store reads their keys. Two writers write two shards;
a row that both wrote is the same row. `.part` files of a killed writer are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .encoder import FRAMES, VIEWS, EncoderInfo, Frames, Rows, Vectors, is_ragged
from .errors import StoreError, UnknownName
from .shard import SUFFIX, Shard, write_shard


class EmbeddingStore:
    """The vectors of one encoder, by content key.

    `folder` is `<cache>/<encoder>-<first 12 digits of the fingerprint>`. Raises StoreError where a shard is damaged,
    foreign, of another format version or of another fingerprint.
    """

    def __init__(self, folder: str | Path, info: EncoderInfo | None = None) -> None:
        self.folder = Path(folder)
        self._shards: list[Shard] = []
        self._rows: dict[str, dict[str, tuple[int, int]]] = {}  # view -> key -> (shard, row)
        self._info = info
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            self._add(Shard.open(path))

    @classmethod
    def of(cls, cache: str | Path, info: EncoderInfo) -> EmbeddingStore:
        """The store of one encoder below a cache folder; it need not exist yet."""
        return cls(Path(cache) / f"{_slug(info.name)}-{info.fingerprint[:12]}", info)

    @property
    def info(self) -> EncoderInfo:
        """What made the vectors. Raises StoreError for a folder without shards."""
        if self._info is None:
            raise StoreError(f"{self.folder}: holds no shards. Run `ser extract` first.")
        return self._info

    @property
    def keys(self) -> set[str]:
        """Every key that has at least one view."""
        return set().union(*self._rows.values())

    def missing(self, keys: Iterable[str], views: Iterable[str] = VIEWS) -> list[str]:
        """The keys, each once and in order, that lack a vector in any of the views."""
        indexes = [self._rows.get(view, {}) for view in views]
        return [key for key in dict.fromkeys(keys) if not all(key in index for index in indexes)]

    def read(self, keys: Sequence[str], view: str) -> Vectors:
        """One row a key, in order: `pooled` (n, dim), `layers` and `std` (n, n_layers, dim).

        Raises StoreError where a key has no vector or its row is damaged, and for `frames`: see `read_frames`.
        """
        if is_ragged(view):
            raise StoreError(f"'{view}' has rows of different lengths: they are read by read_frames(keys, layer).")
        result: Vectors | None = None
        for shard, here, rows in self._places(keys, view):
            vectors = shard.read(view, rows)
            if result is None:
                result = np.empty((len(keys), *vectors.shape[1:]), dtype=np.float32)
            result[here] = vectors
        return result if result is not None else np.empty((0, self.info.dim), dtype=np.float32)

    def read_frames(self, keys: Sequence[str], layer: int = -1) -> Frames:
        """The frames of one layer, one clip a key, in order: (T, dim) float16 each. Raises StoreError as `read`."""
        view = f"{FRAMES}:{layer % self.info.n_layers}"
        places = list(self._places(keys, view))
        if not places:
            return Frames.of(np.empty((0, self.info.dim), np.float16), [])
        parts = [shard.read_frames(view, rows) for shard, _, rows in places]
        order = np.argsort(np.concatenate([here for _, here, _ in places]))
        return Frames.join(parts).take(order)

    def _places(self, keys: Sequence[str], view: str) -> Iterator[tuple[Shard, NDArray[np.int64], NDArray[np.int64]]]:
        """Each shard that holds some of the keys: which of them, and in which of its rows."""
        index = self._rows.get(view, {})
        if absent := self.missing(keys, [view]):
            raise StoreError(
                f"{self.folder.name}: no '{view}' vectors for {len(absent)} of {len(keys)} clips. "
                f"Run `ser extract{'' if view in VIEWS else f' --views {view}'}`."
            )
        places = np.array([index[key] for key in keys], dtype=np.int64).reshape(-1, 2)  # (n, shard and row)
        for number in np.unique(places[:, 0]):
            here = np.flatnonzero(places[:, 0] == number)
            yield self._shards[number], here, places[here, 1]

    def write(self, keys: Sequence[str], rows: Mapping[str, Rows]) -> None:
        """Commit rows as one new shard. Raises StoreError where it cannot be written."""
        self._add(write_shard(self.folder, self.info, keys, rows))

    def verify(self) -> list[str]:
        """Every checksum of every shard: the complaints, or an empty list."""
        return [complaint for shard in self._shards for complaint in shard.verify()]

    def _add(self, shard: Shard) -> None:
        if self._info is None:
            self._info = shard.info
        if shard.info.fingerprint != self._info.fingerprint:
            raise StoreError(
                f"{shard.path}: holds vectors of {shard.info.name} {shard.info.fingerprint[:12]}, its folder those of "
                f"{self._info.name} {self._info.fingerprint[:12]}. Move it into a folder of its own."
            )
        self._shards.append(shard)
        for view in shard.views:
            index = self._rows.setdefault(view, {})
            for row, key in enumerate(shard.keys):
                index.setdefault(key, (len(self._shards) - 1, row))


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-")


def find_stores(cache: str | Path, encoder: str | None = None) -> list[EmbeddingStore]:
    """The stores below a cache folder; with `encoder`, those of that name, checkpoint or folder.

    Raises UnknownName where `encoder` was never extracted.
    """
    folders = sorted({path.parent for path in Path(cache).glob(f"*/*{SUFFIX}")})
    if encoder is None:
        return [EmbeddingStore(folder) for folder in folders]
    # The folder's name starts with the encoder's: stores of others stay unread, and a fault in one hurts no other.
    checkpoint = str(Path(encoder).resolve()) if Path(encoder).is_dir() else encoder
    slug = _slug(Path(encoder).name)
    named = [EmbeddingStore(folder) for folder in folders if folder.name.startswith(slug)]
    found = [s for s in named if encoder == s.info.name or checkpoint == s.info.checkpoint or s.folder.name == slug]
    if not found:
        have = {folder.name.rpartition("-")[0] for folder in folders}
        raise UnknownName("extracted encoder", encoder, have, f"Run `ser extract --encoder {encoder}` first")
    return found
