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
    figures = tuple(Figure(name, adaptation_curve(name, found)) for name, found in curves.items())
    return AdaptationSection(title, figures, grid)


def _note(rows: Sequence[Row]) -> str:
    whole = next((row for row in rows if row.adapted == "all"), None)
    return NOTE + (f" all: {whole.adapt_clips / whole.n_speakers:.3g} clips of a speaker on average." if whole else "")


def _numbers(row: Row | None) -> str:
    return "–" if row is None else Score("", row.uar, row.uar_low, row.uar_high).numbers


def _amount_text(amount: float) -> str:
    return "all" if math.isinf(amount) else str(int(amount))


def adaptation_curve(name: str, rows: dict[float, Row]) -> Markup:
    """Draw the UAR of one head with its interval for each amount of adaptation; amounts are evenly spaced."""
    amounts = sorted(rows)
    scores = [Score(_amount_text(a), rows[a].uar, rows[a].uar_low, rows[a].uar_high) for a in amounts]
    numbers = [value for s in scores for value in (s.value, s.low, s.high) if not math.isnan(value)]
    low, high = math.floor(10 * min(numbers)), max(math.ceil(10 * max(numbers)), 1 + math.floor(10 * min(numbers)))
    frame = Frame((-0.5, len(scores) - 0.5), (low / 10, high / 10), right=24, top=18)
    parts = [frame.axes("clips of each test speaker", "UAR", (), [tenth / 10 for tenth in range(low, high + 1)])]
    points = [(frame.x(place), frame.y(score.value)) for place, score in enumerate(scores)]
    parts.append(polyline(points, "thin held"))
    for (x, y), score in zip(points, scores, strict=True):
        if score.has_interval:
            parts.append(line(x, frame.y(score.low), x, frame.y(score.high), "whisker"))
        parts.append(dot(x, y, 5, "mark", f"{score.name} clips: {score.numbers}"))
        parts.append(text(x + 7, y - 7, number_text(score.value), "start", "tick strong haloed"))
        parts.append(text(x, frame.height - frame.bottom + 16, score.name, "middle", "tick"))
    described = ", ".join(f"{score.name} clips {score.numbers}" for score in scores)
    return figure(WIDTH, frame.height, f"UAR of {name} by clips of each test speaker: {described}.", *parts)
