"""`mfcc`: 970 statistics of classic speech features, as used in SER before neural encoders. No weights, no download.

There are 194 contours, computed in windows of 25 ms every 10 ms at 16 kHz:

    0-39      40 MFCCs
    40-119    their first and second differences
    120-183   64 log-mel bands, in dB
    184-190   7 spectral contrasts (Jiang et al. 2002), in dB
    191-193   pitch (log2 of Hz), energy (dB), periodicity (0 to 1)

Each contour gives five statistics: mean, standard deviation, 10th percentile, 90th percentile, and the mean over the
voiced frames. Pitch is the strongest peak of the normalised autocorrelation (Boersma 1993). A frame counts as voiced if
its peak is above 0.45 of full periodicity; pitch is interpolated between voiced frames. The contours follow librosa's
definitions and use its filters. The view `frames:0` holds the first 30 MFCCs, the usual input of 2-D networks.

`recipe_version` must be raised with any change that changes these numbers.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audio.decode import Waveform, pipeline
from ..encoder import FRAMES, Batch, EncoderInfo, EncoderSpec, Log, Vectors, check_waveforms, no_log, one_layer
from ..errors import EncoderError

RATE = 16_000
WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms, 10 ms, and the length of the transform
PITCH_WINDOW, PITCH_FFT = 1024, 2048  # samples: 64 ms, four periods of the lowest pitch; length of the transform
PITCH_BLOCK = 32  # frames whose pitch is computed together: their transforms stay in the processor's cache
PITCH_RANGE = (65.0, 500.0)  # Hz
VOICED = 0.45  # least periodicity of a voiced frame, as a fraction of full periodicity
OCTAVE_COST = 0.02  # periodicity subtracted for each octave below the highest pitch
N_MELS, N_MFCC = 64, 40
KEPT = 30  # MFCCs in the view `frames:0`
SLOPE = 9  # frames from which a difference is computed
FLOOR = 1e-10  # least power: -100 dB
DIM = 5 * (3 * N_MFCC + N_MELS + 7 + 3)  # 970

Contours = NDArray[np.float32]  # (contours, T)


@dataclass(frozen=True)
class Mfcc:
    """The 970 statistics as an encoder of one layer."""

    info: EncoderInfo
    shortest: float = WINDOW / RATE  # shortest clip that gives a frame, in seconds
    longest: float = 1800.0  # longest clip the encoder accepts, in seconds
    views: tuple[str, ...] = ("pooled", "layers", FRAMES)
    pack: float = 30.0  # seconds of audio that one call of `encode` should get
    # Number of calls of `encode` to run side by side: numpy and scipy release the interpreter lock.
    lanes: int = field(default_factory=lambda: os.cpu_count() or 1)

    def encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        """Return the views of each waveform. Raises AudioError if a waveform is too short for a frame.

        `pooled` is (n, 970) and `layers` (n, 1, 970), both float32. `frames:0` is (T, 30) float16 for each waveform,
        with T = 1 + samples // 160.
        """
        check_waveforms(self, waveforms)
        contours = [_contours(wave) for wave in waveforms]
        rows = [_statistics(values, voiced) for values, voiced in contours]
        frames = [values[:KEPT].T.astype(np.float16) for values, _ in contours] if f"{FRAMES}:0" in views else []
        return one_layer(rows, frames, DIM, KEPT, views)


def load(device: str = "auto", precision: str = "fp32", log: Log = no_log) -> Mfcc:
    """Return the encoder. Raises EncoderError for a device other than the CPU or a precision other than fp32."""
    if precision != "fp32":
        raise EncoderError(f"--precision {precision}: mfcc is computed in fp32 only. Leave --precision out.")
    if device not in ("auto", "cpu"):
        raise EncoderError(f"--device {device}: mfcc has no weights and runs on the CPU only. Leave --device out.")
    versions = ", ".join(f"{package} {version(package)}" for package in ("librosa", "scipy"))
    return Mfcc(EncoderInfo("mfcc", "", "", RATE, 1, DIM, "fp32", f"{pipeline()}; {versions}", recipe_version=1))


def statistics(wave: Waveform) -> Vectors:
    """Return the 970 statistics of one waveform at 16 kHz: five statistics of each of the 194 contours."""
    return _statistics(*_contours(wave))


def _statistics(contours: Contours, voiced: NDArray[np.bool_]) -> Vectors:
    low, high = np.percentile(contours, [10, 90], axis=1)
    spoken = contours[:, voiced] if voiced.any() else contours
    parts = (contours.mean(axis=1), contours.std(axis=1), low, high, spoken.mean(axis=1))
    return np.concatenate(parts).astype(np.float32)


def _contours(wave: Waveform) -> tuple[Contours, NDArray[np.bool_]]:
    """Return the contours (194, T) and whether each of the T frames is voiced."""
    import scipy.fft

    power = _power(wave)  # (257, T)
    mel, bands = _filters()
    log_mel = 10 * np.log10(np.maximum(mel @ power, FLOOR))  # (64, T), dB
    mfcc = scipy.fft.dct(log_mel, axis=0, norm="ortho")[:N_MFCC]
    first, second = _slope(mfcc, 1), _slope(mfcc, 2)
    energy = 10 * np.log10(np.maximum(power.mean(axis=0), FLOOR))  # (T,), dB
    pitch, periodicity = _pitch(wave, power.shape[1])
    voiced = (periodicity > VOICED) & (energy > energy.max() - 35)
    tail = np.stack([_fill_unvoiced(np.log2(pitch), voiced), energy, periodicity])
    return np.concatenate([mfcc, first, second, log_mel, _contrast(power, bands), tail]).astype(np.float32), voiced


def _power(wave: Waveform) -> NDArray[np.float32]:
    """Return the power spectrum (257, T). Frame t is centred on sample 160 t; the waveform is padded with zeros."""
    import scipy.fft

    window = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    frames = _frames(wave, WINDOW) * window  # (T, 400)
    spectrum = scipy.fft.rfft(frames, FFT, axis=1)
    return np.ascontiguousarray((spectrum.real**2 + spectrum.imag**2).T)


def _frames(wave: Waveform, width: int) -> NDArray[np.float32]:
    """Return windows (T, width) centred on every 160th sample, T = 1 + samples // 160.

    Example: 400 samples and a width of 400 give T = 3 windows, around the samples 0, 160 and 320.
    """
    padded = np.pad(wave, width // 2)
    n_frames = 1 + len(wave) // HOP
    return np.lib.stride_tricks.sliding_window_view(padded, width)[::HOP][:n_frames]


@functools.cache
def _filters() -> tuple[Any, tuple[slice, ...]]:
    """Return the mel filters (64, 257) and the FFT bins of seven octave bands: up to 200 Hz, 400 Hz, …, above 6.4 kHz.

    The filters are sparse, because 97 % of their numbers are zero and a dense product would start the threads of BLAS
    in every lane.
    """
    import scipy.sparse
    from librosa.filters import mel as mel_filters

    mel = scipy.sparse.csr_array(mel_filters(sr=RATE, n_fft=FFT, n_mels=N_MELS).astype(np.float32))
    hertz = np.fft.rfftfreq(FFT, 1 / RATE)
    edges = np.searchsorted(hertz, [0, 200, 400, 800, 1600, 3200, 6400, RATE])
    return mel, tuple(slice(begin, end) for begin, end in pairwise(edges))


def _slope(contours: NDArray[np.float32], order: int) -> NDArray[np.float32]:
    """Return the first or second difference, from a polynomial fitted to 9 frames; the end frames are repeated."""
    import scipy.signal

    slope: NDArray[np.float32] = scipy.signal.savgol_filter(
        contours, SLOPE, polyorder=order, deriv=order, axis=-1, mode="nearest"
    )
    return slope


def _contrast(power: NDArray[np.float32], bands: tuple[slice, ...]) -> NDArray[np.float64]:
    """Return the contrast (7, T): dB between the loudest and the quietest fifth of the bins of each octave band."""
    rows = []
    for band in bands:
        ordered = np.sort(power[band], axis=0)
        fifth = max(1, round(0.2 * len(ordered)))
        valley, peak = ordered[:fifth].mean(axis=0), ordered[-fifth:].mean(axis=0)
        rows.append(10 * np.log10(np.maximum(peak, FLOOR) / np.maximum(valley, FLOOR)))
    return np.stack(rows)


def _pitch(wave: Waveform, n_frames: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the pitch (T,) in Hz and the periodicity (T,) from 0 to 1: the peak of the normalised autocorrelation."""
    frames = _frames(wave, PITCH_WINDOW)[:n_frames]
    blocks = [_periods(frames[begin : begin + PITCH_BLOCK]) for begin in range(0, n_frames, PITCH_BLOCK)]
    periods, strengths = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return RATE / periods.astype(np.float64), np.clip(strengths, 0, 1).astype(np.float64)


