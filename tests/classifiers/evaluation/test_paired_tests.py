"""Paired tests: golden numbers, scipy as the oracle, and what a table says in words."""

import csv
import io
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from helpers.leaderboards import BALANCED, simulated
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as oracle

from classifiers import Predictions, compare, leaderboard
from classifiers.checks import toy_task
from classifiers.evaluation import statistics
from classifiers.evaluation.leaderboard import tables
from classifiers.evaluation.metrics import uar
from classifiers.evaluation.paired_tests import against_best, paired_csv
from classifiers.evaluation.statistics import (
    ALPHA,
    holm,
    max_t_permutation,
    resampled_t,
    smallest_p,
    speaker_permutation,
)
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
    assert [row.p_vs_best for row in rows[1:]] == [one.p_speakers_adjusted for one in found]
    assert np.isnan(rows[0].p_vs_best)
    best, other = ranked[:2]
    assert found[0].difference == pytest.approx(float(uar(best.matrix()) - uar(other.matrix())))
    assert found[0].p_speakers == pytest.approx(speaker_permutation(added_by(best) - added_by(other)))
    lines = list(csv.DictReader(io.StringIO(paired_csv([found]))))
    assert [line["other"] for line in lines] == [f"{row.head}/toy" for row in rows[1:]]
    (viewed,) = against_best([ranked[0], replace(ranked[1], view="layers+std")])
    assert viewed.other == f"{ranked[1].head}/toy, layers+std"
    assert all(0 <= float(line["p_folds"]) <= float(line["p_folds_holm"]) <= 1 for line in lines)


def test_one_head_twice_cannot_be_told_apart(made: list[Predictions]) -> None:
    twin = replace(made[0], head="twin")
    (one,) = against_best([made[0], twin])
    assert (one.difference, one.p_speakers, one.p_folds) == (0, 1, 1)
    said = comparison_text(leaderboard([made[0], twin]))
    assert said == (
        "No significant difference between logreg and twin "
        "(8 speakers, permutation test adjusted for all pairs of rows, alpha 0.05)."
    )


def test_a_head_that_is_always_right_is_better(made: list[Predictions]) -> None:
    right = replace(made[0], head="oracle", predicted=made[0].truth)
    said = comparison_text(leaderboard([*made, right]))
    assert said.startswith("oracle has a higher UAR than ")
    assert said.endswith(" (8 speakers, permutation test adjusted for all pairs of rows, alpha 0.05).")


def test_other_clips_and_too_few_speakers_have_no_p(made: list[Predictions]) -> None:
    elsewhere = replace(made[1], clip_ids=np.char.add(made[1].clip_ids, "x"))
    assert np.isnan(against_best([made[0], elsewhere])[0].p_speakers)
    for column, other in (("folds", "9"), ("speakers", "new"), ("truth", made[1].labels[0])):
        values = getattr(made[1], column).astype("U9")
        values[np.flatnonzero(values != other)[0]] = other
        (one,) = against_best([made[0], replace(made[1], **{column: values})])
        assert np.isnan([one.p_speakers, one.p_speakers_adjusted, one.p_folds]).all(), column
    two = [replace(p, speakers=np.where(p.speakers < "s4", "a", "b")) for p in made[:2]]
    rows = leaderboard(two)
    assert np.isnan(rows[1].p_vs_best)
    few = "2 speakers: too few speakers for an interval, and too few to compare heads."
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
    trained = len(np.unique(best.clip_ids)) * (n_folds - 1) / n_folds
    assert best.train_clips == pytest.approx(trained)
    assert found.p_folds == pytest.approx(resampled_t(differences, 1 / (n_folds - 1)))


def test_a_holdout_weighs_the_clips_that_were_trained_on() -> None:
    """Ten seeds of one split of 90/10 test most clips, but each was trained on nine tenths of all."""
    task = toy_task(seed=1)
    best, other = compare(task, ["logreg", "svm"], "holdout", seeds=10, jobs=1)
    differences = uar(best.matrices_by(best.splits)) - uar(other.matrices_by(other.splits))
    assert best.train_clips == 0.9 * len(task)
    assert against_best([best, other])[0].p_folds == pytest.approx(resampled_t(differences, 1 / 9), nan_ok=True)


def every_pair(scores: np.ndarray) -> np.ndarray:
    """Adjusted p-values of all pairs, each step and each swap written out (Westfall & Young 1993, algorithm 2.8)."""
    pairs = list(combinations(range(scores.shape[1]), 2))
    differences = {pair: scores[:, pair[0]] - scores[:, pair[1]] for pair in pairs}

    def statistic(pair: tuple[int, int], signs: np.ndarray) -> float:
        return abs(signs @ differences[pair]) / np.sqrt(np.square(differences[pair]).sum())

    swaps = [np.array(signs) for signs in product((1, -1), repeat=len(scores))]
    observed = {pair: statistic(pair, np.ones(len(scores))) for pair in pairs}
    order = sorted(pairs, key=lambda pair: -observed[pair])
    p, result = 0.0, np.ones((scores.shape[1],) * 2)
    for step, pair in enumerate(order):
        largest = [max(statistic(other, signs) for other in order[step:]) for signs in swaps]
        p = max(p, float(np.mean(np.array(largest) >= observed[pair] * (1 - 1e-9))))
        result[pair] = result[pair[::-1]] = p
    return result


