"""All figures of a report as files for papers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedcache import DataError, SerError
from embedcache.progress import Progress, silent
from embedcache.text import numbered

from ...evaluation.critical_difference import rank_heads
from ...evaluation.leaderboard import Row, Table, tables
from ...evaluation.predictions import Predictions
from ...parallel import iter_in_processes
from ...protocols.catalogue import unadapted_name
from ...protocols.leaks import trained_on_test_speakers
from ..figure_data import LayerWeights
from ..figures import (
    calibration_figure,
    confusion_figure,
    critical_figure,
    cross_figure,
    curves_figure,
    file_name,
)
from .scores import adaptation_figure, intervals_figure, layers_figure, speakers_figure
from .style import PAPER, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Call = tuple[str, Callable[..., "Figure | None"], tuple[Any, ...]]  # name of the file, and how it is drawn


def save_paper_figures(
    folder: Path, predictions: Sequence[Predictions], progress: Progress = silent, jobs: int | None = None
) -> list[Path]:
    """Write all figures of some predictions as PNG, SVG and PDF into a folder, and return their paths.

    For each table of the leaderboard `intervals-…`, and `adaptation-…` if heads were adapted to test speakers; for each
    row `confusion-…`, `calibration-…`, `speakers-…`, and where a head has them `curves-…` and `layers-…`; `cross-…` for
    a cross-corpus run; `critical` for three or more datasets. `jobs` is the number of processes; None uses all cores.
    Raises SerError if the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SerError(f"{folder}: cannot be made ({error.strerror}); wanted a folder. Use another one.") from None
    boards = tables(predictions)
    drawn = list(_calls(boards))
    names = numbered(name for name, _, _ in drawn)  # two heads of one name have other parameters, for instance
    calls = [(folder / name, draw, arguments) for name, (_, draw, arguments) in zip(names, drawn, strict=True)]
    paths: list[Path] = []
    with progress("figures", total=len(calls), unit="figures") as advance:
        for written in iter_in_processes(_draw_and_save, calls, jobs):
            paths += written
            advance(1)
    return paths


def _draw_and_save(path: Path, draw: Callable[..., Figure], arguments: tuple[Any, ...]) -> list[Path]:
    with PAPER.settings():
        return save(draw(*arguments, PAPER), path, PAPER)


def _calls(boards: Sequence[Table]) -> Iterator[Call]:
    rows = [row for board in boards for row in board.rows]
    for board in boards:
        yield _name("intervals", _place(board.rows[0])), intervals_figure, (board.rows,)
        for row, p in zip(board.rows, board.predictions, strict=True):
            yield from _calls_of_head(row, p)
    for place, adapted in _adapted_rows(rows).items():
        yield _name("adaptation", place), adaptation_figure, (adapted,)
    for head, scores in _cross_scores(rows).items():
        yield _name("cross", head), cross_figure, (head, scores)
    yield from _critical(rows)


def _calls_of_head(row: Row, p: Predictions) -> Iterator[Call]:
    name = f"{row.head}-{row.encoder}-{_place(row)}"
    kinds: dict[str, Callable[..., Figure | None]] = {
        "confusion": confusion_figure,
        "calibration": calibration_figure,
        "speakers": speakers_figure,
    }
    kinds |= {"curves": curves_figure} if p.histories else {}
    kinds |= {"layers": layers_figure} if LayerWeights.of(p) else {}
    for kind, draw in kinds.items():
        yield _name(kind, name), draw, (p,)


def _name(kind: str, name: str) -> str:
    return f"{kind}-{file_name(name)}"


def _place(row: Row) -> str:
    return f"{row.dataset}-{row.protocol}"


def _adapted_rows(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each dataset and protocol of which some are adapted to the test speakers."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if not trained_on_test_speakers(row.leaks):
            found[f"{row.dataset}-{unadapted_name(row.protocol)}"].append(row)
    return {place: own for place, own in found.items() if any(row.adapted for row in own)}


def _cross_scores(rows: Sequence[Row]) -> dict[str, dict[tuple[str, str], tuple[float, float]]]:
    """Return UAR and chance by training and test set, for each head of a cross-corpus run."""
    pairs = [row for row in rows if "->" in row.dataset]
    datasets = {name for row in pairs for name in row.dataset.split("->")}
    found: dict[str, dict[tuple[str, str], tuple[float, float]]] = defaultdict(dict)
    for row in rows:
        train, _, test = row.dataset.partition("->")
        if train in datasets:
            found[f"{row.head} on {row.encoder}"][train, test or train] = (row.uar, 1 / row.classes)
    return dict(found)


def _critical(rows: Sequence[Row]) -> Iterator[Call]:
    """Yield the critical-difference diagram, if there are enough datasets and heads for one."""
    try:
        yield "critical", critical_figure, (rank_heads(rows),)
    except DataError:
        return
