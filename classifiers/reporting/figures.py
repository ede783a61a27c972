"""Figures with matplotlib: confusion, calibration and learning curves of a head; ranks and scores over datasets.

A run folder has them as PNG files with titles. `paper_figures` writes them, and others, for papers.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedcache.cache.store import slug

from ..data.csv_text import number_text
from ..evaluation.critical_difference import CriticalDifference
from ..evaluation.predictions import Predictions
from ..evaluation.row_texts import vectors_name
from ..parallel import iter_in_processes
from ..protocols.catalogue import adapted_by, partition_of
from .figure_data import Confusion, Curves, LearningCurves, Reliability, RiskCoverage
from .palette import LIGHT
from .paper_figures.style import SCREEN, Style, hide_top_and_right, save, write
from .svg import shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = LIGHT["ink"]
MAX_NAME = 80  # longest name in a figure, in characters
MOST_IN_COLUMN = 8  # labels of a confusion matrix that fit into a column of a paper
MAX_LABEL = 20  # longest label beside a confusion matrix, in characters
MOST_CROSSED = 3  # test sets of a heat map that fit into a column of a paper

# Vertical distances of the critical-difference diagram. The axis is at 0, and values grow downwards.
HEAD_STEP = 0.62  # between the names of two heads
BAR_TOP, BAR_STEP = 0.4, 0.3  # of the first bar, and between two bars


def save_pictures(folder: Path, predictions: list[Predictions], jobs: int | None = 1) -> Iterable[Path]:
    """Write the figures of each head. Return an iterable over their paths, each as soon as its file is complete.

    The files are called `confusion-<head>-<encoder>-<dataset>.png`, `calibration-….png` and, for heads that learn in
    epochs, `curves-….png`; the name of a test partition and the amount of an adaptation follow. `jobs` is the number of
    processes, which begin at once; None uses all cores. With one, a figure is drawn when its path is asked for.
    """
    calls = []
    for p in predictions:
        adapted = f"adapted-{amount}" if (amount := adapted_by(p.protocol)) else ""
        parts = (p.head, p.encoder, p.dataset, partition_of(p.protocol), adapted)
        name = file_name("-".join(part for part in parts if part))
        kinds = {"confusion": confusion_figure, "calibration": calibration_figure}
        kinds |= {"curves": curves_figure} if p.histories else {}
        calls += [(draw, p, folder / f"{kind}-{name}") for kind, draw in kinds.items()]
    return iter_in_processes(_draw_and_save, calls, jobs)


def file_name(name: str) -> str:
    """Return a name as part of a file's name, in which `a+b` is not `a-b`."""
    return "+".join(map(slug, name.split("+")))


def _draw_and_save(draw: Callable[[Predictions], Figure], p: Predictions, path: Path) -> Path:
    with SCREEN.settings():
        return save(draw(p), path)[0]


def confusion_figure(p: Predictions, style: Style = SCREEN) -> Figure:
    """Draw a confusion matrix: rows are true labels; colours are shares of the row, numbers are counts of clips."""
    data = Confusion.of(p)
    size = 2.6 + 0.62 * len(data.labels)
    figure = style.figure(size + 0.6, size, over_page=len(data.labels) > MOST_IN_COLUMN)
    axes = figure.add_subplot()
    image = axes.imshow(data.shares, cmap=_colour_map("panel", "shade"), vmin=0, vmax=1)
    for (row, column), clips in np.ndenumerate(data.counts):
        axes.text(column, row, str(clips), ha="center", va="center", color=INK, fontsize="small")
    names = [shorten(label, MAX_LABEL) for label in data.labels]
    rows = [f"{name}  {number_text(recall)}" for name, recall in zip(names, data.recalls, strict=True)]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(names)), rows)
    axes.set(xlabel="predicted label", ylabel="true label, with its recall")
    if not style.for_papers:  # where the counts, and the caption of the paper, say what the shades are
        figure.colorbar(image, ax=axes, shrink=0.8, label="share of the clips of the true label")
    style.title(figure, [_heading(p), f"UAR {number_text(data.uar)}"])
    return figure


