"""Pictures: of a run its confusion matrices, calibration, and learning curves; of several, ranks over datasets."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedcache.cache.store import slug
from embedcache.files.atomic import atomic_write

from ..evaluation.critical_difference import CriticalDifference
from ..evaluation.metrics import aurc, brier, ece, recalls, reliability, risk_coverage, uar
from ..evaluation.parallel import in_processes
from ..evaluation.predictions import Predictions
from ..evaluation.row_names import vectors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1f2933"
LONGEST = 80  # characters of a name
TRAIN, HELD = "#b45309", "#1d4ed8"  # told apart in grey and by the colour-blind


def save_pictures(folder: Path, predictions: list[Predictions], jobs: int | None = 1) -> list[Path]:
    """`confusion-<head>-<encoder>.png` and `calibration-…` for each, `curves-…` for those with a history: the paths.

    `jobs` is the number of processes that draw, all cores for None: each picture takes a third of a second.
    """
    wanted = []
    for p in predictions:
        name = slug("-".join(part for part in (p.head, p.encoder, p.dataset) if part))
        kinds = {"confusion": confusion_figure, "calibration": calibration_figure}
        kinds |= {"curves": curves_figure} if p.histories else {}
        wanted += [(draw, p, folder / f"{kind}-{name}.png") for kind, draw in kinds.items()]
    return in_processes(_drawn, wanted, jobs)


def _drawn(draw: Callable[[Predictions], Figure], p: Predictions, path: Path) -> Path:
    return _save(draw(p), path)


def confusion_figure(p: Predictions) -> Figure:
    """Rows are the true labels: share of each row in colour, counts in the cells."""
    from matplotlib.figure import Figure

    matrix = p.matrix()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = 2.6 + 0.62 * len(p.labels)
    figure = Figure(figsize=(size + 0.6, size), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        colour = "white" if share[row, column] > 0.55 else INK
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
    named = [f"{label}  {recall:.2f}" for label, recall in zip(p.labels, recalls(matrix), strict=True)]
    axes.set_xticks(range(len(p.labels)), p.labels, rotation=40, ha="right")
    axes.set_yticks(range(len(p.labels)), named)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label, with its recall")
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the label's clips")
    _title(axes, p)
    return figure


def calibration_figure(p: Predictions) -> Figure:
    """Whether the certainty is deserved, in the bins of `ece` and with the clips of each; and what abstaining buys."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.6), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2)
    _draw_reliability(left.inset_axes([0, 0.3, 1, 0.7]), left.inset_axes([0, 0, 1, 0.22]), p)
    left.axis("off")
    _draw_risk(right, p)
    scores = f"ECE {ece(p.proba, p.correct):.3f}, Brier score {brier(p.proba, p.truth_columns):.3f}"
    figure.suptitle(f"{_heading(p)}\n{scores}", fontsize=10, color=INK)
    return figure


def _draw_reliability(axes: Any, below: Any, p: Predictions) -> None:
    table = reliability(p.proba, p.correct)
    edges = np.linspace(0, 1, len(table) + 1)
    middles, width = (edges[1:] + edges[:-1]) / 2, edges[1]
    there = table[:, 0] > 0
    axes.bar(
        middles[there], table[there, 2], width, color=HELD, alpha=0.35, edgecolor=HELD, label="share that is right"
    )
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--", label="deserved certainty")
    axes.plot(table[there, 1], table[there, 2], "o", color=TRAIN, markersize=4, label="at the bin's mean certainty")
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right")
    axes.tick_params(labelbottom=False)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    axes.set_title(f"reliability, {len(table)} bins", fontsize=9, color=INK)
    below.bar(middles, table[:, 0], width, color=INK, alpha=0.35, edgecolor=INK)
    for x, clips in zip(middles[there], table[there, 0], strict=True):
        below.text(x, clips, f"{clips:.0f}", ha="center", va="bottom", fontsize=6, color=INK)
    below.set(xlim=(0, 1), ylim=(0, 1.3 * table[:, 0].max()), xlabel="certainty", ylabel="clips")
    for one in (axes, below):
        one.spines[["top", "right"]].set_visible(False)


