"""Scores: golden numbers worked by hand, and scikit-learn and audmetric as oracles on imperfect predictions."""

import audmetric
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from classifiers.evaluation.intervals import recall_estimate
from classifiers.evaluation.metrics import (
    aurc,
    bin_sums,
    brier,
    confusion,
    ece,
    ece_of,
    f1s,
    macro_f1,
    precisions,
    recalls,
    reliability,
    risk_coverage,
    uar,
    war,
)

LABELS = ("a", "b", "c")
pairs = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=40)


def test_by_hand() -> None:
    """3 of 4 a right, 1 of 2 b right, c never there; one a is called c."""
    truth, predicted = np.array(list("aaaabb")), np.array(list("aaacba"))
    matrix = confusion(truth, predicted, LABELS)
    assert matrix.tolist() == [[3, 0, 1], [1, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(recalls(matrix), [0.75, 0.5, np.nan])
    np.testing.assert_allclose(precisions(matrix), [0.75, 1.0, 0.0])
    np.testing.assert_allclose(f1s(matrix), [0.75, 2 / 3, np.nan])
    assert uar(matrix) == pytest.approx(0.625)
    assert war(matrix) == pytest.approx(4 / 6)
    assert macro_f1(matrix) == pytest.approx((0.75 + 2 / 3) / 2)


@given(pairs)
def test_against_scikit_learn(drawn: list[tuple[str, str]]) -> None:
    truth, predicted = (np.array(column) for column in zip(*drawn, strict=True))
    matrix = confusion(truth, predicted, LABELS)
    np.testing.assert_array_equal(matrix, oracle.confusion_matrix(truth, predicted, labels=LABELS))
    there = sorted(set(truth))
    assert war(matrix) == pytest.approx(oracle.accuracy_score(truth, predicted))
    assert uar(matrix) == pytest.approx(oracle.recall_score(truth, predicted, labels=there, average="macro"))
    assert macro_f1(matrix) == pytest.approx(
        oracle.f1_score(truth, predicted, labels=there, average="macro", zero_division=0)
    )
    wanted = oracle.precision_recall_fscore_support(truth, predicted, labels=there, zero_division=0)
    rows = [LABELS.index(label) for label in there]
    for got, score in zip((precisions(matrix), recalls(matrix), f1s(matrix)), wanted[:3], strict=True):
        np.testing.assert_allclose(got[rows], score)


@given(pairs)
def test_against_audmetric(drawn: list[tuple[str, str]]) -> None:
    """Of labels without a clip, audmetric can be told to give NaN as recall; it has no F1 of them that is NaN."""
    truth, predicted = (list(column) for column in zip(*drawn, strict=True))
    matrix = confusion(np.array(truth), np.array(predicted), LABELS)
    assert matrix.tolist() == audmetric.confusion_matrix(truth, predicted, LABELS)
    assert war(matrix) == pytest.approx(audmetric.accuracy(truth, predicted, LABELS))
    recall = audmetric.recall_per_class(truth, predicted, LABELS, zero_division=np.nan)
    precision = audmetric.precision_per_class(truth, predicted, LABELS, zero_division=0)
    np.testing.assert_allclose(recalls(matrix), [recall[label] for label in LABELS])
    np.testing.assert_allclose(precisions(matrix), [precision[label] for label in LABELS])
    fscore = audmetric.fscore_per_class(truth, predicted, LABELS, zero_division=0)
    there = [place for place, label in enumerate(LABELS) if label in truth]
    np.testing.assert_allclose(f1s(matrix)[there], [fscore[LABELS[place]] for place in there])
    if len(there) == len(LABELS):
        assert uar(matrix) == pytest.approx(audmetric.unweighted_average_recall(truth, predicted, LABELS))
        assert macro_f1(matrix) == pytest.approx(audmetric.unweighted_average_fscore(truth, predicted, LABELS))


def test_matrices_are_scored_side_by_side() -> None:
    matrices = np.random.default_rng(0).integers(0, 9, (5, 3, 3))
    for score in (uar, war, macro_f1):
        np.testing.assert_allclose(score(matrices), [score(matrix) for matrix in matrices])
    assert np.isnan(uar(np.zeros((3, 3))))


def test_a_strange_label_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"labels \['z'\] are not among \['a', 'b', 'c'\]"):
        confusion(np.array(["z"]), np.array(["a"]), LABELS)


def test_ece_by_hand() -> None:
    """Two clips at 0.9, one right: gap 0.4; two at 0.6, both right: gap 0.4. Half the clips each."""
    proba = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.6, 0.4]])
    assert ece(proba, np.array([True, False, True, True])) == pytest.approx(0.4)
    assert ece(np.eye(2), np.array([True, True])) == 0
    assert ece(np.eye(2), np.array([False, False])) == 1


