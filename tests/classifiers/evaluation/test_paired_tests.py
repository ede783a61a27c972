"""Paired tests: golden numbers, scipy as the oracle, and what a table says in words."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as oracle

from classifiers import Predictions, compare, leaderboard
from classifiers.checks import toy_task
from classifiers.evaluation.leaderboard import tables
from classifiers.evaluation.metrics import uar
from classifiers.evaluation.paired_tests import against_best, paired_csv
from classifiers.evaluation.statistics import holm, resampled_t, speaker_permutation
from classifiers.reporting.terminal_tables import comparison_text

differences = st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=3, max_size=8)


def test_permutations_by_hand() -> None:
    """Of the 8 swaps of three speakers who all agree, two are as far: none and all."""
    assert speaker_permutation(np.array([1.0, 1, 1])) == 0.25
    assert speaker_permutation(np.array([1.0, 1, -1])) == 1
    assert speaker_permutation(np.zeros(5)) == 1
    assert np.isnan(speaker_permutation(np.array([1.0, 1])))


@given(differences)
def test_permutations_against_scipy(drawn: list[float]) -> None:
    d = np.array(drawn)
    found = oracle.permutation_test((d, np.zeros_like(d)), lambda a, b: (a - b).sum(), permutation_type="samples")
    assert speaker_permutation(d) == pytest.approx(min(found.pvalue, 1))


def test_many_speakers_are_drawn_and_come_near_the_exact_value() -> None:
    d = np.random.default_rng(0).normal(0.3, 1, 14)
    exact, drawn = speaker_permutation(d), speaker_permutation(d, permutations=10_000)
    assert drawn == pytest.approx(exact, abs=0.02)
    assert drawn == speaker_permutation(d, permutations=10_000)
    assert speaker_permutation(np.ones(30)) == pytest.approx(1 / 20_001)


def test_all_swaps_are_made_where_they_are_no_more_than_asked_for() -> None:
    """Of 5 speakers there are 32. With 31, so many are drawn, and the observed one is counted among them."""
    assert speaker_permutation(np.ones(5), permutations=32) == 2 / 32
    assert speaker_permutation(np.ones(5), permutations=31) in [n / 32 for n in range(1, 33)]
    drawn = {speaker_permutation(np.ones(5), permutations=31, seed=seed) for seed in range(20)}
    assert len(drawn) > 1, "another seed, other swaps"


def test_two_folds_are_enough_for_a_t_test() -> None:
    t = 1.5 / np.sqrt((1 / 2 + 0.5) * 0.5)
    assert resampled_t(np.array([1.0, 2.0]), 0.5) == pytest.approx(2 * oracle.t.sf(t, 1))


def test_p_is_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(0)
    p = [speaker_permutation(rng.normal(size=12)) for _ in range(400)]
    assert oracle.kstest(p, "uniform").pvalue > 0.01


@given(differences)
def test_the_t_test_is_scipys_where_nothing_is_trained_on_twice(drawn: list[float]) -> None:
    d = np.array(drawn)
    if d.std() > 1e-6:
        assert resampled_t(d, 0.0) == pytest.approx(oracle.ttest_1samp(d, 0).pvalue)
        assert resampled_t(d, 0.25) >= resampled_t(d, 0.0)


def test_the_t_test_by_hand() -> None:
    """Mean 2, variance 1, three folds of a third: t = 2 / sqrt(1/3 + 1/2), 2 degrees of freedom."""
    wanted = 2 * oracle.t.sf(2 / np.sqrt(1 / 3 + 1 / 2), 2)
    assert resampled_t(np.array([1.0, 2, 3]), 0.5) == pytest.approx(wanted)
    assert (resampled_t(np.zeros(3), 0.5), resampled_t(np.ones(3), 0.5)) == (1, 0)
    assert np.isnan(resampled_t(np.ones(1), 0.5))


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, np.nan, 0.03])), [0.03, 0.06, np.nan, 0.06])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])
    assert len(holm(np.array([]))) == 0


@pytest.fixture(scope="module")
def made() -> list[Predictions]:
    """Three heads on a task on which they err."""
    task = toy_task(seed=1)
    noisy = replace(task, X=task.X + 5 * np.random.default_rng(0).standard_normal(task.X.shape).astype(np.float32))
    return compare(noisy, ["logreg", "svm", "mlp"], "speakers", n_folds=4, seeds=2, jobs=1)


def added_by(p: Predictions) -> np.ndarray:
    """What each speaker adds to the UAR, counted by hand."""
    right = p.truth == p.predicted
    return np.array(
        [
            np.mean(
                [
                    (right & (p.truth == label) & (p.speakers == s)).sum() / (p.truth == label).sum()
                    for label in p.labels
                ]
            )
            for s in np.unique(p.speakers)
        ]
    )


def test_a_table_is_tested_against_its_best(made: list[Predictions]) -> None:
    ((table,), rows) = (tables(made), leaderboard(made))
    ranked = [next(p for p in made if p.head == row.head) for row in rows]
    found = against_best(ranked)
    assert list(table.rows[1:]) == rows[1:]
    assert table.paired == found
    assert [row.p_vs_best for row in rows[1:]] == [one.p_speakers_holm for one in found]
    assert np.isnan(rows[0].p_vs_best)
    best, other = ranked[:2]
    assert found[0].difference == pytest.approx(float(uar(best.matrix()) - uar(other.matrix())))
    assert found[0].p_speakers == pytest.approx(speaker_permutation(added_by(best) - added_by(other)))
    lines = list(csv.DictReader(io.StringIO(paired_csv([found]))))
    assert [line["other"] for line in lines] == [f"{row.head}/toy" for row in rows[1:]]
    assert all(0 <= float(line["p_folds"]) <= float(line["p_folds_holm"]) <= 1 for line in lines)


def test_one_head_twice_cannot_be_told_apart(made: list[Predictions]) -> None:
    twin = replace(made[0], head="twin")
    (one,) = against_best([made[0], twin])
    assert (one.difference, one.p_speakers, one.p_folds) == (0, 1, 1)
    said = comparison_text(leaderboard([made[0], twin]))
    assert said == (
        "No significant difference between logreg and twin (8 speakers, Holm-corrected permutation test, alpha 0.05)."
    )


def test_a_head_that_is_always_right_is_better(made: list[Predictions]) -> None:
    right = replace(made[0], head="oracle", predicted=made[0].truth)
    said = comparison_text(leaderboard([*made, right]))
    assert said.startswith("oracle has a higher UAR than ")
    assert said.endswith(" (8 speakers, Holm-corrected permutation test, alpha 0.05).")


def test_other_clips_and_too_few_speakers_have_no_p(made: list[Predictions]) -> None:
    elsewhere = replace(made[1], clip_ids=np.char.add(made[1].clip_ids, "x"))
    assert np.isnan(against_best([made[0], elsewhere])[0].p_speakers)
    two = [replace(p, speakers=np.where(p.speakers < "s4", "a", "b")) for p in made[:2]]
    rows = leaderboard(two)
    assert np.isnan(rows[1].p_vs_best)
    few = "2 speakers: too few for an interval, and for a test of whether a difference holds for other speakers."
    assert comparison_text(rows) == comparison_text(rows[:1]) == few


def test_a_pair_names_its_table_and_both_heads(made: list[Predictions]) -> None:
    one, *_ = against_best(made)
    best, other = made[:2]
    assert (one.dataset, one.protocol) == (best.dataset, best.protocol)
    assert best.head in one.best
    assert other.head in one.other


def test_folds_are_weighed_by_what_is_tested_over_what_is_trained_on(made: list[Predictions]) -> None:
    best, other = made[:2]
    found = against_best([best, other])[0]
    differences = uar(best.matrices_by(best.splits)) - uar(other.matrices_by(other.splits))
    n_folds = len(np.unique(best.folds))
    assert found.p_folds == pytest.approx(resampled_t(differences, 1 / (n_folds - 1)))
