"""Leaderboards and cross-corpus tables on terminals of several widths."""

import io
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from classifiers import Row, compare, leaderboard
from classifiers.checks import toy_task
from classifiers.evaluation.cross_table import CrossRow
from classifiers.reporting.terminal_tables import show_cross, show_leaderboard

WIDTHS = (60, 80, 120, 200)
ENCODER = "facebook/wav2vec2-large-xlsr-53"
COLUMNS = ["#", "head", "encoder", "UAR", "95 %", "WAR", "F1", "ECE", "Brier", "fit s", "ms/clip"]
CROSS_COLUMNS = ["trained on", "tested on", "UAR", "95 %", "chance", "WAR", "most", "tested", "same", "other"]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """The longest names there are."""
    (p,) = compare(toy_task(), ["logreg"], "speakers", n_folds=2, jobs=1)
    return leaderboard([replace(p, head="layer_weighted", encoder="wav2vec2-base-untrained")])


@pytest.fixture(scope="module")
def cross_rows() -> list[CrossRow]:
    names = ("folder-emotional-voices-1", "folder-emotional-voices-2")
    scores = (0.5123, 0.4, 0.6, 0.5, 0.5, 0.25, 0.3)
    return [
        CrossRow(a, b, "layer_weighted", ENCODER, "speakers", "angry+sad", 2, *scores, 100, 80, 9, 8, 0, 4, 2, leaks)
        for a, b, leaks in ((*names, "text"), (*names[::-1], ""))
    ]


def printed(show: Callable, rows: list, width: int) -> str:
    out = io.StringIO()
    show(rows, Console(width=width, file=out, highlight=False))
    return out.getvalue()


def table_of(text: str, first: str) -> list[str]:
    """The header line and the lines below it that belong to rows."""
    lines = text.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith(first))
    return lines[begin : begin + 2]


NAMES = re.compile("|".join(sorted([*COLUMNS, *CROSS_COLUMNS, "copies"], key=len, reverse=True)))


def header_names(line: str) -> list[str]:
    """The names of columns in a line, each as a whole: `tested on` is not `tested`."""
    return NAMES.findall(line)


def record_names(text: str) -> list[str]:
    """The names at the beginning of the lines of records."""
    lines = (re.match(rf"({NAMES.pattern})  ", line) for line in text.splitlines())
    return [line[1] for line in lines if line]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_each_row_fits_into_one_line(rows: list[Row], width: int) -> None:
    """From 100 columns on with the Brier score and times."""
    out = printed(show_leaderboard, rows, width)
    header = next(line.split() for line in out.splitlines() if line.startswith("#"))
    assert header[3:8] == ["UAR", "95", "%", "WAR", "F1"]
    assert ("Brier" in header, "ms/clip" in header) == (width >= 100,) * 2
    (row,) = [line for line in out.splitlines() if line.startswith("1 ")]
    assert "layer_weighted" in row
    assert "wav2vec2-base-untrained" in row


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("copies", [0, 3])
def test_a_leaderboard_breaks_no_name_and_names_the_columns_that_it_leaves_out(
    rows: list[Row], width: int, copies: int
) -> None:
    pair = [
        replace(rows[0], head=head, encoder=ENCODER, view="layers", rank=rank, copies=copies, p_vs_best=0.5)
        for rank, head in enumerate(("layer_weighted", "layer_weighted-tuned"), start=1)
    ]
    out = printed(show_leaderboard, pair, width)
    assert max(map(len, out.splitlines())) <= width
    assert out.count(ENCODER) >= 2
    assert out.count("layer_weighted-tuned") >= 1
    columns = [*COLUMNS, *(["copies"] if copies else [])]
    if width < 80:
        for row in pair:
            assert f"#        {row.rank}\nhead     {row.head}\nencoder  {ENCODER}" in out
        assert record_names(out) == columns * 2
        assert "Left out" not in out
        return
    header, first = table_of(out, "# ")
    assert ENCODER in first
    shown = header_names(header)
    assert shown == columns or width == 80
    if left_out := [name for name in columns if name not in shown]:
        assert f"Left out at {width} columns: {', '.join(left_out)}. A wider terminal or" in " ".join(out.split())
        assert "`ser leaderboard --csv FILE`" in " ".join(out.split())
    assert ("Left out" in out) == bool(left_out)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_cross_table_breaks_no_name_and_names_the_columns_that_it_leaves_out(
    cross_rows: list[CrossRow], width: int
) -> None:
    out = printed(show_cross, cross_rows, width)
    pair_leak = f"({cross_rows[0].train}->{cross_rows[0].test})."
    assert all(len(line) <= width or line == pair_leak for line in out.splitlines())
    assert f"layer_weighted on {ENCODER}" in " ".join(out.split())
    if width < 80:
        assert f"trained on  {cross_rows[0].train}\ntested on   {cross_rows[0].test}\nUAR         0.512" in out
        assert record_names(out) == CROSS_COLUMNS * 2
        assert "Left out" not in out
        return
    header, first = table_of(out, "trained on")
    assert first.split()[:3] == [cross_rows[0].train, cross_rows[0].test, "0.512"]
    assert (header_names(header) == CROSS_COLUMNS) == (width > 80)
    left_out = CROSS_COLUMNS[len(header_names(header)) :]
    assert bool(left_out) == ("Left out" in out)
    if left_out:
        wanted = f"Left out at 80 columns: {', '.join(left_out)}. A wider terminal or cross.csv in the run folder"
        assert wanted in " ".join(out.split())


def test_all_columns_stay_where_they_fit(rows: list[Row]) -> None:
    """Short names at 80 columns, and the encoder on two lines where that keeps the columns."""
    short = [replace(rows[0], head="svm", encoder="mfcc", view="pooled")]
    header, _ = table_of(printed(show_leaderboard, short, 80), "# ")
    assert header_names(header) == COLUMNS
    out = printed(show_leaderboard, [replace(rows[0], view="layers+std")], 100)
    header, first = table_of(out, "# ")
    assert "ms/clip" in header
    assert "wav2vec2-base-untrained, " in first
    assert "\n                 layers+std\n" in out


def test_brackets_in_names_are_no_markup(rows: list[Row]) -> None:
    out = printed(show_leaderboard, [replace(rows[0], head="[bold]x[/bold]", dataset="[red]d")], 120)
    assert "[bold]x[/bold]" in out
    assert "[red]d, protocol" in out


def test_rows_of_other_views_are_told_apart(rows: list[Row]) -> None:
    """The same head on the same encoder: what it read is named where it is not what it reads by itself."""
    (row,) = rows
    shown = [replace(row, view="layers", rank=1), replace(row, view="layers+std", rank=2, p_vs_best=0.5)]
    out = printed(show_leaderboard, shown, 200)
    assert "2  layer_weighted  wav2vec2-base-untrained, layers+std" in out
    assert (
        "No significant difference between layer_weighted on wav2vec2-base-untrained and layer_weighted on "
        "wav2vec2-base-untrained, layers+std (8 speakers, permutation test adjusted for all pairs of rows, alpha 0.05)."
    ) in " ".join(out.split())
