"""Windows over sound: where they lie in a file, and as they come out of sound that is still arriving."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache.audio import QUALITY, Waveform

Cut = tuple[int, int]  # the first sample, and the one behind the last


def cuts(length: int, window: int, hop: int) -> list[Cut]:
    """Windows of `window` samples, one each `hop`; the last ends where the sound ends. Of shorter sound, all of it."""
    if length <= window:
        return [(0, length)]
    begins = list(range(0, length - window + 1, hop))
    if begins[-1] + window < length:
        begins.append(length - window)
    return [(begin, begin + window) for begin in begins]


class Arriving:
    """Sound at `native` Hz in pieces of any length; windows of it at `rate` Hz, each as soon as it is whole.

    All windows together, those of `close` included, are what `cuts` gives of the whole sound: it is resampled as it
    comes, by soxr's stream, which gives what soxr gives of a file. Memory holds one window and what came last.
    """

    def __init__(self, native: int, rate: int, window: int, hop: int) -> None:
        self.window, self.hop = window, hop
        self._held: Waveform = np.empty(0, np.float32)
        self._begin = 0  # of what is held, in samples of all that came
        self._next = 0  # where the next window begins
        self._resampler = _resampler(native, rate)

    def push(self, samples: NDArray[np.float32], last: bool = False) -> Iterator[tuple[Cut, Waveform]]:
        """Windows that these samples (n,) complete."""
        came = samples if self._resampler is None else self._resampler.resample_chunk(samples, last=last)
        self._held = np.concatenate([self._held, came])
        while self._next + self.window <= self.length:
            cut = self._next, self._next + self.window
            yield cut, self._held[cut[0] - self._begin : cut[1] - self._begin]
            self._next += self.hop
            self._forget()

    def close(self) -> Iterator[tuple[Cut, Waveform]]:
        """The windows that the end of the sound completes."""
        yield from self.push(np.empty(0, np.float32), last=True)
        heard = self._next - self.hop + self.window if self._next else 0
        if heard < self.length:
            begin = max(0, self.length - self.window)
            yield (begin, self.length), self._held[begin - self._begin :]

    @property
    def length(self) -> int:
        """Samples that came, at the rate of the windows."""
        return self._begin + len(self._held)

    def _forget(self) -> None:
        """Drop what neither the next window nor one that ends with the sound will need."""
        needed = min(self._next, self.length - self.window)
        if needed > self._begin:
            self._held = self._held[needed - self._begin :].copy()
            self._begin = needed


def _resampler(native: int, rate: int) -> Any:
    if native == rate:
        return None
    import soxr

    return soxr.ResampleStream(native, rate, 1, dtype="float32", quality=QUALITY)
