"""What there is to say of one file's sound, from one reading: key, duration, rate, channels, level, clipping."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..audio.decode import Recording
from ..errors import AudioError
from ..manifest import Clip
from ..progress import Progress, silent

FULL_SCALE = 1 - 2**-15  # the largest positive number of 16 bits; the largest negative one is -1


@dataclass(frozen=True)
class Measurement:
    """What one reading of a clip's file told. Of a faulty one, the numbers are 0."""

    clip: Clip
    key: str = ""  # SHA-256 of the bytes, "" where they cannot be had
    fault: str = ""  # why it cannot be used, without the path
    seconds: float = 0.0
    rate: int = 0  # Hz
    channels: int = 0
    peak: float = 0.0  # the largest absolute sample; 1 is full scale
    swing: float = 0.0  # half of what lies between the lowest and the highest sample: 0 where all are equal
    clipped: int = 0  # the longest row of samples at full scale

    @property
    def clip_id(self) -> str:
        """The clip's id."""
        return self.clip.clip_id


def measure(clip: Clip) -> Measurement:
    """Read and decode a clip's file once; what is wrong with it is in `fault`, and raises nothing."""
    key = ""
    try:
        recording = Recording.load(clip.path)
        key = recording.key
        sound, rate = recording.sound()
    except AudioError as error:
        return Measurement(clip, key, str(error).removeprefix(f"{clip.path}: "))
    low, high = sound.min(axis=0), sound.max(axis=0)  # of each channel
    return Measurement(
        clip,
        key,
        seconds=len(sound) / rate,
        rate=rate,
        channels=sound.shape[1],
        peak=float(max(high.max(), -low.min())),
        swing=float((high - low).max() / 2),
        clipped=longest_row(sound),
    )


def listen_all(clips: Sequence[Clip], progress: Progress = silent) -> tuple[Measurement, ...]:
    """`listen` to every clip, in threads: a thread holds one file's sound at a time."""
    with (
        progress("reading", total=len(clips), unit="clips") as advance,
        ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool,
    ):
        heard = []
        for one in pool.map(measure, clips):
            heard.append(one)
            advance(1)
    return tuple(heard)


def longest_row(sound: NDArray[np.float32]) -> int:
    """The most samples at full scale that follow each other in one channel of (frames, channels)."""
    full = np.abs(sound) >= FULL_SCALE
    return max(_longest_run(channel) for channel in full.T) if full.any() else 0


def _longest_run(true: NDArray[np.bool_]) -> int:
    stops = np.flatnonzero(~np.concatenate([[False], true, [False]]))
    return int(np.diff(stops).max()) - 1
