"""The profile of a waveform: twelve numbers on how it sounds, in which speech differs from tones, noise and clicks.

No number depends on the level of the waveform or on an offset. Together they say how the level, the spectrum and the
pitch are, and how they change from frame to frame. Frames far below the loudest one do not count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedcache.audio.decode import Waveform, middle

Floats = NDArray[np.floating]

NAMES = (
    "level_deviation",  # standard deviation of the levels of the frames, in dB
    "level_change",  # mean change of the level from frame to frame, in dB
    "flatness",  # mean spectral flatness, in dB: near 0 for white noise, far below for tones
    "flatness_deviation",  # its standard deviation over the frames, in dB
    "centroid",  # mean spectral centroid, in octaves above 1 Hz
    "centroid_deviation",  # its standard deviation over the frames, in octaves
    "spectral_change",  # mean change of the levels of the bands over LAG frames, in dB
    "periodicity",  # mean height of the peak of the autocorrelation: 1 for a periodic sound
    "periodicity_deviation",  # its standard deviation over the frames
    "pitch_deviation",  # standard deviation of the pitch of the periodic frames, in octaves
    "pitch_change",  # mean change of the pitch from one periodic frame to the next, in octaves
    "peakiness",  # logarithm of the kurtosis of the samples, in octaves: 1.6 for white noise, large for clicks
)
FRAME, HOP = 0.04, 0.02  # length of a frame, and the time between two, in seconds
ACTIVE = 40.0  # frames up to this far below the loudest one count, in dB
BANDS = 12  # bands of equal width in octaves, from LOW to half the sample rate
LOW = 100.0  # Hz
LAG = 3  # frames: 60 ms, the length of a short sound of speech
PITCHES = (60.0, 500.0)  # lowest and highest pitch, in Hz
PERIODIC = 0.5  # height of the peak of the autocorrelation above which a frame has a pitch
FLOOR = 1e-10  # power, where 1 is full scale; it keeps logarithms finite
LEAST_OVERLAP = 0.1  # lowest autocorrelation of the window that is divided by: long lags of few samples are noise
MOST = 30.0  # longest part of a waveform that is looked at, its middle, in seconds; it bounds the memory needed


def sound_profile(wave: Waveform, rate: int) -> NDArray[np.float64]:
    """Return the profile (12,) of a waveform (samples,) at `rate` Hz, in the order of `NAMES`; all are finite."""
    part = middle(wave, min(len(wave), round(MOST * rate)))
    frames, level = _active(_frames(part - part.mean(dtype=np.float64).astype(np.float32), rate))
    power = _power(frames)
    frequencies = np.fft.rfftfreq(frames.shape[1], 1 / rate).astype(np.float32)
    flatness = 10 * (np.log10(power).mean(axis=1) - np.log10(power.mean(axis=1)))
    centroid = np.log2(np.maximum(1, power @ frequencies / power.sum(axis=1)))
    height, pitch = _pitch(power, rate)
    pitch = pitch[height > PERIODIC]
    levels = (level.std(), _change(level))
    spectra = (flatness.mean(), flatness.std(), centroid.mean(), centroid.std())
    pitches = (height.mean(), height.std(), pitch.std() if len(pitch) else 0.0, _change(pitch))
    change = _change(_bands(power, frequencies, rate), LAG)
    return np.array([*levels, *spectra, change, *pitches, _peakiness(frames)], np.float64)


def _frames(wave: Waveform, rate: int) -> Floats:
    """Return overlapping frames (n, samples) of a waveform; one that is shorter than a frame is padded."""
    width, hop = round(FRAME * rate), round(HOP * rate)
    padded = np.pad(wave, (0, max(0, width - len(wave))))
    return np.lib.stride_tricks.sliding_window_view(padded, width)[::hop]


def _active(frames: Floats) -> tuple[Floats, Floats]:
    """Return the frames that are not far below the loudest one, and their levels in dB."""
    level = 10 * np.log10(np.mean(np.square(frames), axis=1) + FLOOR)
    active = level >= level.max() - ACTIVE
    return frames[active], level[active]


def _power(frames: Floats) -> Floats:
    """Return the power spectra (n, frequencies) of frames."""
    spectra = np.fft.rfft(frames * np.hanning(frames.shape[1]).astype(np.float32), axis=1)
    return np.square(spectra.real) + np.square(spectra.imag) + np.float32(FLOOR)


def _change(rows: Floats, lag: int = 1) -> float:
    """Return the mean absolute change over `lag` frames; 0 for too few frames."""
    return float(np.abs(rows[lag:] - rows[:-lag]).mean()) if len(rows) > lag else 0.0


def _bands(power: Floats, frequencies: Floats, rate: int) -> Floats:
    """Return the level of each band in each frame, in dB: (n, BANDS)."""
    edges = np.searchsorted(frequencies, np.geomspace(LOW, rate / 2, BANDS + 1)[:-1])
    return 10 * np.log10(np.add.reduceat(power, edges, axis=1))


def _pitch(power: Floats, rate: int) -> tuple[Floats, Floats]:
    """Return the height of the peak of the autocorrelation of each frame, in [0, 1], and its pitch in octaves: (n,).

    The autocorrelation is divided by that of the window, without which it falls with the lag (Boersma 1993).
    """
    correlation = np.fft.irfft(power, axis=1)
    window = np.fft.irfft(_power(np.ones((1, correlation.shape[1]), np.float32)), axis=1)[0]
    lags = slice(round(rate / PITCHES[1]), round(rate / PITCHES[0]) + 1)
    ratio = correlation[:, lags] / correlation[:, :1] / np.maximum(window[lags] / window[0], LEAST_OVERLAP)
    best = ratio.argmax(axis=1)
    return np.clip(ratio.max(axis=1), 0, 1), np.log2(rate / (best + lags.start))


def _peakiness(frames: Floats) -> float:
    """Return the logarithm of the kurtosis of the samples, in octaves."""
    squares = np.square(frames)
    mean = float(squares.mean(dtype=np.float64))
    return float(np.log2((np.square(squares).mean(dtype=np.float64) + FLOOR**2) / (mean**2 + FLOOR**2)))
