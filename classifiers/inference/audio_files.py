"""Many files, or standard input, through a predictor: what failed is said and the rest goes on."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from embedcache import AudioError, EncoderError, Recording
from embedcache.audio.decode import LONGEST, MOST_BYTES, SUFFIXES, Waveform

from .predictor import AT_ONCE, Prediction, Predictor
from .windows import AudioClip, Windows, check_rate, samples_of, sound_of

STDIN = "-"
PIECE = 1 << 14  # bytes that are read of a pipe at once: half a second at 16 kHz


@dataclass(frozen=True)
class FileResult:
    """What became of one file: its predictions, one or one a window, or why there are none."""

    path: str
    predictions: tuple[Prediction, ...] = ()
    fault: str = ""


def find_audio(names: Sequence[str]) -> list[str]:
    """Paths of files, of the audio in folders at any depth, and of what patterns match, sorted within each; once each.

    A name that is nothing of these stays, to fail where it is read.
    """
    return list(dict.fromkeys(path for name in names for path in _expanded(name)))


def _expanded(name: str) -> list[str]:
    place = Path(name)
    if place.is_dir():
        found = [path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
        return sorted(map(str, found)) or [name]
    if place.exists() or not glob.has_magic(name):
        return [name]
    matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - pathlib takes no pattern from the root on
    return [path for match in matches for path in _expanded(match)] or [name]


def predict_files(
    predictor: Predictor,
    paths: Sequence[str],
    windows: Windows | None = None,
    abstain_below: float | None = None,
    stdin: BinaryIO | None = None,
) -> Iterator[FileResult]:
    """What becomes of each file, in order; `-` is a whole file on `stdin`."""
    waiting: list[tuple[str, list[AudioClip], str]] = []  # path, sounds, fault
    for path in paths:
        try:
            waiting.append((path, _heard(predictor, path, windows, stdin), ""))
        except AudioError as error:
            waiting.append((path, [], str(error)))
        if sum(sound.seconds for _, sounds, _ in waiting for sound in sounds) >= AT_ONCE:
            yield from _answered(predictor, waiting, abstain_below)
            waiting = []
    yield from _answered(predictor, waiting, abstain_below)


def _heard(predictor: Predictor, path: str, windows: Windows | None, stdin: BinaryIO | None) -> list[AudioClip]:
    if path == STDIN:
        if stdin is None:
            raise AudioError(f"{STDIN}: standard input is closed. Pipe a file into it, or name one.")
        recording = Recording.of(stdin.read(MOST_BYTES), STDIN)
    elif Path(path).is_dir():
        raise AudioError(f"{path}: holds no audio ({', '.join(sorted(SUFFIXES))}).")
    else:
        recording = Recording.load(path)
    return [replace(sound, path=path) for sound in predictor.hear(recording, windows)]


def _answered(
    predictor: Predictor, waiting: Sequence[tuple[str, list[AudioClip], str]], abstain_below: float | None
) -> Iterator[FileResult]:
    """All at once; where that fails, one by one, so that one file's fault is its own."""
    try:
        said = iter(predictor.answer([sound for _, sounds, _ in waiting for sound in sounds], abstain_below))
    except (AudioError, EncoderError) as error:
        if len(waiting) == 1:
            yield FileResult(waiting[0][0], fault=f"{waiting[0][0]}: {error}")
            return
        for one in waiting:
            yield from _answered(predictor, [one], abstain_below)
        return
    for path, sounds, fault in waiting:
        yield FileResult(path, tuple(next(said) for _ in sounds), fault)


def predict_raw(
    predictor: Predictor,
    pipe: BinaryIO,
    rate: int,
    windows: Windows | None = None,
    abstain_below: float | None = None,
) -> Iterator[Prediction]:
    """Predictions of raw sound on a pipe, 16 bits, little-endian, one channel: of each window as it comes, or of all.

    Raises AudioError for a rate that no sound has, for too little sound, and for more than an hour in one piece.
    """
    check_rate(rate)
    if windows is None:
        whole = np.concatenate([np.empty(0, np.float32), *_pieces(pipe, most=round(LONGEST * rate))])
        yield from predictor.answer([sound_of(whole, rate, predictor.rate, STDIN)], abstain_below)
        return
    stream = predictor.stream(rate, windows, abstain_below, STDIN)
    for samples in _pieces(pipe):
        yield from stream.push(samples)
    if not stream.arriving.length:
        raise AudioError(f"{STDIN}: is empty: no sound came.")
    yield from stream.close()


def _pieces(pipe: BinaryIO, most: float = float("inf")) -> Iterator[Waveform]:
    """The samples of a pipe as they come. Raises AudioError for more than `most`, and for a file, which is not raw."""
    odd, count = b"", 0
    while data := pipe.read1(PIECE):  # type: ignore[attr-defined]
        if not count and data.startswith((b"RIFF", b"fLaC", b"OggS", b"ID3")):
            raise AudioError(f"{STDIN}: is a file, not raw sound. Leave --rate out.")
        whole = odd + data
        count += len(whole) // 2
        odd = whole[-1:] if len(whole) % 2 else b""
        if count > most:
            raise AudioError(f"{STDIN}: goes on for more than {LONGEST:.0f} s. Hear it in windows: --window 3.")
        yield samples_of(whole)
