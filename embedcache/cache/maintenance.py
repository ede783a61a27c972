"""Maintenance of a cache: summarise, verify, repair and compact its stores.

All of this is safe while other processes read and write, because of one rule: a shard is removed only after this
process has committed its intact rows in other shards. Whatever else runs, and whatever is killed, a stored row is in
at least one shard at every moment. At worst it is in two, until the next `compact`.
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
from .shard import DamagedShard, Numbers, Shard, VanishedShard, open_shards, retry_vanished, write_shard
from .store import EmbeddingStore

MERGED_BYTES = 256 << 20  # largest shard that `compact` makes; it is held in memory once
STALE_SECONDS = 24 * 3600.0  # a `.part` file that was not touched for so long belongs to a writer that was killed
SET_ASIDE_SUFFIX = ".damaged"


@dataclass(frozen=True)
class StoreSummary:
    """The contents of one store, found without reading a vector."""

    folder: Path
    info: EncoderInfo | None  # None if no shard can be opened
    keys: Keys = field(repr=False)
    views: tuple[str, ...] = ()
    shards: int = 0  # number of shards, damaged ones included
    nbytes: int = 0  # size of the shards that can be opened, in bytes
    formats: tuple[int, ...] = ()  # format versions of the shards
    created: str = ""  # when the newest shard was written, UTC, ISO 8601
    writers: tuple[str, ...] = ()  # programs that wrote the shards
    faults: tuple[str, ...] = ()  # a sentence for each shard that cannot be opened or whose keys are damaged


@dataclass(frozen=True)
class RepairResult:
    """The result of a repair."""

    dropped: Mapping[str, Sequence[str]]  # view -> keys whose vector was damaged
    set_aside: tuple[Path, ...]  # shards that could not be opened, under their new names
    removed_parts: int  # `.part` files of killed writers that were removed

    @property
    def rows(self) -> int:
        """The number of damaged rows in all views."""
        return sum(map(len, self.dropped.values()))


@dataclass(frozen=True)
class CompactResult:
    """The result of a compaction."""

    before: int  # number of shards before
    after: int  # number of shards after
    freed: int  # bytes


def summarise(folder: Path) -> StoreSummary:
    """Return the contents and the faults of the store in a folder."""
    shards, keys_and_views, faults = retry_vanished(folder, lambda: _open_with_keys(folder))
    return StoreSummary(
        folder=folder,
        info=shards[0].info if shards else None,
        keys=Index.of(keys_and_views).keys,
        views=tuple(sorted({view for shard in shards for view in shard.views})),
        shards=len(keys_and_views) + len(faults),
        nbytes=sum(shard.size for shard in shards),
        formats=tuple(sorted({shard.format_version for shard in shards})),
        created=max((shard.created for shard in shards), default=""),
        writers=tuple(sorted({shard.writer for shard in shards})),
        faults=tuple(faults),
    )


def _open_with_keys(folder: Path) -> tuple[list[Shard], list[tuple[Keys, tuple[str, ...]]], list[str]]:
    """Return the shards that can be opened, the keys and views of each whose keys are sound, and all faults."""
    shards, unopened = open_shards(folder)
    keys_and_views, faults = [], [str(error) for _, error in unopened]
    for shard in shards:
        try:
            keys_and_views.append((shard.keys(), tuple(shard.views)))
        except DamagedShard as error:
            faults.append(str(error))
    return shards, keys_and_views, faults


def hours(summary: StoreSummary, manifests: Iterable[Manifest]) -> float:
    """Return the duration of a store's recordings in hours; a recording that no manifest lists counts as 0.

    The manifests are needed because a shard does not hold the durations of its clips.
    """
    seconds = {clip.key: clip.seconds for manifest in manifests for clip in manifest.usable}
    return sum(seconds.get(key, 0.0) for key in unpack(summary.keys)) / 3600


def clips_to_extract(folder: Path, repaired: RepairResult, manifests: Iterable[Manifest]) -> dict[str, list[str]]:
    """Return, by dataset, the ids of the clips that lost a vector in a repair and have it in no other shard.

    If a shard was set aside or a key itself was damaged, the lost keys are unknown. The result is then every clip
    without a vector, of the datasets that still have some vectors.
    """
    store, listed = EmbeddingStore(folder), list(manifests)
    lost = {key for view, keys in repaired.dropped.items() for key in store.missing(keys, [view])}
    listed_keys = {clip.key for manifest in listed for clip in manifest.usable}
    some_unknown = bool(repaired.set_aside) or not lost <= listed_keys
    result: dict[str, list[str]] = {}
    for manifest in listed:  # a dataset may have two manifests: of its clips, and of copies of them
        keys = lost | _keys_without_vector(store, manifest) if some_unknown else lost
        result.setdefault(manifest.dataset, []).extend(clip.clip_id for clip in manifest.usable if clip.key in keys)
    return {dataset: clips for dataset, clips in result.items() if clips}


def _keys_without_vector(store: EmbeddingStore, manifest: Manifest) -> set[str]:
    """Return the keys of a manifest without a vector; none if the store has shards but no vector of the manifest."""
    keys = [clip.key for clip in manifest.usable]
    missing = set(store.missing(keys, ["pooled"]))
    never_extracted = bool(store.shards) and len(missing) == len(set(keys))
    return set() if never_extracted else missing


def verify(folder: Path, progress: Progress = silent) -> list[str]:
    """Check every checksum of every shard in a folder, and return the complaints.

    Shards that cannot be opened are complaints, too.
    """
    shards, faults = open_shards(folder)
    complaints = [str(error) for _, error in faults]
    with _megabytes(progress, "verifying", shards) as advance:
        for shard in shards:
            with suppress(VanishedShard):  # another process has merged it, and checked each of its rows
                complaints += shard.verify(advance)
    return complaints


def repair(folder: Path, progress: Progress = silent) -> RepairResult:
    """Drop the rows whose checksum is wrong, and rename shards that cannot be opened to `<name>.damaged`.

    The intact rows of a damaged shard are committed in a new shard first. Raises StoreError for files that are not
    damaged but foreign (other HDF5 files, shards of a newer version), and if the folder cannot be written.
    """
    shards, faults = open_shards(folder)
    if foreign := [str(error) for _, error in faults if not isinstance(error, DamagedShard)]:
        raise StoreError(*foreign)
    dropped: dict[str, list[str]] = {}
    set_aside = [_set_aside(path) for path, _ in faults]
    with _megabytes(progress, "repairing", shards) as advance:
        for shard in shards:
            try:
                for view, keys in _drop_damaged(shard, advance).items():
                    dropped.setdefault(view, []).extend(keys)
            except VanishedShard:  # another process has merged it, and checked each of its rows
                continue
            except DamagedShard:  # its keys cannot be read
                set_aside.append(_set_aside(shard.path))
    return RepairResult(dropped, tuple(set_aside), _remove_stale_parts(folder))


def _drop_damaged(shard: Shard, advance: Advance) -> dict[str, list[str]]:
    """Write a shard anew without its damaged rows; return the keys of these rows by view."""
    keys = shard.keys()
    damaged = {view: rows for view in shard.views if len(rows := _damaged_rows(shard, view, advance))}
    if damaged:
        _rewrite(shard, keys, damaged)
    return {view: unpack(keys[rows]) for view, rows in damaged.items()}


def _damaged_rows(shard: Shard, view: str, advance: Advance) -> Numbers:
    """Return the damaged rows of a view: all rows if their places in the file are damaged."""
    try:
        return shard.damaged(view, advance)
    except DamagedShard:
        return np.arange(len(shard))


def _rewrite(shard: Shard, keys: Keys, damaged: Mapping[str, Numbers]) -> None:
    """Commit the intact rows of a shard in new shards, then remove the shard.

    A row may be intact in one view and damaged in another. All rows of a shard have the same views, so each combination
    of sound views becomes a shard of its own.
    """
    names = list(shard.views)
    sound = np.ones((len(shard), len(names)), bool)  # (rows, views)
    for view, rows in damaged.items():
        sound[rows, names.index(view)] = False
    for combination in np.unique(sound, axis=0):
        rows = np.flatnonzero((sound == combination).all(axis=1))
        views = [name for name, is_sound in zip(names, combination, strict=True) if is_sound]
        if views:
            kept = {view: shard.take(view, rows, keys[rows]) for view in views}
            write_shard(shard.path.parent, shard.info, unpack(keys[rows]), kept)
    _remove(shard.path)


def compact(folder: Path, progress: Progress = silent) -> CompactResult:
    """Merge small shards and shards that hold the same rows; each row is checked when it is read.

    A merged shard is committed before its sources are removed. Readers that have the sources open look up the rows
    anew. If another process merges the same shards, the compaction starts over. Raises StoreError if a shard is damaged
    or the folder cannot be written.
    """
    return retry_vanished(folder, lambda: _compact_once(folder, progress))


def _compact_once(folder: Path, progress: Progress) -> CompactResult:
    store = EmbeddingStore(folder)
    before, groups = len(store.shards), _groups_to_merge(store.shards)
    sources = [shard for group in groups for shard in group]
    merged: list[Path] = []
    with _megabytes(progress, "compacting", sources) as advance:
        for group in groups:
            merged += _merge(store, group)
            for shard in group:
                _remove(shard.path)
                advance(shard.nbytes)
    freed = sum(shard.size for shard in sources) - sum(map(_size, merged))
    return CompactResult(before, before - len(sources) + len(merged), freed)


def _groups_to_merge(shards: Sequence[Shard]) -> list[list[Shard]]:
    """Return the groups of shards that `compact` merges.

    Shards that share rows are always merged. Other shards of up to half of MERGED_BYTES are collected in groups of up
    to MERGED_BYTES, and a group is merged if that makes fewer shards. For example, small shards of two different sets
    of views stay two shards.
    """
    sharing = _groups_sharing_rows(shards)
    small = [group[0] for group in sharing if len(group) == 1 and group[0].nbytes <= MERGED_BYTES / 2]
    collected: list[list[Shard]] = [[]]
    for shard in sorted(small, key=lambda shard: tuple(shard.views)):
        if sum(other.nbytes for other in collected[-1]) + shard.nbytes > MERGED_BYTES:
            collected.append([])
        collected[-1].append(shard)
    worthwhile = [group for group in collected if len(list(_index(group).by_views())) < len(group)]
    return [group for group in sharing if len(group) > 1] + worthwhile


def _groups_sharing_rows(shards: Sequence[Shard]) -> list[list[Shard]]:
    """Return the shards in groups that are connected by shared rows; most groups have one shard.

    For example, if shards 0 and 1 hold the same row, and shards 1 and 3 another, the groups are {0, 1, 3} and {2}.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    views = {view for shard in shards for view in shard.views}
    a, b = np.concatenate([np.empty((0, 2), np.int64), *(_links(shards, view) for view in views)]).T
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(len(shards), len(shards)))
    _, labels = connected_components(graph, directed=False)
    groups: dict[int, list[Shard]] = {}
    for shard, label in zip(shards, labels.tolist(), strict=True):
        groups.setdefault(label, []).append(shard)
    return list(groups.values())


