"""Dataset adapters: the facts about a dataset, and a function that lists the clips in a folder.

The adapters of the built-in datasets are in `datasets/`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from .audio.decode import SUFFIXES, VIDEOS
from .errors import DataError, complain
from .manifest import KNOWN_FAULT, PARTITION, SKIPPED, Clip, Manifest, is_unknown
from .registry import Registry

# Folders that macOS, Windows, Linux and Synology make: copies, deleted files, indexes. They contain no clips.
SYSTEM_FOLDERS = frozenset(
    {"__macosx", "$recycle.bin", "system volume information", "lost+found", "found.000"}
    | {"@eadir", "#recycle", "@recycle", "@recently-snapshot"}
)
FOLDS = 5  # folds of `ser compare` by default
SAMPLE = 200  # number of file names from which the dataset of a tree is recognised

Folds = tuple[tuple[str, ...], ...]  # for each fold, the speakers or clip ids that are tested
Parse = Callable[[re.Match[str], Path], Clip | None]


@dataclass(frozen=True)
class Scanned:
    """The clips that were found, and notes on what was assumed, a sentence each."""

    clips: list[Clip]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Remote:
    """A file on a server."""

    url: str
    path: str  # path below the dataset's folder; a .zip file is unpacked into the folder that holds it
    size: int | None = None  # size in bytes; None if unknown
    checksum: str = ""  # "md5:…" or "sha256:…"; "" if no checksum is published


@dataclass(frozen=True)
class KnownFault:
    """A fault in a dataset as it was published."""

    clips: tuple[str, ...]  # ids of the clips that have the fault
    description: str  # the fault, for people: "has no sound"
    source: str  # who reports the fault
    left_out: bool = False  # whether the clips are left out by default
    treatment: str = "left out"  # how the clips are handled, for people; needed if they are not left out


@dataclass(frozen=True)
class Dataset:
    """The facts about a dataset, and the function `scan` that lists its clips.

    Folds are written as the speakers (or clip ids) that are tested in each fold; the remaining clips are for training.
    Partitions are in `extra["partition"]` of the clips: train, dev, test, or other names, such as test1, for testing.
    `remotes` returns the files that `ser download` fetches. Its argument is a function that fetches a small document
    from a URL, for servers that publish a list of their files.
    """

    name: str  # name on the command line and in files: "ravdess"
    title: str  # name for people: "RAVDESS, speech"
    licence: str
    citation: str
    source: str  # URL from which the dataset can be obtained
    layout: str  # description of the file names, for messages
    scan: Callable[[Path], list[Clip] | Scanned]  # folder -> clips, with notes if there are any; raises DataError
    labels: tuple[str, ...] = ()  # labels of the dataset; () if the data decide
    n_clips: int | None = None  # published number of clips
    n_speakers: int | None = None  # published number of speakers
    corpus: str = ""  # name of the corpus that shares speakers and texts between datasets; "" for `name`
    acted: bool = False  # whether the emotions are known to be played by actors, scripted or improvised
    language: str = ""  # language of all clips; "" if it differs between clips or is unknown
    names: re.Pattern[str] | None = None  # searched in `<folder>/<name without suffix>`; matches the dataset's files
    videos: bool = False  # whether clips may be videos, of which the sound counts
    official_folds: Folds = ()  # folds by speaker
    official_source: str = ""  # where the official folds come from
    official_partitions: bool = False  # whether the clips are published in partitions, which `scan` puts into `extra`
    emo_superb_folds: Folds = ()  # folds by speaker of the benchmark EMO-SUPERB
    published_folds: Callable[[], Folds] | None = None  # folds by clip id, if the published folds divide speakers
    known_faults: tuple[KnownFault, ...] = ()
    checksums: Callable[[], Mapping[str, str]] | None = None  # returns clip id -> SHA-256 of the published file
    seconds: tuple[float, float] | None = None  # durations of the shortest and the longest clip, in seconds
    rates: tuple[int, ...] = ()  # published sample rates, in Hz
    remotes: Callable[[Callable[[str], bytes]], Sequence[Remote]] | None = None  # files that `ser download` fetches
    how_to_apply: str = ""  # how to request a dataset that cannot be downloaded without permission

    def manifest(self, root: str | Path | None = None, keep_known_faults: bool = False) -> Manifest:
        """Return the manifest of the clips below the folder `root`, sorted by clip id.

        If `root` is None, `find_root` chooses the folder. Clips with a known fault that are left out by default are
        marked as skipped, with the reason, unless `keep_known_faults` is true. Raises DataError if the folder is
        missing, has no clips, holds a file that does not belong to the dataset, or holds another dataset.
        """
        root = find_root(self, root)
        scanned = self._scan(root)
        clips = sorted(scanned.clips, key=lambda clip: (clip.clip_id, len(clip.path), clip.path))
        if not clips:
            raise DataError(f"{root}: no {self.name} clips in it; wanted {self.layout}.", self.how_to_get())
        language = {"language": self.language} if self.language else {}
        clips = [replace(clip, extra={**language, **clip.extra}) for clip in clips]
        if not keep_known_faults:
            clips = [self._mark_known_fault(clip) for clip in clips]
        return Manifest(clips[0].dataset, tuple(clips), scanned.notes)

    def how_to_get(self) -> str:
        """Return a sentence with the source of the recordings, their licence and the way to get them."""
        advice = f" {self.how_to_apply}" if self.how_to_apply else ""
        if self.remotes:
            advice = f" Fetch it with `ser download {self.name}`."
        return f"{self.title}: {self.source} ({self.licence}).{advice}"

    def _scan(self, root: Path) -> Scanned:
        """Return the clips of a tree. Raises DataError if the tree is another dataset's, or as `scan` does."""
        fault = None
        try:
            found = self.scan(root)
            scanned = found if isinstance(found, Scanned) else Scanned(found)
            if scanned.clips:
                return scanned
        except DataError as error:
            fault = error
        if fault and (mixture := _mixture_message(root)):
            raise DataError(mixture) from fault
        if other := recognise_dataset(root, exclude=self.names):
            raise DataError(_wrong_dataset_message(root, self, other)) from fault
        if fault:
            raise fault
        return Scanned([])

    def _mark_known_fault(self, clip: Clip) -> Clip:
        """Return the clip, marked as skipped if it has a known fault and is left out by default."""
        for fault in self.known_faults:
            if fault.left_out and clip.clip_id in fault.clips:
                return replace(clip, extra={**clip.extra, SKIPPED: f"{KNOWN_FAULT}: {fault.description}"})
        return clip


