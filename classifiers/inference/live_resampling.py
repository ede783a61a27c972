"""Resampling of live sound, as of a microphone or a pipe, to the sample rate of the models while the sound arrives.

Recordings are resampled as a whole, in `embedcache.audio.decode`. Both use soxr with the same quality setting, so live
sound and a recording of the same sound give the same waveform.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from embedcache.audio.decode import QUALITY, Waveform


class LiveResampler:
    """A resampler from `native_rate` to `rate`, in Hz, that takes sound in chunks of any length.

    The chunks that `resample` and `finish` return, joined, are the resampled sound.
    """

    def __init__(self, native_rate: int, rate: int) -> None:
        self._stream = _open_stream(native_rate, rate) if native_rate != rate else None

    def resample(self, samples: Waveform) -> Waveform:
        """Return the next resampled samples. soxr holds some back until more sound arrives."""
        return self._next(samples, last=False)

    def finish(self) -> Waveform:
        """Return the samples that soxr has held back. No sound can be resampled afterwards."""
        return self._next(np.empty(0, np.float32), last=True)

    def _next(self, samples: Waveform, last: bool) -> Waveform:
        if self._stream is None:
            return samples
        resampled: Waveform = self._stream.resample_chunk(samples, last=last)
        return resampled


def _open_stream(native_rate: int, rate: int) -> Any:
    import soxr

    return soxr.ResampleStream(native_rate, rate, 1, dtype="float32", quality=QUALITY)
