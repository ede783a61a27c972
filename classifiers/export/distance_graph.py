"""The ONNX graph of the distance from the training clips: `saved.sound_profile` and `TrainingSound.distance`.

The graph computes in float64: with float32, the noise of the arithmetic would show in the silent bands of a tone.
Spectra, autocorrelations and bands are linear, so their matrices are what numpy makes of the unit vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..saved.sound_profile import (
    ACTIVE,
    BANDS,
    FLOOR,
    FRAME,
    HOP,
    LAG,
    LEAST_OVERLAP,
    LOW,
    MOST,
    PERIODIC,
    PITCHES,
)
from ..saved.training_sound import LEAST_DEVIATION, MOST_DEVIATIONS, TrainingSound
from .graph_builder import OPSET, Graph

WAVEFORM, DISTANCE = "waveform", "distance"  # names of the input and of the output
END = np.iinfo(np.int64).max


def distance_model(sound: TrainingSound, rate: int) -> Any:
    """Return the ONNX model: waveform (1, samples) at `rate` Hz, at least one sample, to distance (1,)."""
    from onnx import TensorProto, helper

    g = _Graph(WAVEFORM)
    z = g.div(g.sub(_profile(g, rate), g.number(sound.mean)), g.number(sound.deviation))
    z = g("Clip", z, g.number(-MOST_DEVIATIONS), g.number(MOST_DEVIATIONS))
    far = g("Max", g("Sqrt", g.mean(g.mul(z, z))), g.number(LEAST_DEVIATION))
    share = g.single(g.reshape(g.div(far, g.number(sound.limit)), 1))
    output = helper.make_node("Identity", [share], [DISTANCE], DISTANCE)
    value = helper.make_tensor_value_info
    inputs = [value(WAVEFORM, TensorProto.FLOAT, [1, "samples"])]
    return g.as_model(DISTANCE, [output], inputs, [value(DISTANCE, TensorProto.FLOAT, [1])], {"": OPSET})


class _Graph(Graph):
    """A graph of float64 numbers."""

    def number(self, values: Any) -> str:
        return self.constant(values, np.float64)

    def whole(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def add(self, x: str, y: str) -> str:
        return self("Add", x, y)

    def sub(self, x: str, y: str) -> str:
        return self("Sub", x, y)

    def mul(self, x: str, y: str) -> str:
        return self("Mul", x, y)

    def div(self, x: str, y: str) -> str:
        return self("Div", x, y)

    def log(self, x: str, base: float, factor: float = 1.0) -> str:
        return self.mul(self("Log", x), self.number(factor / np.log(base)))

    def times(self, x: str, matrix: Any) -> str:
        return self("MatMul", x, self.number(matrix))

    def mean(self, x: str) -> str:
        """Return the mean of all numbers, 0 if there are none."""
        size = self.double(self("Max", self("Size", x), self.constant(1, np.int64)))
        return self.div(self("ReduceSum", x, keepdims=0), size)

    def rows(self, x: str, begin: int, end: int) -> str:
        """Return the rows begin … end - 1 of x; negative numbers count from the end."""
        return self("Slice", x, self.whole(begin), self.whole(end), self.whole(0))


def _profile(g: _Graph, rate: int) -> str:
    """Return the profile (12,) of the waveform, as `sound_profile` computes it."""
    width = round(FRAME * rate)
    frames, level = _active(g, _frames(g, width, round(HOP * rate), round(MOST * rate)))
    power = _power(g, frames, width)
    bins = width // 2 + 1
    frequencies = np.fft.rfftfreq(width, 1 / rate)
    total = g("ReduceSum", power, g.whole(1), keepdims=0)
    flatness = g.sub(
        g("ReduceMean", g.log(power, 10, 10), axes=[1], keepdims=0), g.log(g.div(total, g.number(bins)), 10, 10)
    )
    centroid = g.log(g("Max", g.number(1), g.div(g.times(power, frequencies), total)), 2)
    height, pitch = _pitch(g, power, bins, rate)
    pitch = g("Compress", pitch, g("Greater", height, g.number(PERIODIC)), axis=0)
    edges = np.searchsorted(frequencies, np.geomspace(LOW, rate / 2, BANDS + 1)[:-1])
    bands = g.log(g.times(power, np.add.reduceat(np.eye(bins), edges, axis=1)), 10, 10)
    numbers = (
        *(_deviation(g, level), _change(g, level)),
        *(g.mean(flatness), _deviation(g, flatness), g.mean(centroid), _deviation(g, centroid)),
        _change(g, bands, LAG),
        *(g.mean(height), _deviation(g, height), _deviation(g, pitch), _change(g, pitch)),
        _peakiness(g, frames),
    )
    return g("Concat", *(g.reshape(number, 1) for number in numbers), axis=0)


def _frames(g: _Graph, width: int, hop: int, most: int) -> str:
    """Return overlapping frames (n, width) of the middle of the waveform, without its mean."""
    x = g.double(g.reshape(WAVEFORM, -1))
    length = g("Shape", x)
    kept = g("Min", length, g.whole(most))
    begin = g.div(g.sub(length, kept), g.whole(2))
    x = g("Slice", x, begin, g.add(begin, kept))
    x = g.sub(x, g.mean(x))
    missing = g("Max", g.sub(g.whole(width), kept), g.whole(0))
    x = g("Pad", x, g("Concat", g.whole(0), missing, axis=0))
    last = g.sub(g("Shape", x), g.whole(width - 1))  # the starts are below this
    scalars = (g.constant(0, np.int64), g("Squeeze", last), g.constant(hop, np.int64))
    starts = g.reshape(g("Range", *scalars), -1, 1)
    return g("Gather", x, g.add(starts, g.constant(np.arange(width)[None], np.int64)))


def _active(g: _Graph, frames: str) -> tuple[str, str]:
    """Return the frames that are not far below the loudest one, and their levels in dB."""
    level = g.log(
        g.add(g("ReduceMean", g.mul(frames, frames), axes=[1], keepdims=0), g.number(FLOOR)), base=10, factor=10
    )
    active = g("GreaterOrEqual", level, g.sub(g("ReduceMax", level, keepdims=1), g.number(ACTIVE)))
    return g("Compress", frames, active, axis=0), g("Compress", level, active, axis=0)


def _power(g: _Graph, frames: str, width: int) -> str:
    """Return the power spectra (n, bins) of frames."""
    spectra = np.fft.rfft(np.diag(np.hanning(width)), axis=1)
    parts = [g.times(frames, part) for part in (spectra.real, spectra.imag)]
    return g.add(g.add(*(g.mul(part, part) for part in parts)), g.number(FLOOR))


def _pitch(g: _Graph, power: str, bins: int, rate: int) -> tuple[str, str]:
    """Return the height of the peak of the autocorrelation of each frame, and its pitch in octaves: (n,)."""
    first, last = round(rate / PITCHES[1]), round(rate / PITCHES[0])
    correlations = np.fft.irfft(np.eye(bins), axis=1)
    window = _window_power(round(FRAME * rate)) @ correlations
    overlap = np.maximum(window[first : last + 1] / window[0], LEAST_OVERLAP)
    ratio = g.div(g.times(power, correlations[:, first : last + 1] / overlap), g.times(power, correlations[:, :1]))
    best = g.double(g("ArgMax", ratio, axis=1, keepdims=0))
    height = g("Clip", g("ReduceMax", ratio, axes=[1], keepdims=0), g.number(0), g.number(1))
    return height, g.log(g.div(g.number(rate), g.add(best, g.number(first))), 2)


def _window_power(width: int) -> Any:
    spectrum = np.fft.rfft(np.hanning(width))
    return spectrum.real**2 + spectrum.imag**2 + FLOOR


def _deviation(g: _Graph, x: str) -> str:
    """Return the standard deviation of numbers; 0 if there are none."""
    centred = g.sub(x, g.mean(x))
    return g("Sqrt", g.mean(g.mul(centred, centred)))


def _change(g: _Graph, x: str, lag: int = 1) -> str:
    """Return the mean absolute change of rows over `lag` frames; 0 for too few frames."""
    return g.mean(g("Abs", g.sub(g.rows(x, lag, END), g.rows(x, 0, -lag))))


def _peakiness(g: _Graph, frames: str) -> str:
    """Return the logarithm of the kurtosis of the samples, in octaves."""
    squares = g.mul(frames, frames)
    mean, fourth = g.mean(squares), g.mean(g.mul(squares, squares))
    floor = g.number(FLOOR**2)
    return g.log(g.div(g.add(fourth, floor), g.add(g.mul(mean, mean), floor)), 2)