def calibration_figure(p: Predictions, style: Style = SCREEN) -> Figure:
    """Draw a reliability diagram with the clips of each bin, and a risk-coverage curve."""
    reliability = Reliability.of(p)
    figure = style.figure(9.6, 4.6, over_page=True)
    left, right = figure.subplots(1, 2)
    left.axis("off")
    _draw_reliability(left.inset_axes([0, 0.3, 1, 0.7]), reliability)
    _draw_clips(left.inset_axes([0, 0, 1, 0.22]), reliability)
    _draw_risk(right, RiskCoverage.of(p))
    style.title(figure, [_heading(p), reliability.scores])
    return figure


def _draw_reliability(axes: Any, data: Reliability) -> None:
    middles, width = _bins(data)
    confidence, accuracy = data.confidence[data.filled], data.accuracy[data.filled]
    bar, mark = LIGHT["bar"], LIGHT["warm"]
    axes.bar(middles[data.filled], accuracy, width, color=bar, alpha=0.45, edgecolor=bar, label="accuracy")
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--", label="perfect calibration")
    axes.plot(confidence, accuracy, "o", color=mark, markersize=4, label="accuracy at the bin's mean confidence")
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    axes.tick_params(labelbottom=False)
    axes.legend(frameon=False, fontsize="small", loc="upper left")
    axes.set_title(f"reliability, {len(data.clips)} bins", fontsize="medium", color=INK)
    hide_top_and_right(axes)


def _draw_clips(axes: Any, data: Reliability) -> None:
    """Draw the number of clips in each bin."""
    middles, width = _bins(data)
    soft = LIGHT["soft"]
    axes.bar(middles, data.clips, width, color=soft, alpha=0.45, edgecolor=soft)
    for x, clips in zip(middles[data.filled], data.clips[data.filled], strict=True):
        axes.text(x, clips, f"{clips:.0f}", ha="center", va="bottom", fontsize="xx-small", color=INK)
    axes.set(xlim=(0, 1), ylim=(0, 1.3 * data.clips.max()), xlabel="confidence", ylabel="clips")
    hide_top_and_right(axes)


def _bins(data: Reliability) -> tuple[Any, float]:
    """Return the middles (B,) of the bins and their width."""
    width = 1 / len(data.clips)
    return (np.arange(len(data.clips)) + 0.5) * width, width


def _draw_risk(axes: Any, data: RiskCoverage) -> None:
    line = {"color": LIGHT["held"], "linewidth": 1.6, "drawstyle": "steps-pre"}
    axes.plot(data.coverage, data.risk, label="abstention by confidence", **line)
    axes.axhline(data.risk[-1], color=INK, linewidth=0.8, linestyle="--", label="random abstention: overall error rate")
    axes.set(xlim=(0, 1), ylim=(0, max(1.1 * data.risk.max(), 0.01)))
    axes.set(xlabel="coverage: share of clips accepted", ylabel="risk: error rate on accepted clips")
    axes.legend(frameon=False, fontsize="small", loc="best")
    axes.set_title(f"risk and coverage, AURC {number_text(data.aurc)}", fontsize="medium", color=INK)
    hide_top_and_right(axes)


def curves_figure(p: Predictions, style: Style = SCREEN) -> Figure:
    """Draw loss and accuracy by epoch: a thin line for each fold, and the mean over the folds in bold."""
    from matplotlib.ticker import MaxNLocator

    figure = style.figure(8.4, 3.6, over_page=True)
    for number, quantity in enumerate(("loss", "accuracy"), start=1):
        data = LearningCurves.of(p, quantity)
        axes = figure.add_subplot(1, 2, number)
        _draw_curves(axes, data.training, "training", LIGHT["train"], "--")
        _draw_curves(axes, data.held_out, "held-out speakers", LIGHT["held"], "-")
        axes.set(xlabel="epoch", ylabel=quantity)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        hide_top_and_right(axes)
    if figure.axes[0].lines:
        figure.axes[0].legend(frameon=False)
    style.title(figure, [_heading(p)])
    return figure


