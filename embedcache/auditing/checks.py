"""The checks of an audit.

A check is a short function that takes an `AuditInput` and yields one `Hit` for each problem. `CHECKS` lists them all.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..audio.channels import CHOOSE
from ..audio.levels import SILENT
from ..audio.spans import OVERLAP, overlaps
from ..dataset import Dataset
from ..manifest import Clip, Manifest
from .baseline import baseline_text, is_above_chance, uar_of_nearest_mean
from .measure import Measurement

T = TypeVar("T")
K = TypeVar("K")

FAULT, NOTE = "fault", "note"
QUIET = 400 / 32_768  # a clip with a smaller peak is very quiet; 1 is full scale
CLIPPED = 3  # a clip with at least this many consecutive samples at full scale is clipped
SECONDS = (0.25, 30.0)  # shortest and longest clip if the dataset declares no range, in seconds
TOLERANCE = 0.1  # seconds beyond a declared range: the duration of a resampled or re-encoded copy differs a little
PUBLISHED_SUFFIX = ".wav"  # format of the files that published checksums belong to
OFFSET = 0.01  # a clip whose mean is further from 0 has a constant offset; 1 is full scale
ODD_LEVEL = 10.0  # decibels by which a speaker's median level may differ from that of the others
EXAMPLES = 3  # number of clip ids shown in one line

Hit = tuple[tuple[str, ...], str]  # the ids of the clips that have the problem, and a line that describes it


@dataclass(frozen=True)
class AuditInput:
    """The data that the checks examine."""

    spec: Dataset
    root: Path
    files: tuple[Measurement, ...]  # all files
    clips: tuple[Measurement, ...]  # the files without second copies
    checksums: Mapping[str, str]  # clip id -> published SHA-256; empty if none are published
    other_audio: tuple[Path, ...] = ()  # audio files below the root that are not clips of the dataset
    speakers_are_clips: bool = False  # whether the user says that each clip is of another person
    assumptions: tuple[str, ...] = ()  # what was assumed when the folder was scanned

    @property
    def readable(self) -> Iterator[Measurement]:
        """The clips that can be decoded."""
        return (measurement for measurement in self.clips if not measurement.fault)

    @property
    def unique_clips(self) -> list[Clip]:
        """One clip for each clip id."""
        return [group[0].clip for group in _group_by_id(self.clips).values()]

    @property
    def manifest(self) -> Manifest:
        """The clips with the keys of their files."""
        clips = tuple(replace(measurement.clip, key=measurement.key) for measurement in self.clips)
        return Manifest(clips[0].dataset, clips)

    @property
    def ids(self) -> set[str]:
        """The distinct clip ids."""
        return {measurement.clip_id for measurement in self.clips}

    def relative(self, path: str | Path) -> str:
        """Return a path relative to the folder of the dataset."""
        return os.path.relpath(path, folder_of(self.root))


@dataclass(frozen=True)
class Check:
    """One kind of problem, how to find it, and how to explain it."""

    kind: str
    severity: str  # FAULT or NOTE
    explanation: str  # what the problem means and what to do
    find: Callable[[AuditInput], Iterable[Hit]]
    may_be_published: bool = False  # whether a known fault of the dataset can explain a hit; False: only this copy can


def folder_of(root: Path) -> Path:
    """Return `root` itself if it is a folder, or the folder of a CSV file."""
    return root if root.is_dir() else root.parent


def group_by(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Group items by `key`. The groups are in the order of their first items."""
    groups: defaultdict[K, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(groups)


def _find_unreadable(data: AuditInput) -> Iterator[Hit]:
    for clip in data.clips:
        if clip.fault:
            yield (clip.clip_id,), f"{clip.clip_id}: {clip.fault}"


def _find_clashing_ids(data: AuditInput) -> Iterator[Hit]:
    for clip_id, group in _group_by_id(data.clips).items():
        if len(group) > 1:
            speakers = len({member.clip.speaker for member in group}) > 1
            files = [_describe_file(data, member, speakers) for member in group]
            yield (clip_id,), f"{clip_id}: {' and '.join(files)}"


def _find_spellings(data: AuditInput) -> Iterator[Hit]:
    yield from (((), line) for line in data.manifest.differing_spellings())


def _find_clips_as_speakers(data: AuditInput) -> Iterator[Hit]:
    if not data.speakers_are_clips and (doubt := data.manifest.doubt_about_speakers()):
        yield (), doubt


def _find_assumptions(data: AuditInput) -> Iterator[Hit]:
    yield from (((), line) for line in data.assumptions)


def _find_second_copies(data: AuditInput) -> Iterator[Hit]:
    kept = {id(clip) for clip in data.clips}
    for file in data.files:
        if id(file) not in kept:
            yield (file.clip_id,), data.relative(file.clip.path)


def _find_missing(data: AuditInput) -> Iterator[Hit]:
    spec, present = data.spec, data.ids
    if data.checksums:
        yield from (((clip_id,), clip_id) for clip_id in sorted(set(data.checksums) - present))
    elif spec.n_clips and len(present) < spec.n_clips:
        absent_speakers = (spec.n_speakers or 0) - len({clip.clip.speaker for clip in data.clips})
        speakers = f"; {absent_speakers} of {spec.n_speakers} speakers have no clips" if absent_speakers > 0 else ""
        yield (), f"{spec.n_clips - len(present)} of {spec.n_clips} clips are missing{speakers}"


def _find_extra(data: AuditInput) -> Iterator[Hit]:
    spec, present = data.spec, data.ids
    if data.checksums:
        yield from (((clip_id,), clip_id) for clip_id in sorted(present - set(data.checksums)))
    elif spec.n_clips and len(present) > spec.n_clips:
        yield (), f"{len(present)} clips, but only {spec.n_clips} were published"


def _find_uneven(data: AuditInput) -> Iterator[Hit]:
    """Find speakers that have more or fewer clips of a label than most speakers have.

    The check applies only if the published dataset is even: the usual number of clips of each label, summed over the
    labels and multiplied by the number of speakers, must give the published number of clips. Example: if most speakers
    have 2 clips of each of 3 labels, 4 speakers have 24 clips; a dataset of 24 clips is even, one of 25 clips is not.
    """
    spec = data.spec
    cells = Counter((clip.label, clip.speaker) for clip in data.unique_clips)
    speakers = sorted({speaker for _, speaker in cells})
    labels = sorted({label for label, _ in cells})
    usual = {label: _most_common([cells[label, speaker] for speaker in speakers]) for label in labels}
    if data.checksums or not spec.n_clips or sum(usual.values()) * (spec.n_speakers or 0) != spec.n_clips:
        return
    for speaker in speakers:
        for label, expected in usual.items():
            if (n_clips := cells[label, speaker]) != expected:
                yield (), f"speaker {speaker}, {label}: has {n_clips}, others have {expected}"


def _find_one_label(data: AuditInput) -> Iterator[Hit]:
    labels = sorted({clip.label for clip in data.unique_clips})
    if len(labels) == 1:
        yield (), f"all {len(data.unique_clips)} clips have the label '{labels[0]}'"


def _find_altered(data: AuditInput) -> Iterator[Hit]:
    for clip in data.clips:
        published = data.checksums.get(clip.clip_id)
        if published and clip.key and _has_published_format(clip) and clip.key != published.lower():
            yield (clip.clip_id,), f"{clip.clip_id}: SHA-256 {clip.key[:12]}…, published {published[:12]}…"


def _find_converted(data: AuditInput) -> Iterator[Hit]:
    for clip in data.clips:
        if clip.clip_id in data.checksums and not _has_published_format(clip):
            yield (clip.clip_id,), data.relative(clip.clip.path)


def _find_contradictions(data: AuditInput) -> Iterator[Hit]:
    yield from (_describe_identical(group) for group in _identical_groups(data) if len(_tags(group)) > 1)


def _find_identical(data: AuditInput) -> Iterator[Hit]:
    yield from (_describe_identical(group) for group in _identical_groups(data) if len(_tags(group)) == 1)


def _find_overlaps(data: AuditInput) -> Iterator[Hit]:
    clips = [replace(measurement.clip, seconds=measurement.seconds) for measurement in data.readable]
    for a, b, seconds in overlaps(clips):
        one, other = clips[a], clips[b]
        if one.label != other.label:
            ids = one.clip_id, other.clip_id
            yield ids, f"{ids[0]} ({one.label}) and {ids[1]} ({other.label}): {seconds:.2f} s"


def _find_silent(data: AuditInput) -> Iterator[Hit]:
    for clip in data.readable:
        if clip.half_range < SILENT:
            yield (clip.clip_id,), f"{clip.clip_id}: {clip.seconds:.2f} s, peak {clip.peak:.6f}"


def _find_quiet(data: AuditInput) -> Iterator[Hit]:
    for clip in data.readable:
        if clip.peak < QUIET and clip.half_range >= SILENT:
            yield (clip.clip_id,), f"{clip.clip_id}: peak {clip.peak * 32_768:.0f} of 32768"


def _find_clipped(data: AuditInput) -> Iterator[Hit]:
    for clip in data.readable:
        if clip.clipped_run >= CLIPPED:
            yield (clip.clip_id,), f"{clip.clip_id}: {clip.clipped_run} consecutive samples"


def _find_odd_durations(data: AuditInput) -> Iterator[Hit]:
    shortest, longest = data.spec.seconds or SECONDS
    tolerance = TOLERANCE if data.spec.seconds else 0.0
    for clip in data.readable:
        if not shortest - tolerance <= clip.seconds <= longest + tolerance:
            yield (clip.clip_id,), f"{clip.clip_id}: {clip.seconds:.2f} s, wanted {shortest:g} to {longest:g} s"


def _find_odd_rates(data: AuditInput) -> Iterator[Hit]:
    groups = group_by(data.readable, lambda clip: clip.rate)
    expected = data.spec.rates or _largest_group(groups)
    source = "the published rate is" if data.spec.rates else "most have"
    for rate in sorted(set(groups) - set(expected)):
        yield _describe_group(groups[rate], f"at {rate} Hz, {source} {' or '.join(map(str, expected))} Hz")


def _find_odd_channels(data: AuditInput) -> Iterator[Hit]:
    groups = group_by(data.readable, lambda clip: clip.channels)
    usual = _largest_group(groups)
    for channels in sorted(set(groups) - set(usual)):
        yield _describe_group(groups[channels], f"{_channel_name(channels)}, most are {_channel_name(usual[0])}")


def _find_channel_doubts(data: AuditInput) -> Iterator[Hit]:
    for doubt, clips in group_by(data.readable, lambda clip: clip.channel_doubt).items():
        if doubt:
            yield _describe_group(clips, f"with {doubt}")


def _find_level_doubts(data: AuditInput) -> Iterator[Hit]:
    audible = [clip for clip in data.readable if clip.half_range >= SILENT]  # a silent one has a check of its own
    for doubt, clips in group_by(audible, lambda clip: clip.level_doubt).items():
        if doubt:
            yield _describe_group(clips, f"with {doubt}")


def _find_offsets(data: AuditInput) -> Iterator[Hit]:
    for clip in data.readable:
        if abs(clip.offset) > OFFSET and clip.half_range >= SILENT and clip.seconds >= SECONDS[0]:
            yield (clip.clip_id,), f"{clip.clip_id}: mean {clip.offset:+.3f} of full scale"


def _find_odd_levels(data: AuditInput) -> Iterator[Hit]:
    """Find speakers whose median level is far from the median of the other speakers' medians."""
    by_speaker = group_by(_audible(data), lambda clip: clip.clip.speaker)
    medians = {speaker: float(np.median([clip.level for clip in clips])) for speaker, clips in by_speaker.items()}
    for speaker in sorted(medians):
        others = [level for other, level in medians.items() if other != speaker]
        usual = float(np.median(others)) if others else medians[speaker]
        if abs(medians[speaker] - usual) > ODD_LEVEL:
            yield (), f"speaker {speaker}: median level {medians[speaker]:.1f} dB, others {usual:.1f} dB"


def _find_baselines(data: AuditInput) -> Iterator[Hit]:
    """Find what duration and level alone tell about the labels, if it is clearly more than chance."""
    clips = list(_audible(data))
    labels = np.array([clip.clip.label for clip in clips])
    speakers = np.array([clip.clip.speaker for clip in clips])
    n_labels = len(set(labels.tolist()))
    if n_labels < 2:
        return
    seconds, level, peak = np.array([(np.log(c.seconds), c.level, 20 * np.log10(c.peak)) for c in clips]).T
    features = {"duration": [seconds], "level": [level], "peak": [peak], "duration and level": [seconds, level]}
    for name, columns in features.items():
        uar = uar_of_nearest_mean(np.stack(columns, axis=1), labels, speakers)
        if is_above_chance(uar, labels):
            yield (), baseline_text(name, uar, n_labels)


def _audible(data: AuditInput) -> Iterator[Measurement]:
    return (clip for clip in data.readable if clip.half_range >= SILENT and clip.clip.speaker)


def _find_other_audio(data: AuditInput) -> Iterator[Hit]:
    yield from (((), data.relative(path)) for path in data.other_audio)


FETCH_AGAIN = "Copy or download these files again"
CHECKS = (
    Check("unreadable", FAULT, f"{FETCH_AGAIN}, or leave them out with `ser extract --skip-bad`.", _find_unreadable),
    Check("missing", FAULT, "This copy is incomplete. `ser datasets` names its source.", _find_missing),
    Check(
        "extra",
        FAULT,
        "These clips are not part of the published dataset. Move them away, or use --dataset folder.",
        _find_extra,
    ),
    Check(
        "uneven",
        FAULT,
        "As published, all speakers have the same number of clips of a label. Look for lost or added clips.",
        _find_uneven,
    ),
    Check(
        "one label",
        FAULT,
        "A classifier needs at least two labels. Check the folder names, or the column `label` of the CSV.",
        _find_one_label,
    ),
    Check(
        "speaker names",
        FAULT,
        "Names that differ only in case, blanks, leading zeros or the form of their characters count as equal. Give a "
        "person one name, and two people names that differ in more.",
        _find_spellings,
    ),
    Check(
        "clips as speakers",
        FAULT,
        "If not, rename the files to <label>/<speaker>_<anything>.wav, or write a CSV with the columns path, label, "
        "speaker. If each clip is of another person, add --speakers-are-clips.",
        _find_clips_as_speakers,
    ),
    Check("altered", FAULT, f"These files differ from the published files. {FETCH_AGAIN}.", _find_altered),
    Check(
        "clashing ids",
        FAULT,
        "One clip id has two different files or labels. Remove or rename one file of each pair.",
        _find_clashing_ids,
    ),
    Check(
        "contradiction",
        FAULT,
        "The same recording, byte for byte, has two labels or speakers. Remove the wrong copy, or correct the CSV.",
        _find_contradictions,
        may_be_published=True,
    ),
    Check(
        "overlap",
        FAULT,
        f"Spans of two labels share more than {OVERLAP:g} s of a recording. Correct the bounds, or remove one of each.",
        _find_overlaps,
    ),
    Check(
        "silent",
        FAULT,
        f"The signal varies by less than {SILENT:g} of full scale. {FETCH_AGAIN}, or remove them.",
        _find_silent,
        may_be_published=True,
    ),
    Check(
        "duration",
        FAULT,
        "These clips are too short or too long. Cut, repair or remove them.",
        _find_odd_durations,
        may_be_published=True,
    ),
    Check(
        "identical",
        NOTE,
        "The same recording, byte for byte, has two clip ids, so it counts twice.",
        _find_identical,
        may_be_published=True,
    ),
    Check("assumed", NOTE, "Names and tables were read in this way. Correct them if this is wrong.", _find_assumptions),
    Check(
        "second copy",
        NOTE,
        "The folder holds a second copy of these clips, such as a nested copy of the tree. It is left out.",
        _find_second_copies,
    ),
    Check(
        "very quiet",
        NOTE,
        "The peak is below 400 of 32768. These clips are used unchanged.",
        _find_quiet,
        may_be_published=True,
    ),
    Check(
        "clipped",
        NOTE,
        f"{CLIPPED} or more consecutive samples are at full scale. These clips are used unchanged.",
        _find_clipped,
        may_be_published=True,
    ),
    Check("rate", NOTE, "These clips are resampled when they are encoded.", _find_odd_rates, may_be_published=True),
    Check(
        "channels",
        NOTE,
        "Most clips have another number of channels. All are mixed down to mono when they are encoded.",
        _find_odd_channels,
        may_be_published=True,
    ),
    Check("channel sound", NOTE, f"The mean of the channels is used. {CHOOSE}", _find_channel_doubts),
    Check(
        "scale",
        NOTE,
        "The sound may have another scale than that of the other clips. Write these clips again from their source.",
        _find_level_doubts,
    ),
    Check(
        "offset",
        NOTE,
        "The samples have a constant offset, which is not removed. Encoders that normalise their input, as wav2vec 2.0 "
        "base does, do not see it.",
        _find_offsets,
    ),
    Check(
        "speaker level",
        NOTE,
        f"These speakers are more than {ODD_LEVEL:g} dB louder or quieter than the others, so heads see other "
        "vectors of them. Compare the files with the published ones.",
        _find_odd_levels,
    ),
    Check(
        "baseline",
        NOTE,
        "By the nearest class mean, on other speakers. A head that is not better has not learned more than this.",
        _find_baselines,
    ),
    Check(
        "not compared",
        NOTE,
        f"The published checksums belong to {PUBLISHED_SUFFIX[1:].upper()} files. A converted copy always differs.",
        _find_converted,
    ),
    Check(
        "other audio",
        NOTE,
        "These audio files are below the root but are not clips of this dataset. They are ignored.",
        _find_other_audio,
    ),
)


def _group_by_id(clips: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    return group_by(clips, lambda clip: clip.clip_id)


def _identical_groups(data: AuditInput) -> Iterator[list[Measurement]]:
    """Yield groups of clips that have the same bytes but different ids."""
    for group in group_by((clip for clip in data.clips if clip.key), lambda clip: clip.key).values():
        if len({clip.clip_id for clip in group}) > 1:
            yield group


def _tags(clips: Iterable[Measurement]) -> set[tuple[str, str]]:
    """Return the distinct pairs of label and speaker."""
    return {(clip.clip.label, clip.clip.speaker) for clip in clips}


def _describe_file(data: AuditInput, file: Measurement, speaker: bool) -> str:
    """Return the path and label of a file, with its speaker if asked for."""
    who = f", speaker {file.clip.speaker}" if speaker else ""
    return f"{data.relative(file.clip.path)} ({file.clip.label}{who})"


def _describe_identical(group: Sequence[Measurement]) -> Hit:
    names = [f"{clip.clip_id} ({clip.clip.label}, speaker {clip.clip.speaker})" for clip in group]
    return tuple(clip.clip_id for clip in group), " = ".join(names)


def _describe_group(group: Sequence[Measurement], text: str) -> Hit:
    """Describe many clips with the same problem in one line that names the first few of them."""
    ids = tuple(clip.clip_id for clip in group)
    rest = f", … and {len(ids) - EXAMPLES} more" if len(ids) > EXAMPLES else ""
    return ids, f"{len(ids)} {text}: {', '.join(ids[:EXAMPLES])}{rest}"


def _channel_name(channels: int) -> str:
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels}-channel")


def _has_published_format(clip: Measurement) -> bool:
    return Path(clip.clip.path).suffix.lower() == PUBLISHED_SUFFIX


def _largest_group(groups: Mapping[int, Sequence[Measurement]]) -> tuple[int, ...]:
    """Return the value that most clips have, as a tuple of one; an empty tuple if there are no clips."""
    return (max(groups, key=lambda value: len(groups[value])),) if groups else ()


def _most_common(counts: Sequence[int]) -> int:
    return Counter(counts).most_common(1)[0][0]
