"""Measure one audio file in a single read: key, duration, sample rate, channels, peak, level and clipping."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..audio.channels import find_channel_doubt, level, mean
from ..audio.clip_recordings import forget_files, map_by_file, recording_of
from ..audio.levels import find_level_doubt, half_range, peak
from ..errors import AudioError
from ..manifest import CHANNEL, Clip
from ..progress import Progress, silent
from ..text import one_line

Result = TypeVar("Result")

FULL_SCALE = 1 - 2**-15  # the largest positive value of 16-bit audio; the largest negative value is -1


@dataclass(frozen=True)
class Measurement:
    """The measurements of one audio file. All numbers are 0, and the level -inf, if the file cannot be used."""

    clip: Clip
    key: str = ""  # SHA-256 of the file's bytes; "" if they cannot be read
    fault: str = ""  # why the file cannot be used, without its path; "" if it can be used
    seconds: float = 0.0  # duration
    rate: int = 0  # sample rate, in Hz
    channels: int = 0  # number of channels
    peak: float = 0.0  # largest absolute sample; 1 is full scale
    half_range: float = 0.0  # half the distance from the mixdown's lowest to its highest sample; 0 if all are equal
    level: float = -math.inf  # level of the mixdown without its offset, in dB; 0 is full scale
    offset: float = 0.0  # mean of all samples of the mixdown; 1 is full scale
    channel_doubt: str = ""  # what the mean of the channels hides; see `channels.find_channel_doubt`
    level_doubt: str = ""  # what is odd about the level; see `levels.find_level_doubt`
    clipped_run: int = 0  # longest run of consecutive samples at full scale

    @property
    def clip_id(self) -> str:
        """The id of the clip."""
        return self.clip.clip_id


def measure(clip: Clip) -> Measurement:
    """Read and decode the file of a clip once. An unusable file raises nothing: `fault` says what is wrong with it."""
    key = ""
    try:
        recording = recording_of(clip)
        key = recording.key
        sound, rate = recording.sound()
    except AudioError as error:
        return Measurement(clip, key, str(error).removeprefix(f"{one_line(clip.path)}: "))
    mixed = mean(sound)
    return Measurement(
        clip,
        key,
        seconds=len(sound) / rate,
        rate=rate,
        channels=sound.shape[1],
        peak=peak(sound),
        half_range=half_range(sound),
        level=level(mixed),
        offset=float(mixed.mean(dtype=np.float64)),
        channel_doubt="" if CHANNEL in clip.extra else find_channel_doubt(sound, rate),
        level_doubt=find_level_doubt(sound),
        clipped_run=longest_clipped_run(sound),
    )


def measure_level(clip: Clip) -> float:
    """Return the level of a clip alone, as in `Measurement`: -inf also for a file that cannot be used."""
    try:
        return level(mean(recording_of(clip).sound()[0]))
    except AudioError:
        return -math.inf


def measure_all(clips: Sequence[Clip], progress: Progress = silent) -> tuple[Measurement, ...]:
    """Measure every clip, see `read_all`."""
    return read_all(measure, clips, progress)


def read_all(
    function: Callable[[Clip], Result], clips: Sequence[Clip], progress: Progress = silent
) -> tuple[Result, ...]:
    """Return `function(clip)` of every clip, in threads.

    Each thread holds the sound of one file at a time, and decodes it once.
    """
    with (
        progress("reading", total=len(clips), unit="clips") as advance,
        ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool,
    ):
        results: dict[int, Result] = {}
        for place, result in map_by_file(function, clips, pool):
            results[place] = result
            advance(1)
    forget_files()
    return tuple(results[place] for place in range(len(clips)))


def longest_clipped_run(sound: NDArray[np.float32]) -> int:
    """Return the length of the longest run of full-scale samples in any one channel of `sound` (samples, channels)."""
    at_full_scale = np.abs(sound) >= FULL_SCALE
    return max(_longest_run(channel) for channel in at_full_scale.T) if at_full_scale.any() else 0


def _longest_run(flags: NDArray[np.bool_]) -> int:
    """Return the length of the longest run of True.

    The run lies between two neighbouring False values, so a False is added at each end. Example: [T, T, F, T] becomes
    [F, T, T, F, T, F] with False at 0, 3 and 5; the largest distance is 3, and the run has 3 - 1 = 2 values.
    """
    false_positions = np.flatnonzero(~np.concatenate([[False], flags, [False]]))
    return int(np.diff(false_positions).max()) - 1