def _draw_curves(axes: Any, data: Curves, name: str, colour: str, dashes: str) -> None:
    for line in data.lines:
        axes.plot(range(1, len(line) + 1), line, color=colour, alpha=0.25, linewidth=0.8)
    if data.mean:
        axes.plot(range(1, len(data.mean) + 1), data.mean, dashes, color=colour, linewidth=2, label=name)


def save_critical_figure(path: Path, result: CriticalDifference) -> Path:
    """Write the critical-difference diagram, with a title, and return its path.

    The suffix of the path is `.svg` or `.pdf` for these formats; otherwise it becomes a PNG file.
    """
    with SCREEN.settings():
        return write(critical_figure(result), path)


def critical_figure(result: CriticalDifference, style: Style = SCREEN) -> Figure:
    """Draw the critical-difference diagram (Demšar 2006).

    Heads are placed on an axis of average ranks, with rank 1, the best, on the left. Bars join heads without a
    significant difference.
    """
    k = len(result.names)
    levels = _bar_levels(result)
    top = 0.9 + BAR_STEP * max(levels, default=0)  # of the first name
    bottom = top + HEAD_STEP * ((k + 1) // 2)
    title = _critical_title(result)
    width = 5 + 0.09 * sum(sorted(len(_shorten(name)) for name in result.names)[-2:])
    lines = len(title) if style.titled else 0
    figure = style.figure(width, 1.3 + 0.42 * bottom + 0.15 * lines, over_page=True)
    axes = figure.add_subplot()
    axes.set(xlim=(1, k), ylim=(bottom, -1.4))
    axes.axis("off")
    _draw_rank_axis(axes, result)
    _draw_heads(axes, result, top)
    for (first, last), level in zip(result.groups, levels, strict=True):
        ends = (result.ranks[first] - 0.012 * k, result.ranks[last] + 0.012 * k)
        y = BAR_TOP + BAR_STEP * level
        axes.plot(ends, [y, y], color=LIGHT["accent"], linewidth=4, solid_capstyle="butt", clip_on=False)
    style.title(figure, title)
    return figure


def _critical_title(result: CriticalDifference) -> list[str]:
    """Return the lines of the title: what was ranked, the result of Friedman's test, and the datasets."""
    dependent = "; trained on test speakers" if result.speaker_dependent else ""
    verdict = (
        "bars join heads without a significant difference"
        if result.differ
        else "no significant difference, so one bar joins all heads"
    )
    datasets = [table.replace(" ", "\N{NO-BREAK SPACE}") for table in result.tables]
    return [
        f"{result.metric}: average ranks over {len(result.tables)} datasets, 1 is best{dependent}",
        f"Friedman p = {result.p:.3g}: {verdict} (alpha 0.05)",
        *textwrap.wrap(", ".join(datasets), 90, break_on_hyphens=False, max_lines=10, placeholder=" …"),
    ]


def _shorten(name: str) -> str:
    """Return a name of at most MAX_NAME characters: the name itself, or its beginning and its end."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME // 2]}…{name[1 - MAX_NAME // 2 :]}"


def _bar_levels(result: CriticalDifference) -> list[int]:
    """Return the level of the bar of each group, 0 for the highest, so that bars of one level do not touch.

    For the groups (0, 2), (1, 3) and (3, 4), the levels are [0, 1, 0].
    """
    last_heads: list[int] = []  # of the last bar on each level
    levels = []
    for first, last in result.groups:
        level = next((i for i, end in enumerate(last_heads) if end < first), len(last_heads))
        last_heads[level : level + 1] = [last]
        levels.append(level)
    return levels


def _draw_rank_axis(axes: Any, result: CriticalDifference) -> None:
    """Draw the axis of ranks and, above it, a line as long as the critical difference."""
    k = len(result.names)
    axes.plot([1, k], [0, 0], color=INK, linewidth=1)
    for rank in range(1, k + 1):
        axes.plot([rank, rank], [0, -0.15], color=INK, linewidth=1, clip_on=False)
        axes.text(rank, -0.22, str(rank), ha="center", va="bottom", fontsize="small", color=INK)
    shown = min(result.distance, k - 1)
    longer = ", longer than the axis" if shown < result.distance else ""
    note = f"critical difference {result.distance:.2f}{longer}{'' if result.differ else ', not applied'}"
    axes.plot([1, 1 + shown], [-0.95, -0.95], color=LIGHT["warm"], linewidth=2, clip_on=False)
    axes.text(1, -1.02, note, ha="left", va="bottom", fontsize="small", color=LIGHT["warm"])


def _draw_heads(axes: Any, result: CriticalDifference, top: float) -> None:
    """Draw a line from the rank of each head to its name.

    The names of the better half are on the left, from the best downwards; those of the other half are on the right,
    from the worst downwards.
    """
    k = len(result.names)
    for place, (name, rank) in enumerate(zip(result.names, result.ranks, strict=True)):
        left = place < (k + 1) // 2
        y = top + HEAD_STEP * (place if left else k - 1 - place)
        edge, alignment = (1 - 0.02 * k, "right") if left else (k + 0.02 * k, "left")
        axes.plot([rank, rank, edge], [0, y, y], color=INK, linewidth=0.8, clip_on=False)
        text = f"{_shorten(name)}  {rank:.2f} " if left else f" {rank:.2f}  {_shorten(name)}"
        axes.text(edge, y, text, ha=alignment, va="center", fontsize="medium", color=INK)


def save_cross_figure(folder: Path, title: str, scores: dict[tuple[str, str], tuple[float, float]]) -> Path:
    """Write the heat map of a cross-corpus run as `cross-<title>.png`, and return its path.

    `scores` are UAR and chance level by training set and test set.
    """
    with SCREEN.settings():
        return save(cross_figure(title, scores), folder / f"cross-{file_name(title)}")[0]


def cross_figure(title: str, scores: dict[tuple[str, str], tuple[float, float]], style: Style = SCREEN) -> Figure:
    """Draw the heat map of a cross-corpus run: rows are training sets, columns are test sets.

    The colour is (UAR - chance) / (1 - chance): 0 for a UAR at chance, 1 for a UAR of 1. `scores` are UAR and chance
    level by training set and test set.
    """
    train, test = (list(dict.fromkeys(pair[side] for pair in scores)) for side in (0, 1))
    above_chance = np.full((len(train), len(test)), np.nan)
    for (a, b), (uar, chance) in scores.items():
        above_chance[train.index(a), test.index(b)] = (uar - chance) / (1 - chance)
    figure = style.figure(4.6 + 0.95 * len(test), 2.4 + 0.7 * len(train), over_page=len(test) > MOST_CROSSED)
    axes = figure.add_subplot()
    axes.set_facecolor(LIGHT["line"])  # of pairs without a score
    image = axes.imshow(above_chance, cmap=_colour_map("below", "bg", "shade"), vmin=-1, vmax=1, aspect="auto")
    for (a, b), (uar, chance) in scores.items():
        text, weight = f"{number_text(uar)}\n({number_text(chance)})", "bold" if a == b else "normal"
        row, column = train.index(a), test.index(b)
        axes.text(column, row, text, ha="center", va="center", color=INK, fontsize="small", fontweight=weight)
    axes.set_xticks(range(len(test)), test, rotation=30, ha="right")
    axes.set_yticks(range(len(train)), train)
    axes.set(xlabel="tested on", ylabel="trained on")
    bar = figure.colorbar(image, ax=axes, label="(UAR - chance) /\n(1 - chance)")
    bar.ax.set_ylim(min(0.0, float(np.nanmin(above_chance))), 1)
    legend = "bold: within one dataset, speaker-independent; grey: left out"
    style.title(figure, [f"{title}: UAR (chance)", legend])
    return figure


def _heading(p: Predictions) -> str:
    leaks = f"leaks: {p.leaks}" if p.leaks else "no leak found"
    return f"{p.head} on {vectors_name(p.head, p.encoder, p.view)}, {p.dataset}, protocol {p.protocol} ({leaks})"


def _colour_map(*roles: str) -> Any:
    """Return a colour map through the colours of some roles, at equal distances."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("-".join(roles), [LIGHT[role] for role in roles])