@given(st.integers(0, 999), st.integers(3, 6), st.integers(2, 4))
def test_all_pairs_against_the_steps_written_out(seed: int, n_speakers: int, n_heads: int) -> None:
    scores = np.random.default_rng(seed).normal(np.arange(n_heads), 1, (n_speakers, n_heads))
    tests = max_t_permutation(scores)
    np.testing.assert_allclose(tests.p, every_pair(scores))
    assert (tests.p >= tests.single_p - 1e-12).all()
    assert tests.single_p[0, 1] == pytest.approx(speaker_permutation(scores[:, 0] - scores[:, 1]))


def test_blocks_of_swaps_give_the_same_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).normal(0, 1, (10, 3))
    at_once = max_t_permutation(scores)
    monkeypatch.setattr("classifiers.evaluation.statistics.BLOCK", 1)
    blocks = max_t_permutation(scores)
    for name in ("p", "single_p", "smallest"):
        np.testing.assert_allclose(getattr(blocks, name), getattr(at_once, name))


def test_a_head_that_is_listed_twice_counts_once() -> None:
    scores = np.random.default_rng(1).normal([0.5, 0.0], 1, (12, 2))
    once, twice = max_t_permutation(scores), max_t_permutation(scores[:, [0, 1, 1]])
    assert twice.p[0, 1] == twice.p[0, 2] == pytest.approx(once.p[0, 1])
    assert twice.p[1, 2] == 1


def test_the_smallest_difference_is_where_significance_begins() -> None:
    """A pair whose differences are shifted to it is significant; a little less, and it is not."""
    rng = np.random.default_rng(2)
    scores = rng.normal(0, 1, (12, 2))
    residuals = scores[:, 0] - scores[:, 1]
    residuals -= residuals.mean()
    smallest = max_t_permutation(scores).smallest[0, 1]
    for factor, significant in ((1.25, True), (0.75, False)):
        shifted = np.stack([residuals + factor * smallest / 12, np.zeros(12)], axis=1)
        assert (max_t_permutation(shifted).p[0, 1] <= ALPHA) == significant


def test_five_speakers_are_too_few_to_compare() -> None:
    assert [smallest_p(n) for n in (3, 5, 6, 14)] == [0.25, 0.0625, 0.03125, 2 / 2**14]
    assert smallest_p(50_000) == 1 / 20_001
    heads = simulated(np.random.default_rng(0), 5, BALANCED, [0.9, 0.1])
    rows = leaderboard(heads)
    assert (
        comparison_text(rows) == "5 speakers: too few speakers to compare heads. No p-value below 0.0625 is possible."
    )
    assert rows[1].smallest_difference == np.inf


def test_a_table_names_the_smallest_difference_that_it_could_show() -> None:
    rows = leaderboard(simulated(np.random.default_rng(0), 8, BALANCED, [0.5, 0.5, 0.5]))
    smallest = min(row.smallest_difference for row in rows[1:])
    assert comparison_text(rows).endswith(
        f" With these speakers, a difference below {smallest:.3f} cannot be significant."
    )
    assert 0.01 < smallest < 0.2


def test_renamed_speakers_are_no_longer_the_same_rows(made: list[Predictions]) -> None:
    """A run with corrected names of speakers beside an older one: no p-value, and no traceback."""
    merged = replace(made[1], speakers=np.where(made[1].speakers == "s7", "s6", made[1].speakers))
    swapped = replace(made[2], speakers=np.char.replace(made[2].speakers, "s", "t"))
    rows = leaderboard([made[0], merged, swapped])
    assert sum(np.isnan(row.p_vs_best) for row in rows) == 3
    assert comparison_text(rows) == "The rows were tested on different clips, so their differences were not tested."


def shares(p: Predictions) -> np.ndarray:
    """What each speaker adds to the UAR, as `added_by`, by a matrix for each speaker."""
    matrices = p.matrices_by(p.speakers)
    return (np.diagonal(matrices, axis1=1, axis2=2) / matrices.sum(axis=(0, 2))).mean(axis=1)


def claims(rng: np.random.Generator, n_speakers: int, recalls: list[float]) -> np.ndarray:
    """For a leaderboard of simulated heads: whether the best is called better than each head (H,)."""
    scores = np.stack([shares(p) for p in simulated(rng, n_speakers, BALANCED, recalls)], axis=1)
    best = scores.sum(axis=0).argmax()
    return max_t_permutation(scores, permutations=2000).p[best] <= ALPHA if best == 0 or len(set(recalls)) == 1 else []


