"""The curve of what clips of a new speaker are worth: for each head, with the numbers of the leaderboard."""

import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from classifiers import compare, leaderboard
from classifiers.checks import toy_task
from classifiers.data.csv_text import number_text
from classifiers.evaluation.critical_difference import rank_heads
from classifiers.evaluation.leaderboard import Row
from classifiers.reporting.adaptation_curves import adaptation_curve, adaptation_sections
from classifiers.reporting.terminal_tables import adaptation_text, show_leaderboard
from embedcache import DataError


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    task = toy_task(seed=1)
    noise = np.random.default_rng(0).standard_normal(task.X.shape).astype(np.float32)
    task = replace(task, X=task.X + 4 * noise)
    return leaderboard(compare(task, ["ridge", "knn"], n_folds=4, jobs=1, adapt=["0", "5", "all"]))


def test_a_section_has_a_figure_for_each_head_and_the_numbers_of_the_rows(rows: list[Row]) -> None:
    (section,) = adaptation_sections(rows)
    assert section.title == "toy, protocol speakers"
    assert {figure.title for figure in section.figures} == {"ridge on toy", "knn on toy"}
    assert section.grid.header == ("head", "0", "5", "all")
    for name, *cells in section.grid.rows:
        own = sorted((row for row in rows if f"{row.head} on toy" == name), key=lambda row: row.adapt_clips)
        assert [cell.split()[0] for cell in cells] == [number_text(row.uar) for row in own]
    assert section.grid.note.endswith("all: 20 clips of a speaker on average.")


def test_a_figure_says_its_numbers_and_stays_inside(rows: list[Row]) -> None:
    own = {row.adapt_clips / 8: row for row in rows if row.head == "ridge"}
    svg = str(adaptation_curve("ridge", own))
    assert all(number_text(row.uar) in svg for row in own.values())
    assert len(re.findall("<circle", svg)) == 3
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', svg)]
    assert all(0 < y < 230 for y in heights)


def test_without_adapted_rows_there_is_no_section(rows: list[Row]) -> None:
    assert adaptation_sections([row for row in rows if not row.adapted]) == []
    alone = [row for row in rows if row.adapted == "5" and row.head == "knn"]
    (section,) = adaptation_sections(alone)
    assert section.grid.header == ("head", "5")


def test_a_row_of_unknown_interval_is_drawn(rows: list[Row]) -> None:
    unknown = replace(rows[0], uar_low=float("nan"), uar_high=float("nan"))
    assert "nan" not in str(adaptation_curve("ridge", {0.0: unknown}))


def test_terminal_tables_say_what_is_adapted(rows: list[Row]) -> None:
    console = Console(width=80, record=True)
    show_leaderboard(rows, console)
    said = " ".join(console.export_text().split())
    assert said.count("Adapted: ") == 2
    assert "standardised by 5 of the speaker's clips, drawn at random 5 times without labels" in said
    assert "(40 clips in each draw)" in said
    assert "protocol speakers/adapted-all" in said
    assert adaptation_text([row for row in rows if not row.adapted]) == []


def test_adapted_rows_have_no_part_in_critical_differences(rows: list[Row]) -> None:
    datasets = [[replace(row, dataset=name) for row in rows if row.adapted] for name in ("a", "b", "c")]
    with pytest.raises(DataError, match="got 0 datasets"):
        rank_heads([row for some in datasets for row in some])
