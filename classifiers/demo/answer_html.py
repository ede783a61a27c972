"""An answer as HTML: the label with its certainty, every probability, how they change, the sound, and what counted.

Made for any width, in the page's own colours, light or dark. Every picture says in words what it shows.
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
from .service import ModelResult, ServiceResult

COLUMNS = 600  # of a waveform's and a spectrogram's picture
FLOOR = -80.0  # dB below the loudest, that a spectrogram shows
QUIET = -40.0  # dB of its power, below which the loudest counts as nothing


@dataclass(frozen=True)
class Strip:
    """One label's probability over time."""

    label: str
    last: float
    curve: Markup


@dataclass(frozen=True)
class Pane:
    """What the page shows of one model."""

    name: str
    heard: bool
    label: str | None
    certainty: float
    likeliest: str
    probabilities: Sequence[tuple[str, float]]  # the likeliest first
    notes: Sequence[str]
    strips: Sequence[Strip]
    begin: float
    end: float
    attention: Markup | None
    layers: Sequence[tuple[int, float, float]] | None  # number, share, share of the largest


def answer_html(answer: ServiceResult) -> str:
    """A recording's page part: a pane a model, then the sound."""
    return rendered(
        "answer.html",
        panes=[_pane(spoken) for spoken in answer.said],
        seconds=answer.sound.seconds,
        waveform=waveform(answer.sound.wave),
        spectrogram=spectrogram(answer.sound.wave, answer.sound.rate),
        top=answer.sound.rate / 2000,
    )


def live_html(heard: Mapping[str, Sequence[Prediction]]) -> str:
    """What was heard live so far: the last window's answer, and the last of the timeline."""
    return rendered("answer.html", panes=[_live(name, said) for name, said in heard.items() if said])


def about_html(models: Sequence[Model]) -> str:
    """What models were trained on, how well they may do on new speakers, and what they are not for."""
    return rendered("about.html", models=[(model.name, model.about) for model in models])


def waveform(wave: Waveform) -> Markup:
    """The lowest and the highest sample of each column, as one shape."""
    edges = np.linspace(0, len(wave), min(COLUMNS, len(wave)) + 1).astype(int)
    low, high = np.minimum.reduceat(wave, edges[:-1]), np.maximum.reduceat(wave, edges[:-1])
    scale = 1 / max(float(np.abs(wave).max()), 0.05)
    upper = [(x, -scale * y) for x, y in enumerate(high)]
    lower = [(x, -scale * y) for x, y in reversed(list(enumerate(low)))]
    said = f"Waveform of {float(np.abs(wave).max()):.2f} of full scale at its loudest."
    return _stretched((0, -1.05, max(len(low) - 1, 1), 2.1), said, _area([*upper, *lower]), "ser-wave")


def spectrogram(wave: Waveform, rate: int) -> str:
    """A PNG as a data URI: 25 ms at a time, to half the rate, in dB below the loudest; silence stays dark."""
    from matplotlib.image import imsave
    from scipy.signal import ShortTimeFFT

    width = round(0.025 * rate)
    transform = ShortTimeFFT(np.hanning(width), max(width // 3, len(wave) // COLUMNS), rate, mfft=max(512, width))
    power = transform.spectrogram(np.pad(wave, (0, max(0, width - len(wave)))).astype(np.float64))
    level = 10 * np.log10(np.maximum(power, 1e-12))
    out = io.BytesIO()
    top = max(level.max(), QUIET)
    imsave(out, np.clip(level - top, FLOOR, 0), vmin=FLOOR, vmax=0, cmap="magma", origin="lower", format="png")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def _pane(spoken: ModelResult) -> Pane:
    layers = spoken.counted.layers
    largest = max(layers) if layers else 1.0
    frames = spoken.counted.frames
    return _of(
        spoken.model.name,
        spoken.whole,
        spoken.timeline,
        attention(np.array(frames), spoken.whole.end) if frames else None,
        [(number, share, share / largest) for number, share in enumerate(layers)] if layers else None,
    )


def _live(name: str, said: Sequence[Prediction]) -> Pane:
    return _of(name, said[-1], said, None, None)


def _of(
    name: str,
    now: Prediction,
    timeline: Sequence[Prediction],
    attended: Markup | None,
    layers: Sequence[tuple[int, float, float]] | None,
) -> Pane:
    ranked = sorted(now.probabilities.items(), key=lambda item: -item[1])
    curves = {label: [p.probabilities[label] for p in timeline] for label in now.probabilities}
    strips = [Strip(label, values[-1], _strip(label, values)) for label, values in curves.items() if len(timeline) > 1]
    return Pane(
        name, now.heard, now.label, now.certainty, ranked[0][0], ranked, now.notes, strips,
        timeline[0].begin, timeline[-1].end, attended, layers,
    )  # fmt: skip


def _strip(label: str, values: Sequence[float]) -> Markup:
    """A step a window, as high as the probability."""
    steps = [(x + side, -value) for x, value in enumerate(values) for side in (0, 1)]
    said = f"{label}: from {values[0]:.2f} to {values[-1]:.2f}, at most {max(values):.2f}"
    return _stretched((0, -1, len(values), 1), said, _area([(0, 0), *steps, (len(values), 0)]), "ser-strip")


def attention(frames: NDArray[np.float64], seconds: float) -> Markup:
    """How much each frame counted, of the most that one did."""
    step = max(1, len(frames) // COLUMNS)
    peaks = np.maximum.reduceat(frames, np.arange(0, len(frames), step)) / max(frames.max(), 1e-9)
    steps = [(x + side, -value) for x, value in enumerate(peaks) for side in (0, 1)]
    said = f"Attention over time: the most at {(frames.argmax() + 0.5) / len(frames) * seconds:.1f} s."
    return _stretched((0, -1, len(peaks), 1), said, _area([(0, 0), *steps, (len(peaks), 0)]), "ser-attention")


def _area(points: Sequence[tuple[float, float]]) -> Markup:
    return svg.el("path", d="M" + "L".join(f"{svg.number(x)} {y:.3f}" for x, y in points) + "Z")


def _stretched(box: tuple[float, float, float, float], said: str, shape: Markup, class_: str) -> Markup:
    """A shape that takes all the width it is given."""
    view = " ".join(f"{value:g}" for value in box)
    return svg.el("svg", shape, viewBox=view, preserveAspectRatio="none", role="img", aria_label=said, class_=class_)


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


def rendered(name: str, **facts: Any) -> str:
    """A template of this folder, every text in it escaped."""
    return str(_environment().get_template(name).render(facts))
