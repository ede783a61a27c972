"""Clips and manifests: the audio files of a dataset with their labels, stored as a CSV file.

The columns of the CSV file are `dataset, clip_id, path, label, speaker, gender, key, seconds`, followed by further
columns of the dataset, such as `text` and `intensity`. The `key`, the SHA-256 of the file's bytes, connects a clip with
its vectors in a store.
"""

from __future__ import annotations

import csv
import functools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .errors import DataError, complain
from .files.atomic import atomic_write
from .files.tables import read_rows
from .text import common_spellings, count, examples, normal_name, quoted

SKIPPED = "skipped"  # extra column with the reason why a clip has no vector
CHANNEL = "channel"  # extra column with the number of the channel that is the clip, from 0
MIX, CHANNELS = (
    "mix",
    {"left": 0, "l": 0, "right": 1, "r": 1},
)  # names of the mean of all channels, and of single channels
START, END = "start", "end"  # extra columns of a segment: bounds of its span in seconds; no end is the recording's
UNKNOWN = "Unknown"  # speaker of a clip whose speaker is unknown: such clips may be of one person or of many
PARTITION = "partition"  # extra column with the published part of the clip: train, dev, test, test1, …
COPY_OF = "copy_of"  # extra column of an augmented copy, with the key of its clip
KNOWN_FAULT = "known fault"  # start of the reason in SKIPPED if the clip is one of the dataset's known faults
OWN = "folder-"  # start of the names of datasets that are a folder or a CSV of one's own, not a published corpus
# From this many clips on, more speakers per clip than this share are probably no speakers. A wrong column, or a file
# name that is read the wrong way round, gives 1; two clips of each speaker, which are few already, give 0.5.
MIN_CLIPS, MAX_SPEAKERS_PER_CLIP = 10, 0.8
COLUMNS = ("dataset", "clip_id", "path", "label", "speaker", "gender", "key", "seconds")
# Other names of columns in tables that people and other programs write, by their letters and digits.
SYNONYMS = {
    column: tuple(others.split())
    for column, others in {
        "path": "file filename filepath wav wavfile wavpath audio audiofile audiopath recording",
        "label": "emotion emo emotionlabel emoclass class target",
        "speaker": "speakerid speakername spk spkid spkr spkrid actor actorid subject subjectid participant",
        "gender": "sex speakergender",
        "clip_id": "uttid utteranceid",
        "text": "transcript transcription sentence utterance statement",
        "session": "sessionid",
        "language": "lang",
        "channel": "",
        "start": "starttime starts startsec startseconds starttimes starttimeinseconds begin begintime begintimes onset"
        " segmentstart segmentbegin uttstart tmin xmin t0",
        "end": "endtime ends endsec endseconds endtimes endtimeinseconds stop stoptime segmentend uttend tmax xmax t1",
        "partition": "split splitset subset phase",
    }.items()
}
# Other names of partitions, by their letters and digits.
PARTITIONS = {
    "train": ("train", "training", "trn", "trainset", "trainingset"),
    "dev": ("dev", "devel", "development", "val", "valid", "validate", "validation", "devset", "validationset"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "testset", "evaluationset"),
}
COMMON_PARTITIONS = {name: common for common, names in PARTITIONS.items() for name in names}


@dataclass(frozen=True)
class Span:
    """A part of a recording, in seconds from its begin."""

    start: float
    end: float | None = None  # None for the end of the recording

    def __str__(self) -> str:
        return f"from {self.start:g} s on" if self.end is None else f"{self.start:g} to {self.end:g} s"


@dataclass(frozen=True)
class Clip:
    """An audio file of a dataset, with its label and speaker."""

    dataset: str  # name of the dataset
    clip_id: str  # name of the clip, unique within its dataset
    path: str  # path of the audio file; "" if there is none, because the vectors were imported
    label: str  # emotion, as the dataset spells it
    speaker: str  # name of the speaker, unique within the dataset
    gender: str = ""  # "female", "male", or "" if unknown
    extra: Mapping[str, str] = field(default_factory=dict)  # further columns, such as text, intensity or session
    key: str = ""  # SHA-256 of the file's bytes, in hexadecimal; "" before the file is read
    seconds: float = 0.0  # duration in seconds; 0 before the file is read

    @property
    def channel(self) -> int | None:
        """The number of the channel that is the clip, from 0; None for the mean of all channels."""
        number = self.extra.get(CHANNEL, "")
        return int(number) if number.isascii() and number.isdigit() else None

    @property
    def span(self) -> Span | None:
        """The span of the recording that is the clip; None for the whole recording."""
        if START not in self.extra:
            return None
        return Span(float(self.extra[START]), float(self.extra[END]) if END in self.extra else None)

    @property
    def place(self) -> str:
        """The path of the recording, with the span if the clip is one, for messages."""
        return f"{self.path}, {self.span}" if self.span else self.path


