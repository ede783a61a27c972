"""Critical differences: Demšar's own numbers, scipy and exact tables as oracles, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.places import Ser
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import friedmanchisquare

from classifiers import Row, compare, leaderboard, save_predictions
from classifiers.checks import toy_task
from classifiers.evaluation.critical_difference import (
    average_ranks,
    critical_difference,
    friedman,
    rank_heads,
    summary_lines,
    tied,
)
from classifiers.reporting.figures import save_critical_figure
from embedcache import DataError


@pytest.mark.parametrize(
    ("k", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (10, 3.164)]
)
def test_the_table_of_demsar(k: int, q: float) -> None:
    """Table 5 (a), whose third digit is off by one at times."""
    assert critical_difference(k, 10) / np.sqrt(k * (k + 1) / 60) == pytest.approx(q, abs=0.0015)


def test_the_examples_of_demsar() -> None:
    """4 trees on 14 datasets, at both levels. Another: 5 heads on 30, 2.728 * sqrt(1 / 6)."""
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14, alpha=0.10) == pytest.approx(1.12, abs=0.005)
    assert critical_difference(5, 30) == pytest.approx(1.113, abs=0.001)


def test_demsars_ranks() -> None:
    """Table 6: areas under ROC curves of 4 trees on 14 datasets, with the ranks and the statistic he gives."""
    scores = np.array(
        [
            [0.763, 0.768, 0.771, 0.798],
            [0.599, 0.591, 0.590, 0.569],
            [0.954, 0.971, 0.968, 0.967],
            [0.628, 0.661, 0.654, 0.657],
            [0.882, 0.888, 0.886, 0.898],
            [0.936, 0.931, 0.916, 0.931],
            [0.661, 0.668, 0.609, 0.685],
            [0.583, 0.583, 0.563, 0.625],
            [0.775, 0.838, 0.866, 0.875],
            [1.000, 1.000, 1.000, 1.000],
            [0.940, 0.962, 0.965, 0.962],
            [0.619, 0.666, 0.614, 0.669],
            [0.972, 0.981, 0.9751, 0.975],
            [0.957, 0.978, 0.946, 0.970],
        ]
    )
    np.testing.assert_allclose(average_ranks(scores), [3.143, 2.000, 2.893, 1.964], atol=5e-4)
    ranks = average_ranks(scores)
    without_ties = 12 * 14 / (4 * 5) * (np.square(ranks).sum() - 4 * 25 / 4)
    assert without_ties == pytest.approx(9.28, abs=0.01)
    statistic, p = friedman(scores)
    assert statistic == pytest.approx(friedmanchisquare(*scores.T).statistic)
    assert p == pytest.approx(friedmanchisquare(*scores.T).pvalue, abs=0.01)


@pytest.mark.parametrize(("k", "n", "p"), [(3, 3, 0.028), (3, 4, 0.0046), (4, 3, 0.0017), (2, 4, 0.125), (2, 6, 0.031)])
def test_the_exact_p_where_all_datasets_agree(k: int, n: int, p: float) -> None:
    """Of (k!)^n orders, k! are as far: tables of Friedman's test (Siegel & Castellan 1988, M), and the sign test."""
    assert friedman(np.tile(np.arange(k), (n, 1)))[1] == pytest.approx(p, abs=5e-4)


@given(st.integers(3, 12), st.integers(3, 6), st.integers(0, 999))
def test_the_statistic_is_scipys(n: int, k: int, seed: int) -> None:
    """Ties included; p is its own, and near scipy's where datasets are many."""
    scores = np.random.default_rng(seed).integers(0, 6, (n, k))
    wanted = friedmanchisquare(*scores.T)
    statistic, p = friedman(scores, permutations=500)
    if np.isfinite(wanted.statistic):
        assert statistic == pytest.approx(wanted.statistic, abs=1e-9)
    assert 0 < p <= 1


