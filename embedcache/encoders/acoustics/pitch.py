"""Pitch and periodicity of each frame: the strongest peak of the normalised autocorrelation (Boersma 1993).

The autocorrelation is computed at 120 pitches, 36 an octave, from the power spectrum below 1.8 kHz: speech repeats at
its pitch there, and the noise of consonants lies above. A parabola through the peak gives the pitch between them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .tensors import constant, power_of, windows

RATE, HOP = 16_000, 160  # samples a second, and between two frames: 10 ms
DECIMATION, CUTOFF, TAPS = 4, 1_800.0, 49  # to 4 kHz, by a low-pass with its cutoff in Hz and its number of taps
WINDOW, FFT = 256, 512  # samples at 4 kHz: 64 ms, four periods of the lowest pitch; length of the transform
LOWEST, HIGHEST, PITCHES = 60.0, 600.0, 120  # Hz, and the number of pitches
SEMITONES = float(12 * np.log2(HIGHEST / LOWEST) / (PITCHES - 1))  # between two pitches
OFFSET = float(12 * np.log2(LOWEST / 100))  # semitones of the lowest pitch above 100 Hz
OCTAVE_COST = 0.02  # periodicity subtracted for each octave below the highest pitch
SILENCE = 1e-30  # least power that divides; full scale is about 1e4
QUIETEST = 1e-9  # power relative to the loudest frame below which the periodicity goes to zero: -90 dB


def pitch_of(wave: Tensor, count: int, loudest: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pitch in semitones above 100 Hz and the periodicity from 0 to 1, both (count, 1).

    Frame t is centred on sample 160 t of the waveform. `loudest` is the power of the loudest frame.
    """
    power = _power(_decimate(wave), count)
    energy = power @ _energy()  # (T, 1)
    periodic = power @ _correlation() / (energy + QUIETEST * loudest).clamp(min=SILENCE)  # (T, 120)
    # A sound repeats after two periods as well as after one. The cost makes the shortest of equal peaks win.
    preferred = periodic - _cost()
    best = preferred.argmax(1, keepdim=True)
    return OFFSET + SEMITONES * _peak(preferred, best), periodic.gather(1, best).clamp(0, 1)


def _decimate(wave: Tensor) -> Tensor:
    """Return the waveform at 4 kHz, low-passed; sample n lies at sample 4 n of the waveform."""
    padded = torch.nn.functional.pad(wave, (TAPS // 2, TAPS))
    return windows(padded, TAPS, DECIMATION, 1 + wave.shape[0] // DECIMATION) @ _low_pass()


def _power(wave: Tensor, count: int) -> Tensor:
    """Return the power spectrum (count, 257) of frames of 64 ms, without their means."""
    padded = torch.nn.functional.pad(wave, (WINDOW // 2, WINDOW))
    frames = windows(padded, WINDOW, HOP // DECIMATION, count)
    return power_of(torch.fft.rfft((frames - frames.mean(1, keepdim=True)) * _window(), FFT))


def _peak(preferred: Tensor, best: Tensor) -> Tensor:
    """Return the position (T, 1) of the peak of a parabola through the best pitch and its neighbours."""
    middle = best.clamp(1, PITCHES - 2)
    before, at, after = (preferred.gather(1, middle + step) for step in (-1, 0, 1))
    bend = (before - 2 * at + after).clamp(max=-1e-6)
    return middle + (0.5 * (before - after) / bend).clamp(-0.5, 0.5)


@constant
def _window() -> NDArray[Any]:
    return np.hanning(WINDOW + 1)[:-1]


@constant
def _low_pass() -> NDArray[Any]:
    import scipy.signal

    return np.asarray(scipy.signal.firwin(TAPS, CUTOFF, fs=RATE))


def _weights() -> NDArray[Any]:
    """Return the weight of each bin in a sum over the power spectrum: all but the first and the last stand for two."""
    return np.asarray(np.r_[1, np.full(FFT // 2 - 1, 2), 1] / FFT)


@constant
def _energy() -> NDArray[Any]:
    return _weights()[:, None]


@constant
def _correlation() -> NDArray[Any]:
    """Return the matrix (257, 120) that turns a power spectrum into the autocorrelation at each pitch.

    The autocorrelation of the window is divided out.
    """
    hertz = np.fft.rfftfreq(FFT, DECIMATION / RATE)
    cosines = np.cos(2 * np.pi * hertz[:, None] / _pitches()) * _weights()[:, None]
    of_window = np.abs(np.fft.rfft(_window().numpy(), FFT)) ** 2
    return np.asarray(cosines * (of_window @ _weights()) / (of_window @ cosines))


@constant
def _cost() -> NDArray[Any]:
    return np.asarray(OCTAVE_COST * np.log2(HIGHEST / _pitches()))


def _pitches() -> NDArray[Any]:
    return np.geomspace(LOWEST, HIGHEST, PITCHES)