@dataclass(frozen=True)
class Manifest:
    """The clips of a dataset, in order."""

    dataset: str
    clips: tuple[Clip, ...]
    notes: tuple[str, ...] = ()  # what was assumed when the dataset was scanned, a sentence each; not stored

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def labels(self) -> tuple[str, ...]:
        """The distinct labels, in alphabetical order."""
        return tuple(sorted({clip.label for clip in self.clips}))

    @property
    def speakers(self) -> tuple[str, ...]:
        """The distinct speakers, in alphabetical order."""
        return tuple(sorted({clip.speaker for clip in self.clips}))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all clips, in the order of the clips."""
        return tuple(clip.key for clip in self.clips)

    @property
    def usable(self) -> tuple[Clip, ...]:
        """The clips that are not skipped."""
        return tuple(clip for clip in self.clips if SKIPPED not in clip.extra)

    @property
    def skipped(self) -> tuple[Clip, ...]:
        """The clips that are left out of extraction; `extra["skipped"]` holds the reason."""
        return tuple(clip for clip in self.clips if SKIPPED in clip.extra)

    @property
    def is_own(self) -> bool:
        """Whether the dataset is a folder, a table or a file of vectors of one's own."""
        return self.dataset.startswith(OWN) or self.is_vectors_only

    @property
    def is_vectors_only(self) -> bool:
        """Whether the vectors of the dataset were imported without recordings."""
        return not any(clip.path for clip in self.clips)

    def with_channel(self, name: str) -> Manifest:
        """Return the manifest with a channel for the clips that have none; "" changes nothing.

        Raises DataError if `name` is not `left`, `right`, `mix` or a number from 0.
        """
        channel = channel_column(name)
        return replace(self, clips=tuple(replace(clip, extra={**channel, **clip.extra}) for clip in self.clips))

    def check(self) -> Manifest:
        """Return the manifest itself if it is valid.

        Raises DataError if there are no clips, if a clip id is repeated, or if a clip has no id, path, label or
        speaker; the message names several such clips at once. The dataset's name becomes part of file names, so a name
        that would lead out of its folder also raises DataError. So do speakers that are probably one person: see
        `check_speakers`.
        """
        return self._check_rows().check_speakers()

    def check_speakers(self) -> Manifest:
        """Return the manifest itself if no two of its speakers are known to be one person.

        Raises DataError if the names of two speakers have the same `normal_name`, or if a recording is listed under two
        speakers. Skipped clips do not count: two files without a sample are equal, whoever did not speak.
        """
        if spellings := list(self.differing_spellings()):
            advice = (
                "Names that differ only in case, blanks, leading zeros or the form of their characters count as equal. "
                "Give a person one name, and two people names that differ in more. Then run `ser extract` again."
            )
            raise DataError(*complain(f"'{self.dataset}' spells names of speakers in two ways", spellings, advice))
        if shared := list(self._shared_recordings()):
            advice = (
                "One recording has one speaker, so these are one person. Give all clips of this person the same "
                "speaker, or remove one of the clips. Then run `ser extract` again."
            )
            summary = f"'{self.dataset}' lists the same recording, byte for byte, under two speakers"
            raise DataError(*complain(summary, shared, advice))
        return self

    def differing_spellings(self) -> Iterator[str]:
        """Yield a line for each group of speakers whose names have the same `normal_name`."""
        clips, names = defaultdict(list), defaultdict(list)
        for clip in self.clips:
            clips[clip.speaker].append(clip.clip_id)
        for name in clips:
            names[normal_name(name)].append(name)
        for spellings in names.values():
            if len(spellings) > 1:
                yield " and ".join(f"{quoted(s)} ({count(len(clips[s]), 'clip')}: {clips[s][0]})" for s in spellings)

    def _shared_recordings(self) -> Iterator[str]:
        """Yield a line for each clip that has the recording of an earlier clip, but another speaker."""
        first: dict[str, Clip] = {}
        for clip in self.usable:
            kept = first.setdefault(clip.key, clip) if clip.key else clip
            if kept.speaker != clip.speaker and not (is_unknown(kept.speaker) or is_unknown(clip.speaker)):
                yield f"{kept.clip_id} (speaker {kept.speaker}) and {clip.clip_id} (speaker {clip.speaker})"

    def doubt_about_speakers(self) -> str:
        """Return a question if nearly every recording has a speaker of its own, which may be no speaker; else "".

        The speakers of published datasets are facts, so only a dataset of one's own is questioned.
        """
        recordings = len({clip.key or clip.clip_id for clip in self.clips})
        if not self.is_own or not are_clips_as_speakers(len(self.speakers), recordings):
            return ""
        clip = self.clips[0]
        path = "/".join(Path(clip.path).parts[-2:]) or clip.clip_id
        return (
            f"'{self.dataset}' has {len(self.speakers)} speakers in {count(len(self.clips), 'clip')}: nearly every "
            f"clip has a speaker of its own. Is '{clip.speaker}' the speaker of {path}?"
        )

    def _check_rows(self) -> Manifest:
        """Return the manifest itself if its clips have ids of their own and no empty cells. Raises DataError."""
        if not self.clips:
            raise DataError(f"manifest '{self.dataset}' lists no clips; wanted at least one.")
        if self.dataset == ".." or set(self.dataset) & set("/\\\0"):
            raise DataError(f"a manifest names the dataset {self.dataset!r}; wanted a name without / and \\.")
        times = Counter(clip.clip_id for clip in self.clips)
        complaints = [f"{clip_id}: listed {n} times" for clip_id, n in times.items() if n > 1]
        for column in ("label", "speaker", "clip_id", "path"):
            complaints += [
                f"{clip.clip_id or clip.path}: no {column}"
                for clip in self.clips
                if not getattr(clip, column) and not (column == "path" and clip.key)
            ]
        unseen = {name for name in self.speakers if name and not normal_name(name)}
        complaints += [f"{clip.clip_id}: no speaker that is seen" for clip in self.clips if clip.speaker in unseen]
        if complaints:
            raise DataError(
                *complain(f"manifest '{self.dataset}' has faults", complaints, "Correct these rows and try again.")
            )
        return self

    def to_csv(self, path: str | Path) -> None:
        """Write the manifest to a CSV file, which is complete or absent afterwards."""
        extras = sorted({name for clip in self.clips for name in clip.extra})
        with atomic_write(Path(path)) as file:
            writer = csv.writer(file)
            writer.writerow([*COLUMNS, *extras])
            for clip in self.clips:
                cells = [str(getattr(clip, column)) for column in COLUMNS]
                writer.writerow(cells + [clip.extra.get(name, "") for name in extras])

    @classmethod
    def from_csv(cls, path: str | Path, check_speakers: bool = True) -> Manifest:
        """Read a manifest from a CSV file. Raises DataError if the file is not a valid manifest.

        With `check_speakers` false, the manifest may have speakers that `Manifest.check_speakers` refuses: for readers
        that need no speakers, and for `ser extract`, which replaces such a manifest by a corrected one.
        """
        path = Path(path)
        clips = tuple(_make_clip(row, path) for row in read_rows(path, COLUMNS))
        datasets = sorted({clip.dataset for clip in clips})
        if len(datasets) > 1:
            raise DataError(f"{path}: names several datasets: {', '.join(datasets)}; wanted one. Split the file.")
        manifest = cls(datasets[0] if datasets else path.stem, clips)._check_rows()
        return manifest.check_speakers() if check_speakers else manifest

    def inherit_skips(self, old: Manifest) -> Manifest:
        """Return the manifest with the skipped clips of an older manifest of the same recordings.

        A clip that one encoder had to skip is thus skipped for all encoders, so that encoders are compared on the same
        clips. Known faults are not taken over, since the dataset adapter marks them. Raises DataError if the older
        manifest of a dataset of one's own has none of these paths, and less than half of these keys: it lists other
        recordings under the same name.
        """
        keys = {*self.keys} - {""}
        moved = bool(keys) and 2 * len(keys & {*old.keys}) >= len(keys)
        if self.is_own and not moved and {c.path for c in self.clips}.isdisjoint(c.path for c in old.clips):
            raise DataError(
                f"'{self.dataset}' already names other recordings ({old.clips[0].path}). Rename this folder or CSV, "
                f"choose another --artifacts, or remove the list of those recordings: ser cache rm {self.dataset}"
            )
        reasons = {(clip.clip_id, clip.key): clip.extra[SKIPPED] for clip in old.skipped}
        skipped = {clip: reason for clip, reason in reasons.items() if not reason.startswith(KNOWN_FAULT)}
        clips = (_mark_skipped(clip, skipped.get((clip.clip_id, clip.key))) for clip in self.clips)
        return replace(self, clips=tuple(clips))


