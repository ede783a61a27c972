"""A score has the same digits wherever it is shown: CSV files, terminal, report and model card."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from classifiers import Predictions, Row, Task, compare, leaderboard, save_predictions
from classifiers.checks import toy_task
from classifiers.data.csv_text import csv_text, number_text
from classifiers.evaluation.intervals import intervals, intervals_csv
from classifiers.evaluation.leaderboard import to_csv
from classifiers.evaluation.statistics import PERMUTATIONS
from classifiers.reporting.html_report import write_report
from classifiers.reporting.terminal_tables import show_leaderboard
from classifiers.saved.card_text import describe
from embedcache import Artifacts

SCORES = ("uar", "uar_low", "uar_high", "war", "macro_f1", "ece", "fit_seconds", "predict_ms")


def noisy_task() -> Task:
    task = toy_task()
    return replace(task, X=task.X + np.random.default_rng(1).normal(0, 3, task.X.shape).astype(np.float32))


@pytest.fixture(scope="module")
def made() -> list[Predictions]:
    """Two heads on 8 speakers, with noise, so that no score is round."""
    return compare(noisy_task(), ["logreg", "knn"], "speakers", n_folds=3, seeds=2, jobs=1)


@pytest.fixture(scope="module")
def rows(made: list[Predictions]) -> list[Row]:
    return leaderboard(made)


@pytest.fixture(scope="module")
def lines(rows: list[Row]) -> list[dict[str, str]]:
    """The rows of leaderboard.csv."""
    return list(csv.DictReader(io.StringIO(to_csv(rows))))


def test_the_terminal_shows_the_digits_of_the_csv(rows: list[Row], lines: list[dict[str, str]]) -> None:
    out = io.StringIO()
    show_leaderboard(rows, Console(width=200, file=out, highlight=False))
    for line in lines:
        begin = f"{line['rank']}  {line['head']} "
        (shown,) = (text.split() for text in out.getvalue().splitlines() if text.startswith(begin))
        assert {line[name] for name in ("uar", "uar_seed_sd", "war", "macro_f1", "ece", "brier")} <= set(shown)
        assert {line["fit_seconds"], line["predict_ms"], f"{line['uar_low']}–{line['uar_high']}"} <= set(shown)


def test_the_report_shows_the_digits_of_the_csv(
    made: list[Predictions], lines: list[dict[str, str]], tmp_path: Path
) -> None:
    save_predictions(tmp_path / "runs" / "1", made, {"seeds": 2})
    page = write_report(Artifacts(tmp_path), out=tmp_path / "page.html", audio=False).read_text()
    for line in lines:
        (cells,) = re.findall(rf"<td>{line['rank']}</td><th scope=\"row\">{line['head']}</th>(.*?)</tr>", page, re.S)
        shown = list(filter(str.strip, re.findall(r">([^<>]+)<", cells)))
        interval = f"{line['uar_low']}–{line['uar_high']}"
        assert [line["uar"], interval, line["uar_seed_sd"], line["p_vs_best"] or "–"] == shown[:4]
        assert [line[name] for name in ("war", "macro_f1", "ece", "brier", "fit_seconds", "predict_ms")] == shown[4:10]
        section = f'UAR {line["uar"]} <span class="soft">{interval}</span>'
        assert section in page  # the section of the head has the interval of its row, also of the row ranked first


def test_the_card_has_the_digits_of_the_csv(made: list[Predictions]) -> None:
    """A model has no rivals, so its interval is that of a leaderboard with one row."""
    task = noisy_task()
    for p in made:
        (line,) = csv.DictReader(io.StringIO(to_csv(leaderboard([p]))))
        scores = describe(task, p)["scores"]
        for name in ("uar", "war", "macro_f1", "ece"):
            assert number_text(scores[name]["value"]) == line[name]
            assert scores[name]["value"] == float(line[name])
        assert [scores["uar"]["low"], scores["uar"]["high"]] == [float(line["uar_low"]), float(line["uar_high"])]


def test_intervals_csv_has_the_digits_of_the_leaderboard(made: list[Predictions], lines: list[dict[str, str]]) -> None:
    second = {p.head: p for p in made}[lines[1]["head"]]
    uar = next(csv.DictReader(io.StringIO(intervals_csv(intervals(second)))))
    assert [uar["value"], uar["low"], uar["high"]] == [lines[1]["uar"], lines[1]["uar_low"], lines[1]["uar_high"]]


@pytest.mark.parametrize("p", [1 / (PERMUTATIONS + 1), 1e-12, 0.0])
def test_no_p_value_is_shown_as_zero(p: float) -> None:
    """The smallest p-value of 20,000 permutations is 0.00005; that of a t-test has no limit."""
    text = csv_text([("head", "uar", "p_vs_best"), ("knn", 1 / 3, p), ("svm", np.float32(0.25), float("nan"))])
    assert text == "head,uar,p_vs_best\nknn,0.333,0.0001\nsvm,0.250,\n"
    assert number_text(0.0312, "p_folds") == "0.0312"


@given(st.floats(0, 1))
def test_numbers_are_rounded_once(value: float) -> None:
    assert number_text(value) == f"{round(value, 3):.3f}"
    assert abs(float(number_text(value)) - value) <= 0.0005
