"""Figures of scores: heads with their intervals, speakers, layers, and what clips of a new speaker are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...evaluation.leaderboard import Row, amount_of
from ...evaluation.predictions import Predictions
from ...evaluation.row_texts import vectors_name
from ...protocols.catalogue import unadapted_name
from ...protocols.leaks import trained_on_test_speakers
from ..figure_data import LayerWeights, SpeakerScores
from ..palette import LIGHT
from ..svg import shorten
from .style import PAPER, Style, hide_top_and_right

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NAME = 40  # longest name of a row, in characters
LONGEST_IN_COLUMN = 24  # characters of a name beside a plot in a column of a paper
MAX_NAMED = 40  # speakers whose names fit below a figure


def intervals_figure(rows: Sequence[Row], style: Style = PAPER) -> Figure:
    """Draw the UAR of the rows of one table with their intervals; hollow: trained on test speakers. Dashed: chance."""
    names = row_names(rows)
    wide = max(map(len, names)) > LONGEST_IN_COLUMN
    figure = style.figure(8.4 if wide else 4.2, 0.9 + 0.28 * len(rows), over_page=wide)
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        dependent = trained_on_test_speakers(row.leaks)
        colour = LIGHT["warm" if dependent else "accent"]
        if not math.isnan(row.uar_low):
            axes.plot([row.uar_low, row.uar_high], [place, place], color=colour, linewidth=1.4)
        axes.plot(row.uar, place, "o", color=colour, markersize=4.5, markerfacecolor="none" if dependent else colour)
    axes.axvline(1 / rows[0].classes, color=LIGHT["soft"], linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(rows)), names)
    axes.set(xlim=(0, None), ylim=(len(rows) - 0.5, -0.5))
    figure.supxlabel("UAR, with its 95 % interval over speakers", fontsize="medium")
    axes.tick_params(axis="y", length=0)
    _grid(axes, "x")
    style.title(figure, [f"{rows[0].dataset}, protocol {rows[0].protocol}"])
    return figure


def row_names(rows: Sequence[Row]) -> list[str]:
    """Return the head of each row, with its vectors and copies if these differ between the rows."""
    vectors = [f" on {vectors_name(r.head, r.encoder, r.view)}{f', {r.copies} copies' * bool(r.copies)}" for r in rows]
    same = len(set(vectors)) == 1
    return [shorten(row.head + ("" if same else more), MAX_NAME) for row, more in zip(rows, vectors, strict=True)]


def speakers_figure(p: Predictions, style: Style = PAPER) -> Figure:
    """Draw the UAR of each speaker in ascending order, and their mean."""
    data = SpeakerScores.of(p)
    order = np.argsort(data.uar, kind="stable")
    figure = style.figure(4.6, 2.6)
    axes = figure.add_subplot()
    axes.axhline(data.mean, color=LIGHT["warm"], linewidth=1.0)
    axes.vlines(range(len(order)), data.mean, data.uar[order], color=LIGHT["bar"], linewidth=0.8)
    axes.plot(range(len(order)), data.uar[order], "o", color=LIGHT["accent"], markersize=3.5)
    named = len(order) <= MAX_NAMED
    names = [shorten(data.names[i], 10) for i in order] if named else []
    turned = 90 if len(order) * max(map(len, names), default=0) > 40 else 0
    axes.set_xticks(range(len(names)), names, rotation=turned, fontsize="small")
    axes.set(ylim=(0, 1), ylabel="UAR", xlabel=f"{len(order)} speakers, in ascending order")
    _grid(axes, "y")
    style.title(figure, [f"{p.head} on {p.encoder}, {p.dataset}, protocol {p.protocol}: UAR of each speaker"])
    return figure


def layers_figure(p: Predictions, style: Style = PAPER) -> Figure | None:
    """Draw the mean weight of each layer over the folds, from lowest to highest; None if the head has no weights."""
    data = LayerWeights.of(p)
    if data is None:
        return None
    figure = style.figure(4.6, 2.6)
    axes = figure.add_subplot()
    layers = range(len(data.mean))
    axes.bar(layers, data.mean, 0.7, color=LIGHT["bar"])
    axes.vlines(layers, data.lowest, data.highest, color=LIGHT["ink"], linewidth=0.8)
    axes.axhline(1 / len(data.mean), color=LIGHT["soft"], linewidth=0.8, linestyle="--")
    axes.set(xlabel="layer", ylabel=f"weight, mean of {data.folds} folds")
    hide_top_and_right(axes)
    style.title(figure, [f"{p.head} on {p.encoder}, {p.dataset}, protocol {p.protocol}: weight of each layer"])
    return figure


def adaptation_figure(rows: Sequence[Row], style: Style = PAPER) -> Figure:
    """Draw a panel for each head: its UAR, with its interval, by the clips of each test speaker that it is adapted to.

    `rows` are of one dataset and protocol, adapted and unadapted. All panels have the same axes. Heads that were not
    adapted are left out.
    """
    heads = list(dict.fromkeys(_key(row) for row in rows if row.adapted))
    amounts = sorted({amount_of(row) for row in rows if _key(row) in heads})
    figure = style.figure(max(2.6 * len(heads), 3.4), 2.6, over_page=len(heads) > 1)
    panels = figure.subplots(1, len(heads), sharey=True, squeeze=False)[0]
    names = row_names([next(row for row in rows if _key(row) == head) for head in heads])
    for axes, head, name in zip(panels, heads, names, strict=True):
        own = sorted((row for row in rows if _key(row) == head), key=amount_of)
        places = [amounts.index(amount_of(row)) for row in own]
        axes.plot(places, [row.uar for row in own], "o-", color=LIGHT["accent"], markersize=4, linewidth=1)
        axes.vlines(places, [r.uar_low for r in own], [r.uar_high for r in own], color=LIGHT["accent"], linewidth=1)
        axes.set_xticks(range(len(amounts)), ["all" if math.isinf(a) else str(int(a)) for a in amounts])
        axes.set_title(name, fontsize="medium")
        axes.set(xlim=(-0.5, len(amounts) - 0.5))
        _grid(axes, "y")
    panels[0].set_ylabel("UAR")
    figure.supxlabel("clips of each test speaker, without labels", fontsize="medium")
    style.title(figure, [f"{rows[0].dataset}, protocol {unadapted_name(rows[0].protocol)}"])
    return figure


def _key(row: Row) -> tuple[str, str, str, int]:
    return row.head, row.encoder, row.view, row.copies


def _grid(axes: Any, side: str) -> None:
    axes.grid(axis=side, color=LIGHT["grid"], linewidth=0.6)
    axes.set_axisbelow(True)
    hide_top_and_right(axes)
