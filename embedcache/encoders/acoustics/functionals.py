"""Functionals: numbers that describe a contour of any length. `names` has the name of each of the 1,566.

A block is one kind of functional of several contours, such as the percentiles of all contours of the voice. Each block
has names and a function, and the vector is the concatenation of the blocks. Frames count by their weight:

    inside      frames from the first to the last of the speech
    voiced      frames with a pitch, and `unvoiced` the rest of the speech
    loud        all frames of the speech by their power

Modulation is the power of a contour in octave bands from 0.5 to 16 Hz: syllables are at 4 to 8 Hz, stress is below (Wu
et al. 2011). Correlations say which contours move together (Williamson et al. 2013): a raised voice that brightens
with its pitch, for instance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .contours import N_CEPSTRA, N_MELS, PER_SECOND, VOICE, Contours, contours_of
from .tensors import ascending, constant, decibels, power_of

CEPSTRA = tuple(f"cepstrum_{n:02d}" for n in range(N_CEPSTRA))
MEL = tuple(f"mel_{n:02d}" for n in range(N_MELS))
JOINT = 16  # number of cepstra whose correlations are computed
MOMENTS = ("mean", "std", "skewness", "kurtosis")
PERCENTILES = (5, 25, 50, 75, 95)
SPREADS = ("mean", "std")
SLOPE_FRAMES = 2  # frames to each side of a frame from which its slope is computed
WIDTHS = (32, 16, 8, 4, 2, 1)  # frames: deviations of Gaussians, whose cutoffs are 0.5, 1, 2, 4, 8 and 16 Hz
MODULATION = ("0.5-1Hz", "1-2Hz", "2-4Hz", "4-8Hz", "8-16Hz")
TAIL = 10 * WIDTHS[0]  # frames of zeros after a contour, so that the filters do not wrap around
LEAST_MODULATION = 1e-3  # added to the power of a band: a deviation of 0.03 of the contour's unit
LAGS = (2, 5, 10, 20)  # frames between the values of an autocorrelation
SMALL = 1e-2  # added to deviations that divide, in the contour's unit
EMPTY = 1e-3  # least sum of weights, in frames
TIMING = ("duration", "voiced_share", "voicings_a_second", "pitch_change", "energy_change")


@dataclass(frozen=True)
class Block:
    """One kind of functional: its names, and the function that computes it, in any shape with as many numbers."""

    names: tuple[str, ...]
    compute: Callable[[Contours], Tensor]


def functionals_of(contours: Contours) -> Tensor:
    """Return the functionals of the contours of one waveform, (1566,), float64."""
    return torch.cat([block.compute(contours).reshape(-1) for block in BLOCKS])


class Module(torch.nn.Module):
    """The functionals as a torch module, for the export to ONNX: waveform (1, samples) -> (1, 1566), float32."""

    def forward(self, waveform: Tensor) -> Tensor:
        return functionals_of(contours_of(waveform[0]))[None].float()


def names() -> tuple[str, ...]:
    """Return the names of the functionals, in order, such as `pitch.p95` and `mel_07.modulation_4-8Hz`."""
    return tuple(name for block in BLOCKS for name in block.names)


def _grid(rows: Sequence[str], contours: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{contour}.{row}" for row in rows for contour in contours)


def _voice(contours: Contours) -> Tensor:
    values, weight = contours.voice, contours.inside
    return torch.cat([_moments(values, weight), _percentiles(values, weight), _trend(values, weight)])


def _voice_slopes(contours: Contours) -> Tensor:
    values, weight = _slopes(contours.voice), _eroded(contours.inside)
    return torch.cat([_moments(values, weight), _percentiles(values, weight)])


def _cepstra(contours: Contours) -> Tensor:
    return _moments(contours.cepstra, contours.inside)


def _by_voicing(contours: Contours) -> Tensor:
    values = torch.cat([contours.voice, contours.cepstra], 1)
    return torch.cat([_spread(values, contours.voiced), _mean(values, contours.inside - contours.voiced)])


def _by_power(contours: Contours) -> Tensor:
    return _spread(torch.cat([contours.voice, contours.cepstra], 1), contours.power)


def _mel_by_voicing(contours: Contours) -> Tensor:
    values = contours.mel
    return torch.cat([_spread(values, contours.voiced), _mean(values, contours.inside - contours.voiced)])


def _modulation(contours: Contours) -> Tensor:
    """Return the power of each contour in five bands (5, 54), in dB: differences of Gaussians, as a filter bank."""
    values = torch.cat([contours.mel, contours.voice], 1)
    centred = (values - _mean(values, contours.inside)) * contours.inside
    length = values.shape[0] + TAIL
    power = power_of(torch.fft.rfft(centred, length, dim=0))  # (F, 54)
    cycles = torch.arange(power.shape[0]).double()[:, None] / length  # a frame
    passed = torch.exp(-2 * math.pi**2 * (_widths() * cycles).square())  # (F, 6)
    bands = (passed[:, 1:] - passed[:, :-1]).square() * 2 / length
    return decibels(bands.T @ power / contours.inside.sum() + LEAST_MODULATION)


def _joint_correlations(contours: Contours) -> Tensor:
    joint = torch.cat([contours.cepstra[:, :JOINT], contours.voice], 1)
    return _above_diagonal(_correlations(joint, joint, contours.inside))


def _slope_correlations(contours: Contours) -> Tensor:
    cepstra = contours.cepstra[:, :JOINT]
    return _above_diagonal(_correlations(cepstra, 10 * _slopes(cepstra), _eroded(contours.inside)))


def _autocorrelations(contours: Contours) -> Tensor:
    cepstra, weight = contours.cepstra[:, :JOINT], contours.inside
    centred = (cepstra - _mean(cepstra, weight)) * weight
    variance = (centred.square().sum(0) / weight.sum()).sqrt() + SMALL
    products = [(centred[lag:] * centred[:-lag]).sum(0) for lag in LAGS]
    return torch.stack(products) / weight.sum() / variance.square()


def _timing(contours: Contours) -> Tensor:
    frames, voiced = contours.inside.sum(), contours.voiced
    begun = (voiced[1:] - voiced[:-1]).clamp(min=0).sum()
    both = voiced[1:] * voiced[:-1]
    moved = (contours.voice[1:, :2] - contours.voice[:-1, :2]).abs()  # energy and pitch
    change = (moved * both).sum(0) / both.sum().clamp(min=EMPTY)
    seconds = frames / PER_SECOND
    return torch.stack([seconds.log(), voiced.sum() / frames, begun / seconds, change[1], change[0]])


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted means (1, k) of values (T, k); zeros if there is no weight."""
    return (values * weight).sum(0, keepdim=True) / weight.sum().clamp(min=EMPTY)


