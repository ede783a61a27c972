"""Content keys of the files of a manifest, stored in a memo so that a second run reads no audio.

The memo stores the key of a file together with its path, size, modification time and change time, both times in
nanoseconds. The change time detects a file that was replaced and dated back. A file that was changed within the last
two seconds is not stored, as in git's index, because it could change again within the resolution of the clock. Only
files that decode without a fault are stored.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ..artifacts import Artifacts
from ..audio.channels import CHOOSE, find_channel_doubt
from ..audio.clip_recordings import forget_files, load_part, map_by_file, recording_of
from ..audio.decode import Recording
from ..audio.levels import find_level_doubt
from ..audio.spans import overlaps
from ..dataset import registry
from ..errors import AudioError, DataError, complain
from ..files.atomic import atomic_write
from ..files.stamps import is_settled, stamp
from ..files.untrusted import read_json, why_unreadable
from ..manifest import CHANNEL, SKIPPED, Clip, Manifest, Span
from ..progress import Progress, silent
from ..text import count, examples, one_line

MAX_MEMO_BYTES = 1 << 28  # largest memo that is read; a file takes about 200 bytes, so one million files fit
MIXED = f"The mean of the channels is used. {CHOOSE}"
ODD_LEVEL = "Leave them out, or write them again from their source."
MAX_THREADS = 8  # files that are read at the same time
# What to do if the speakers of a dataset may be the names of its clips.
CORRECT_SPEAKERS = (
    "If not, rename the files to <label>/<speaker>_<anything>.wav, or write a CSV with the columns path, label, "
    "speaker. If each clip is of another person, use `ser extract --speakers-are-clips`."
)


@dataclass(frozen=True)
class FileFacts:
    """The key and duration of a file, or the reason why it cannot be used."""

    key: str  # "" for a faulty file
    seconds: float  # 0 for a faulty file
    fault: str = ""  # "" for a sound file
    doubt: str = ""  # what the mean of the file's channels hides; see `channels.find_channel_doubt`
    level_doubt: str = ""  # what is odd about its level; see `levels.find_level_doubt`


class KeyMemo:
    """The content keys of files, stored in one JSON file. If that file is lost or foreign, all audio is read again."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._entries: dict[str, list[object]] = self._read() if path else {}

    def look_up(self, path: str, channel: int | None = None, span: Span | None = None) -> FileFacts:
        """Return the facts of a file, of a channel or of a span; a file is read only if it has changed or is new."""
        try:
            current = stamp(path)
        except OSError as error:
            reason = why_unreadable(path, error)
            fault = f"{one_line(path)}: cannot be read: {reason}. Check the path and its permissions."
            return FileFacts("", 0.0, fault)
        entry = _entry_name(path, channel, span)
        match self._entries.get(entry):
            case [*stored, str(key), float(seconds), str(doubt), str(level)] if tuple(stored) == current:
                return FileFacts(key, seconds, doubt=doubt, level_doubt=level)
        facts = _read_facts(path, channel, span)
        if not facts.fault and is_settled(current):
            self._entries[entry] = [*current, facts.key, facts.seconds, facts.doubt, facts.level_doubt]
        return facts

    def save(self) -> None:
        """Write the memo atomically. If two processes write it, the later version stays, which is harmless."""
        if self.path:
            with atomic_write(self.path) as file:
                json.dump(self._entries, file)

    def _read(self) -> dict[str, list[object]]:
        try:
            entries = read_json(Path(self.path or ""), MAX_MEMO_BYTES, DataError)
        except DataError:
            return {}
        return entries if isinstance(entries, dict) else {}


def add_keys(manifest: Manifest, memo: KeyMemo | None = None, progress: Progress = silent) -> Manifest:
    """Return the manifest with `key` and `seconds` filled in.

    A faulty file gets the reason in `extra["skipped"]`. A second copy of a clip (same id, same bytes) is left out:
    Kaggle's RAVDESS, for example, contains its tree twice. Raises DataError if two different files have the same id.
    """
    memo = memo or KeyMemo()
    with (
        progress("reading", total=len(manifest), unit="clips") as advance,
        ThreadPoolExecutor(max_workers=min(MAX_THREADS, os.cpu_count() or 1)) as pool,
    ):
        found: dict[int, FileFacts] = {}
        for place, facts in map_by_file(lambda c: memo.look_up(c.path, c.channel, c.span), manifest.clips, pool):
            found[place] = facts
            advance(1)
    forget_files()
    memo.save()
    in_order = [found[place] for place in range(len(manifest))]
    clips = _without_overlaps(list(map(_with_facts, manifest.clips, in_order)))
    keyed = replace(manifest, clips=tuple(_without_duplicates(clips)))
    return replace(keyed, notes=(*manifest.notes, *_doubts(manifest.clips, in_order), *_contradictions(keyed)))


def _doubts(clips: Sequence[Clip], facts: Sequence[FileFacts]) -> list[str]:
    """Return a note for each doubt about the channels or the level of recordings, with the clips that have it."""
    having: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for clip, known in zip(clips, facts, strict=True):
        if known.doubt and CHANNEL not in clip.extra:
            having[known.doubt, MIXED].append(clip.clip_id)
        if known.level_doubt and SKIPPED not in clip.extra:  # the silent clip of CREMA-D is a known fault
            having[known.level_doubt, ODD_LEVEL].append(clip.clip_id)
    return [
        f"{doubt}, in {count(len(ids), 'clip')}: {examples(ids)}. {advice}" for (doubt, advice), ids in having.items()
    ]


def keyed_manifest(
    manifest: Manifest, artifacts: Artifacts, progress: Progress = silent, speakers_are_clips: bool = False
) -> Manifest:
    """Return the manifest with keys, as `add_keys` does, with the memo of an output folder.

    Clips that the stored manifest of that folder marks as skipped are skipped again. Raises DataError as `add_keys`,
    `refuse_clips_as_speakers`, `Manifest.check` and `Manifest.inherit_skips` do.
    """
    keyed = add_keys(manifest, KeyMemo(artifacts.keys(manifest.dataset)), progress).check()
    refuse_clips_as_speakers(keyed, speakers_are_clips)
    stored = artifacts.manifest(manifest.dataset)
    return keyed.inherit_skips(Manifest.from_csv(stored, check_speakers=False)) if stored.exists() else keyed


def refuse_clips_as_speakers(manifest: Manifest, speakers_are_clips: bool = False) -> None:
    """Raise DataError if nearly every clip has a speaker of its own, unless the user says that this is so."""
    if not speakers_are_clips and (doubt := manifest.doubt_about_speakers()):
        raise DataError(doubt, CORRECT_SPEAKERS)


def dataset_manifest(
    dataset: str, artifacts: Artifacts, root: str | Path | None = None, progress: Progress = silent
) -> Manifest:
    """Return the manifest of a dataset that an output folder stores.

    With `root`, or if no manifest is stored, the dataset's folder is scanned and the new manifest is stored. The name
    `folder` stands for the stored manifest `folder-*.csv`, if there is exactly one. Raises DataError as
    `Dataset.manifest` and `keyed_manifest` do, and UnknownName if there is no such dataset.
    """
    own = [*artifacts.manifests.glob("folder-*.csv")] if dataset == "folder" else []
    path = own[0] if len(own) == 1 else artifacts.manifest(dataset)
    if path.exists() and not root:
        return Manifest.from_csv(path)
    manifest = keyed_manifest(registry.get(dataset).manifest(root), artifacts, progress)
    manifest.to_csv(artifacts.manifest(manifest.dataset))
    return manifest


def listed_recording(clip: Clip) -> Recording:
    """Return the recording of a keyed clip.

    Raises AudioError if the bytes of the file do not have the clip's key, or if the clip has no file.
    """
    if not clip.path:
        raise AudioError(f"{clip.clip_id}: has no recording, since its vectors were imported. Use recordings instead.")
    recording = recording_of(clip)
    if recording.key != clip.key:
        raise AudioError(f"{clip.path}: differs from the file that the manifest lists. Run again with --root.")
    return recording


def _entry_name(path: str, channel: int | None, span: Span | None) -> str:
    part = "" if channel is None else f"#{channel}"
    return f"{path}{part}@{span.start!r}-{span.end!r}" if span else f"{path}{part}"


def _read_facts(path: str, channel: int | None, span: Span | None) -> FileFacts:
    try:
        recording = load_part(path, channel, span)
        sound, rate = recording.sound()
        seconds, doubt = len(sound) / rate, find_channel_doubt(sound, rate)
        return FileFacts(recording.key, seconds, doubt=doubt, level_doubt=find_level_doubt(sound))
    except AudioError as error:
        return FileFacts("", 0.0, str(error))


def _with_facts(clip: Clip, facts: FileFacts) -> Clip:
    extra = {**clip.extra, SKIPPED: facts.fault} if facts.fault else clip.extra
    return replace(clip, key=facts.key, seconds=facts.seconds, extra=extra)


def _without_overlaps(clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips with the reason at those that overlap with a clip of another label."""
    reasons: dict[str, str] = {}
    usable = [clip for clip in clips if SKIPPED not in clip.extra]
    for a, b, seconds in overlaps(usable):
        for clip, other in ((usable[a], usable[b]), (usable[b], usable[a])):
            if clip.label != other.label:
                reasons.setdefault(
                    clip.clip_id,
                    f"{one_line(clip.place)}: {clip.label}, overlaps by {seconds:.2f} s with {other.clip_id}, which is "
                    f"{other.label}. Correct the bounds, or remove one of the two.",
                )
    return [replace(c, extra={SKIPPED: reasons[c.clip_id], **c.extra}) if c.clip_id in reasons else c for c in clips]


def _without_duplicates(clips: Iterable[Clip]) -> list[Clip]:
    """Return the first clip of each id. Raises DataError if clips with the same id differ in file, label or speaker."""
    first: dict[str, Clip] = {}
    clashes = []
    for clip in clips:
        kept = first.setdefault(clip.clip_id, clip)
        if (kept.key, kept.label, kept.speaker) != (clip.key, clip.label, clip.speaker):
            clashes.append(f"{clip.clip_id}: {_described(kept, clip)} and {_described(clip, kept)}")
    if clashes:
        summary = "different files or labels have the same clip id"
        raise DataError(*complain(summary, clashes, "Remove one file of each pair, or rename it."))
    return list(first.values())


def _contradictions(manifest: Manifest) -> list[str]:
    """Return a note if recordings of a dataset of one's own have two labels. Those of published ones are known."""
    first: dict[str, Clip] = {}
    pairs = [(first.setdefault(clip.key, clip), clip) for clip in manifest.usable if clip.key and manifest.is_own]
    found = [f"{a.clip_id} ({a.label}) and {b.clip_id} ({b.label})" for a, b in pairs if a.label != b.label]
    if not found:
        return []
    return [f"one recording has two labels in {count(len(found), 'case')}: {examples(found)}. Remove one of each."]


def _described(clip: Clip, other: Clip) -> str:
    """Return the path and label of a clip, with its speaker if another clip of the same id has another speaker."""
    speaker = f", speaker {clip.speaker}" if clip.speaker != other.speaker else ""
    return f"{clip.place} ({clip.label}{speaker})"
