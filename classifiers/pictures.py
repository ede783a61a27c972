"""Pictures of a run: confusion matrices, and learning curves of the heads that learn by epochs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedcache.layout import atomic_write
from embedcache.store import slug

from .metrics import recalls, uar
from .predictions import Predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1f2933"
TRAIN, HELD = "#b45309", "#1d4ed8"  # told apart in grey and by the colour-blind


def save_pictures(folder: Path, predictions: list[Predictions]) -> list[Path]:
    """`confusion-<head>-<encoder>.png` for each, `curves-…` for those with a history. Gives their paths."""
    paths = []
    for p in predictions:
        name = slug("-".join(part for part in (p.head, p.encoder, p.dataset) if part))
        paths.append(_save(confusion_figure(p), folder / f"confusion-{name}.png"))
        if p.histories:
            paths.append(_save(curves_figure(p), folder / f"curves-{name}.png"))
    return paths


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
    axes.legend(frameon=False)
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
    return f"{p.head} on {p.encoder}, {p.dataset}, protocol {p.protocol} ({leaks})"


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
