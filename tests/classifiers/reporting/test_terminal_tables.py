"""What a leaderboard looks like on a terminal of some width."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from classifiers import Row, compare, leaderboard
from classifiers.checks import toy_task
from classifiers.reporting.terminal_tables import show_leaderboard


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """The longest names there are."""
    (p,) = compare(toy_task(), ["logreg"], "speakers", n_folds=2, jobs=1)
    return leaderboard([replace(p, head="layer_weighted", encoder="wav2vec2-base-untrained")])


@pytest.mark.parametrize("width", [80, 100, 120])
def test_each_row_fits_into_one_line(rows: list[Row], width: int) -> None:
    """From 100 columns on with the Brier score and times."""
    out = io.StringIO()
    show_leaderboard(rows, Console(width=width, file=out, highlight=False))
    header = next(line.split() for line in out.getvalue().splitlines() if line.startswith("#"))
    assert header[3:8] == ["UAR", "95", "%", "WAR", "F1"]
    assert ("Brier" in header, "ms/clip" in header) == (width >= 100,) * 2
    (row,) = [line for line in out.getvalue().splitlines() if line.startswith("1 ")]
    assert "layer_weighted" in row
    assert "wav2vec2-base-untrained" in row


def test_rows_of_other_views_are_told_apart(rows: list[Row]) -> None:
    """The same head on the same encoder: what it read is named where it is not what it reads by itself."""
    (row,) = rows
    shown = [replace(row, view="layers", rank=1), replace(row, view="layers+std", rank=2, p_vs_best=0.5)]
    out = io.StringIO()
    show_leaderboard(shown, Console(width=200, file=out, highlight=False))
    assert "2  layer_weighted  wav2vec2-base-untrained, layers+std" in out.getvalue()
    assert "layer_weighted on wav2vec2-base-untrained and layer_weighted on wav2vec2-base-untrained, layers+std" in (
        " ".join(out.getvalue().split())
    )