# The adapters import this module, so it names their package as text instead of importing it.
registry: Registry[Dataset] = Registry(
    "dataset", "embedcache.datasets", "For recordings of your own: --dataset folder --root DIR", spec_class=Dataset
)


def corpus_of(dataset: str) -> str:
    """Return the name of the corpus of a dataset; datasets of one corpus share their speakers."""
    spec = registry.find(dataset)
    return (spec.corpus if spec else "") or dataset


def comparison_options(manifest: Manifest) -> str:
    """Return the options with which `ser compare` can compare heads on new speakers of a dataset; "" for none needed.

    Partitions of the clips come first. The default protocol needs FOLDS speakers and a label with as many clips, and
    every label from two speakers. Returns the protocol for known speakers, as the last resort, if there is only one
    speaker, or a label of one speaker.
    """
    spec = registry.find(manifest.dataset)
    if _has_partitions(manifest):
        return " --protocol official" if spec and spec.official_partitions else " --protocol partition"
    clips = [clip for clip in manifest.usable if not is_unknown(clip.speaker)]
    speakers = {clip.speaker for clip in clips}
    by_label = [[clip.speaker for clip in clips if clip.label == label] for label in {clip.label for clip in clips}]
    if min((len(set(found)) for found in by_label), default=0) < 2:
        return " --protocol random"
    if len(speakers) >= FOLDS and max(map(len, by_label)) >= FOLDS:
        return ""
    tested = {speaker for fold in (spec.official_folds if spec else ()) for speaker in fold}
    return " --protocol official" if tested and tested <= speakers else " --protocol loso"


