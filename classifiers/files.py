"""Many files, or standard input, through a predictor: what failed is said and the rest goes on."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import numpy as np

from embedcache import AudioError, DataError, Recording
from embedcache.audio import LONGEST, MOST_BYTES, SUFFIXES, Waveform

from .predict import AT_ONCE, Prediction, Predictor
from .sounds import Sound, Windows, check_rate, sound_of

STDIN = "-"
PIECE = 1 << 14  # bytes that are read of a pipe at once: half a second at 16 kHz


@dataclass(frozen=True)
class Answer:
    """What became of one file: its predictions, one or one a window, or why there are none."""

    path: str
    predictions: tuple[Prediction, ...] = ()
    fault: str = ""


def find_audio(names: Sequence[str]) -> list[str]:
    """Paths of files, of the audio in folders at any depth, and of what patterns match, sorted within each; once each.

    A name that is nothing of these stays, to fail where it is read. Raises DataError for a folder or a pattern that
    holds no audio.
    """
    return list(dict.fromkeys(path for name in names for path in _expanded(name)))


def _expanded(name: str) -> list[str]:
    place = Path(name)
    if place.is_dir():
        found = sorted(str(path) for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    elif not place.exists() and glob.has_magic(name):
        matches = glob.glob(name, recursive=True)  # noqa: PTH207 - pathlib takes no pattern from the root on
        found = sorted(path for path in matches if Path(path).is_file())
    else:
        return [name]
    if not found:
        kinds = ", ".join(sorted(SUFFIXES))
        raise DataError(f"{name}: holds no audio ({kinds}). Name files, a folder of them, or a pattern in quotes.")
    return found


def answers(
    predictor: Predictor,
    paths: Sequence[str],
    windows: Windows | None = None,
    abstain_below: float | None = None,
    stdin: BinaryIO | None = None,
) -> Iterator[Answer]:
    """What becomes of each file, in order; `-` is a whole file on `stdin`."""
    waiting: list[Sound | Answer] = []
    for path in paths:
        try:
            recording = Recording.of(stdin.read(MOST_BYTES), STDIN) if path == STDIN and stdin else Recording.load(path)
            waiting += predictor.hear(recording, windows)
        except AudioError as error:
            waiting.append(Answer(path, fault=str(error)))
        if sum(one.seconds for one in waiting if isinstance(one, Sound)) >= AT_ONCE:
            yield from _answered(predictor, waiting, abstain_below)
            waiting = []
    yield from _answered(predictor, waiting, abstain_below)


def _answered(predictor: Predictor, waiting: Sequence[Sound | Answer], abstain_below: float | None) -> Iterator[Answer]:
    said = iter(predictor.answer([one for one in waiting if isinstance(one, Sound)], abstain_below))
    rows = [one if isinstance(one, Answer) else next(said) for one in waiting]
    for path, group in groupby(rows, key=lambda row: row.path):
        together = list(group)
        faults = [row for row in together if isinstance(row, Answer)]
        yield from faults
        if not faults:
            yield Answer(path, tuple(row for row in together if isinstance(row, Prediction)))


def listen(
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
    yield from stream.close()


def _pieces(pipe: BinaryIO, most: float = float("inf")) -> Iterator[Waveform]:
    """The samples of a pipe as they come. Raises AudioError for more than `most`."""
    odd, count = b"", 0
    while data := pipe.read1(PIECE):  # type: ignore[attr-defined]
        data = odd + data
        data, odd = (data[:-1], data[-1:]) if len(data) % 2 else (data, b"")
        count += len(data) // 2
        if count > most:
            raise AudioError(f"{STDIN}: goes on for more than {LONGEST:.0f} s. Hear it in windows: --window 3.")
        yield np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)  # as libsndfile reads a WAV