def common_partition(cell: str) -> str:
    """Return the name of a partition: train, dev, test, or the cell in lower case without blanks, such as test1."""
    name = re.sub(r"[\W_]+", "", cell.casefold())
    return COMMON_PARTITIONS.get(name, name)


def channel_column(name: str) -> dict[str, str]:
    """Return the extra column of a channel by its name; nothing for "". Raises DataError as `parse_channel` does."""
    number = parse_channel(name)
    return {CHANNEL: MIX if number is None else str(number)} if name.strip() else {}


def parse_channel(text: str) -> int | None:
    """Return the number of a channel, from 0; None for "" and `mix`, the mean. Raises DataError for another text."""
    name = re.sub(r"\.0+$", "", text.strip().lower())  # 1.0, as pandas writes 1 beside an empty cell
    if name in ("", MIX):
        return None
    number = CHANNELS.get(name, int(name) if name.isascii() and name.isdigit() and len(name) < 4 else None)
    if number is None:
        raise DataError(f"got the channel '{text}'; wanted left, right, {MIX}, or a number from 0. Correct it.")
    return number


def with_common_labels(clips: Sequence[Clip]) -> tuple[list[Clip], list[str]]:
    """Return clips with one spelling for labels that differ only in case or form, and a note if labels are changed."""
    spellings = common_spellings([clip.label for clip in clips])
    changes = examples([f"{quoted(label)} as {quoted(common)}" for label, common in spellings.items()], 8)
    notes = [f"labels that differ only in case or form are one label: reads {changes}."] if spellings else []
    return [replace(clip, label=spellings.get(clip.label, clip.label)) for clip in clips], notes