def _has_partitions(manifest: Manifest) -> bool:
    """Whether clips are divided into training and test clips, with or without development clips."""
    partitions = {clip.extra.get(PARTITION, "") for clip in manifest.usable}
    return "train" in partitions and bool(partitions - {"train", "dev", ""})


def find_root(dataset: Dataset, root: str | Path | None) -> Path:
    """Return the folder of a dataset: `root`, or else `$SER_DATA/<dataset>`, or else `data/<dataset>`.

    Raises DataError if no such folder exists.
    """
    shared = os.environ.get("SER_DATA")
    defaults = [Path(folder) / dataset.name for folder in (shared, "data") if folder]
    candidates = [Path(root)] if root else defaults
    for folder in candidates:
        if folder.exists():
            return folder.resolve()
    missing = " and ".join(map(str, candidates))
    absent = f"no {dataset.name} recordings: {missing} does not exist. Name their folder with --root."
    raise DataError(absent, dataset.how_to_get())


def audio_files(root: Path, videos: bool = False) -> Iterator[Path]:
    """Yield every audio file below `root`, as `visible_files` does; also video files if `videos`."""
    return (path for path in visible_files(root) if is_audio(path, videos))


def is_audio(path: Path, videos: bool = False) -> bool:
    """Whether a file is audio by its suffix; with `videos`, or a video."""
    return path.suffix.lower() in SUFFIXES | (VIDEOS if videos else frozenset())


def suffix_counts(paths: Iterable[str | Path]) -> list[str]:
    """Return how many paths have each suffix, the most frequent first: `.txt (2)`, `no suffix (1)`."""
    suffixes = Counter(Path(path).suffix.lower() or "no suffix" for path in paths)
    return [f"{suffix} ({n})" for suffix, n in suffixes.most_common()]


def visible_files(root: Path) -> Iterator[Path]:
    """Yield every file below `root` that is not hidden, sorted by name within each folder.

    Links are followed, except links back to a folder on the path that led to them. Hidden files are ignored. Raises
    DataError for a folder that cannot be listed, and for a link that leads nowhere, unless it has the name of audio.
    """
    ancestors_of: dict[str, frozenset[str]] = {}  # folder -> real paths of the folders on the path to it
    for folder, subfolders, names in os.walk(root, onerror=_refuse_folder, followlinks=True):
        visited = ancestors_of.pop(folder, frozenset()) | {os.path.realpath(folder)}
        subfolders[:] = sorted(
            name for name in subfolders if not _is_hidden(name) and not _leads_back(folder, name, visited)
        )
        ancestors_of |= {os.path.join(folder, name): visited for name in subfolders}  # noqa: PTH118
        for path in (Path(folder, name) for name in sorted(names) if not _is_hidden(name)):
            if path.is_symlink() and not path.exists() and not is_audio(path, videos=True):
                raise DataError(f"{path}: links to {path.readlink()}, where nothing is. Mend or remove the link.")
            yield path


def parse_files(
    root: Path,
    layout: str,
    parse: Callable[[Path], Clip | None],
    videos: bool = False,
    advice: str = "Move or remove these files, or use --dataset folder.",
) -> list[Clip]:
    """Return the clips that `parse` makes of the audio files below `root`.

    `parse` returns None to leave a file out, and raises ValueError if the file does not belong to the dataset. Raises
    DataError that names all files that do not belong: no file is ignored silently. `layout` describes the file names.
    With `videos`, the sound of video files counts as well; published datasets have videos beside their audio files.
    `advice` says what to do with files that do not belong.
    """
    clips, complaints = [], []
    for path in audio_files(root, videos):
        try:
            _refuse_other_names(path)
            clip = parse(path)
        except ValueError as error:
            complaints.append(f"{path}: {error}")
            continue
        if clip is not None:
            clips.append(clip)
    if complaints:
        summary = f"{len(complaints)} files do not belong to the dataset"
        raise DataError(*complain(summary, complaints, f"Wanted {layout}. {advice}"))
    return clips


