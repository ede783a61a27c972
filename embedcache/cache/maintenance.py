"""Looking after a cache: what it holds, whether its bytes are sound, mending it, and merging its shards.

All of it works while others read and write. The one rule that makes that safe: a shard is removed only after every
sound row of it has been committed in a shard of the same process. So whatever runs at once, or is killed, a row that
was stored lies in some shard at every moment; at worst it lies in two, until the next `compact`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..encoder import EncoderInfo
from ..errors import StoreError
from ..manifest import Manifest
from ..progress import Advance, Progress, silent
from .key_index import Index, Keys, unpack
from .shard import DamagedShard, Numbers, Shard, VanishedShard, open_shards, patiently, write_shard
from .store import EmbeddingStore

MERGED_BYTES = 256 << 20  # of a shard that `compact` makes: it is held in memory once
LEFT_SECONDS = 24 * 3600.0  # a `.part` file untouched for so long belongs to a writer that was killed
ASIDE = ".damaged"


@dataclass(frozen=True)
class StoreSummary:
    """What one store holds, without reading a vector."""

    folder: Path
    info: EncoderInfo | None  # None where no shard can be opened
    keys: Keys = field(repr=False)
    views: tuple[str, ...] = ()
    shards: int = 0
    nbytes: int = 0  # of the files
    formats: tuple[int, ...] = ()
    created: str = ""  # when the newest shard was written, UTC, ISO 8601
    writers: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()  # a sentence on each shard that cannot be opened, or whose keys are damaged


@dataclass(frozen=True)
class RepairResult:
    """What a repair did."""

    dropped: Mapping[str, Sequence[str]]  # view -> keys whose vector was damaged
    aside: tuple[Path, ...]  # what could not be opened, renamed
    left: int  # `.part` files of killed writers that were removed

    @property
    def rows(self) -> int:
        """Damaged rows, of all views."""
        return sum(map(len, self.dropped.values()))


@dataclass(frozen=True)
class CompactResult:
    """What a compaction did."""

    before: int  # shards
    after: int
    freed: int  # bytes


def summarise(folder: Path) -> StoreSummary:
    """What the store in a folder holds, faults included."""
    shards, keyed, faults = patiently(folder, lambda: _keyed(folder))
    return StoreSummary(
        folder=folder,
        info=shards[0].info if shards else None,
        keys=Index.of(keyed).keys,
        views=tuple(sorted({view for shard in shards for view in shard.views})),
        shards=len(keyed) + len(faults),
        nbytes=sum(shard.size for shard in shards),
        formats=tuple(sorted({shard.format_version for shard in shards})),
        created=max((shard.created for shard in shards), default=""),
        writers=tuple(sorted({shard.writer for shard in shards})),
        faults=tuple(faults),
    )


def hours(held: StoreSummary, manifests: Iterable[Manifest]) -> float:
    """Hours of the recordings in a store, as far as manifests list them: a shard does not know how long a clip was."""
    seconds = {clip.key: clip.seconds for manifest in manifests for clip in manifest.usable}
    return sum(seconds.get(key, 0.0) for key in unpack(held.keys)) / 3600


def clips_to_extract(folder: Path, mended: RepairResult, manifests: Iterable[Manifest]) -> dict[str, list[str]]:
    """Dataset -> ids of the clips that a repair took a vector from, and that no other shard has.

    What lay in a shard that was set aside, or under a key that is damaged itself, cannot be told: then it is every clip
    without a vector, of datasets of which something is left.
    """
    store, listed = EmbeddingStore(folder), list(manifests)
    gone = {key for view, keys in mended.dropped.items() for key in store.missing(keys, [view])}
    unknown = bool(mended.aside) or not gone <= {clip.key for manifest in listed for clip in manifest.usable}
    found: dict[str, list[str]] = {}
    for manifest in listed:  # a dataset may have two: its clips, and copies of them
        keys = [clip.key for clip in manifest.usable]
        lacks = set(store.missing(keys, ["pooled"])) if unknown else set()
        lost = gone | (lacks if not store.shards or len(lacks) < len(set(keys)) else set())
        found.setdefault(manifest.dataset, []).extend(clip.clip_id for clip in manifest.usable if clip.key in lost)
    return {dataset: clips for dataset, clips in found.items() if clips}


def verify(folder: Path, progress: Progress = silent) -> list[str]:
    """Every checksum of every shard in a folder, whatever state they are in: the complaints, or an empty list."""
    shards, faults = open_shards(folder)
    complaints = [str(error) for _, error in faults]
    with _megabytes(progress, "verifying", shards) as advance:
        for shard in shards:
            with suppress(VanishedShard):  # compacted meanwhile, and each row checked on its way
                complaints += shard.verify(advance)
    return complaints


def repair(folder: Path, progress: Progress = silent) -> RepairResult:
    """Drop the rows whose checksum is wrong, and set aside, as `<name>.damaged`, shards that cannot be opened.

    Sound rows of a damaged shard are committed anew first. Raises StoreError for what is not damaged but foreign (other
    HDF5 files, shards of a newer version), and for a folder that cannot be written.
    """
    shards, faults = open_shards(folder)
    if foreign := [str(error) for _, error in faults if not isinstance(error, DamagedShard)]:
        raise StoreError("\n".join(foreign))
    dropped: dict[str, list[str]] = {}
    aside = [_set_aside(path) for path, _ in faults]
    with _megabytes(progress, "repairing", shards) as advance:
        for shard in shards:
            try:
                keys = shard.keys()
                wrong = {view: bad for view in shard.views if len(bad := _damaged(shard, view, advance))}
                if wrong:
                    _rewrite(shard, keys, wrong)
            except VanishedShard:  # compacted meanwhile, and each row checked on its way
                continue
            except DamagedShard:  # not even its keys can be told
                aside.append(_set_aside(shard.path))
                continue
            for view, rows in wrong.items():
                dropped.setdefault(view, []).extend(unpack(keys[rows]))
    return RepairResult(dropped, tuple(aside), _sweep(folder))


def compact(folder: Path, progress: Progress = silent) -> CompactResult:
    """Merge small shards, and those that hold the same rows; each row is checked on its way.

    A merged shard is committed before its sources are removed; readers that had these open look the rows up anew. Where
    another process merges the same, it starts over. Raises StoreError where a shard is damaged or the folder cannot be
    written.
    """
    return patiently(folder, lambda: _compacted(folder, progress))


def _compacted(folder: Path, progress: Progress) -> CompactResult:
    store = EmbeddingStore(folder)
    before, bins = len(store.shards), _bins(store.shards)
    gone, made = 0, []
    with _megabytes(progress, "compacting", [shard for chosen in bins for shard in chosen]) as advance:
        for chosen in bins:
            made += _merge(store, chosen)
            gone += len(chosen)
            for shard in chosen:
                _remove(shard.path)
                advance(shard.nbytes)
    freed = sum(shard.size for chosen in bins for shard in chosen) - sum(map(_size, made))
    return CompactResult(before, before - gone + len(made), freed)


def _keyed(folder: Path) -> tuple[list[Shard], list[tuple[Keys, tuple[str, ...]]], list[str]]:
    """The shards that can be opened, the keys and views of those of which these can be told, and what is wrong."""
    shards, faults = open_shards(folder)
    keyed, wrong = [], [str(error) for _, error in faults]
    for shard in shards:
        try:
            keyed.append((shard.keys(), tuple(shard.views)))
        except DamagedShard as error:
            wrong.append(str(error))
    return shards, keyed, wrong


def _index(shards: Sequence[Shard]) -> Index:
    return Index.of([(shard.keys(), tuple(shard.views)) for shard in shards])


@contextmanager
def _megabytes(progress: Progress, what: str, shards: Sequence[Shard]) -> Iterator[Advance]:
    """Progress in megabytes, told in bytes."""
    with progress(what, total=sum(shard.nbytes for shard in shards) / 1e6, unit="MB") as advance:
        yield lambda step: advance(step / 1e6)


def _damaged(shard: Shard, view: str, advance: Advance) -> Numbers:
    """The wrong rows of a view: all of them, where it cannot even be told where they lie."""
    try:
        return shard.damaged(view, advance)
    except DamagedShard:
        return np.arange(len(shard))


def _rewrite(shard: Shard, keys: Keys, wrong: Mapping[str, Numbers]) -> None:
    """Commit the sound rows of a shard, then remove it. Rows may be sound in one view and not in another."""
    names = list(shard.views)
    sound = np.ones((len(shard), len(names)), bool)
    for view, rows in wrong.items():
        sound[rows, names.index(view)] = False
    for combination in np.unique(sound, axis=0):
        rows = np.flatnonzero((sound == combination).all(axis=1))
        views = [name for name, whole in zip(names, combination, strict=True) if whole]
        if views:
            kept = {view: shard.take(view, rows, keys[rows]) for view in views}
            write_shard(shard.path.parent, shard.info, unpack(keys[rows]), kept)
    _remove(shard.path)


def _bins(shards: Sequence[Shard]) -> list[list[Shard]]:
    """What to merge: shards that hold some of the same rows; and small ones, to MERGED_BYTES, if fewer come of it."""
    groups = _sharing(shards)
    small = [group[0] for group in groups if len(group) == 1 and group[0].nbytes <= MERGED_BYTES / 2]
    bins: list[list[Shard]] = [[]]
    for shard in sorted(small, key=lambda shard: tuple(shard.views)):
        if sum(other.nbytes for other in bins[-1]) + shard.nbytes > MERGED_BYTES:
            bins.append([])
        bins[-1].append(shard)
    fewer = [chosen for chosen in bins if len(list(_index(chosen).by_views())) < len(chosen)]
    return [group for group in groups if len(group) > 1] + fewer


def _sharing(shards: Sequence[Shard]) -> list[list[Shard]]:
    """The shards, in groups that hold some of the same rows."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = [np.empty((0, 2), np.int64)]
    for view in {view for shard in shards for view in shard.views}:
        owners = [number for number, shard in enumerate(shards) if view in shard.views]
        keys = np.concatenate([shards[number].keys() for number in owners])
        owner = np.repeat(owners, [len(shards[number]) for number in owners])
        _, first, slots = np.unique(keys, return_index=True, return_inverse=True)
        links.append(np.unique(np.stack([owner[first[slots]], owner], axis=1), axis=0))
    a, b = np.concatenate(links).T
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(len(shards), len(shards)))
    _, labels = connected_components(graph, directed=False)
    groups: dict[int, list[Shard]] = {}
    for shard, label in zip(shards, labels.tolist(), strict=True):
        groups.setdefault(label, []).append(shard)
    return list(groups.values())