@functools.lru_cache(1 << 16)  # many clips have the same speaker
def is_unknown(speaker: str) -> bool:
    """Whether the name of a speaker says that the speaker is unknown: `unknown`, or `corpus:unknown` in a union."""
    return normal_name(speaker.rpartition(":")[2]) == UNKNOWN.lower()


def are_clips_as_speakers(n_speakers: int, n_recordings: int) -> bool:
    """Whether there are nearly as many speakers as recordings, so that the speakers may be names of clips."""
    return n_recordings >= MIN_CLIPS and n_speakers > MAX_SPEAKERS_PER_CLIP * n_recordings


def _mark_skipped(clip: Clip, reason: str | None) -> Clip:
    """Return the clip, marked as skipped if there is a reason and it is not marked already."""
    return replace(clip, extra={SKIPPED: reason, **clip.extra}) if reason else clip


def _make_clip(row: dict[str, str], path: Path) -> Clip:
    """Return the clip of a row of the manifest at `path`. Raises DataError if the duration is not a valid number."""
    extra = {name: value for name, value in row.items() if name not in COLUMNS and value}
    try:
        seconds = float(row["seconds"] or 0)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataError(
            f"{path}: clip {row['clip_id']}: seconds is '{row['seconds']}'; wanted a duration in seconds, 0 or more."
        )
    _check_span(row, path)
    values = {column: row[column] for column in COLUMNS if column != "seconds"}
    values["key"] = values["key"].lower()  # hexadecimal digits are compared as text
    return Clip(**values, seconds=seconds, extra=extra)


def _check_span(row: Mapping[str, str], path: Path) -> None:
    """Raise DataError if the bounds of a segment are no numbers."""
    for column in (START, END):
        try:
            is_time = math.isfinite(float(row.get(column) or 0))
        except ValueError:
            is_time = False
        if not is_time or (row.get(END) and not row.get(START)):
            raise DataError(
                f"{path}: clip {row['clip_id']}: {column} is '{row.get(column, '')}'; wanted a time in seconds. Run "
                "`ser extract` again."
            )
