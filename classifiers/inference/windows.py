"""Sounds, as models hear them: recordings, waveforms, windows of either, or of sound that is still arriving."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import AudioError, Recording
from embedcache.audio.decode import LONGEST, QUALITY, RATES, Waveform, as_waveform, unsound

LEAST_HOP = 0.01  # seconds
PIECE = 1.0  # seconds of sound that arrives, which are resampled and cut at once

Span = tuple[int, int]  # the first sample, and the one behind the last


@dataclass(frozen=True)
class Windows:
    """How long sound is cut: windows of `window` seconds, one each `hop`; the last ends where the sound ends."""

    window: float = 3.0
    hop: float = 1.0

    def __post_init__(self) -> None:
        """Raises ValueError for a hop of nothing, or beyond the window: some sound would not be heard."""
        if not LEAST_HOP <= self.hop <= self.window <= LONGEST:
            raise ValueError(
                f"got windows of {self.window:g} s, one each {self.hop:g} s; wanted {LEAST_HOP:g} <= hop <= window <= "
                f"{LONGEST:g}: all is heard."
            )

    @classmethod
    def asked(cls, window: float | None, hop: float | None) -> Windows:
        """With what was left out: 3 s, and one each second, or each window where that is shorter."""
        long = 3.0 if window is None else window
        return cls(long, min(1.0, long) if hop is None else hop)

    def samples(self, rate: int) -> tuple[int, int]:
        """Window and hop in samples."""
        return max(1, round(self.window * rate)), max(1, round(self.hop * rate))


@dataclass(frozen=True)
class AudioClip:
    """A recording, or a window of one."""

    wave: Waveform  # (samples,)
    rate: int  # Hz, of the waveform: what models hear
    native: int  # Hz, of the recording itself
    path: str = ""
    begin: float = 0.0  # seconds, of a window

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.wave) / self.rate

    def cut(self, windows: Windows | None) -> list[AudioClip]:
        """Its windows; without any, itself."""
        if windows is None:
            return [self]
        places = spans(len(self.wave), *windows.samples(self.rate))
        return [replace(self, wave=self.wave[a:b], begin=a / self.rate) for a, b in places]


def sound_of_file(recording: Recording, rate: int, name: str = "") -> AudioClip:
    """A recording at `rate` Hz. Raises AudioError for one that cannot be decoded."""
    wave, native = recording.heard(rate)
    return AudioClip(wave, rate, native, name or str(recording.path))


def sound_of(wave: NDArray[Any], native: int, rate: int, name: str = "") -> AudioClip:
    """A waveform (samples,) or (samples, channels) at `native` Hz. Raises AudioError for what is none."""
    return AudioClip(as_waveform(_checked(wave, native), native, rate), rate, native, name)


def samples_of(data: bytes) -> Waveform:
    """The samples of raw sound, 16 bits, little-endian, one channel, as libsndfile reads them in a WAV."""
    return np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / np.float32(32768)


def spans(length: int, window: int, hop: int) -> list[Span]:
    """Windows of `window` samples, one each `hop`; the last ends where the sound ends. Of shorter sound, all of it."""
    if length <= window:
        return [(0, length)]
    begins = list(range(0, length - window + 1, hop))
    if begins[-1] + window < length:
        begins.append(length - window)
    return [(begin, begin + window) for begin in begins]


class WindowStream:
    """Sound at `native` Hz in pieces of any length; windows of it at `rate` Hz, each as soon as it is whole.

    All windows together, those of `close` included, are what `cuts` gives of the whole sound: it is resampled as it
    comes, by soxr's stream, which gives what soxr gives of a file. Between pieces, memory holds a window and a second.
    """

    def __init__(self, native: int, rate: int, windows: Windows, name: str = "") -> None:
        """Raises AudioError for a rate that no sound has."""
        check_rate(native)
        self.native, self.rate, self.name = native, rate, name
        self._window, self._hop = windows.samples(rate)
        self._held: Waveform = np.empty(0, np.float32)
        self._begin = 0  # of what is held, in samples of all that came
        self._next = 0  # where the next window begins
        self._resampler = _resampler(native, rate)

    def push(self, samples: NDArray[Any]) -> list[AudioClip]:
        """The windows that samples (n,), or (n, channels), complete. Raises AudioError for what is no sound."""
        mono = as_waveform(_checked(samples, self.native), self.native, self.native)
        step = max(1, round(PIECE * self.native))
        pieces = (mono[begin : begin + step] for begin in range(0, len(mono), step))
        return [sound for piece in pieces for sound in self._complete(piece, last=False)]

    def close(self) -> list[AudioClip]:
        """The windows that the end of the sound completes."""
        whole = list(self._complete(np.empty(0, np.float32), last=True))
        heard = self._next - self._hop + self._window if self._next else 0
        if heard < self.length:
            whole.append(self._cut(max(0, self.length - self._window)))
        return whole

    @property
    def length(self) -> int:
        """Samples that came, at the rate of the windows."""
        return self._begin + len(self._held)

    def _complete(self, samples: Waveform, last: bool) -> Iterator[AudioClip]:
        came = samples if self._resampler is None else self._resampler.resample_chunk(samples, last=last)
        self._held = np.concatenate([self._held, came])
        while self._next + self._window <= self.length:
            yield self._cut(self._next)
            self._next += self._hop
        self._forget()

    def _cut(self, begin: int) -> AudioClip:
        wave = self._held[begin - self._begin :][: self._window]
        return AudioClip(wave.copy(), self.rate, self.native, self.name, begin / self.rate)

    def _forget(self) -> None:
        """Drop what neither the next window nor one that ends with the sound will need."""
        needed = min(self._next, self.length - self._window)
        if needed > self._begin:
            self._held = self._held[needed - self._begin :].copy()
            self._begin = needed


def check_rate(rate: int) -> None:
    """Raises AudioError for a rate that no sound has."""
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"got {rate:,} samples a second; wanted {RATES[0]:,} to {RATES[1]:,}.")


def _resampler(native: int, rate: int) -> Any:
    if native == rate:
        return None
    import soxr

    return soxr.ResampleStream(native, rate, 1, dtype="float32", quality=QUALITY)


def _checked(wave: NDArray[Any], rate: int) -> Waveform:
    """(samples, channels) float32. Raises AudioError for what is no finite waveform."""
    check_rate(rate)
    shaped = isinstance(wave, np.ndarray) and wave.ndim in (1, 2) and wave.shape[1:] != (0,)
    if not shaped or not np.issubdtype(wave.dtype, np.floating):
        got = f"{wave.dtype} {wave.shape}" if isinstance(wave, np.ndarray) else type(wave).__name__
        raise AudioError(
            f"got {got}; wanted floats (samples,) or (samples, channels) in [-1, 1]. Divide 16-bit samples by 32768."
        )
    sound: Waveform = (wave if wave.ndim == 2 else wave[:, None]).astype(np.float32, copy=False)
    if fault := unsound(sound):
        raise AudioError(f"got a waveform that is no sound: {fault}; wanted floats in [-1, 1].")
    return sound