def test_ece_of_honest_probabilities_is_small() -> None:
    rng = np.random.default_rng(0)
    certainty = rng.uniform(0.5, 1, 40_000)
    proba = np.stack([certainty, 1 - certainty], axis=1)
    assert ece(proba, rng.uniform(size=40_000) < certainty) < 0.01


def test_the_bootstrap_covers_and_knows_about_speakers() -> None:
    """Speakers differ: an interval that drew clips would be far too narrow."""
    rng = np.random.default_rng(0)
    skill = np.clip(rng.normal(0.6, 0.15, 200), 0, 1)
    covered, widths = 0, []
    for _ in range(40):
        drawn = rng.choice(skill, 20)
        hits = rng.binomial(50, drawn[:, None], (20, 2))
        matrices = np.zeros((20, 2, 2), int)
        matrices[:, [0, 1], [0, 1]] = hits
        matrices[:, [0, 1], [1, 0]] = 50 - hits
        low, high = recall_estimate(matrices, uar).interval()
        covered += low <= skill.mean() <= high
        widths.append(high - low)
    assert covered >= 34
    assert np.mean(widths) > 2 * 1.96 * np.sqrt(0.24 / 2000)


def test_reliability_by_hand() -> None:
    """Four equal bins: two clips at 0.9, one of them right; two at 0.6, both right; the lower bins are empty."""
    proba = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.6, 0.4]])
    table = reliability(proba, np.array([True, False, True, True]), 4)
    np.testing.assert_allclose(table, [[0, np.nan, np.nan]] * 2 + [[2, 0.6, 1.0], [2, 0.9, 0.5]])


@given(st.integers(2, 5), st.integers(0, 99))
def test_brier_against_scikit_learn(n_labels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    proba, truth = rng.dirichlet(np.ones(n_labels), 30), rng.integers(0, n_labels, 30)
    wanted = oracle.brier_score_loss(truth, proba, labels=np.arange(n_labels), scale_by_half=False)
    assert brier(proba, truth) == pytest.approx(wanted)


def test_brier_by_hand() -> None:
    assert brier(np.array([[0.7, 0.3]]), np.array([0])) == pytest.approx(0.18)
    assert brier(np.eye(2), np.array([1, 0])) == 2


def test_risk_and_coverage_by_hand() -> None:
    """The surest clip is right; then two that are equally sure, one wrong; then a wrong one."""
    proba = np.array([[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.3, 0.7]])
    thresholds, coverage, risk = risk_coverage(proba, np.array([False, True, True, False]))
    np.testing.assert_allclose(thresholds, [0.9, 0.7, 0.6])
    np.testing.assert_allclose(coverage, [0.25, 0.75, 1])
    np.testing.assert_allclose(risk, [0, 1 / 3, 0.5])


@st.composite
def calibrated(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of two labels on a grid, so that certainties are equal at times; and who is right."""
    certainty = np.array(draw(st.lists(st.integers(10, 20), min_size=1, max_size=30))) / 20
    correct = draw(st.lists(st.booleans(), min_size=len(certainty), max_size=len(certainty)))
    return np.stack([certainty, 1 - certainty], axis=1), np.array(correct)


@given(calibrated())
def test_sums_of_groups_give_the_ece_of_all(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    proba, correct = drawn
    group = np.arange(len(correct)) % 4
    sums = bin_sums(proba, correct, group)
    assert sums.shape == (group.max() + 1, 15, 3)
    assert ece_of(sums.sum(axis=0)) == pytest.approx(ece(proba, correct))
    np.testing.assert_allclose(ece_of(sums), [ece(proba[group == g], correct[group == g]) for g in np.unique(group)])


def test_the_area_under_risk_and_coverage_by_hand() -> None:
    """A quarter at risk 0, a half at a third, a quarter at a half."""
    proba = np.array([[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.3, 0.7]])
    correct = np.array([False, True, True, False])
    assert aurc(proba, correct) == pytest.approx(0.5 / 3 + 0.25 / 2)
    assert aurc(proba, correct, np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])) == pytest.approx(
        [0, 1, np.nan], nan_ok=True
    )


@given(calibrated(), st.integers(0, 99))
def test_the_area_is_that_under_the_curve_also_of_clips_that_count_several_times(
    drawn: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    proba, correct = drawn
    _, coverage, risk = risk_coverage(proba, correct)
    assert aurc(proba, correct) == pytest.approx((np.diff(coverage, prepend=0) * risk).sum())
    times = np.random.default_rng(seed).integers(1, 4, (2, len(correct)))
    repeated = [aurc(proba.repeat(t, axis=0), correct.repeat(t)) for t in times]
    np.testing.assert_allclose(aurc(proba, correct, times), repeated)
