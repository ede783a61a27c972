"""The charts of a report as SVG. A chart depends on nothing but its arguments: the same numbers give the same text.

The numbers of each chart are also in its `aria-label`, for screen readers. Colours are classes of `report.css`, so that
they follow the light or dark mode of the reader; where colours distinguish things, shapes do so, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ..data.csv_text import number_text
from .figure_data import Curves, LayerWeights, LearningCurves, Reliability, RiskCoverage
from .palette import CATEGORIES
from .svg import WIDTH, Frame, box, dot, el, figure, line, number, polyline, shorten, text, ticks

UNIT = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # ticks of an axis from 0 to 1
SHAPES = 4  # number of shapes of marks on a map
MAX_NAMED_SPEAKERS = 30  # with more speakers, names do not fit below a strip
MAX_SPEAKERS = 300  # dots on a strip
MAX_STEPS = 200  # points of a risk-coverage curve; more are not visible
LETTER = 7.0  # width of a letter of text size 12 in units, except for wide capitals
ROW, LABEL = 44.0, 30.0  # height of a row with a name above its line, and distance of the line from the row's top
LABELLED_COVERAGES = (0.25, 0.5, 0.75, 1.0)  # points of a risk-coverage curve with a number


@dataclass(frozen=True)
class Score:
    """A score with a name and, where known, an interval."""

    name: str
    value: float  # NaN if there is no score
    low: float = math.nan  # lower end of the interval
    high: float = math.nan  # upper end of the interval
    speaker_dependent: bool = False  # whether head or encoder were trained on test speakers
    note: str = ""  # what the score was computed on, such as `of 12`

    @property
    def has_interval(self) -> bool:
        """Whether the interval is known."""
        return not math.isnan(self.low)

    @property
    def text(self) -> str:
        """Name and numbers: `logreg 0.497 (0.459–0.535)`."""
        return f"{self.name} {self.numbers}"

    @property
    def numbers(self) -> str:
        """Score and interval, `0.497 (0.459–0.535)`; a dash if there is no score."""
        if math.isnan(self.value):
            return "–"
        return number_text(self.value) + (
            f" ({number_text(self.low)}–{number_text(self.high)})" if self.has_interval else ""
        )


def whiskers(scores: Sequence[Score], chance: float, width: float = WIDTH) -> Markup:
    """Draw a row for each score: a dot on its interval; the dot is hollow if the score is speaker-dependent.

    `chance` is the UAR of random guessing, drawn as a vertical line.
    """
    frame = _row_frame(len(scores), max(_highest(scores), chance), width, bottom=42.0)
    floor = frame.height - frame.bottom
    x = frame.x(chance)
    parts = [line(x, frame.top, x, floor, "chance")]
    parts.append(
        text(x, frame.height - 6, f"chance {number_text(chance)}", "start" if x < 60 else "middle", "tick strong")
    )
    for row, score in enumerate(scores):
        y = frame.top + ROW * row + LABEL
        parts.append(_row_label(score.name, score.numbers, y - 13, width))
        if score.has_interval:
            class_ = "whisker dependent" if score.speaker_dependent else "whisker"
            parts.append(line(frame.x(score.low), y, frame.x(score.high), y, class_))
        parts.append(dot(frame.x(score.value), y, 5, _mark_class(score.speaker_dependent), score.text))
    description = f"UAR with its interval: {_description(scores)}. Chance {number_text(chance)}."
    return figure(width, frame.height, description, *_value_lines(frame), *parts)


def dumbbells(pairs: Sequence[tuple[Score, Score]], width: float = WIDTH) -> Markup:
    """Draw a row for each pair of a speaker-independent and a speaker-dependent score: two dots and the difference."""
    frame = _row_frame(len(pairs), max(max(a.value, b.value) for a, b in pairs), width, bottom=28.0)
    parts: list[Markup] = []
    for row, (independent, dependent) in enumerate(pairs):
        y = frame.top + ROW * row + LABEL
        x1, x2 = frame.x(independent.value), frame.x(dependent.value)
        parts.append(_row_label(independent.name, flattery(independent, dependent), y - 13, width))
        parts.append(line(x1, y, x2, y, "whisker dependent"))
        parts.append(dot(x1, y, 5, _mark_class(False), independent.numbers))
        parts.append(dot(x2, y, 5, _mark_class(True), dependent.numbers))
    texts = (
        f"{a.name} {number_text(a.value)}, speaker-dependent {number_text(b.value)}, {flattery(a, b)}" for a, b in pairs
    )
    description = f"UAR, speaker-independent and speaker-dependent: {'; '.join(texts)}."
    return figure(width, frame.height, description, *_value_lines(frame), *parts)


def flattery(independent: Score, dependent: Score) -> str:
    """Return by how much the speaker-dependent score is higher: `+14.1 points`, in percentage points."""
    return f"{100 * (dependent.value - independent.value):+.1f} points"


def bars(scores: Sequence[Score], name: str) -> Markup:
    """Draw a horizontal bar from 0 to 1 for each score."""
    longest = max(len(score.name) for score in scores)
    left = min(120.0, 14 + LETTER * longest)
    frame = Frame((0, 1), (0, 1), WIDTH, 12 + 26 * len(scores) + 22, left=left, right=44, top=6, bottom=24)
    parts = [_value_line(frame, value) for value in (0.0, 0.5, 1.0)]
    for row, score in enumerate(scores):
        y = 6.0 + 26 * row + 4
        parts.append(text(left - 8, y + 13, shorten(score.name, int(left / LETTER) - 1), "end", "name"))
        if not math.isnan(score.value):
            parts.append(box(left, y, frame.x(score.value) - left, 18, "bar", _with_note(score)))
            parts.append(text(WIDTH - 4, y + 13, number_text(score.value), "end", "name"))
        if score.has_interval:
            parts.append(line(frame.x(score.low), y + 9, frame.x(score.high), y + 9, "whisker over"))
    return figure(WIDTH, frame.height, f"{name}: {_description(scores)}.", *parts)


def strip(scores: Sequence[Score], mean: float, name: str) -> Markup:
    """Draw scores of speakers in ascending order, each as a dot with a stem to the mean.

    Of more than MAX_SPEAKERS scores, MAX_SPEAKERS are drawn, evenly spaced in rank.
    """
    every = sorted(scores, key=lambda score: (score.value, score.name))
    shown = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, MAX_SPEAKERS).astype(int))]
    named = len(shown) <= MAX_NAMED_SPEAKERS
    base = 32 + 0.9 * LETTER * min(10, max(len(s.name) for s in shown)) if named else 36.0
    frame = Frame((-0.5, len(shown) - 0.5), (0, 1), height=190 + base, top=22, bottom=base)
    middle = frame.y(mean)
    parts = [frame.axes(f"{len(every)} speakers, in ascending order", "UAR", (), UNIT)]
    parts.append(line(frame.left, middle, WIDTH - frame.right, middle, "mean"))
    for place, score in enumerate(shown):
        x, y = frame.x(place), frame.y(score.value)
        parts += [line(x, middle, x, y, "stem"), dot(x, y, 4.0 if named else 2.0, "mark", score.text)]
        if named:
            parts.append(_turned_name(x + 4, 196.0, shorten(score.name, 10)))
    parts.append(text(frame.left + 4, middle - 5, f"mean {number_text(mean)}", "start", "tick strong haloed"))
    return figure(WIDTH, frame.height, f"{name}: {_description(shown)}. Mean {number_text(mean)}.", *parts)


def curves(data: LearningCurves) -> Markup:
    """Draw learning curves: a thin line for each fold, and the mean over the folds in bold."""
    longest, highest = max(map(len, data.lines)), max(max(values) for values in data.lines)
    frame = Frame((0, max(longest, 2)), (0, highest or 1.0), top=26)
    whole = [tick for tick in ticks(longest) if tick == int(tick)]
    parts = [frame.axes("epoch", data.quantity, whole, ticks(highest))]
    texts = []
    kinds = (("train", "training", data.training, 0.0), ("held", "held-out speakers", data.held_out, 74.0))
    for class_, name, part, legend_x in kinds:
        if part.lines:
            parts += _lines_of_folds(frame, part, class_)
            parts += _legend(frame.left + legend_x, name, f"bold {class_}")
            texts.append(f"{name} from {part.mean[0]:.3f} to {part.mean[-1]:.3f}")
    description = f"{data.quantity} over {longest} epochs, {len(data.lines)} lines: {'; '.join(texts)}."
    return figure(WIDTH, frame.height, description, *parts)


def columns(weights: LayerWeights) -> Markup:
    """Draw the weight of each layer: a column for its mean, a whisker from lowest to highest, a line at 1 / L."""
    layers, ceiling = len(weights.mean), float(weights.highest.max())
    frame = Frame((-0.5, layers - 0.5), (0, ceiling), bottom=38)
    parts = [frame.axes("layer", "weight", range(0, layers, 1 + layers // 16), ticks(ceiling))]
    width = 0.7 * (frame.x(1) - frame.x(0))
    for layer, (mean, low, high) in enumerate(zip(weights.mean, weights.lowest, weights.highest, strict=True)):
        x, y = frame.x(layer), frame.y(mean)
        title = f"layer {layer}: {number_text(mean)} ({low:.3f}–{high:.3f})"
        parts.append(box(x - width / 2, y, width, frame.y(0) - y, "bar", title))
        parts.append(line(x, frame.y(low), x, frame.y(high), "whisker over"))
    equal = frame.y(1 / layers)
    parts.append(line(frame.left, equal, WIDTH - frame.right, equal, "chance"))
    means = ", ".join(f"{layer}: {number_text(mean)}" for layer, mean in enumerate(weights.mean))
    return figure(WIDTH, frame.height, f"Mean weight of each layer over {weights.folds} folds: {means}.", *parts)


def reliability_diagram(data: Reliability) -> Markup:
    """Draw the accuracy in each bin against the mean confidence; the area of a dot grows with the clips of its bin."""
    frame = Frame((0, 1), (0, 1), height=300)
    parts = [frame.axes("confidence", "accuracy", UNIT, UNIT)]
    parts.append(line(frame.x(0), frame.y(0), frame.x(1), frame.y(1), "chance"))
    most, texts = data.clips.max(), []
    bins = np.stack([data.clips, data.confidence, data.accuracy], axis=1)[data.filled]
    for clips, confidence, accuracy in bins:
        x, y = frame.x(confidence), frame.y(accuracy)
        title = f"confidence {confidence:.2f}, accuracy {accuracy:.2f}, {clips:.0f} clips"
        radius = 2.5 + 6 * math.sqrt(clips / most)
        parts += [line(x, frame.y(confidence), x, y, "stem"), dot(x, y, radius, "mark", title)]
        texts.append(title)
    return figure(WIDTH, frame.height, f"Reliability, {len(data.clips)} bins: {'; '.join(texts)}.", *parts)


def risk_curve(data: RiskCoverage) -> Markup:
    """Draw the risk against the coverage, with the numbers at four coverages."""
    coverage, risk = data.coverage, data.risk
    ceiling = 1.15 * float(risk.max()) or 1.0  # leaves room for the number above the last point
    frame = Frame((0, 1), (0, ceiling))
    picked = np.unique(np.linspace(0, len(risk) - 1, MAX_STEPS).astype(int))
    parts = [frame.axes("coverage: share of clips accepted", "risk: error rate", UNIT, ticks(ceiling))]
    parts.append(polyline([(frame.x(coverage[i]), frame.y(risk[i])) for i in picked], "bold held"))
    texts = []
    for wanted in LABELLED_COVERAGES:
        i = min(int(np.searchsorted(coverage, wanted)), len(risk) - 1)
        x, y = frame.x(coverage[i]), frame.y(risk[i])
        title = f"risk {risk[i]:.2f} at {100 * coverage[i]:.0f} % coverage"
        parts.append(dot(x, y, 4, "mark", title))
        parts.append(text(x, y - 9, f"{risk[i]:.2f}", "end", "tick strong haloed"))
        texts.append(title)
    return figure(WIDTH, frame.height, f"Risk and coverage: {'; '.join(texts)}.", *parts)


def scatter(points: NDArray[np.float64], groups: Sequence[str], name: str) -> Markup:
    """Draw points (n, 2), each with the colour and the shape of its group, as one path for each group."""
    low, high = points.min(axis=0), points.max(axis=0)
    placed = 10 + (points - low) / np.maximum(high - low, 1e-12).max() * (WIDTH - 20)
    height = float(placed[:, 1].max()) + 10
    placed[:, 1] = height - placed[:, 1]
    order = sorted(range(len(groups)), key=lambda i: groups[i])
    parts, texts = [], []
    for index, (group, rows) in enumerate(groupby(order, key=lambda i: groups[i])):
        positions = [placed[i] for i in rows]
        parts.append(_marks(positions, index, f"{group}: {len(positions)}"))
        texts.append(f"{group} {len(positions)}")
    description = f"{name}: {len(groups)} clips in {len(texts)} groups: {', '.join(texts)}."
    return figure(WIDTH, height, description, *parts, class_="map")


def legend_mark(index: int) -> Markup:
    """Return the mark of a group of a map, as a figure of its own. Groups are numbered from 0 in sorted order."""
    mark = _marks([np.array([4.0, 4.0])], index, "")
    return el("svg", mark, viewBox="0 0 8 8", aria_hidden="true", class_="key")


def _marks(positions: Sequence[NDArray[np.float64]], index: int, title: str) -> Markup:
    """Return the marks of a group as one path. The first 32 groups have different pairs of colour and shape.

    Group 0 has colour 0 and shape 0, group 7 colour 7 and shape 3, group 8 colour 0 and shape 1.
    """
    shape = (index % CATEGORIES + index // CATEGORIES) % SHAPES
    outline = ("h0", "h0", "m-2-2l4 4m0-4l-4 4", "m-2 1.6h4l-2-3.8z")[shape]  # disc, square, cross, triangle
    path = "".join(f"M{number(round(x, 1))} {number(round(y, 1))}{outline}" for x, y in positions)
    class_ = f"m s{shape} k{index % CATEGORIES} g{index}"
    return el("path", *([el("title", title)] if title else []), d=path, class_=class_)


def _lines_of_folds(frame: Frame, part: Curves, class_: str) -> list[Markup]:
    thin = [polyline(_by_epoch(frame, values), f"thin {class_}") for values in part.lines]
    return [*thin, polyline(_by_epoch(frame, part.mean), f"bold {class_}")]


def _by_epoch(frame: Frame, values: Sequence[float]) -> list[tuple[float, float]]:
    return [(frame.x(epoch), frame.y(value)) for epoch, value in enumerate(values, start=1)]


def _legend(x: float, name: str, class_: str) -> list[Markup]:
    """Return a piece of line and its name, above the plot area."""
    return [line(x, 12, x + 18, 12, class_), text(x + 22, 16, name, "start", "tick")]


def _row_frame(rows: int, highest: float, width: float, bottom: float) -> Frame:
    """Return the frame of a chart with a row for each score, from 0 to the next tenth above the highest score."""
    ceiling = min(1.0, np.ceil(10 * highest + 0.2) / 10)
    top = 8.0
    return Frame((0, ceiling), (0, 1), width, top + ROW * rows + bottom, left=8, right=12, top=top, bottom=bottom)


def _value_lines(frame: Frame) -> list[Markup]:
    return [_value_line(frame, value) for value in ticks(frame.x_range[1])]


def _value_line(frame: Frame, value: float) -> Markup:
    """Return a vertical grid line at a value, with its number below."""
    x, floor = frame.x(value), frame.height - frame.bottom
    return line(x, frame.top, x, floor, "grid") + text(x, floor + 15, f"{value:g}", "middle", "tick")


def _row_label(name: str, numbers: str, y: float, width: float) -> Markup:
    """Return the name of a row, at its left end, and its numbers, at its right end."""
    length = int((width - 28) / LETTER) - len(numbers)
    return text(8, y, shorten(name, length), "start", "name haloed") + text(
        width - 12, y, numbers, "end", "name haloed"
    )


def _turned_name(x: float, y: float, name: str) -> Markup:
    """Return a name that is read upwards and ends at (x, y)."""
    turned = f"rotate(-90 {number(x)} {number(y)})"
    return el("text", name, x=x, y=y, text_anchor="end", transform=turned, class_="tick")


def _mark_class(speaker_dependent: bool) -> str:
    return "mark hollow" if speaker_dependent else "mark"


def _highest(scores: Sequence[Score]) -> float:
    return float(np.nanmax([[score.value, score.high] for score in scores]))


def _description(scores: Sequence[Score]) -> str:
    return ", ".join(map(_with_note, scores))


def _with_note(score: Score) -> str:
    return f"{score.text} {score.note}".strip()