def test_p_repeats_itself_and_drawn_orders_come_near_all() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 3)) + np.array([0, 0.7, 1])
    assert friedman(scores)[1] == pytest.approx(friedman(scores, permutations=5000)[1], abs=0.02)
    assert friedman(scores, permutations=5000) == friedman(scores, permutations=5000)
    assert friedman(np.ones((4, 3))) == (0, 1)


def test_groups_by_hand() -> None:
    ranks = np.array([1.0, 1.4, 3, 3.5])
    assert tied(ranks, 0.3) == []
    assert tied(ranks, 0.5) == [(0, 1)]  # 0.5 apart is far enough
    assert tied(ranks, 0.6) == [(0, 1), (2, 3)]
    assert tied(ranks, 2.05) == [(0, 2), (2, 3)]  # the second and third alone are in the first group
    assert tied(ranks, np.inf) == [(0, 3)]


@pytest.fixture(scope="module")
def row() -> Row:
    return leaderboard(compare(toy_task(), ["logreg"], "speakers", n_folds=2, jobs=1))[0]


def board(row: Row, scores: dict[str, dict[str, float]], **changes: object) -> list[Row]:
    """Rows of dataset -> head -> UAR."""
    return [
        replace(row, dataset=dataset, head=head, uar=uar, fold_hash=dataset, **changes)
        for dataset, heads in scores.items()
        for head, uar in heads.items()
    ]


ALIKE = {name: {"a": 0.6, "b": 0.5, "c": 0.4} for name in ("one", "three", "two")}


def test_heads_are_ranked_over_the_datasets_that_have_them(row: Row) -> None:
    """A head that one dataset lacks is left out, as are unions, crossings and rows blind to speakers."""
    rows = board(row, ALIKE) + board(row, {"one": {"d": 0.9}, "one+two": {"a": 0, "b": 1}, "one->two": {"a": 0}})
    rows += board(row, {"one": {"a": 0.1, "b": 0.9, "c": 0.95, "d": 1, "e": 1}}, leaks="speaker", protocol="random")
    rows += board(row, {"two": {"b": 0.9}}, protocol="loso")  # two's table under `speakers` has more heads
    found = rank_heads(rows)
    assert (found.names, found.ranks) == (("a", "b", "c"), (1, 2, 3))
    assert found.tables == ("one (speakers)", "three (speakers)", "two (speakers)")
    assert (found.p, found.speaker_dependent, found.left_out) == (pytest.approx(1 / 36), False, 10)
    assert found.groups == ((0, 1), (1, 2))
    assert summary_lines(found) == [
        "used: 3 heads on one (speakers), three (speakers), two (speakers), all speaker-independent; "
        "rows left out: 10.",
        "average ranks: a 1.00, b 2.00, c 3.00.",
        "Friedman p = 0.0278 (permutation); Nemenyi's critical difference: 1.91 ranks.",
        "no significant difference: a and b; b and c.",
        "3 datasets have little power: heads without a significant difference may differ.",
    ]


def test_nothing_is_told_apart_where_friedman_finds_nothing(row: Row) -> None:
    """Two heads, four datasets that agree: Nemenyi's difference of 0.98 would do, the exact p of 1/8 does not."""
    found = rank_heads(board(row, {name: {"a": 0.6, "b": 0.5} for name in "wxyz"}))
    assert found.distance < 1
    assert (found.p, found.differ, found.groups) == (0.125, False, ((0, 1),))


def test_rows_blind_to_speakers_count_where_there_are_no_others(row: Row) -> None:
    found = rank_heads(board(row, ALIKE, leaks="speaker+text"))
    assert found.speaker_dependent
    assert "all speaker-dependent" in summary_lines(found)[0]


