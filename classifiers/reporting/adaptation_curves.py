"""What N clips of a new speaker are worth: the UAR of each head by the clips that its vectors are adapted to."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ..data.csv_text import number_text
from ..evaluation.leaderboard import Row, amount_of
from ..evaluation.row_texts import vectors_name
from ..protocols.catalogue import unadapted_name
from ..protocols.leaks import trained_on_test_speakers
from .charts import Score
from .sections import Figure, Grid
from .svg import WIDTH, Frame, dot, figure, line, polyline, text

NOTE = (
    "0: unadapted. Whiskers: 95 % intervals over speakers. The clips are among the test clips, and are drawn without "
    "labels. A draw of 10 clips contains the 5 clips of the same draw. Points of one curve are not tested against each "
    "other."
)


@dataclass(frozen=True)
class AdaptationSection:
    """The curves of the heads of one dataset and protocol."""

    title: str
    figures: tuple[Figure, ...]  # one for each head
    grid: Grid  # heads and amounts


def adaptation_sections(rows: Iterable[Row]) -> list[AdaptationSection]:
    """Return a section for each dataset and protocol that has adapted rows."""
    tables: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        if not trained_on_test_speakers(row.leaks):
            tables[row.dataset, unadapted_name(row.protocol), row.n_clips, row.fold_hash].append(row)
    return [_section(found) for found in tables.values() if any(row.adapted for row in found)]


def _section(rows: Sequence[Row]) -> AdaptationSection:
    curves: dict[str, dict[float, Row]] = defaultdict(dict)
    for row in rows:
        copies = f", {row.copies} copies" if row.copies else ""
        name = f"{row.head} on {vectors_name(row.head, row.encoder, row.view)}{copies}"
        curves[name][amount_of(row)] = row
    curves = {name: found for name, found in curves.items() if any(found)}  # some amount is above 0
    amounts = sorted({amount for found in curves.values() for amount in found})
    lines = tuple((name, *(_numbers(found.get(amount)) for amount in amounts)) for name, found in curves.items())
    title = f"{rows[0].dataset}, protocol {unadapted_name(rows[0].protocol)}"
    grid = Grid(
        f"UAR by clips of each test speaker: {title}", ("head", *map(_amount_text, amounts)), lines, _note(rows)
    )
    bounds = _bounds([row for found in curves.values() for row in found.values()])
    figures = tuple(Figure(name, adaptation_curve(name, found, bounds)) for name, found in curves.items())
    return AdaptationSection(title, figures, grid)


def _note(rows: Sequence[Row]) -> str:
    whole = next((row for row in rows if row.adapted == "all"), None)
    return NOTE + (f" all: {whole.adapt_clips / whole.n_speakers:.3g} clips of a speaker on average." if whole else "")


def _numbers(row: Row | None) -> str:
    return "–" if row is None else Score("", row.uar, row.uar_low, row.uar_high).numbers


def _amount_text(amount: float) -> str:
    return "all" if math.isinf(amount) else str(int(amount))


def _bounds(rows: Sequence[Row]) -> tuple[int, int]:
    """Return the ends of an axis that holds all scores and intervals, in tenths."""
    values = [value for row in rows for value in (row.uar, row.uar_low, row.uar_high) if not math.isnan(value)]
    low = math.floor(10 * min(values))
    return low, max(math.ceil(10 * max(values)), 1 + low)


def adaptation_curve(name: str, rows: dict[float, Row], bounds: tuple[int, int] | None = None) -> Markup:
    """Draw the UAR of one head with its interval for each amount of adaptation; amounts are evenly spaced.

    `bounds` are the ends of the axis in tenths: the same for all heads that are compared.
    """
    amounts = sorted(rows)
    scores = [Score(_amount_text(a), rows[a].uar, rows[a].uar_low, rows[a].uar_high) for a in amounts]
    low, high = bounds or _bounds(list(rows.values()))
    frame = Frame((-0.5, len(scores) - 0.5), (low / 10, high / 10), right=24, top=18)
    parts = [frame.axes("clips of each test speaker", "UAR", (), [tenth / 10 for tenth in range(low, high + 1)])]
    points = [(frame.x(place), frame.y(score.value)) for place, score in enumerate(scores)]
    parts.append(polyline(points, "thin held"))
    for (x, y), score in zip(points, scores, strict=True):
        if score.has_interval:
            parts.append(line(x, frame.y(score.low), x, frame.y(score.high), "whisker"))
        parts.append(dot(x, y, 5, "mark", f"{score.name} clips: {score.numbers}"))
        above = frame.y(score.high) if score.has_interval else y
        parts.append(text(x, above - 8, number_text(score.value), "middle", "tick strong"))
        parts.append(text(x, frame.height - frame.bottom + 16, score.name, "middle", "tick"))
    described = ", ".join(f"{score.name} clips {score.numbers}" for score in scores)
    return figure(WIDTH, frame.height, f"UAR of {name} by clips of each test speaker: {described}.", *parts)
