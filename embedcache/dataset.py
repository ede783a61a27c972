"""What a dataset adapter is: facts, and a function from a folder to clips. The adapters lie in `datasets/`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .audio import SUFFIXES
from .errors import DataError, complain
from .manifest import Clip, Manifest

# Audio that is not read: such files get a message, not silence.
UNREAD = frozenset({".aac", ".aif", ".aiff", ".amr", ".m4a", ".opus", ".w64", ".wma"})


@dataclass(frozen=True)
class Dataset:
    """The facts of one dataset, and how to read its tree."""

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
    official_folds: tuple[tuple[str, ...], ...] = ()  # the test speakers of each published fold

    def manifest(self, root: str | Path | None = None) -> Manifest:
        """The clips below `root`, in the order of their ids. See `find_root` for what None means.

        Raises DataError where the folder is missing or empty, or holds a file that does not belong.
        """
        root = find_root(self, root)
        clips = sorted(self.scan(root), key=lambda clip: (clip.clip_id, len(clip.path), clip.path))
        if not clips:
            raise DataError(f"{root}: no {self.name} clips in it; wanted {self.layout}.\n{self.how_to_get()}")
        return Manifest(clips[0].dataset, tuple(clips))

    def how_to_get(self) -> str:
        """Where the recordings are, and under which licence."""
        return f"{self.title}: {self.source} ({self.licence})."


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
