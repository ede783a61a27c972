"""Predictions of many files, or of standard input. A file that cannot be used does not stop the others."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from embedcache import AudioError, ConfigError, EncoderError, Recording
from embedcache.audio.decode import MAX_BYTES, MAX_SECONDS, Waveform, check_rate
from embedcache.audio.kinds import bytes_to_tell, is_audio_file
from embedcache.dataset import is_audio, suffix_counts, visible_files
from embedcache.text import count, examples, one_line

from .predictor import BATCH_SECONDS, Prediction, Predictor
from .windows import AudioClip, Windows, clip_from_waveform, decode_pcm16

STDIN = "-"
CHUNK_BYTES = 1 << 14  # bytes read from a pipe at a time: half a second of raw sound at 16 kHz
MOST_SUFFIXES = 8  # number of suffixes that the note on passed over files names


@dataclass(frozen=True)
class FileResult:
    """The result of one file: one prediction, or one per window; for a file that cannot be used, its fault."""

    path: str
    predictions: tuple[Prediction, ...] = ()
    fault: str = ""


@dataclass(frozen=True)
class _PendingFile:
    """A file that was decoded and waits for its predictions, or its fault."""

    path: str
    clips: tuple[AudioClip, ...] = ()
    fault: str = ""


@dataclass(frozen=True)
class FoundAudio:
    """The files to predict, and the other files of the same folders."""

    paths: list[str]
    passed_over: list[str]  # files in folders that are not audio by their suffix; hidden files are in neither list

    def note(self) -> str:
        """Return how many files were passed over, by suffix: `passed over 3 files that are not audio: .txt (2), …`."""
        verb = "is" if len(self.passed_over) == 1 else "are"
        files = count(len(self.passed_over), "file")
        suffixes = examples(suffix_counts(self.passed_over), MOST_SUFFIXES)
        return f"passed over {files} that {verb} not audio by the name: {suffixes}"


def find_audio(names: Sequence[str]) -> FoundAudio:
    """Return the paths of files, of the audio files in folders at any depth, and of the matches of patterns, once each.

    The order is that of `names`; the paths of one folder or pattern are sorted. A name without a file stays in the list
    and fails when it is read. Raises ConfigError for an empty name, which Python would take for the current folder.
    """
    if "" in names:
        raise ConfigError(
            "got an empty name of a file; wanted a file, folder or pattern. Is a variable of the shell unset?"
        )
    paths, passed_over = dict[str, None](), dict[str, None]()
    for name in itertools.chain.from_iterable(map(_match, names)):
        audio, other = _list_folder(name) if Path(name).is_dir() else ([name], [])
        paths |= dict.fromkeys(audio)
        passed_over |= dict.fromkeys(other)
    return FoundAudio(list(paths), [path for path in passed_over if path not in paths])


def _match(name: str) -> list[str]:
    """Return the matches of a pattern; a name that is no pattern, or matches nothing, is returned as it is."""
    if Path(name).exists() or not glob.has_magic(name):
        return [name]
    return sorted(glob.glob(name, recursive=True)) or [name]  # noqa: PTH207 - pathlib takes no absolute pattern


def _list_folder(name: str) -> tuple[list[str], list[str]]:
    """Return the audio files of a folder, or else the folder itself, and its other files."""
    audio: list[str] = []
    other: list[str] = []
    for path in visible_files(Path(name)):
        (audio if is_audio(path, videos=True) else other).append(str(path))
    return sorted(audio) or [name], sorted(other)


def predict_files(
    predictor: Predictor,
    paths: Sequence[str],
    windows: Windows | None = None,
    abstain_below: float | None = None,
    stdin: BinaryIO | None = None,
    channel: int | None = None,
) -> Iterator[FileResult]:
    """Yield the result of each file, in order. The path `-` is one audio file on `stdin`.

    `channel` is the number of the channel to predict, from 0; by default, it is the mean of all channels.
    """
    pending: list[_PendingFile] = []
    for path in paths:
        pending.append(_load_pending(predictor, path, windows, stdin, channel))
        if sum(clip.seconds for file in pending for clip in file.clips) >= BATCH_SECONDS:
            yield from _predict_pending(predictor, pending, abstain_below)
            pending = []
    yield from _predict_pending(predictor, pending, abstain_below)


def _load_pending(
    predictor: Predictor, path: str, windows: Windows | None, stdin: BinaryIO | None, channel: int | None
) -> _PendingFile:
    try:
        clips = predictor.clips(_load_recording(path, stdin, channel), windows)
    except AudioError as error:
        return _PendingFile(path, fault=str(error))
    return _PendingFile(path, tuple(replace(clip, path=path) for clip in clips))


def _load_recording(path: str, stdin: BinaryIO | None, channel: int | None) -> Recording:
    if path == STDIN:
        if stdin is None:
            raise AudioError(f"{STDIN}: standard input is closed. Pipe a file into it, or name a file.")
        return Recording.of(stdin.read(MAX_BYTES), STDIN, channel)
    if Path(path).is_dir():
        raise AudioError(
            f"{path}: the folder has no audio files (.flac, .mp3, .ogg, .wav and others). Name another folder."
        )
    if glob.has_magic(path) and not os.path.lexists(path):
        raise AudioError(f"{path}: no file matches this pattern. Check it; ** stands for folders of any depth.")
    return Recording.load(path, channel)


def _predict_pending(
    predictor: Predictor, pending: Sequence[_PendingFile], abstain_below: float | None
) -> Iterator[FileResult]:
    """Predict the clips of all files together; if that fails, file by file, so that only the faulty files fail."""
    try:
        predictions = iter(predictor.predict_clips([clip for file in pending for clip in file.clips], abstain_below))
    except (AudioError, EncoderError) as error:
        if len(pending) == 1:
            yield FileResult(pending[0].path, fault=f"{one_line(pending[0].path)}: {error}")
            return
        for file in pending:
            yield from _predict_pending(predictor, [file], abstain_below)
        return
    for file in pending:
        yield FileResult(file.path, tuple(next(predictions) for _ in file.clips), file.fault)


def predict_raw(
    predictor: Predictor,
    pipe: BinaryIO,
    rate: int,
    windows: Windows | None = None,
    abstain_below: float | None = None,
) -> Iterator[Prediction]:
    """Yield predictions of raw sound on a pipe: 16 bits, little-endian, one channel, at `rate` Hz.

    With `windows`, each window is predicted as soon as it is complete; without, the whole sound at its end. Raises
    AudioError if the sample rate is out of range, if the sound is too short, or if it is longer than an hour without
    windows.
    """
    check_rate(rate)
    if windows is None:
        chunks = _read_samples(pipe, max_samples=round(MAX_SECONDS * rate))
        whole = np.concatenate([np.empty(0, np.float32), *chunks])
        yield from predictor.predict_clips([clip_from_waveform(whole, rate, predictor.rate, STDIN)], abstain_below)
        return
    stream = predictor.stream(rate, windows, abstain_below, STDIN)
    for samples in _read_samples(pipe):
        yield from stream.push(samples)
    if not stream.window_stream.length:
        raise AudioError(f"{STDIN}: got no samples; wanted raw 16-bit sound. Check the program that writes the pipe.")
    yield from stream.close()


def _read_samples(pipe: BinaryIO, max_samples: float = float("inf")) -> Iterator[Waveform]:
    """Yield the samples of a pipe as they arrive.

    Raises AudioError if there are more than `max_samples`, or if the pipe holds an audio file instead of raw sound.
    """
    rest, count = b"", 0  # the first byte of a sample whose second byte has not arrived; the samples so far
    head = _read_head(pipe)
    if is_audio_file(head):
        raise AudioError(f"{STDIN}: got an audio file; wanted raw sound, as --rate says. Leave --rate out.")
    for arrived in itertools.chain([head], iter(lambda: pipe.read1(CHUNK_BYTES), b"")):  # type: ignore[attr-defined]
        data = rest + arrived
        count += len(data) // 2
        rest = data[-1:] if len(data) % 2 else b""
        if count > max_samples:
            raise AudioError(
                f"{STDIN}: got more than {MAX_SECONDS:.0f} s of sound. Predict it in windows (--window 3)."
            )
        yield decode_pcm16(data)


def _read_head(pipe: BinaryIO) -> bytes:
    """Return the first bytes of a pipe, as many as it takes to tell a file from raw sound, or all it gives."""
    head = b""
    while len(head) < bytes_to_tell(head) and (data := pipe.read1(CHUNK_BYTES)):  # type: ignore[attr-defined]
        head += data
    return head
