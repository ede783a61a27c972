"""`mfcc`: 970 statistics over time of what SER used before neural features. No weights, no download.

194 contours, 25 ms windows every 10 ms at 16 kHz: 40 MFCC with first and second differences (120), 64 log-mel bands,
7 spectral contrasts (Jiang et al. 2002), pitch, energy, periodicity. Five statistics of each: mean, standard deviation,
10th and 90th percentile, and the mean over voiced frames. Pitch is the strongest peak of the normalised autocorrelation
(Boersma 1993), voiced above 0.45 of full periodicity; between voiced stretches it is interpolated. The contours follow
librosa's definitions, and use its filters; `recipe_version` counts changes to any of this. Of frames, the first 30 MFCC
are kept: what 2-D networks over MFCC read.
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
from ..encoder import FRAMES, Batch, EncoderInfo, EncoderSpec, Frames, Log, Rows, Vectors, no_log, refuse_short
from ..errors import EncoderError

RATE = 16_000
WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms, 10 ms
PITCH_WINDOW, PITCH_FFT = 1024, 2048  # 64 ms: four periods of the lowest pitch
PITCH_BLOCK = 32  # frames at a time: their transforms stay in the processor's cache
PITCH_RANGE = (65.0, 500.0)  # Hz
VOICED = 0.45  # of full periodicity
OCTAVE_COST = 0.02  # of full periodicity, an octave
N_MELS, N_MFCC = 64, 40
KEPT = 30  # of the MFCC, frame by frame
SLOPE = 9  # frames that a difference looks at
FLOOR = 1e-10  # of power: -100 dB
DIM = 5 * (3 * N_MFCC + N_MELS + 7 + 3)

Contours = NDArray[np.float32]  # (contours, T)


@dataclass(frozen=True)
class Mfcc:
    """The recipe as an encoder of one layer."""

    info: EncoderInfo
    shortest: float = WINDOW / RATE
    longest: float = 1800.0
    views: tuple[str, ...] = ("pooled", "layers", FRAMES)
    pack: float = 30.0
    lanes: int = field(default_factory=lambda: os.cpu_count() or 1)  # numpy and scipy release the interpreter

    def encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        """`pooled` (n, 970) and `layers` (n, 1, 970), float32; `frames:0` (T, 30) float16, T = 1 + samples // 160."""
        refuse_short(self, waveforms)
        made = [_contours(wave) for wave in waveforms]
        rows = [_statistics(*contours) for contours in made]
        pooled = np.stack(rows) if rows else np.empty((0, DIM), np.float32)
        batch: dict[str, Rows] = {"pooled": pooled, "layers": pooled[:, None]}
        if f"{FRAMES}:0" in views:
            kept = [contours[:KEPT].T.astype(np.float16) for contours, _ in made]
            values = np.concatenate([np.empty((0, KEPT), np.float16), *kept])
            batch[f"{FRAMES}:0"] = Frames.of(values, [len(frames) for frames in kept])
        return {view: batch[view] for view in views}


def load(device: str = "auto", precision: str = "fp32", log: Log = no_log) -> Mfcc:
    """The recipe. Raises EncoderError for a device other than the CPU, where alone it runs, or less than float32."""
    if precision != "fp32":
        raise EncoderError(f"--precision {precision}: mfcc is computed in fp32 alone. Leave --precision out.")
    if device not in ("auto", "cpu"):
        raise EncoderError(f"--device {device}: mfcc has no weights and runs on the CPU alone. Leave --device out.")
    versions = ", ".join(f"{package} {version(package)}" for package in ("librosa", "scipy"))
    return Mfcc(EncoderInfo("mfcc", "", "", RATE, 1, DIM, "fp32", f"{pipeline()}; {versions}", recipe_version=1))


def statistics(wave: Waveform) -> Vectors:
    """(970,): five statistics of each contour of one waveform at 16 kHz."""
    return _statistics(*_contours(wave))


def _statistics(contours: Contours, voiced: NDArray[np.bool_]) -> Vectors:
    low, high = np.percentile(contours, [10, 90], axis=1)
    spoken = contours[:, voiced] if voiced.any() else contours
    parts = (contours.mean(axis=1), contours.std(axis=1), low, high, spoken.mean(axis=1))
    return np.concatenate(parts).astype(np.float32)


def _contours(wave: Waveform) -> tuple[Contours, NDArray[np.bool_]]:
    """(194, T) contours, and which of the T frames are voiced."""
    import scipy.fft

    power = _power(wave)  # (257, T)
    mel, bands = _filters()
    log_mel = 10 * np.log10(np.maximum(mel @ power, FLOOR))  # (64, T), dB
    mfcc = scipy.fft.dct(log_mel, axis=0, norm="ortho")[:N_MFCC]
    first, second = _slope(mfcc, 1), _slope(mfcc, 2)
    energy = 10 * np.log10(np.maximum(power.mean(axis=0), FLOOR))
    pitch, periodicity = _pitch(wave, power.shape[1])
    voiced = (periodicity > VOICED) & (energy > energy.max() - 35)
    tail = np.stack([_between(np.log2(pitch), voiced), energy, periodicity])
    return np.concatenate([mfcc, first, second, log_mel, _contrast(power, bands), tail]).astype(np.float32), voiced