def scan_names(root: Path, layout: str, names: re.Pattern[str], parse: Parse) -> list[Clip]:
    """Return the clips below `root`, for a dataset whose file names describe the clips.

    The pattern `names` is searched in `<folder>/<name without suffix>` of each audio file, and `parse` is called with
    the match and the path. `parse` returns None to leave a file out, and raises ValueError if the name is wrong. Raises
    DataError that names all files that do not match or that `parse` refuses. `layout` describes the file names.
    """

    def parse_name(path: Path) -> Clip | None:
        match = names.search(_short_name(path))
        if match is None:
            raise ValueError("the name does not match the dataset's file names")
        return parse(match, path)

    return parse_files(root, layout, parse_name)


def _short_name(path: Path) -> str:
    """Return `<folder>/<name without suffix>` of a file."""
    return f"{path.parent.name}/{path.stem}"


def _short_names(root: Path, videos: bool) -> Iterator[str]:
    return map(_short_name, audio_files(root, videos))


def recognise_dataset(root: Path, exclude: re.Pattern[str] | None = None) -> Dataset | None:
    """Return the dataset whose file names match more than half of the first SAMPLE audio files below `root`.

    Datasets whose pattern is `exclude` are not considered. Returns None if no dataset matches.
    """
    first = {videos: [*islice(_short_names(root, videos), SAMPLE)] for videos in (False, True)}
    for spec in registry.all():
        if spec.names is None or spec.names == exclude:
            continue
        matches = sum(spec.names.search(name) is not None for name in first[spec.videos])
        if matches > len(first[spec.videos]) / 2:
            return spec
    return None


def _wrong_dataset_message(root: Path, wanted: Dataset, other: Dataset) -> str:
    """Return the error message for a tree of the dataset `other` that was read as the dataset `wanted`."""
    if wanted.names is None:
        return f"{root}: this looks like {other.title}. Use --dataset {other.name}, or a CSV with path, label, speaker."
    return f"{root}: this looks like {other.title}, not {wanted.title}. Use --dataset {other.name}, or another --root."


def _mixture_message(root: Path) -> str:
    """Return the error message for a tree that holds files of several datasets; "" for any other tree."""
    short_names = {videos: [*_short_names(root, videos)] for videos in (False, True)}
    specs = [spec for spec in registry.all() if spec.names]
    counts = {spec: sum(map(bool, map(spec.names.search, short_names[spec.videos]))) for spec in specs if spec.names}
    found = {spec.names: f"{n} of {spec.title}" for spec, n in reversed(counts.items()) if n}  # speech before song
    if len(found) < 2:
        return ""
    return (
        f"{root}: holds several datasets: {', '.join(sorted(found.values()))}. Give each dataset a folder of its own, "
        "and name that folder with --root."
    )


def _refuse_other_names(path: Path) -> None:
    """Raise ValueError if the path of an audio file is not valid UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError("the name is not UTF-8; rename the file") from error


def _refuse_folder(error: OSError) -> None:
    if isinstance(error, NotADirectoryError):  # a CSV file, in which nothing is searched
        return
    raise DataError(
        f"{error.filename}: the folder cannot be listed: {error.strerror}. Change its permissions, or move it away."
    ) from error


def _leads_back(folder: str, name: str, visited: frozenset[str]) -> bool:
    """Whether a subfolder links back to a folder that contains it, or to one of the real paths in `visited`.

    In `/data/a`, the link `loop -> /data` leads back, since `/data` contains `/data/a`. If the walk entered `/data/a`
    through the link `/data/b/to_a -> /data/a`, then `/data/b` is in `visited`, and a link to `/data/b` leads back, too.
    """
    real = os.path.realpath(os.path.join(folder, name))  # noqa: PTH118
    return real in visited or (os.path.realpath(folder) + os.sep).startswith(real + os.sep)


def _is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden by its name, or belongs to an operating system, as macOS's `._clip.wav`."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS
