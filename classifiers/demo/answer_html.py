"""Predictions as HTML: the label with its confidence, all probabilities, the timeline, the sound, the attribution.

The HTML fits any width and uses the colours of the page, light or dark. Every picture has a text for screen readers.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from embedcache.audio.decode import Waveform

from ..inference.model import Model
from ..inference.predictor import Prediction
from ..reporting import svg as svg
from ..serving.service import ModelResult, ServiceResult

COLUMNS = 600  # most columns of the pictures of waveform, spectrogram and attention
SPECTRUM_FRAME = 0.025  # length of the frames of the spectrogram, in seconds
SPECTRUM_RANGE = -80.0  # lowest level that the spectrogram shows, in dB below its loudest
QUIET = -40.0  # the loudest level of the spectrogram is taken to be at least this power, in dB, so that silence is dark

LayerBar = tuple[int, float, float]  # number of the layer, its share, its share of the largest share


@dataclass(frozen=True)
class Strip:
    """The timeline of one label."""

    label: str
    last: float  # probability in the last window
    curve: Markup


@dataclass(frozen=True)
class Pane:
    """The part of the page that shows one model's predictions."""

    name: str
    audible: bool
    label: str | None  # None if the model abstains, or nothing is audible
    confidence: float
    likeliest: str
    probabilities: Sequence[tuple[str, float]]  # label and probability, the likeliest first
    notes: Sequence[str]
    strips: Sequence[Strip]  # empty for one window
    begin: float  # start of the timeline, in seconds
    end: float  # end of the timeline, in seconds
    attention: Markup | None
    layers: Sequence[LayerBar] | None


def recording_html(result: ServiceResult) -> str:
    """Return the HTML of a recording: a pane for each model, then the pictures of the sound."""
    return render(
        "answer.html",
        panes=[_recording_pane(model_result) for model_result in result.results],
        seconds=result.clip.seconds,
        waveform=waveform(result.clip.wave),
        spectrogram=spectrogram(result.clip.wave, result.clip.rate),
        top=result.clip.rate / 2000,
    )


def live_html(timelines: Mapping[str, Sequence[Prediction]]) -> str:
    """Return the HTML of live sound: for each model name, its last prediction and its timeline."""
    return render("answer.html", panes=[_live_pane(name, timeline) for name, timeline in timelines.items() if timeline])


def about_html(models: Sequence[Model]) -> str:
    """Return the HTML of the model cards: training data, scores, leaks, limits."""
    return render("about.html", models=[(model.name, model.card) for model in models])


def waveform(wave: Waveform) -> Markup:
    """Return an SVG of a waveform: the range between the lowest and the highest sample of each column."""
    edges = np.linspace(0, len(wave), min(COLUMNS, len(wave)) + 1).astype(int)
    low, high = np.minimum.reduceat(wave, edges[:-1]), np.maximum.reduceat(wave, edges[:-1])
    loudest = float(np.abs(wave).max())
    scale = 1 / max(loudest, 0.05)
    upper = [(x, -scale * y) for x, y in enumerate(high)]
    lower = [(x, -scale * y) for x, y in reversed(list(enumerate(low)))]
    text = f"Waveform; its loudest sample is {loudest:.2f} of full scale."
    return _stretched((0, -1.05, max(len(low) - 1, 1), 2.1), text, _area([*upper, *lower]), "ser-wave")


def spectrogram(wave: Waveform, rate: int) -> str:
    """Return a spectrogram as a PNG in a data URI: from 0 Hz to half the sample rate, in dB below the loudest.

    Silence stays dark.
    """
    from matplotlib.image import imsave
    from scipy.signal import ShortTimeFFT

    width = round(SPECTRUM_FRAME * rate)
    transform = ShortTimeFFT(np.hanning(width), max(width // 3, len(wave) // COLUMNS), rate, mfft=max(512, width))
    power = transform.spectrogram(np.pad(wave, (0, max(0, width - len(wave)))).astype(np.float64))
    level = 10 * np.log10(np.maximum(power, 1e-12))
    below = np.clip(level - max(level.max(), QUIET), SPECTRUM_RANGE, 0)
    out = io.BytesIO()
    imsave(out, below, vmin=SPECTRUM_RANGE, vmax=0, cmap="magma", origin="lower", format="png")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def _recording_pane(result: ModelResult) -> Pane:
    layers, frames = result.attribution.layers, result.attribution.frames
    largest = max(layers) if layers else 1.0
    return _pane(
        result.model.name,
        result.whole,
        result.timeline,
        attention(np.array(frames), result.whole.end) if frames else None,
        [(number, share, share / largest) for number, share in enumerate(layers)] if layers else None,
    )


def _live_pane(name: str, timeline: Sequence[Prediction]) -> Pane:
    return _pane(name, timeline[-1], timeline, None, None)


def _pane(
    name: str,
    prediction: Prediction,
    timeline: Sequence[Prediction],
    attention: Markup | None,
    layers: Sequence[LayerBar] | None,
) -> Pane:
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    return Pane(
        name=name,
        audible=prediction.audible,
        label=prediction.label,
        confidence=prediction.confidence,
        likeliest=ranked[0][0],
        probabilities=ranked,
        notes=prediction.notes,
        strips=_strips(timeline, prediction.probabilities) if len(timeline) > 1 else [],
        begin=timeline[0].begin,
        end=timeline[-1].end,
        attention=attention,
        layers=layers,
    )


def _strips(timeline: Sequence[Prediction], labels: Mapping[str, float]) -> list[Strip]:
    curves = {label: [p.probabilities[label] for p in timeline] for label in labels}
    return [Strip(label, values[-1], _curve(label, values)) for label, values in curves.items()]


def _curve(label: str, values: Sequence[float]) -> Markup:
    """Return an SVG of a label's probability over time: a step for each window."""
    text = f"{label}: from {values[0]:.2f} to {values[-1]:.2f}, at most {max(values):.2f}"
    return _stretched((0, -1, len(values), 1), text, _steps(values), "ser-strip")


def attention(frames: NDArray[np.float64], seconds: float) -> Markup:
    """Return an SVG of the share of each frame, relative to the largest share, over a clip of this duration."""
    step = max(1, len(frames) // COLUMNS)
    peaks = np.maximum.reduceat(frames, np.arange(0, len(frames), step)) / max(frames.max(), 1e-9)
    text = f"Attention over time, highest at {(frames.argmax() + 0.5) / len(frames) * seconds:.1f} s."
    return _stretched((0, -1, len(peaks), 1), text, _steps(peaks), "ser-attention")


def _steps(values: Sequence[float] | NDArray[np.float64]) -> Markup:
    """Return the area under a step function: a step of width 1 for each value."""
    edges = [(x + side, -value) for x, value in enumerate(values) for side in (0, 1)]
    return _area([(0, 0), *edges, (len(values), 0)])


def _area(points: Sequence[tuple[float, float]]) -> Markup:
    return svg.el("path", d="M" + "L".join(f"{svg.number(x)} {y:.3f}" for x, y in points) + "Z")


def _stretched(box: tuple[float, float, float, float], text: str, shape: Markup, class_: str) -> Markup:
    """Return an SVG with a text for screen readers, which stretches to the width of its parent."""
    view = " ".join(f"{value:g}" for value in box)
    return svg.el("svg", shape, viewBox=view, preserveAspectRatio="none", role="img", aria_label=text, class_=class_)


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("classifiers.demo", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **variables: Any) -> str:
    """Return a template of this folder with its variables, every text in them escaped."""
    return str(_environment().get_template(template).render(variables))