def _merge(store: EmbeddingStore, shards: Sequence[Shard]) -> list[Path]:
    """Commit every row of some shards in as few as there must be; the new ones."""
    made = []
    for views, keys in _index(shards).by_views():
        step = max(1, int(MERGED_BYTES / _row_bytes(shards, views)))
        for begin in range(0, len(keys), step):
            block = unpack(keys[begin : begin + step])
            rows = {view: store.rows(block, view) for view in views}
            made.append(write_shard(store.folder, store.info, block, rows))
    return made


def _row_bytes(shards: Sequence[Shard], views: Sequence[str]) -> float:
    """Bytes of the vectors of one clip."""
    return sum(max(s.views[view].nbytes / max(len(s), 1) for s in shards if view in s.views) for view in views) or 1


def _size(path: Path) -> int:
    """Bytes of a file; 0 where another process has merged it already."""
    return path.stat().st_size if path.exists() else 0


def _sweep(folder: Path) -> int:
    """Remove what killed writers left; how much there was."""
    old = 0
    for part in folder.glob("*.part"):
        with suppress(FileNotFoundError):  # its writer has just renamed it
            if time.time() - part.stat().st_mtime > LEFT_SECONDS:
                _remove(part)
                old += 1
    return old


def _set_aside(path: Path) -> Path:
    aside = path.with_name(path.name + ASIDE)
    with _changing(path):
        path.replace(aside)
    return aside


def _remove(path: Path) -> None:
    with _changing(path):
        path.unlink(missing_ok=True)


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        pass  # another process was quicker
    except OSError as error:
        raise StoreError(f"{path}: cannot be moved or removed: {error.strerror}. Mend that, and run again.") from error
