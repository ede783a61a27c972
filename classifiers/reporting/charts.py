"""The charts of a report: numbers in, SVG out. Nothing else is read, and the same numbers give the same text.

Every figure says its numbers in `aria-label`. Colours are classes of `report.css`, so that they follow light and dark;
where colours tell things apart, shapes do too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from .svg import WIDTH, Frame, box, cut, dot, el, figure, line, number, polyline, text, ticks

UNKNOWN = float("nan")
UNIT = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
COLOURS, SHAPES = 8, 4
NAMED_SPEAKERS = 30  # more names than that do not fit under a strip
MOST_SPEAKERS = 300  # dots of a strip
MOST_STEPS = 200  # points of a curve: more cannot be seen
LETTER = 7.0  # units that a letter of 12 takes, at most but for capitals


@dataclass(frozen=True)
class Score:
    """A named score, with its interval where there is one."""

    name: str
    value: float
    low: float = UNKNOWN
    high: float = UNKNOWN
    leaky: bool = False
    note: str = ""

    @property
    def said(self) -> str:
        """`logreg 0.497 (0.459–0.535)`."""
        return f"{self.name} {self.figures}"

    @property
    def figures(self) -> str:
        """`0.497 (0.459–0.535)`, or the score alone; a dash where there is none."""
        if self.value != self.value:
            return "–"
        return f"{self.value:.3f}" + (f" ({self.low:.3f}–{self.high:.3f})" if self.low == self.low else "")


def whiskers(scores: Sequence[Score], chance: float, width: float = WIDTH) -> Markup:
    """A row a score: a dot, hollow where speakers leak, its interval, and the line of chance."""
    top, step, base = 8.0, 44.0, 42.0
    height = top + step * len(scores) + base
    ceiling = min(1.0, np.ceil(10 * max(_highest(scores), chance) + 0.2) / 10)
    frame = Frame((0, ceiling), (0, 1), width, height, left=8, right=12, top=top, bottom=base)
    parts = [_upright(frame, value) for value in ticks(ceiling)]
    parts.append(line(frame.x(chance), top, frame.x(chance), height - base, "chance"))
    parts.append(text(frame.x(chance), height - 6, f"chance {chance:.3f}", _anchor(frame, chance), "tick strong"))
    for row, score in enumerate(scores):
        y = top + step * row + 30
        parts += [_named(score.name, score.figures, y - 13, width)]
        if score.low == score.low:
            parts.append(
                line(frame.x(score.low), y, frame.x(score.high), y, "whisker leaky" if score.leaky else "whisker")
            )
        parts.append(dot(frame.x(score.value), y, 5, "mark hollow" if score.leaky else "mark", score.said))
    said = f"UAR with its interval: {_listed(scores)}. Chance {chance:.3f}."
    return figure(width, height, said, *parts)


def dumbbells(pairs: Sequence[tuple[Score, Score]], width: float = WIDTH) -> Markup:
    """A row a pair (speakers apart, speakers shared): two dots, and the points between them."""
    top, step, base = 8.0, 44.0, 28.0
    height = top + step * len(pairs) + base
    ceiling = min(1.0, np.ceil(10 * max(max(a.value, b.value) for a, b in pairs) + 0.2) / 10)
    frame = Frame((0, ceiling), (0, 1), width, height, left=8, right=12, top=top, bottom=base)
    parts = [_upright(frame, value) for value in ticks(ceiling)]
    for row, (apart, shared) in enumerate(pairs):
        y = top + step * row + 30
        parts += [_named(apart.name, flattery(apart, shared), y - 13, width)]
        parts.append(line(frame.x(apart.value), y, frame.x(shared.value), y, "whisker leaky"))
        parts.append(dot(frame.x(apart.value), y, 5, "mark", apart.figures))
        parts.append(dot(frame.x(shared.value), y, 5, "mark hollow", shared.figures))
    told = "; ".join(f"{a.name} {a.value:.3f}, shared {b.value:.3f}, {flattery(a, b)}" for a, b in pairs)
    return figure(width, height, f"UAR with speakers apart, and with speakers shared: {told}.", *parts)


def flattery(apart: Score, shared: Score) -> str:
    """`+14.1 points`."""
    return f"{100 * (shared.value - apart.value):+.1f} points"


def bars(scores: Sequence[Score], name: str) -> Markup:
    """A row a score, lying bars from 0 to 1."""
    longest = max(len(score.name) for score in scores)
    left = min(120.0, 14 + LETTER * longest)
    frame = Frame((0, 1), (0, 1), WIDTH, 12 + 26 * len(scores) + 22, left=left, right=44, top=6, bottom=24)
    parts = [_upright(frame, value) for value in (0.0, 0.5, 1.0)]
    for row, score in enumerate(scores):
        y, note = 6.0 + 26 * row + 4, f"{score.said} {score.note}".strip()
        parts.append(text(left - 8, y + 13, cut(score.name, int(left / LETTER) - 1), "end", "name"))
        if score.value == score.value:
            parts.append(box(left, y, frame.x(score.value) - left, 18, "bar", note))
            parts.append(text(WIDTH - 4, y + 13, f"{score.value:.2f}", "end", "name"))
        if score.low == score.low:
            parts.append(line(frame.x(score.low), y + 9, frame.x(score.high), y + 9, "whisker over"))
    return figure(WIDTH, frame.height, f"{name}: {_listed(scores)}.", *parts)


def strip(scores: Sequence[Score], mean: float, name: str) -> Markup:
    """Scores in order from low to high, each a dot on a stem that ends at the mean; of very many, some."""
    every = sorted(scores, key=lambda score: (score.value, score.name))
    ordered = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, MOST_SPEAKERS).astype(int))]
    named = len(ordered) <= NAMED_SPEAKERS
    base = 32 + 0.9 * LETTER * min(10, max(len(s.name) for s in ordered)) if named else 36.0
    frame = Frame((-0.5, len(ordered) - 0.5), (0, 1), height=190 + base, top=22, bottom=base)
    across = f"{len(every)} speakers, from low to high"
    parts = [frame.axes(across, "UAR", (), UNIT)]
    parts.append(line(frame.left, frame.y(mean), WIDTH - frame.right, frame.y(mean), "mean"))
    radius = 4.0 if named else 2.0
    for place, score in enumerate(ordered):
        x, y = frame.x(place), frame.y(score.value)
        parts += [line(x, frame.y(mean), x, y, "stem"), dot(x, y, radius, "mark", score.said)]
        if named:
            at, floor = x + 4, 196.0
            turned = f"rotate(-90 {number(at)} {number(floor)})"
            end = {"x": at, "y": floor, "text_anchor": "end", "transform": turned, "class_": "tick"}
            parts.append(el("text", cut(score.name, 10), **end))
    parts.append(text(frame.left + 4, frame.y(mean) - 5, f"mean {mean:.2f}", "start", "tick strong haloed"))
    return figure(WIDTH, frame.height, f"{name}: {_listed(ordered)}. Mean {mean:.3f}.", *parts)


def curves(train: Sequence[Sequence[float]], held: Sequence[Sequence[float]], name: str) -> Markup:
    """A thin line a fold, and the mean of the folds that still run: training, and held-out speakers, dashed."""
    lines = [*train, *held]
    longest, highest = max(map(len, lines)), max(max(values) for values in lines)
    frame = Frame((0, max(longest, 2)), (0, highest or 1.0), top=26)
    parts = [frame.axes("epoch", name, [tick for tick in ticks(longest) if tick == int(tick)], ticks(highest))]
    told = []
    for number_, (kind, of, at) in enumerate((("train", train, 0.0), ("held", held, 74.0))):
        parts += [polyline(_epochs(frame, values), f"thin {kind}") for values in of]
        if of:
            mean = _mean(of)
            said = "training" if number_ == 0 else "held-out speakers"
            parts.append(polyline(_epochs(frame, mean), f"bold {kind}"))
            parts.append(line(frame.left + at, 12, frame.left + at + 18, 12, f"bold {kind}"))
            parts.append(text(frame.left + at + 22, 16, said, "start", "tick"))
            told.append(f"{said} from {mean[0]:.3f} to {mean[-1]:.3f}")
    return figure(WIDTH, frame.height, f"{name} over {longest} epochs, {len(lines)} lines: {'; '.join(told)}.", *parts)


def columns(weights: NDArray[np.float64]) -> Markup:
    """Weights (folds, layers) that sum to 1: a column a layer, its mean, least and greatest; and the equal share."""
    mean, low, high = weights.mean(axis=0), weights.min(axis=0), weights.max(axis=0)
    layers, ceiling = len(mean), float(high.max())
    frame = Frame((-0.5, layers - 0.5), (0, ceiling), bottom=38)
    parts = [frame.axes("layer", "weight", range(0, layers, 1 + layers // 16), ticks(ceiling))]
    wide = 0.7 * (frame.x(1) - frame.x(0))
    for layer in range(layers):
        x, y = frame.x(layer), frame.y(mean[layer])
        said = f"layer {layer}: {mean[layer]:.3f} ({low[layer]:.3f}–{high[layer]:.3f})"
        parts.append(box(x - wide / 2, y, wide, frame.y(0) - y, "bar", said))
        parts.append(line(x, frame.y(low[layer]), x, frame.y(high[layer]), "whisker over"))
    equal = frame.y(1 / layers)
    parts.append(line(frame.left, equal, WIDTH - frame.right, equal, "chance"))
    told = ", ".join(f"{layer}: {value:.3f}" for layer, value in enumerate(mean))
    return figure(WIDTH, frame.height, f"Mean weight of each layer over {len(weights)} folds: {told}.", *parts)


def reliability_diagram(bins: NDArray[np.float64]) -> Markup:
    """Bins (n, 3) of `metrics.reliability`: certainty against the share that is right; dots grow with their clips."""
    frame = Frame((0, 1), (0, 1), height=300)
    parts = [frame.axes("certainty", "share that is right", UNIT, UNIT)]
    parts.append(line(frame.x(0), frame.y(0), frame.x(1), frame.y(1), "chance"))
    most, told = bins[:, 0].max(), []
    for clips, certainty, right in bins[bins[:, 0] > 0]:
        x, y = frame.x(certainty), frame.y(right)
        said = f"certainty {certainty:.2f}, right {right:.2f}, {clips:.0f} clips"
        radius = 2.5 + 6 * float(np.sqrt(clips / most))
        parts += [line(x, frame.y(certainty), x, y, "stem"), dot(x, y, radius, "mark", said)]
        told.append(said)
    return figure(WIDTH, frame.height, f"Reliability, {len(bins)} bins: {'; '.join(told)}.", *parts)


def risk_curve(coverage: NDArray[np.float64], risk: NDArray[np.float64]) -> Markup:
    """Risk against coverage, both (m,), coverage rising to 1."""
    ceiling = 1.15 * float(risk.max()) or 1.0  # with room for a number above the last point
    frame = Frame((0, 1), (0, ceiling))
    picked = np.unique(np.linspace(0, len(risk) - 1, MOST_STEPS).astype(int))
    points = [(frame.x(coverage[i]), frame.y(risk[i])) for i in picked]
    parts = [frame.axes("share of clips that is answered", "share of them that is wrong", UNIT, ticks(ceiling))]
    parts.append(polyline(points, "bold held"))
    told = []
    for wanted in (0.25, 0.5, 0.75, 1.0):
        i = min(int(np.searchsorted(coverage, wanted)), len(risk) - 1)
        said = f"{risk[i]:.2f} wrong of {100 * coverage[i]:.0f} %"
        parts.append(dot(frame.x(coverage[i]), frame.y(risk[i]), 4, "mark", said))
        parts.append(text(frame.x(coverage[i]), frame.y(risk[i]) - 9, f"{risk[i]:.2f}", "end", "tick strong haloed"))
        told.append(said)
    return figure(WIDTH, frame.height, f"Risk and coverage: {'; '.join(told)}.", *parts)


def scatter(points: NDArray[np.float64], groups: Sequence[str], name: str) -> Markup:
    """Points (n, 2), each in the colour and shape of its group; one path a group."""
    low, high = points.min(axis=0), points.max(axis=0)
    placed = 10 + (points - low) / np.maximum(high - low, 1e-12).max() * (WIDTH - 20)
    height = float(placed[:, 1].max()) + 10
    placed[:, 1] = height - placed[:, 1]
    order = sorted(range(len(groups)), key=lambda i: groups[i])
    parts, told = [], []
    for place, (group, rows) in enumerate(groupby(order, key=lambda i: groups[i])):
        at = [placed[i] for i in rows]
        parts.append(_marks(at, place, f"{group}: {len(at)}"))
        told.append(f"{group} {len(at)}")
    said = f"{name}: {len(groups)} clips in {len(told)} groups: {', '.join(told)}."
    return figure(WIDTH, height, said, *parts, class_="map")


def legend_mark(place: int) -> Markup:
    """The mark of a group, alone."""
    mark = _marks([np.array([4.0, 4.0])], place, "")
    return el("svg", mark, viewBox="0 0 8 8", aria_hidden="true", class_="key")


def _marks(at: Sequence[NDArray[np.float64]], place: int, title: str) -> Markup:
    """The colour of a group, and its shape: each pair stands for one group, until all are used."""
    shape = (place % COLOURS + place // COLOURS) % SHAPES
    drawn = ("h0", "h0", "m-2-2l4 4m0-4l-4 4", "m-2 1.6h4l-2-3.8z")[shape]
    path = "".join(f"M{number(round(x, 1))} {number(round(y, 1))}{drawn}" for x, y in at)
    return el(
        "path", *([el("title", title)] if title else []), d=path, class_=f"m s{shape} k{place % COLOURS} g{place}"
    )


def _epochs(frame: Frame, values: Sequence[float]) -> list[tuple[float, float]]:
    return [(frame.x(epoch), frame.y(value)) for epoch, value in enumerate(values, start=1)]


def _mean(lines: Sequence[Sequence[float]]) -> list[float]:
    longest = max(map(len, lines))
    return [float(np.mean([line_[epoch] for line_ in lines if len(line_) > epoch])) for epoch in range(longest)]


def _upright(frame: Frame, value: float) -> Markup:
    """A grid line at a value, with its number at the foot."""
    x, floor = frame.x(value), frame.height - frame.bottom
    return line(x, frame.top, x, floor, "grid") + text(x, floor + 15, f"{value:g}", "middle", "tick")


def _named(name: str, figures: str, y: float, width: float) -> Markup:
    """What a row is, at its left end, and its numbers at its right end."""
    room = int((width - 28) / LETTER) - len(figures)
    return text(8, y, cut(name, room), "start", "name haloed") + text(width - 12, y, figures, "end", "name haloed")


def _anchor(frame: Frame, value: float) -> str:
    return "start" if frame.x(value) < 60 else "middle"


def _highest(scores: Sequence[Score]) -> float:
    return float(np.nanmax([[score.value, score.high] for score in scores]))


def _listed(scores: Sequence[Score]) -> str:
    return ", ".join(f"{score.said} {score.note}".strip() for score in scores)
