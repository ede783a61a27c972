"""The charts of a report as SVG. A chart depends on nothing but its arguments: the same numbers give the same text.

The numbers of each chart are also in its `aria-label`, for screen readers. Colours are classes of `report.css`, so that
they follow the light or dark mode of the reader; where colours distinguish things, shapes do so, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ..data.csv_text import number_text
from .figure_data import Curves, LayerWeights, LearningCurves, Reliability, RiskCoverage
from .svg import WIDTH, Frame, box, dot, el, figure, line, number, polyline, shorten, text, ticks

UNIT = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # ticks of an axis from 0 to 1
WIDE = 800.0  # width of a figure that fills the page, in units
MAX_SPEAKERS = 300  # dots on a strip
NAME_PITCH = 9.0  # smallest distance of two dots with names below a strip, in units
PANEL, MAX_PANELS = 120.0, 40  # width of a small map in units, and most of them
FEW_SPEAKERS = 8  # up to so many, bars with names beside them are shown instead of a strip
MAX_STEPS = 200  # points of a risk-coverage curve; more are not visible
LETTER = 7.0  # width of a letter of text size 12 in units, except for wide capitals
LONGEST_NAME = 40  # characters of a name beside a plot; a longer one is shortened
LABELLED_COVERAGES = (0.25, 0.5, 0.75, 1.0)  # points of a risk-coverage curve with a number


@dataclass(frozen=True)
class Score:
    """A score with a name and, where known, an interval."""

    name: str
    value: float  # NaN if there is no score
    low: float = math.nan  # lower end of the interval
    high: float = math.nan  # upper end of the interval
    speaker_dependent: bool = False  # whether head or encoder were trained on test speakers
    note: str = ""  # what the score was computed on, such as `(8/12)`

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


def whiskers(scores: Sequence[Score], chance: float, width: float = WIDTH, highest: float = 0.0) -> Markup:
    """Draw a row for each score: a dot on its interval; the dot is hollow if the score is speaker-dependent.

    `chance` is the UAR of random guessing, drawn as a vertical line. `highest` is the highest value of all figures that
    have the same axis.
    """
    highest = max(highest, highest_value(scores), chance)
    rows = _Rows.of([(score.name, score.numbers) for score in scores], highest, width, 42.0)
    frame, x = rows.frame, rows.frame.x(chance)
    parts = [rows.upright(x, "chance")]
    anchor = "start" if x < frame.left + 30 else "middle"
    parts.append(text(x, frame.height - 6, f"chance {number_text(chance)}", anchor, "tick strong"))
    for y, score in zip(rows.heights, scores, strict=True):
        if score.has_interval:
            class_ = "whisker dependent" if score.speaker_dependent else "whisker"
            parts.append(line(frame.x(score.low), y, frame.x(score.high), y, class_))
        parts.append(dot(frame.x(score.value), y, 5, _mark_class(score.speaker_dependent), score.text))
    description = f"UAR with its interval: {_description(scores)}. Chance {number_text(chance)}."
    return figure(width, frame.height, description, rows.background, *parts)


def dumbbells(pairs: Sequence[tuple[Score, Score]], width: float = WIDTH) -> Markup:
    """Draw a row for each pair of a speaker-independent and a speaker-dependent score: two dots and the difference."""
    highest = max(max(a.value, b.value) for a, b in pairs)
    rows = _Rows.of([(a.name, flattery(a, b)) for a, b in pairs], highest, width, 28.0)
    parts: list[Markup] = []
    for y, (independent, dependent) in zip(rows.heights, pairs, strict=True):
        x1, x2 = rows.frame.x(independent.value), rows.frame.x(dependent.value)
        parts.append(line(x1, y, x2, y, "whisker dependent"))
        parts.append(dot(x1, y, 5, _mark_class(False), independent.numbers))
        parts.append(dot(x2, y, 5, _mark_class(True), dependent.numbers))
    texts = (
        f"{a.name} {number_text(a.value)}, speaker-dependent {number_text(b.value)}, {flattery(a, b)}" for a, b in pairs
    )
    description = f"UAR, speaker-independent and speaker-dependent: {'; '.join(texts)}."
    return figure(width, rows.frame.height, description, rows.background, *parts)


@dataclass(frozen=True)
class _Rows:
    """A plot area with a row for each of some names. Names and numbers are outside of it, and no line crosses them.

    In a wide figure they are beside their row, in a narrow one above it.
    """

    labels: Sequence[tuple[str, str]]  # name and numbers of each row
    frame: Frame

    @classmethod
    def of(cls, labels: Sequence[tuple[str, str]], highest: float, width: float, bottom: float) -> _Rows:
        """Return a plot area from 0 to the next tenth above the highest value."""
        values, top = (0.0, min(1.0, float(np.ceil(10 * highest + 0.2)) / 10)), 8.0
        longest_name, longest_numbers = (max(len(label[side]) for label in labels) for side in (0, 1))
        left = 14 + LETTER * min(longest_name, LONGEST_NAME) if width >= WIDE else 8.0
        right = 16 + LETTER * longest_numbers if width >= WIDE else 12.0
        height = top + (26.0 if width >= WIDE else 44.0) * len(labels) + bottom
        return cls(labels, Frame(values, (0, 1), width, height, left=left, right=right, top=top, bottom=bottom))

    @property
    def beside(self) -> bool:
        """Whether names are beside the rows."""
        return self.frame.width >= WIDE

    @property
    def heights(self) -> list[float]:
        """The vertical position of each row."""
        step, first = (26.0, 13.0) if self.beside else (44.0, 30.0)
        return [self.frame.top + step * row + first for row in range(len(self.labels))]

    @property
    def background(self) -> Markup:
        """Grid lines, the numbers of the axis, and the labels of the rows."""
        frame = self.frame
        floor, end = frame.height - frame.bottom, frame.width - frame.right
        parts = [self.upright(frame.x(value), "grid") for value in ticks(frame.x_range[1])]
        parts += [text(frame.x(v), floor + 15, f"{v:g}", "middle", "tick") for v in ticks(frame.x_range[1])]
        parts += [line(frame.left, y, end, y, "grid") for y in self.heights]
        return Markup("").join([*parts, *self._labels()])

    def upright(self, x: float, class_: str) -> Markup:
        """Return a vertical line through the plot area; in a narrow figure, a piece of it in each row."""
        frame = self.frame
        pieces = [(frame.top, frame.height - frame.bottom)] if self.beside else [(y - 8, y + 8) for y in self.heights]
        return el("path", d="".join(f"M{number(x)} {number(y1)}V{number(y2)}" for y1, y2 in pieces), class_=class_)

    def _labels(self) -> list[Markup]:
        width = self.frame.width
        lift = -4.0 if self.beside else 13.0  # of the text's base line above the row
        parts = []
        for y, (name, numbers) in zip(self.heights, self.labels, strict=True):
            room = LONGEST_NAME if self.beside else int((width - 28) / LETTER) - len(numbers)
            parts.append(named_text(0.0, y - lift, name, room, "start"))
            parts.append(text(width, y - lift, numbers, "end", "name"))
        return parts


def named_text(x: float, y: float, name: str, length: int, anchor: str) -> Markup:
    """Return a name of at most `length` characters; a longer one is shortened, and has the whole name as a tooltip."""
    if len(name) <= length:
        return text(x, y, name, anchor, "name")
    whole = el("title", name)
    return el("text", whole, shorten(name, length), x=x, y=y, text_anchor=anchor, class_="name")


def flattery(independent: Score, dependent: Score) -> str:
    """Return by how much the speaker-dependent score is higher: `+14.1 points`, in percentage points."""
    return f"{100 * (dependent.value - independent.value):+.1f} points"


def bars(scores: Sequence[Score], name: str, width: float = WIDTH) -> Markup:
    """Draw a horizontal bar from 0 to 1 for each score, with its name on the left and its numbers on the right.

    The note of a score stands after its value.
    """
    numbers = [f"{number_text(score.value)} {score.note}".strip() for score in scores]
    longest = LONGEST_NAME if width >= WIDE else 15
    left = 12 + LETTER * min(longest, max(len(score.name) for score in scores))
    right = 12 + 0.93 * LETTER * max(map(len, numbers))
    step = 24.0 if width >= WIDE else 30.0
    frame = Frame((0, 1), (0, 1), width, 6 + step * len(scores) + 22, left=left, right=right, top=6, bottom=24)
    parts = [_value_line(frame, value) for value in (0.0, 0.5, 1.0)]
    for row, score in enumerate(scores):
        y = 6.0 + step * row + (step - 18) / 2
        parts.append(named_text(0.0, y + 13, score.name, longest, "start"))
        parts.append(text(width, y + 13, numbers[row], "end", "name"))
        if not math.isnan(score.value):
            parts.append(box(left, y, frame.x(score.value) - left, 18, "bar", _with_note(score)))
        if score.has_interval:
            parts.append(line(frame.x(score.low), y + 9, frame.x(score.high), y + 9, "whisker over"))
    return figure(width, frame.height, f"{name}: {_description(scores)}.", *parts)


def strip(scores: Sequence[Score], mean: float, name: str, width: float = WIDTH) -> Markup:
    """Draw scores of speakers in ascending order, each as a dot with a stem to the mean.

    Of more than MAX_SPEAKERS scores, MAX_SPEAKERS are drawn, evenly spaced in rank. Names are below the dots if they
    fit, and turned if they do not fit otherwise.
    """
    every = sorted(scores, key=lambda score: (score.value, score.name))
    shown = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, MAX_SPEAKERS).astype(int))]
    pitch = (width - 56) / len(shown)
    longest = min(10, max(len(score.name) for score in shown))
    named, turned = pitch >= NAME_PITCH, LETTER * (longest + 1) > pitch
    base = 36.0 if not named else 32 + 0.9 * LETTER * longest if turned else 44.0
    frame = Frame((-0.5, len(shown) - 0.5), (0, 1), width, 190 + base, right=72, top=12, bottom=base)
    middle = frame.y(mean)
    parts = [frame.axes(f"{len(every)} speakers, in ascending order", "UAR", (), UNIT)]
    parts.append(line(frame.left, middle, width - frame.right, middle, "mean"))
    parts.append(text(width - 66, middle + 4, f"mean {number_text(mean)}", "start", "tick strong"))
    for place, score in enumerate(shown):
        x, y = frame.x(place), frame.y(score.value)
        parts += [line(x, middle, x, y, "stem"), dot(x, y, 4.0 if named else 2.0, "mark", score.text)]
        if named and turned:
            parts.append(_turned_name(x + 4, 196.0, shorten(score.name, 10)))
        elif named:
            parts.append(text(x, 204.0, score.name, "middle", "tick"))
    return figure(width, frame.height, f"{name}: {_description(shown)}. Mean {number_text(mean)}.", *parts)


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
    """Draw the risk against the coverage, with dots at four coverages, see `risk_texts`."""
    coverage, risk = data.coverage, data.risk
    ceiling = 1.05 * float(risk.max()) or 1.0
    frame = Frame((0, 1), (0, ceiling), height=300)
    picked = np.unique(np.linspace(0, len(risk) - 1, MAX_STEPS).astype(int))
    parts = [frame.axes("coverage: share of clips accepted", "risk: error rate", UNIT, ticks(ceiling))]
    parts.append(polyline([(frame.x(coverage[i]), frame.y(risk[i])) for i in picked], "bold held"))
    for i, title in risk_texts(data):
        parts.append(dot(frame.x(coverage[i]), frame.y(risk[i]), 4, "mark", title))
    texts = "; ".join(title for _, title in risk_texts(data))
    return figure(WIDTH, frame.height, f"Risk and coverage: {texts}.", *parts)


def risk_texts(data: RiskCoverage) -> list[tuple[int, str]]:
    """Return the points of a risk-coverage curve at LABELLED_COVERAGES, each with its numbers as text."""
    places = [min(int(np.searchsorted(data.coverage, wanted)), len(data.risk) - 1) for wanted in LABELLED_COVERAGES]
    return [(i, f"risk {data.risk[i]:.2f} at {100 * data.coverage[i]:.0f} % coverage") for i in places]


@dataclass(frozen=True)
class Panel:
    """One of several small maps: the clips of one group, in front of all clips."""

    name: str
    clips: int
    svg: Markup


def panels(points: NDArray[np.float64], groups: Sequence[str], name: str, key: str) -> tuple[Markup, list[Panel]]:
    """Return all clips (n, 2) as a hidden figure, and a panel for each group, which refers to it by the id `key`.

    The groups are in sorted order; of more than MAX_PANELS, those with the most clips are shown.
    """
    placed, height = _placed(points)
    whole = el("path", d=_dots(placed), id=key)
    hidden = el("svg", el("defs", whole), class_="defs", aria_hidden="true", width="0", height="0")
    rows: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    largest = sorted(rows, key=lambda group: (-len(rows[group]), group))[:MAX_PANELS]
    made = []
    for group in sorted(largest):
        own = el("path", d=_dots(placed[rows[group]]), class_="m")
        description = f"{name}: {len(rows[group])} clips of {group}, in front of all {len(groups)}"
        drawn = figure(PANEL, height, description, el("use", href=f"#{key}", class_="rest"), own, class_="map")
        made.append(Panel(group, len(rows[group]), drawn))
    return hidden, made


def _placed(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return points (n, 2) in units of a panel, and the height of the panel."""
    low, high = points.min(axis=0), points.max(axis=0)
    placed = 4 + (points - low) / np.maximum(high - low, 1e-12).max() * (PANEL - 8)
    height = max(float(placed[:, 1].max()) + 4, PANEL / 2)
    placed[:, 1] = height - placed[:, 1]
    return placed, height


