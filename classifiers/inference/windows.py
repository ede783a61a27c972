"""Audio clips at the sample rate of the models, and windows of recordings or of live sound.

Live sound is resampled in `live_resampling`, recordings in `embedcache.audio.decode`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import AudioError, ConfigError, Recording
from embedcache.audio.channels import find_channel_fault
from embedcache.audio.decode import MAX_SECONDS, Mixdown, Waveform, as_waveform, check_rate, mixdown
from embedcache.audio.levels import find_array_fault, find_narrow_fault, find_sample_fault
from embedcache.text import count

from .live_resampling import LiveResampler

MIN_HOP = 0.01  # seconds
DEFAULT_WINDOW = 3.0  # seconds
DEFAULT_HOP = 1.0  # seconds
PASS_ONE = "Pass one of the channels."
MAX_CHUNK = 1.0  # longest chunk of live sound that is resampled at a time, in seconds; it bounds the memory needed

Span = tuple[int, int]  # index of the first sample, and of the sample after the last


@dataclass(frozen=True)
class Windows:
    """How long sound is cut into windows: their length and their hop. The last window ends where the sound ends."""

    window: float = DEFAULT_WINDOW  # length of a window, in seconds
    hop: float = DEFAULT_HOP  # time between the starts of two windows, in seconds

    def __post_init__(self) -> None:
        """Raise ValueError if the hop is below 0.01 s or longer than the window, which would skip sound."""
        if not MIN_HOP <= self.hop <= self.window <= MAX_SECONDS:
            raise ValueError(
                f"got a window of {self.window:g} s and a hop of {self.hop:g} s; wanted {MIN_HOP:g} <= hop <= window "
                f"<= {MAX_SECONDS:g}. A hop longer than the window would skip sound."
            )

    @classmethod
    def from_options(cls, window: float | None, hop: float | None) -> Windows:
        """Return windows of these lengths in seconds, or of the defaults for None: 3 s, and a hop of at most 1 s.

        The default hop of windows that are shorter than 1 s is their length. Raises ConfigError, exit code 2 of the
        command line, if the lengths are out of range.
        """
        window = DEFAULT_WINDOW if window is None else window
        try:
            return cls(window, min(DEFAULT_HOP, window) if hop is None else hop)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def samples(self, rate: int) -> tuple[int, int]:
        """Return window and hop in samples, at a sample rate in Hz."""
        return max(1, round(self.window * rate)), max(1, round(self.hop * rate))


@dataclass(frozen=True)
class AudioClip:
    """The sound that a model gets: a recording or a window of a recording, at the sample rate of the model."""

    wave: Waveform  # (samples,)
    rate: int  # sample rate of `wave`, in Hz
    native_rate: int  # sample rate of the recording before resampling, in Hz
    path: str = ""  # "" for a waveform that is in no file
    begin: float = 0.0  # start of the window in the recording, in seconds
    channel_doubt: str = ""  # what the mean of the recording's channels hides, as `find_channel_doubt` says
    level_doubt: str = ""  # what is odd about the recording's level, as `find_level_doubt` says

    @property
    def seconds(self) -> float:
        """Duration, in seconds."""
        return len(self.wave) / self.rate

    def cut(self, windows: Windows | None) -> list[AudioClip]:
        """Return the windows of this clip; the whole clip if `windows` is None."""
        if windows is None:
            return [self]
        parts = spans(len(self.wave), *windows.samples(self.rate))
        return [replace(self, wave=self.wave[start:stop], begin=start / self.rate) for start, stop in parts]


def clip_from_recording(recording: Recording, rate: int, name: str = "") -> AudioClip:
    """Return a recording as a clip at `rate` Hz, with its path or `name`.

    Raises AudioError if the recording cannot be decoded.
    """
    return _clip_of(recording.mixdown(rate), rate, name or str(recording.path))


def clip_from_waveform(wave: NDArray[Any], native_rate: int, rate: int, name: str = "") -> AudioClip:
    """Return a waveform (samples,) or (samples, channels) at `native_rate` Hz as a clip at `rate` Hz.

    Raises AudioError if the array is not a waveform of finite floats.
    """
    sound = _check_waveform(wave, native_rate)
    _refuse_fault(find_narrow_fault(sound), "Scale the array to [-1, 1].")
    _refuse_fault(find_channel_fault(sound), PASS_ONE)
    return _clip_of(mixdown(sound, native_rate, rate), rate, name)


def _clip_of(mixed: Mixdown, rate: int, name: str) -> AudioClip:
    return AudioClip(mixed.wave, rate, mixed.native_rate, name, 0.0, mixed.channel_doubt, mixed.level_doubt)


def decode_pcm16(data: bytes) -> Waveform:
    """Return raw sound (16 bits, little-endian, one channel) as floats, scaled as libsndfile scales a WAV file.

    A last odd byte is ignored.
    """
    return np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / np.float32(32768)


def spans(length: int, window: int, hop: int) -> list[Span]:
    """Return the spans of windows over `length` samples: `window` samples long, one every `hop` samples.

    The last window ends where the sound ends. Sound that is shorter than a window is one span.

    >>> spans(10, window=4, hop=3)
    [(0, 4), (3, 7), (6, 10)]
    >>> spans(11, window=4, hop=3)
    [(0, 4), (3, 7), (6, 10), (7, 11)]
    """
    if length <= window:
        return [(0, length)]
    starts = list(range(0, length - window + 1, hop))
    if starts[-1] + window < length:
        starts.append(length - window)
    return [(start, start + window) for start in starts]


class WindowStream:
    """Windows at `rate` Hz of live sound at `native_rate` Hz. A window is returned as soon as it is complete.

    Sound is pushed in chunks of any length. All windows together, including those of `close`, are the windows that
    `AudioClip.cut` makes of the whole sound. Between chunks, memory holds one window and one second of sound.
    """

    def __init__(self, native_rate: int, rate: int, windows: Windows, name: str = "") -> None:
        """Raise AudioError if the sample rate of the sound is out of range."""
        check_rate(native_rate)
        self.native_rate, self.rate, self.name = native_rate, rate, name
        self._window, self._hop = windows.samples(rate)
        self._buffer: Waveform = np.empty(0, np.float32)  # the samples that further windows need
        self._buffer_start = 0  # position of the buffer in the sound, in samples at `rate`
        self._next_window = 0  # position of the next window in the sound, in samples at `rate`
        self._resampler = LiveResampler(native_rate, rate)
        self._channels = 0  # number of channels of the sound; 0 before the first chunk
        self._unchecked: list[Waveform] = []  # sound (samples, channels) whose channels were not compared yet

    def push(self, samples: NDArray[Any]) -> list[AudioClip]:
        """Return the windows that are complete with these samples (n,) or (n, channels).

        Raises AudioError if the array is not a waveform of finite floats with at least as many samples as channels, has
        not as many channels as those before, or if the channels cancel each other for a second.
        """
        sound = _check_waveform(samples, self.native_rate, self._channels)
        self._check_channels(sound)
        mono = as_waveform(sound, self.native_rate, self.native_rate)
        step = max(1, round(MAX_CHUNK * self.native_rate))
        chunks = (mono[start : start + step] for start in range(0, len(mono), step))
        return [clip for chunk in chunks for clip in self._complete(self._resampler.resample(chunk))]

    def close(self) -> list[AudioClip]:
        """Return the windows that are complete with the end of the sound. Raises AudioError as `push` for channels."""
        self._compare_channels()
        clips = list(self._complete(self._resampler.finish()))
        covered = self._next_window - self._hop + self._window if self._next_window else 0
        if covered < self.length:
            clips.append(self._cut(max(0, self.length - self._window)))
        return clips

    @property
    def length(self) -> int:
        """Number of samples received so far, at the sample rate of the windows."""
        return self._buffer_start + len(self._buffer)

    def _check_channels(self, sound: Waveform) -> None:
        """Keep sound until there is a second of it, and compare its channels then: single chunks may cancel by chance.

        Raises AudioError if they cancel each other, and for another number of channels than before.
        """
        if self._channels not in (0, sound.shape[1]):
            raise AudioError(
                f"got {sound.shape}; wanted {count(self._channels, 'channel')}, as before. Start a new stream."
            )
        self._channels = sound.shape[1]
        if self._channels > 1:
            self._unchecked.append(sound)
        if sum(map(len, self._unchecked)) >= self.native_rate:
            self._compare_channels()

    def _compare_channels(self) -> None:
        sound, self._unchecked = self._unchecked, []
        if sound:
            _refuse_fault(find_channel_fault(np.concatenate(sound)), PASS_ONE)

    def _complete(self, resampled: Waveform) -> Iterator[AudioClip]:
        """Append resampled sound to the buffer, and yield the windows that are complete with it."""
        self._buffer = np.concatenate([self._buffer, resampled])
        while self._next_window + self._window <= self.length:
            yield self._cut(self._next_window)
            self._next_window += self._hop
        self._drop_used()

    def _cut(self, start: int) -> AudioClip:
        wave = self._buffer[start - self._buffer_start :][: self._window]  # a view: windows may overlap much
        return AudioClip(wave, self.rate, self.native_rate, self.name, start / self.rate)

    def _drop_used(self) -> None:
        """Drop the samples before the next window, except those of a window that would end with the sound so far."""
        needed = min(self._next_window, self.length - self._window)
        if needed > self._buffer_start:
            self._buffer = self._buffer[needed - self._buffer_start :].copy()
            self._buffer_start = needed


def _check_waveform(wave: NDArray[Any], rate: int, n_channels: int = 0) -> Waveform:
    """Return a waveform as float32 (samples, channels). Raise AudioError if it is not a waveform of finite floats.

    It has at least as many samples as channels, unless it has `n_channels`, the known number of channels.
    """
    check_rate(rate)
    if got := find_array_fault(wave, (1, 2)):
        raise AudioError(
            f"got {got}; wanted floats (samples,) or (samples, channels) in [-1, 1]. Divide 16-bit samples by 32768."
        )
    samples: Waveform = (wave if wave.ndim == 2 else wave[:, None]).astype(np.float32, copy=False)
    _refuse_fault(find_sample_fault(samples), "Pass finite floats in [-1, 1].")
    if samples.shape[1] != n_channels and samples.shape[1] > len(samples) > 0:
        raise AudioError(f"got {samples.shape}; wanted (samples, channels). Transpose the array.")
    return samples


def _refuse_fault(fault: str, advice: str) -> None:
    """Raise AudioError with a fault of an array, and what to do; nothing happens for no fault."""
    if fault:
        raise AudioError(f"got a waveform that cannot be used: {fault}. {advice}")