def _draw_risk(axes: Any, p: Predictions) -> None:
    _, coverage, risk = risk_coverage(p.proba, p.correct)
    axes.plot(coverage, risk, color=HELD, linewidth=1.6, drawstyle="steps-pre", label="by certainty")
    axes.axhline(risk[-1], color=INK, linewidth=0.8, linestyle="--", label="at random: the share wrong of all")
    axes.set(xlim=(0, 1), ylim=(0, max(1.1 * risk.max(), 0.01)))
    axes.set(xlabel="coverage: share of clips that is answered", ylabel="risk: share of the answers that is wrong")
    axes.legend(frameon=False, fontsize=8, loc="best")
    area = float(aurc(p.proba, p.correct))
    axes.set_title(f"risk and coverage, area {area:.3f}", fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)


def save_critical_figure(path: Path, found: CriticalDifference) -> Path:
    """The critical-difference picture, as PNG."""
    return _save(critical_figure(found), path)


def critical_figure(found: CriticalDifference) -> Figure:
    """Heads along the axis of average ranks, 1 being best; a bar joins those that cannot be told apart."""
    from matplotlib.figure import Figure

    k, n = len(found.names), len(found.tables)
    levels = _levels(found)
    top = 0.9 + 0.3 * max(levels, default=0)  # where labels begin, in units of a label's height
    bottom = top + 0.62 * ((k + 1) // 2)
    blind = "; test speakers were heard in training" if found.blind else ""
    verdict = (
        "a bar joins heads that cannot be told apart" if found.differ else "no difference is found, all are joined"
    )
    whole = [table.replace(" ", "\N{NO-BREAK SPACE}") for table in found.tables]
    lines = (
        f"UAR: average ranks over {n} datasets, 1 is best{blind}",
        f"Friedman p = {found.p:.3g}: {verdict} (level 0.05)",
        *textwrap.wrap(", ".join(whole), 90, break_on_hyphens=False, max_lines=10, placeholder=" …"),
    )
    width = 5 + 0.09 * sum(sorted(len(_short(name)) for name in found.names)[-2:])
    figure = Figure(figsize=(width, 1.3 + 0.42 * bottom + 0.15 * len(lines)), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    axes.set(xlim=(1, k), ylim=(bottom, -1.4))
    axes.axis("off")
    _draw_rank_axis(axes, k, found)
    _draw_heads(axes, found, top)
    for (first, last), level in zip(found.groups, levels, strict=True):
        ends = (found.ranks[first] - 0.012 * k, found.ranks[last] + 0.012 * k)
        axes.plot(ends, [0.4 + 0.3 * level] * 2, color=HELD, linewidth=4, solid_capstyle="butt", clip_on=False)
    figure.suptitle("\n".join(lines), fontsize=9, color=INK)
    return figure


def _short(name: str) -> str:
    """A name that fits into a picture: its ends, where it is too long."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}…{name[1 - LONGEST // 2 :]}"


def _levels(found: CriticalDifference) -> list[int]:
    """How far below the axis each group's bar lies, so that none touches another."""
    ends: list[int] = []
    levels = []
    for first, last in found.groups:
        level = next((i for i, end in enumerate(ends) if end < first), len(ends))
        ends[level : level + 1] = [last]
        levels.append(level)
    return levels


def _draw_rank_axis(axes: Any, k: int, found: CriticalDifference) -> None:
    axes.plot([1, k], [0, 0], color=INK, linewidth=1)
    for rank in range(1, k + 1):
        axes.plot([rank, rank], [0, -0.15], color=INK, linewidth=1, clip_on=False)
        axes.text(rank, -0.22, str(rank), ha="center", va="bottom", fontsize=8, color=INK)
    shown = min(found.distance, k - 1)
    longer = ", longer than the axis" if shown < found.distance else ""
    note = f"critical difference {found.distance:.2f}{longer}{'' if found.differ else ', not applied'}"
    axes.plot([1, 1 + shown], [-0.95, -0.95], color=TRAIN, linewidth=2, clip_on=False)
    axes.text(1, -1.02, note, ha="left", va="bottom", fontsize=8, color=TRAIN)


def _draw_heads(axes: Any, found: CriticalDifference, top: float) -> None:
    """The better half is named on the left, best first; the other on the right, worst first."""
    k = len(found.names)
    for place, (name, rank) in enumerate(zip(found.names, found.ranks, strict=True)):
        left = place < (k + 1) // 2
        y = top + 0.62 * (place if left else k - 1 - place)
        edge, side = (1 - 0.02 * k, "right") if left else (k + 0.02 * k, "left")
        axes.plot([rank, rank, edge], [0, y, y], color=INK, linewidth=0.8, clip_on=False)
        said = f"{_short(name)}  {rank:.2f} " if left else f" {rank:.2f}  {_short(name)}"
        axes.text(edge, y, said, ha=side, va="center", fontsize=9, color=INK)


def curves_figure(p: Predictions) -> Figure:
    """Loss and accuracy by epoch: a thin line a fold, the mean of the folds still running in bold."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8.4, 3.6), layout="constrained", dpi=150)
    for number, what in enumerate(("loss", "accuracy"), start=1):
        axes = figure.add_subplot(1, 2, number)
        for part, name, colour in (("train", "training", TRAIN), ("val", "held-out speakers", HELD)):
            lines = [history[f"{part}_{what}"] for history in p.histories if f"{part}_{what}" in history]
            _plot_lines(axes, lines, name, colour)
        axes.set_xlabel("epoch")
        axes.set_ylabel(what)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.axes[0].legend(frameon=False)  # of the loss, which every head has of both
    figure.suptitle(_heading(p), fontsize=10, color=INK)
    return figure


def save_cross_figure(folder: Path, title: str, scores: dict[tuple[str, str], tuple[float, float]]) -> Path:
    """`cross-<title>.png`: a heat map of (training set, test set) -> (UAR, chance)."""
    return _save(cross_figure(title, scores), folder / f"cross-{slug(title)}.png")


def cross_figure(title: str, scores: dict[tuple[str, str], tuple[float, float]]) -> Figure:
    """Rows are training sets, columns test sets; the colour is how far the UAR is from chance on the way to 1."""
    from matplotlib.figure import Figure

    train, test = (list(dict.fromkeys(pair[side] for pair in scores)) for side in (0, 1))
    above = np.full((len(train), len(test)), np.nan)
    for (a, b), (score, chance) in scores.items():
        above[train.index(a), test.index(b)] = (score - chance) / (1 - chance)
    figure = Figure(figsize=(4.6 + 0.95 * len(test), 2.4 + 0.7 * len(train)), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    axes.set_facecolor("#d9dde2")  # pairs that are left out
    image = axes.imshow(above, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    for (a, b), (score, chance) in scores.items():
        row, column = train.index(a), test.index(b)
        colour = "white" if abs(above[row, column]) > 0.6 else INK
        weight = "bold" if a == b else "normal"
        said = f"{score:.3f}\n({chance:.3f})"
        axes.text(column, row, said, ha="center", va="center", color=colour, fontsize=8, fontweight=weight)
    axes.set_xticks(range(len(test)), test, rotation=30, ha="right")
    axes.set_yticks(range(len(train)), train)
    axes.set_xlabel("tested on")
    axes.set_ylabel("trained on")
    bar = figure.colorbar(image, ax=axes, label="above chance")
    bar.ax.set_ylim(min(0.0, float(np.nanmin(above))), 1)
    axes.set_title(f"{title}: UAR (chance)\nbold: within one dataset, speakers disjoint; grey: left out", fontsize=9)
    return figure


def _plot_lines(axes: Any, lines: list[list[float]], name: str, colour: str) -> None:
    if not lines:
        return
    for line in lines:
        axes.plot(range(1, len(line) + 1), line, color=colour, alpha=0.25, linewidth=0.8)
    longest = max(map(len, lines))
    mean = [np.mean([line[epoch] for line in lines if len(line) > epoch]) for epoch in range(longest)]
    axes.plot(range(1, longest + 1), mean, color=colour, linewidth=2, label=name)


def _heading(p: Predictions) -> str:
    leaks = f"leaks: {p.leaks}" if p.leaks else "no leak found"
    return f"{p.head} on {vectors(p.head, p.encoder, p.view)}, {p.dataset}, protocol {p.protocol} ({leaks})"


def _title(axes: Any, p: Predictions) -> None:
    axes.set_title(f"{_heading(p)}\nUAR {float(uar(p.matrix())):.3f}", fontsize=9, color=INK)


def _save(figure: Figure, path: Path) -> Path:
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a label with a dollar sign is no formula
    with atomic_write(path, "wb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, format="png")
    return path
