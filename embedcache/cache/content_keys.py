"""Content keys of a manifest's files, remembered so that a warm run reads no audio.

A key is remembered under (path, size, modification time, change time), all in nanoseconds: the change time catches a
file that was replaced and dated back. As git does with its index, a file that was touched within the last two seconds
is not remembered, for it could change again within the clock's grain. Only files that decode without a fault are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ..artifacts import Artifacts
from ..audio.decode import Recording
from ..dataset import registry
from ..errors import AudioError, DataError, complain
from ..files.atomic import atomic_write
from ..files.stamps import is_settled, stamp
from ..files.untrusted import read_json
from ..manifest import SKIPPED, Clip, Manifest
from ..progress import Progress, silent

LARGEST = 1 << 28  # bytes of a memo that is read: some 200 a file, so that of a million files fits


@dataclass(frozen=True)
class FileFacts:
    """What is known of a file whose bytes were read: its key and duration, or why it is unusable."""

    key: str
    seconds: float
    fault: str = ""


class KeyMemo:
    """Remembered keys, in one JSON file. A lost or foreign file costs time, never correctness."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._known: dict[str, list[object]] = self._read() if path else {}

    def look(self, path: str) -> FileFacts:
        """The file's key and duration, from memory where nothing about the file has changed."""
        try:
            now = stamp(path)
        except OSError as error:
            return FileFacts("", 0.0, f"{path}: cannot be read: {error.strerror or error}.")
        match self._known.get(path):
            case [*known, str(key), float(seconds)] if tuple(known) == now:
                return FileFacts(key, seconds)
        seen = _inspect(path)
        if not seen.fault and is_settled(now):
            self._known[path] = [*now, seen.key, seen.seconds]
        return seen

    def save(self) -> None:
        """Write what was learnt, atomically; of two writers the later one wins, which is harmless."""
        if self.path:
            with atomic_write(self.path) as file:
                json.dump(self._known, file)

    def _read(self) -> dict[str, list[object]]:
        try:
            known = read_json(Path(self.path or ""), LARGEST, DataError)
        except DataError:
            return {}
        return known if isinstance(known, dict) else {}


def add_keys(manifest: Manifest, memo: KeyMemo | None = None, progress: Progress = silent) -> Manifest:
    """The manifest with `key` and `seconds` filled; files that are faulty get the reason in `extra["skipped"]`.

    A second copy of a clip (same id, same bytes) is left out, as in Kaggle's RAVDESS, which holds its tree twice.
    Raises DataError where two different files have one id.
    """
    memo = memo or KeyMemo()
    with (
        progress("reading", total=len(manifest), unit="clips") as advance,
        ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool,
    ):
        clips = []
        for clip, seen in zip(manifest.clips, pool.map(memo.look, [c.path for c in manifest.clips]), strict=True):
            extra = {**clip.extra, SKIPPED: seen.fault} if seen.fault else clip.extra
            clips.append(replace(clip, key=seen.key, seconds=seen.seconds, extra=extra))
            advance(1)
    memo.save()
    return Manifest(manifest.dataset, tuple(_first_copies(clips)))


def keyed_manifest(manifest: Manifest, artifacts: Artifacts, progress: Progress = silent) -> Manifest:
    """`add_keys` with the memory of an output folder: remembered keys, and what an earlier manifest there knows.

    Raises DataError as `add_keys`, `Manifest.check` and `Manifest.succeed` do.
    """
    keyed = add_keys(manifest, KeyMemo(artifacts.keys(manifest.dataset)), progress).check()
    before = artifacts.manifest(manifest.dataset)
    return keyed.succeed(Manifest.from_csv(before)) if before.exists() else keyed


def dataset_manifest(
    dataset: str, artifacts: Artifacts, root: str | Path | None = None, progress: Progress = silent
) -> Manifest:
    """A dataset's manifest as it lies in an output folder; with `root`, or where none does, as its folder has it now.

    `folder` is the only one of one's own. Raises DataError as `Dataset.manifest` and `take_stock` do, UnknownName.
    """
    own = [*artifacts.manifests.glob("folder-*.csv")] if dataset == "folder" else []
    path = own[0] if len(own) == 1 else artifacts.manifest(dataset)
    if path.exists() and not root:
        return Manifest.from_csv(path)
    manifest = keyed_manifest(registry.get(dataset).manifest(root), artifacts, progress)
    manifest.to_csv(artifacts.manifest(manifest.dataset))
    return manifest


def listed_recording(clip: Clip) -> Recording:
    """A keyed clip's file. Raises AudioError for one that changed: what is said of a key is said of its bytes."""
    recording = Recording.load(clip.path)
    if recording.key != clip.key:
        raise AudioError(f"{clip.path}: is another file than the manifest lists. Run again with --root.")
    return recording


def _inspect(path: str) -> FileFacts:
    try:
        recording = Recording.load(path)
        return FileFacts(recording.key, recording.seconds())
    except AudioError as error:
        return FileFacts("", 0.0, str(error))


def _first_copies(clips: Iterable[Clip]) -> list[Clip]:
    first: dict[str, Clip] = {}
    clashes = []
    for clip in clips:
        kept = first.setdefault(clip.clip_id, clip)
        if (kept.key, kept.label, kept.speaker) != (clip.key, clip.label, clip.speaker):
            clashes.append(f"{clip.clip_id}: {kept.path} ({kept.label}) and {clip.path} ({clip.label})")
    if clashes:
        what = "different files or labels have the same clip id"
        raise DataError(complain(what, clashes, "Remove one of each pair, or rename it."))
    return list(first.values())