def _links(shards: Sequence[Shard], view: str) -> Numbers:
    """Return pairs of shards that hold the same row of a view, (n, 2): the first owner of the row, and each owner."""
    holders = [number for number, shard in enumerate(shards) if view in shard.views]
    keys = np.concatenate([shards[number].keys() for number in holders])
    owner = np.repeat(holders, [len(shards[number]) for number in holders])  # the shard of each of `keys`
    _, first, slots = np.unique(keys, return_index=True, return_inverse=True)
    pairs: Numbers = np.unique(np.stack([owner[first[slots]], owner], axis=1), axis=0)
    return pairs


def _merge(store: EmbeddingStore, shards: Sequence[Shard]) -> list[Path]:
    """Commit every row of some shards in as few shards as possible; return the paths of the new shards."""
    merged = []
    for views, keys in _index(shards).by_views():
        step = max(1, int(MERGED_BYTES / _clip_bytes(shards, views)))
        for begin in range(0, len(keys), step):
            block = unpack(keys[begin : begin + step])
            rows = {view: store.rows(block, view) for view in views}
            merged.append(write_shard(store.folder, store.info, block, rows))
    return merged


def _index(shards: Sequence[Shard]) -> Index:
    return Index.of([(shard.keys(), tuple(shard.views)) for shard in shards])