def _periods(frames: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the strongest period (T,) of each frame (T, 1024), in samples, and its strength (T,)."""
    window, lags, gain, cost = _pitch_constants()
    correlation = _autocorrelation((frames - frames.mean(axis=1, keepdims=True)) * window)  # (T, 1024), by lag
    periodic = correlation[:, lags] / np.maximum(correlation[:, :1], FLOOR) * gain  # (T, lags)
    # A sound repeats after two periods as well as after one. The cost makes the shortest of equal peaks win.
    best = (periodic - cost).argmax(axis=1)
    return lags[best], periodic[np.arange(len(best)), best]


@functools.cache
def _pitch_constants() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.float64]]:
    """Return the window, the lags to search, and for each lag the gain that undoes the window and the octave cost."""
    window = np.hanning(PITCH_WINDOW + 1)[:-1].astype(np.float32)
    taper = _autocorrelation(window[None])[0]
    shortest, longest = int(RATE / PITCH_RANGE[1]), int(RATE / PITCH_RANGE[0])
    lags = np.arange(shortest, longest + 1)
    return window, lags, taper[0] / taper[lags], OCTAVE_COST * np.log2(lags / shortest)


def _autocorrelation(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the autocorrelation of each frame (T, width), by lag from 0 to width - 1."""
    import scipy.fft

    spectrum = scipy.fft.rfft(frames, PITCH_FFT, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    # The power spectrum is real and even, so the DCT is its inverse Fourier transform.
    full: NDArray[np.float32] = scipy.fft.dct(power, type=1, axis=1)
    return full[:, : frames.shape[1]]


def _fill_unvoiced(contour: NDArray[np.float64], voiced: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the contour (T,) with its unvoiced frames interpolated from the voiced ones; zeros if none is voiced."""
    if not voiced.any():
        return np.zeros_like(contour)
    frames = np.arange(len(contour))
    return np.interp(frames, frames[voiced], contour[voiced])


encoder = EncoderSpec(
    "mfcc", "970 statistics of MFCCs, mel bands, spectral contrast, pitch and energy; no trained weights", load
)