def _spread(values: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted means and standard deviations (2, k)."""
    mean = _mean(values, weight)
    return torch.cat([mean, _mean((values - mean).square(), weight).sqrt()])


def _moments(values: Tensor, weight: Tensor) -> Tensor:
    """Return mean, standard deviation, skewness and kurtosis (4, k)."""
    mean, std = _spread(values, weight).split(1)
    scaled = (values - mean) / (std + SMALL)
    square = scaled.square()
    return torch.cat([mean, std, _mean(square * scaled, weight), _mean(square.square(), weight)])


def _percentiles(values: Tensor, weight: Tensor) -> Tensor:
    """Return percentiles (5, k) over the frames whose weight is one, by linear interpolation; else zeros."""
    ordered = ascending(torch.where(weight > 0, values, torch.inf))
    last = weight.sum() - 1
    position = _shares() * last.clamp(min=0)  # (5,)
    low = position.floor()
    high = torch.minimum(low + 1, last.clamp(min=0))
    below, above = ordered[low.long()], ordered[high.long()]
    rows = below + (position - low)[:, None] * (above - below)
    return torch.where(last >= 0, rows, torch.zeros_like(rows))


def _trend(values: Tensor, weight: Tensor) -> Tensor:
    """Return the change (1, k) from the middle to the end of a line fitted to each contour."""
    frame = weight.cumsum(0)
    time = (frame - _mean(frame, weight)) / (weight.sum() / 2)
    return _mean(values * time, weight) / _mean(time.square(), weight).clamp(min=EMPTY)


def _slopes(values: Tensor) -> Tensor:
    """Return the slope of each contour at each frame, a frame, of a line fitted to five frames."""
    padded = torch.nn.functional.pad(values, (0, 0, SLOPE_FRAMES, SLOPE_FRAMES))
    return (2 * (padded[4:] - padded[:-4]) + padded[3:-1] - padded[1:-3]) / 10


def _eroded(weight: Tensor) -> Tensor:
    """Return 1 for the frames whose two neighbours on each side are inside, too."""
    padded = torch.nn.functional.pad(weight, (0, 0, SLOPE_FRAMES, SLOPE_FRAMES))
    return padded[:-4] * weight * padded[4:]


def _correlations(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Return the correlation of each contour of `first` with each of `second`."""
    count = weight.sum().clamp(min=EMPTY)
    one, two = (first - _mean(first, weight)) * weight, (second - _mean(second, weight)) * weight
    deviations = [(part.square().sum(0) / count).sqrt() + SMALL for part in (one, two)]
    return one.T @ two / count / deviations[0][:, None] / deviations[1]


def _above_diagonal(matrix: Tensor) -> Tensor:
    rows, columns = np.triu_indices(matrix.shape[0], 1)
    return matrix[torch.from_numpy(rows), torch.from_numpy(columns)]


@constant
def _widths() -> NDArray[Any]:
    return np.array(WIDTHS)


@constant
def _shares() -> NDArray[Any]:
    return np.array(PERCENTILES) / 100


def _pairs(contours: Sequence[str], relation: str) -> tuple[str, ...]:
    return tuple(f"{one}.{relation}_{two}" for one, two in combinations(contours, 2))


_PERCENTILES = tuple(f"p{percentile}" for percentile in PERCENTILES)
_VOICED = ("voiced_mean", "voiced_std", "unvoiced_mean")
BLOCKS = (
    Block(_grid((*MOMENTS, *_PERCENTILES, "trend"), VOICE), _voice),
    Block(_grid([f"slope_{name}" for name in (*MOMENTS, *_PERCENTILES)], VOICE), _voice_slopes),
    Block(_grid(MOMENTS, CEPSTRA), _cepstra),
    Block(_grid(_VOICED, (*VOICE, *CEPSTRA)), _by_voicing),
    Block(_grid(("loud_mean", "loud_std"), (*VOICE, *CEPSTRA)), _by_power),
    Block(_grid(_VOICED, MEL), _mel_by_voicing),
    Block(_grid([f"modulation_{band}" for band in MODULATION], (*MEL, *VOICE)), _modulation),
    Block(_pairs((*CEPSTRA[:JOINT], *VOICE), "with"), _joint_correlations),
    Block(_pairs(CEPSTRA[:JOINT], "with_slope_of"), _slope_correlations),
    Block(_grid([f"autocorrelation_{10 * lag}ms" for lag in LAGS], CEPSTRA[:JOINT]), _autocorrelations),
    Block(TIMING, _timing),
)