def _power(wave: Waveform) -> NDArray[np.float32]:
    """(257, T) power spectrum; frame t is centred on sample 160 t, silence beyond the ends."""
    import scipy.fft

    window = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    frames = _frames(wave, WINDOW) * window  # (T, 400)
    spectrum = scipy.fft.rfft(frames, FFT, axis=1)
    return np.ascontiguousarray((spectrum.real**2 + spectrum.imag**2).T)


def _frames(wave: Waveform, width: int) -> NDArray[np.float32]:
    """(T, width) windows centred on every 160th sample, T = 1 + samples // 160."""
    padded = np.pad(wave, width // 2)
    n_frames = 1 + len(wave) // HOP
    return np.lib.stride_tricks.sliding_window_view(padded, width)[::HOP][:n_frames]


@functools.cache
def _filters() -> tuple[Any, tuple[slice, ...]]:
    """The mel filters (64, 257), and the FFT bins of seven octave bands: up to 200 Hz, 400, …, 6.4 kHz and above.

    The filters are sparse: 97 % of them is zero, and a dense product would start BLAS's own threads in every lane.
    """
    import scipy.sparse
    from librosa.filters import mel as mel_filters

    mel = scipy.sparse.csr_array(mel_filters(sr=RATE, n_fft=FFT, n_mels=N_MELS).astype(np.float32))
    hertz = np.fft.rfftfreq(FFT, 1 / RATE)
    edges = np.searchsorted(hertz, [0, 200, 400, 800, 1600, 3200, 6400, RATE])
    return mel, tuple(slice(a, b) for a, b in pairwise(edges))


def _slope(contours: NDArray[np.float32], order: int) -> NDArray[np.float32]:
    """The first or second difference by a local polynomial over 9 frames; the ends are held."""
    import scipy.signal

    slope: NDArray[np.float32] = scipy.signal.savgol_filter(
        contours, SLOPE, polyorder=order, deriv=order, axis=-1, mode="nearest"
    )
    return slope


def _contrast(power: NDArray[np.float32], bands: tuple[slice, ...]) -> NDArray[np.float64]:
    """(7, T) dB between the loudest and the quietest fifth of the bins of each octave band."""
    rows = []
    for band in bands:
        ordered = np.sort(power[band], axis=0)
        fifth = max(1, round(0.2 * len(ordered)))
        valley, peak = ordered[:fifth].mean(axis=0), ordered[-fifth:].mean(axis=0)
        rows.append(10 * np.log10(np.maximum(peak, FLOOR) / np.maximum(valley, FLOOR)))
    return np.stack(rows)


def _pitch(wave: Waveform, n_frames: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pitch (T,) in Hz and periodicity (T,) in [0, 1], by the peak of the normalised autocorrelation."""
    frames = _frames(wave, PITCH_WINDOW)[:n_frames]
    found = [_periods(frames[begin : begin + PITCH_BLOCK]) for begin in range(0, n_frames, PITCH_BLOCK)]
    periods, strengths = (np.concatenate(part) for part in zip(*found, strict=True))
    return RATE / periods.astype(np.float64), np.clip(strengths, 0, 1).astype(np.float64)


def _periods(frames: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The strongest period (T,), in samples, of each frame (T, 1024), and how strong it is (T,)."""
    window, lags, gain, cost = _pitch_constants()
    correlation = _autocorrelation((frames - frames.mean(axis=1, keepdims=True)) * window)  # (T, 1024), by lag
    periodic = correlation[:, lags] / np.maximum(correlation[:, :1], FLOOR) * gain  # (T, lags)
    # A sound repeats after two periods as well as after one: of equal peaks the shortest lag is meant.
    best = (periodic - cost).argmax(axis=1)
    return lags[best], periodic[np.arange(len(best)), best]


@functools.cache
def _pitch_constants() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.float64]]:
    """The window, the lags that are looked at, what the window takes from each, and what an octave costs."""
    window = np.hanning(PITCH_WINDOW + 1)[:-1].astype(np.float32)
    taper = _autocorrelation(window[None])[0]
    shortest, longest = int(RATE / PITCH_RANGE[1]), int(RATE / PITCH_RANGE[0])
    lags = np.arange(shortest, longest + 1)
    return window, lags, taper[0] / taper[lags], OCTAVE_COST * np.log2(lags / shortest)


def _autocorrelation(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    import scipy.fft

    spectrum = scipy.fft.rfft(frames, PITCH_FFT, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    full: NDArray[np.float32] = scipy.fft.dct(power, type=1, axis=1)  # the inverse transform of what is real and even
    return full[:, : frames.shape[1]]


def _between(contour: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The contour with its unknown frames interpolated from the known ones; 0 where none is known."""
    if not known.any():
        return np.zeros_like(contour)
    frames = np.arange(len(contour))
    return np.interp(frames, frames[known], contour[known])


encoder = EncoderSpec("mfcc", "970 statistics of MFCC, mel bands, contrast, pitch and energy: no weights", load)
