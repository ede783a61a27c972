"""What a dataset adapter is: facts, and a function from a folder to clips. The adapters lie in `datasets/`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from .audio.decode import SUFFIXES
from .errors import DataError, complain
from .manifest import KNOWN_FAULT, SKIPPED, Clip, Manifest
from .registry import Registry

# Audio that is not read: such files get a message, not silence.
UNREAD = frozenset({".aac", ".aif", ".aiff", ".amr", ".m4a", ".opus", ".w64", ".wma"})


SAMPLE = 200  # names that are looked at to tell which dataset a tree is

Folds = tuple[tuple[str, ...], ...]
Parse = Callable[[re.Match[str], Path], Clip | None]


@dataclass(frozen=True)
class Remote:
    """One file on a server."""

    url: str
    path: str  # where it belongs, below the dataset's folder; what ends in .zip is unpacked beside itself
    size: int | None = None  # bytes
    checksum: str = ""  # "md5:…" or "sha256:…"; "" where none is published


@dataclass(frozen=True)
class KnownFault:
    """Something that is wrong in a dataset as it was published."""

    clips: tuple[str, ...]
    what: str
    source: str
    left_out: bool = False  # by default; what is not stays in, and is dealt with as `treatment` says
    treatment: str = "left out"


@dataclass(frozen=True)
class Dataset:
    """The facts of one dataset, and how to read its tree.

    A fold is written as what is tested in it; the rest is for training. `remotes` is given a function that fetches a
    small document, for servers that list their files, and gives what `ser download` fetches.
    """

    name: str
    title: str
    licence: str
    citation: str
    source: str  # where to get it
    layout: str  # what its files are called, for messages
    scan: Callable[[Path], list[Clip]]  # a folder -> its clips; raises DataError
    labels: tuple[str, ...] = ()  # () where the data decide
    n_clips: int | None = None
    n_speakers: int | None = None
    corpus: str = ""  # what it shares speakers and texts with other datasets under; "": its own name
    acted: bool = False  # whether its emotions are known to be played by actors, scripted or improvised
    language: str = ""  # "" where it differs from clip to clip, or is not known
    names: re.Pattern[str] | None = None  # of `<folder>/<name without ending>`, searched; tells a tree of this dataset
    official_folds: Folds = ()  # by speaker
    official_source: str = ""
    published_folds: Callable[[], Folds] | None = None  # by clip id, where those that are published cut speakers
    known_faults: tuple[KnownFault, ...] = ()
    checksums: Callable[[], Mapping[str, str]] | None = None  # clip id -> SHA-256 of the published file
    seconds: tuple[float, float] | None = None  # the shortest and the longest clip there is
    rates: tuple[int, ...] = ()  # Hz, as published
    remotes: Callable[[Callable[[str], bytes]], Sequence[Remote]] | None = None
    apply: str = ""  # how to get what nobody may fetch without asking

    def manifest(self, root: str | Path | None = None, keep_known_faults: bool = False) -> Manifest:
        """The clips below `root`, in the order of their ids. See `find_root` for what None means.

        Clips that are known to be faulty are set aside unless `keep_known_faults`, and say why. Raises DataError where
        the folder is missing or empty, holds a file that does not belong, or is another dataset's.
        """
        root = find_root(self, root)
        clips = sorted(self._scan(root), key=lambda clip: (clip.clip_id, len(clip.path), clip.path))
        if not clips:
            raise DataError(f"{root}: no {self.name} clips in it; wanted {self.layout}.\n{self.how_to_get()}")
        spoken = {"language": self.language} if self.language else {}
        clips = [replace(clip, extra={**spoken, **clip.extra}) for clip in clips]
        if not keep_known_faults:
            clips = [self._set_aside(clip) for clip in clips]
        return Manifest(clips[0].dataset, tuple(clips))

    def how_to_get(self) -> str:
        """Where the recordings are, and under which licence."""
        way = f" Fetch it with `ser download {self.name}`." if self.remotes else f" {self.apply}" if self.apply else ""
        return f"{self.title}: {self.source} ({self.licence}).{way}"

    def _scan(self, root: Path) -> list[Clip]:
        fault = None
        try:
            if clips := self.scan(root):
                return clips
        except DataError as error:
            fault = error
        if other := looks_like(root, self.names):
            raise DataError(_mistaken(root, self, other)) from fault
        if fault:
            raise fault
        return []

    def _set_aside(self, clip: Clip) -> Clip:
        what = next((fault.what for fault in self.known_faults if fault.left_out and clip.clip_id in fault.clips), "")
        return replace(clip, extra={**clip.extra, SKIPPED: f"{KNOWN_FAULT}: {what}"}) if what else clip


# The adapters lie in `embedcache/datasets/` and import this module, which therefore names their package as text.
registry: Registry[Dataset] = Registry(
    "dataset", "embedcache.datasets", "For recordings of your own: --dataset folder --root DIR"
)


def find_root(dataset: Dataset, root: str | Path | None) -> Path:
    """`root`, else `$SER_DATA/<dataset>`, else `data/<dataset>`. Raises DataError where nothing is there."""
    shared = os.environ.get("SER_DATA")
    places = [Path(root)] if root else [Path(shared) / dataset.name] if shared else []
    places += [] if root else [Path("data") / dataset.name]
    for place in places:
        if place.exists():
            return place.resolve()
    looked = " and ".join(str(place) for place in places)
    raise DataError(
        f"no {dataset.name} recordings: {looked} does not exist. Name their folder with --root.\n{dataset.how_to_get()}"
    )


def audio_files(root: Path) -> Iterator[Path]:
    """Every audio file below `root`, sorted inside each folder; links are followed, hidden files passed over."""
    ways: dict[str, frozenset[str]] = {}  # folder -> the real folders that the way to it leads through
    for folder, subfolders, names in os.walk(root, followlinks=True):
        way = ways.pop(folder, frozenset()) | {os.path.realpath(folder)}
        subfolders[:] = sorted(name for name in subfolders if not _hidden(name) and not _leads_back(folder, name, way))
        ways |= {os.path.join(folder, name): way for name in subfolders}  # noqa: PTH118
        for name in sorted(names):
            if not _hidden(name) and Path(name).suffix.lower() in SUFFIXES | UNREAD:
                yield Path(folder, name)


def parse_files(root: Path, layout: str, parse: Callable[[Path], Clip | None]) -> list[Clip]:
    """`parse` over every audio file below `root`; None leaves a file out, ValueError says that it does not belong.

    Raises DataError naming the files that do not belong: nothing is dropped quietly.
    """
    clips, complaints = [], []
    for path in audio_files(root):
        try:
            _refuse_unusable(path)
            clip = parse(path)
        except ValueError as error:
            complaints.append(f"{str(path).encode(errors='replace').decode()}: {error}")
            continue
        if clip is not None:
            clips.append(clip)
    if complaints:
        advice = f"Wanted {layout}. Move or remove what does not belong, or use --dataset folder."
        raise DataError(complain(f"{len(complaints)} files do not parse", complaints, advice))
    return clips


def scan_names(root: Path, layout: str, names: re.Pattern[str], parse: Parse) -> list[Clip]:
    """The clips of a tree whose files are told by their names: `parse` of each match with `<folder>/<name>`.

    Raises DataError naming the files that do not match, or of which `parse` raises ValueError.
    """

    def read(path: Path) -> Clip | None:
        match = names.search(_place(path))
        if match is None:
            raise ValueError("is not called as its clips are")
        return parse(match, path)

    return parse_files(root, layout, read)


def _place(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def looks_like(root: Path, but: re.Pattern[str] | None = None) -> Dataset | None:
    """The dataset whose names most of a tree's files have, if there is one with other names than `but`."""
    places = [_place(path) for path in islice(audio_files(root), SAMPLE)]
    for spec in registry.all():
        if spec.names and spec.names != but and sum(map(bool, map(spec.names.search, places))) > len(places) / 2:
            return spec
    return None


def _mistaken(root: Path, wanted: Dataset, other: Dataset) -> str:
    if wanted.names is None:
        return f"{root}: this looks like {other.title}. Use --dataset {other.name}, or a CSV with path, label, speaker."
    return f"{root}: this looks like {other.title}, not {wanted.title}. Use --dataset {other.name}, or another --root."


def _refuse_unusable(path: Path) -> None:
    if path.suffix.lower() in UNREAD:
        raise ValueError(f"{path.suffix} is not read; convert it to WAV or FLAC")
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError("the name is not UTF-8; rename the file") from error


def _leads_back(folder: str, name: str, way: frozenset[str]) -> bool:
    """Whether a subfolder is a link to one of the folders that it lies in, or that links have led through."""
    real = os.path.realpath(os.path.join(folder, name))  # noqa: PTH118
    return real in way or (os.path.realpath(folder) + os.sep).startswith(real + os.sep)


def _hidden(name: str) -> bool:
    """Hidden by name: `.cache`, and macOS's `._clip.wav` and `__MACOSX`, which hold no sound."""
    return name.startswith(".") or name == "__MACOSX"