def _clip_bytes(shards: Sequence[Shard], views: Sequence[str]) -> float:
    """Return the size of one clip's vectors in bytes: for each view, the largest mean among the shards."""
    return sum(max(s.views[view].nbytes / max(len(s), 1) for s in shards if view in s.views) for view in views) or 1


@contextmanager
def _megabytes(progress: Progress, task: str, shards: Sequence[Shard]) -> Iterator[Advance]:
    """Show progress in megabytes; the value of the context receives bytes."""
    with progress(task, total=sum(shard.nbytes for shard in shards) / 1e6, unit="MB") as advance:
        yield lambda step: advance(step / 1e6)


def _size(path: Path) -> int:
    """Return the size of a file in bytes; 0 if another process has merged the file already."""
    return path.stat().st_size if path.exists() else 0


def _remove_stale_parts(folder: Path) -> int:
    """Remove the `.part` files of killed writers, and return their number."""
    removed = 0
    for part in folder.glob("*.part"):
        with suppress(FileNotFoundError):  # its writer has just renamed it
            if time.time() - part.stat().st_mtime > STALE_SECONDS:
                _remove(part)
                removed += 1
    return removed


def _set_aside(path: Path) -> Path:
    renamed = path.with_name(path.name + SET_ASIDE_SUFFIX)
    with _file_errors(path):
        path.replace(renamed)
    return renamed


def _remove(path: Path) -> None:
    with _file_errors(path):
        path.unlink(missing_ok=True)


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """Ignore that another process has moved or removed the file; any other OSError becomes a StoreError."""
    try:
        yield
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be moved or removed: {error.strerror}. Correct that, then run again."
        ) from error