def test_names_tell_encoders_and_copies_apart_and_the_later_run_counts(row: Row) -> None:
    rows = [
        replace(one, encoder=encoder, copies=copies, uar=one.uar + 0.01 * copies, run=run)
        for one in board(row, {name: {"a": 0.6} for name in ("one", "three", "two")})
        for encoder, copies, run in (("e", 0, "1"), ("f", 3, "1"), ("f", 3, "2"))
    ]
    assert rank_heads(rows).names == ("a on f, 3 copies", "a on e")
    rows = board(row, ALIKE, run="1") + board(row, {name: {"c": 0.9} for name in ALIKE}, run="2")
    assert rank_heads(rows).names == ("c", "a", "b")


def test_speech_and_song_of_the_same_actors_count_once(row: Row) -> None:
    both = {"ravdess": ALIKE["one"], "ravdess-song": ALIKE["one"] | {"d": 0.3}, "tess": ALIKE["one"] | {"d": 0.3}}
    with pytest.raises(DataError, match=r"got 2 datasets \(ravdess-song, tess\)"):
        rank_heads(board(row, both))


def test_too_little_is_refused_with_its_reason(row: Row) -> None:
    two = {name: ALIKE[name] for name in ("one", "two")}
    with pytest.raises(DataError, match=r"got 2 datasets \(one, two\) for ranking heads; wanted at least 3. Run"):
        rank_heads(board(row, two))
    with pytest.raises(DataError, match=r"got 0 datasets \(none\)"):
        rank_heads([])
    one_head = board(row, two | {"three": {"a": 1, "z": 1}})
    many = {name: {str(head): head / 60 for head in range(60)} for name in ALIKE}
    with pytest.raises(DataError, match=r"got 60 heads; wanted at most 50"):
        rank_heads(board(row, many))
    with pytest.raises(DataError, match=r"got 1 head run on every dataset; wanted at least 2: one has a.*three has"):
        rank_heads(one_head)


@pytest.mark.parametrize("k", [2, 6, 12])
def test_the_picture_holds_every_name(row: Row, tmp_path: Path, k: int) -> None:
    """Nothing is cut off: names lie within the figure."""
    from classifiers.reporting.figures import critical_figure

    rng = np.random.default_rng(k)
    heads = [f"head_number_{n}_of_a_name_that_is_$long$" for n in range(k)]
    found = rank_heads(board(row, {name: dict(zip(heads, rng.random(k), strict=True)) for name in "vwxyz"}))
    figure = critical_figure(found)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    names = [text for text in figure.axes[0].texts if "head_number" in text.get_text()]
    assert len(names) == k
    for box in (text.get_window_extent() for text in names):
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
    assert save_critical_figure(tmp_path / "c.png", found).read_bytes().startswith(b"\x89PNG")


def test_a_name_without_end_does_not_blow_up_the_picture(row: Row) -> None:
    """A run may come from a stranger."""
    from classifiers.reporting.figures import critical_figure

    scores = {f"{n}{'d' * 50_000}": {"a" + "x" * 50_000: 0.5 + n / 10, "b": 0.4} for n in range(3)}
    width, height = critical_figure(rank_heads(board(row, scores))).get_size_inches()
    assert width < 20
    assert height < 10


def test_the_command(ser: Ser, tmp_path: Path) -> None:
    task = toy_task(seed=1)
    noisy = replace(task, X=task.X + 5 * np.random.default_rng(0).standard_normal(task.X.shape).astype(np.float32))
    made = compare(noisy, ["logreg", "svm"], "speakers", n_folds=2, jobs=1)
    for name in ("one", "two", "three"):
        if name == "three":
            failed = ser("leaderboard", "--critical", "c.png")
            assert failed.returncode == 1
            assert "got 2 datasets (one, two) for ranking heads; wanted at least 3" in failed.stderr
            assert not (tmp_path / "c.png").exists()
        renamed = [replace(p, dataset=name, fold_hash=name) for p in made]
        save_predictions(tmp_path / "artifacts" / "runs" / name, renamed, {})
    done = ser("leaderboard", "--critical", "c.png")
    assert done.returncode == 0, done.stderr
    assert "critical differences: c.png\n  used: 2 heads on one (speakers), three (speakers)" in done.stderr
    assert len(done.stdout.splitlines()) == 7
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