@pytest.mark.long
@pytest.mark.parametrize("n_speakers", [6, 10, 24])
@pytest.mark.parametrize("n_heads", [2, 6, 10, 20])
def test_how_often_equal_heads_are_called_better(n_speakers: int, n_heads: int, record_property) -> None:
    """In 1000 leaderboards of equal heads, whose share has a standard error of 0.007; and how often 0.05 is found."""
    rng = np.random.default_rng([n_speakers, n_heads])
    false = np.mean([np.any(claims(rng, n_speakers, [0.5] * n_heads)) for _ in range(1000)])
    better = [0.55] + [0.5] * (n_heads - 1)
    power = np.mean([np.sum(claims(rng, n_speakers, better)) / (n_heads - 1) for _ in range(300)])
    record_property("at least one false 'better'", f"{false:.3f}")
    record_property("power, one head better by 0.05", f"{power:.3f}")
    assert false <= 0.06


def test_a_label_without_clips_changes_no_p(made: list[Predictions]) -> None:
    """And a label with a single clip counts as much as any other."""
    more = [
        replace(p, labels=(*p.labels, "unheard"), proba=np.hstack([p.proba, np.zeros((len(p.proba), 1))]))
        for p in made[:2]
    ]
    (one,), (other,) = against_best(made[:2]), against_best(more)
    assert replace(one, best="", other="") == replace(other, best="", other="")
    first = np.flatnonzero(made[0].seeds == made[0].seeds[0])
    labels = ("left", "right", "up")
    rare = []
    for p in made[:2]:
        truth = np.where(np.arange(len(p.truth)) == first[0], "up", p.truth)
        proba = np.hstack([p.proba, np.zeros((len(p.proba), 1))])
        rare.append(replace(p, labels=labels, truth=truth, proba=proba))
    rare = [
        replace(
            p,
            **{
                n: getattr(p, n)[first]
                for n in ("clip_ids", "speakers", "folds", "seeds", "truth", "predicted", "proba")
            },
        )
        for p in rare
    ]
    (found,) = against_best(rare)
    assert found.p_speakers == pytest.approx(speaker_permutation(added_by(rare[0]) - added_by(rare[1])))


@pytest.mark.parametrize("step", [1, 3, 5, 100])
def test_blocks_hold_each_swap_once_and_as_many_as_asked_for(step: int) -> None:
    every = np.concatenate(list(statistics._swaps(4, 16, 0, step)))
    assert sorted(map(tuple, every.tolist())) == sorted(product((-1.0, 1.0), repeat=4))
    drawn = [len(block) for block in statistics._swaps(40, 16, 0, step)]
    assert (sum(drawn), max(drawn)) == (16, min(step, 16))


def test_the_critical_value_leaves_as_many_swaps_as_alpha_allows() -> None:
    largest = np.random.default_rng(0).permutation(np.arange(1.0, 101))
    assert statistics._critical_value(largest) == 95 * (1 + 2 * statistics.TOLERANCE)  # 96 to 100 are above


def test_the_smallest_difference_by_hand() -> None:
    """Residuals -1, 0, 1 and a critical value of 1: D = sqrt(2 / (1 - 1/3)) has D / sqrt(2 + D^2 / 3) = 1."""
    scores = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [2.0, 0.0, 5.0]])
    first, second = np.triu_indices(3, 1)
    found = statistics._smallest_differences(scores, first, second, 1.5)
    spreads = [np.square(d - d.mean()).sum() for d in (scores[:, 0], scores[:, 0] - scores[:, 2], scores[:, 2])]
    np.testing.assert_allclose(found, [1.5 * np.sqrt(s / (1 - 1.5**2 / 3)) for s in spreads], rtol=1e-12)
    assert np.isinf(statistics._smallest_differences(scores, first, second, 2.0)).all()


def test_drawn_swaps_count_the_observed_one() -> None:
    """No drawn swap of 30 speakers is as far as the observed one: of 99, p = 1 / 100; of 10, p is not significant."""
    scores = np.stack([np.ones(30), np.linspace(0, 0.5, 30)], axis=1)
    found = max_t_permutation(scores, permutations=99)
    np.testing.assert_allclose(found.p, [[1, 0.01], [0.01, 1]])
    np.testing.assert_allclose(found.single_p, [[1, 0.01], [0.01, 1]])
    assert np.isfinite(found.smallest).all()
    assert np.isfinite(max_t_permutation(scores, permutations=19).smallest).all()  # p may be 1 / 20, which is ALPHA
    few = max_t_permutation(scores, permutations=10)
    np.testing.assert_array_equal(few.smallest, [[0, np.inf], [np.inf, 0]])
    np.testing.assert_allclose(few.p[0, 1], 1 / 11)