def _dots(positions: NDArray[np.float64]) -> str:
    """Return lines of length 0, whose round ends are dots, as the data of a path."""
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in positions.tolist())


def _lines_of_folds(frame: Frame, part: Curves, class_: str) -> list[Markup]:
    thin = [polyline(_by_epoch(frame, values), f"thin {class_}") for values in part.lines]
    return [*thin, polyline(_by_epoch(frame, part.mean), f"bold {class_}")]


def _by_epoch(frame: Frame, values: Sequence[float]) -> list[tuple[float, float]]:
    return [(frame.x(epoch), frame.y(value)) for epoch, value in enumerate(values, start=1)]


def _legend(x: float, name: str, class_: str) -> list[Markup]:
    """Return a piece of line and its name, above the plot area."""
    return [line(x, 12, x + 18, 12, class_), text(x + 22, 16, name, "start", "tick")]


def _value_line(frame: Frame, value: float) -> Markup:
    """Return a vertical grid line at a value, with its number below."""
    x, floor = frame.x(value), frame.height - frame.bottom
    return line(x, frame.top, x, floor, "grid") + text(x, floor + 15, f"{value:g}", "middle", "tick")


def _turned_name(x: float, y: float, name: str) -> Markup:
    """Return a name that is read upwards and ends at (x, y)."""
    turned = f"rotate(-90 {number(x)} {number(y)})"
    return el("text", name, x=x, y=y, text_anchor="end", transform=turned, class_="tick")


def _mark_class(speaker_dependent: bool) -> str:
    return "mark hollow" if speaker_dependent else "mark"


def highest_value(scores: Sequence[Score]) -> float:
    """Return the highest value of scores and of their intervals."""
    return float(np.nanmax([[score.value, score.high] for score in scores]))


def _description(scores: Sequence[Score]) -> str:
    return ", ".join(map(_with_note, scores))


def _with_note(score: Score) -> str:
    return f"{score.text} {score.note}".strip()
