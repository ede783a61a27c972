"""The contours of a waveform: 78 numbers for each frame of 25 ms, every 10 ms.

    voice      14 contours of energy, pitch, voice quality and the shape of the spectrum, see `VOICE`
    cepstra    24 MFCCs: the orthonormal DCT of the mel bands (Davis and Mermelstein 1980)
    mel        40 mel bands from 50 Hz to 8 kHz, in dB (Slaney's scale, triangles of height one)

Powers are divided by the level of the speech, so that a gain changes no contour. The level is the mean power of the
frames from the first to the last that is within 40 dB of the loudest. Other frames have no weight.

The arithmetic is float64: the frames of a clip differ by 70 dB, and quiet bands in float32 would depend on the
processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .pitch import HOP, RATE, SILENCE, pitch_of
from .tensors import constant, decibels, power_of, windows

WINDOW, FFT = 400, 512  # samples: 25 ms, and the length of the transform
PER_SECOND = RATE // HOP  # frames
N_MELS, N_CEPSTRA = 40, 24
LOWEST, HIGHEST = 50.0, 8_000.0  # Hz: edges of the mel bands
FLOOR = 1e-7  # power added to each band, relative to the level: -70 dB
EDGE = 1e-4  # power of the first and of the last frame that counts, relative to the loudest: -40 dB
LEAST_SHARE = 1e-10  # least share of a bin in the power of its frame
# Least power of a frame whose bins have shares, relative to the level: -90 dB. Below it, the spectrum of a frame is
# that of the rounding of its zeros, which differs from one processor to another.
QUIETEST = 1e-9
PERIODIC, QUIET = 0.45, 30.0  # periodicity, and dB below the loudest frame, at which a frame is half voiced
SMOOTHING = 3.0  # frames: deviation of the Gaussian that smooths the pitch
VOICE = (
    "energy",  # dB relative to the level
    "pitch",  # semitones above 100 Hz, smoothed; its mean where no frame nearby is voiced
    "periodicity",  # 0 to 1: peak of the normalised autocorrelation (Boersma 1993)
    "hnr",  # harmonics-to-noise ratio in dB, computed from the periodicity (Boersma 1993)
    "centroid",  # kHz: mean frequency of the spectrum
    "spread",  # kHz: standard deviation of the frequency
    "entropy",  # nats: of the spectrum as a distribution (Misra et al. 2004)
    "flux",  # 0 to 1.4: distance from the spectrum before, both with a norm of one
    "alpha_ratio",  # dB: 50 Hz to 1 kHz against 1 to 5 kHz (Eyben et al. 2016)
    "hammarberg",  # dB: up to 2 kHz against 2 to 5 kHz, by power instead of by peak (Hammarberg et al. 1980)
    "brightness",  # dB: above 4 kHz against below
    "slope_low",  # dB/kHz: of a line fitted to the spectrum from 60 to 500 Hz (Eyben et al. 2016)
    "slope_high",  # dB/kHz: the same from 500 Hz to 5 kHz
    "peak",  # dB: highest mel band above the mean of all
)
BANDS = ((50, 1000), (1000, 5000), (0, 2000), (2000, 5000), (4000, 8001), (0, 4000))  # Hz: pairs of three ratios
SLOPES = ((60, 500), (500, 5000))  # Hz


@dataclass(frozen=True)
class Contours:
    """The contours of one waveform with T frames, and the weights of its frames; all float64."""

    voice: Tensor  # (T, 14)
    cepstra: Tensor  # (T, 24)
    mel: Tensor  # (T, 40)
    inside: Tensor  # (T, 1): 1 from the first to the last frame that counts, else 0
    voiced: Tensor  # (T, 1): weight as a voiced frame, 0 to 1; 0 outside
    power: Tensor  # (T, 1): power relative to the level; 0 outside


def contours_of(wave: Tensor) -> Contours:
    """Return the contours of a waveform (samples,) at 16 kHz: T = 3 + samples // 160 frames, 160 samples apart.

    The first and the last frame lie before and after the waveform, as where silence surrounds the waveform.
    """
    wide = wave.double()
    centred = torch.nn.functional.pad(wide - wide.mean(), (HOP, HOP))
    spectrum = _spectrum(centred)  # (T, 257)
    total = spectrum.sum(1, keepdim=True)  # (T, 1)
    inside = _between(total >= EDGE * total.max())
    level = ((total * inside).sum() / inside.sum()).clamp(min=SILENCE)
    spectrum, power = spectrum / level, total / level
    energy, mel = decibels(power + FLOOR), decibels(spectrum @ _mel_filters() + FLOOR)
    semitones, periodicity = pitch_of(centred, spectrum.shape[0], total.max())
    # Soft thresholds: a frame near a hard one would flip from one processor to another.
    loud = torch.sigmoid((energy - energy.max() + QUIET) / 3)
    voiced = inside * loud * torch.sigmoid((periodicity - PERIODIC) / 0.05)
    pitch = [_smooth(semitones, voiced), periodicity, _harmonicity(periodicity)]
    peak = mel.amax(1, keepdim=True) - mel.mean(1, keepdim=True)
    voice = torch.cat([energy, *pitch, *_shape(spectrum, inside), peak], 1)
    return Contours(voice, mel @ _cosines(), mel, inside, voiced, power * inside)


def _spectrum(wave: Tensor) -> Tensor:
    """Return the power spectrum (T, 257). Frame t is centred on sample 160 t; zeros surround the waveform.

    The mean of each frame is removed, so that an offset changes nothing.
    """
    padded = torch.nn.functional.pad(wave, (WINDOW // 2, WINDOW))
    frames = windows(padded, WINDOW, HOP, 1 + wave.shape[0] // HOP)
    window = _window()
    means = (frames @ window / window.sum())[:, None]
    return power_of(torch.fft.rfft((frames - means) * window, FFT))


def _between(chosen: Tensor) -> Tensor:
    """Return 1 from the first to the last of the chosen frames (T, 1), else 0."""
    so_far = chosen.long().cumsum(0)
    not_after = torch.logical_or(so_far < so_far[-1], chosen)
    return torch.logical_and(so_far > 0, not_after).double()


def _harmonicity(periodicity: Tensor) -> Tensor:
    """Return the harmonics-to-noise ratio in dB, between -20 and 30."""
    harmonic = periodicity.clamp(0.01, 0.999)
    return decibels(harmonic / (1 - harmonic))


def _smooth(contour: Tensor, weight: Tensor) -> Tensor:
    """Return a contour (T, 1), averaged over neighbouring frames by weight; without any weight nearby, its mean."""
    mean: Tensor = (contour * weight).sum() / weight.sum().clamp(min=1e-3)
    kernel = _gaussian()
    half, width = kernel.shape[0] // 2, kernel.shape[0]
    both = torch.nn.functional.pad(torch.cat([(contour - mean) * weight, weight], 1).T, (half, half))  # (2, T + 18)
    value: Tensor
    total: Tensor
    value, total = (windows(both, width, 1, contour.shape[0]) @ kernel).T.split(1, 1)
    return mean + value / (total + 1e-3)


def _shape(spectrum: Tensor, inside: Tensor) -> list[Tensor]:
    """Return the contours of the shape of the spectrum, from `centroid` to `slope_high`."""
    share = (spectrum / spectrum.sum(1, keepdim=True).clamp(min=QUIETEST)).clamp(min=LEAST_SHARE)
    kilohertz = _kilohertz()
    centroid = share @ kilohertz
    spread = (share @ kilohertz.square() - centroid.square()).clamp(min=0).sqrt()
    entropy = -(share * share.log()).sum(1, keepdim=True)
    bands = decibels(spectrum @ _bands() + FLOOR)  # (T, 6)
    ratios = bands[:, ::2] - bands[:, 1::2]  # (T, 3)
    return [centroid, spread, entropy, _flux(share.sqrt(), inside), ratios, decibels(spectrum + FLOOR) @ _slopes()]


def _flux(shape: Tensor, inside: Tensor) -> Tensor:
    """Return the distance (T, 1) between each frame (T, 257) and the frame before; 0 for the first that counts."""
    moved = (shape[1:] - shape[:-1]).square().sum(1, keepdim=True).sqrt() * inside[:-1]
    return torch.nn.functional.pad(moved, (0, 0, 1, 0))


@constant
def _window() -> NDArray[Any]:
    return np.hanning(WINDOW + 1)[:-1]


@constant
def _mel_filters() -> NDArray[Any]:
    from librosa.filters import mel

    edges = {"fmin": LOWEST, "fmax": HIGHEST}
    return np.asarray(mel(sr=RATE, n_fft=FFT, n_mels=N_MELS, norm=None, dtype=np.float64, **edges)).T


@constant
def _cosines() -> NDArray[Any]:
    """Return the matrix (40, 24) of the orthonormal DCT of type 2."""
    import scipy.fft

    return np.asarray(scipy.fft.dct(np.eye(N_MELS), axis=0, norm="ortho"))[:N_CEPSTRA].T


@constant
def _gaussian() -> NDArray[Any]:
    steps = np.arange(-3 * SMOOTHING, 3 * SMOOTHING + 1) / SMOOTHING
    kernel = np.exp(-(steps**2) / 2)
    return np.asarray(kernel / kernel.sum())


@constant
def _kilohertz() -> NDArray[Any]:
    return np.fft.rfftfreq(FFT, 1000 / RATE)[:, None]


@constant
def _bands() -> NDArray[Any]:
    hertz = np.fft.rfftfreq(FFT, 1 / RATE)
    return np.stack([(hertz >= low) & (hertz < high) for low, high in BANDS], 1)


@constant
def _slopes() -> NDArray[Any]:
    """Return the matrix (257, 2) that turns a spectrum in dB into the slopes of fitted lines, in dB/kHz."""
    kilohertz = np.fft.rfftfreq(FFT, 1000 / RATE)
    lines = []
    for low, high in SLOPES:
        chosen = (1000 * kilohertz >= low) & (1000 * kilohertz < high)
        centred = np.where(chosen, kilohertz - kilohertz[chosen].mean(), 0)
        lines.append(centred / (centred**2).sum())
    return np.stack(lines, 1)
