"""Intervals: leaving speakers out the slow way as the oracle, scipy's formulas, and how often intervals hold."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from helpers.leaderboards import BALANCED, IMBALANCED, simulated
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from scipy.stats import t as student

from classifiers import Predictions, compare, leaderboard
from classifiers.checks import toy_task
from classifiers.evaluation import intervals as module
from classifiers.evaluation.intervals import intervals, intervals_csv, recall_estimate, uar_estimate, uar_interval
from classifiers.evaluation.jackknife import (
    Estimate,
    correlation,
    degrees_of_freedom,
    selected_multipliers,
    selection_errors,
)
from classifiers.evaluation.leaderboard import tables
from classifiers.evaluation.metrics import aurc, brier, ece, macro_f1, uar, war

SCORES = {
    "uar": lambda p: float(uar(p.matrix())),
    "war": lambda p: float(war(p.matrix())),
    "macro_f1": lambda p: float(macro_f1(p.matrix())),
    "ece": lambda p: ece(p.proba, p.correct),
    "brier": lambda p: brier(p.proba, p.truth_columns),
    "aurc": lambda p: float(aurc(p.proba, p.correct)),
}
RECALLS = ("uar", "war", "macro_f1")


@pytest.fixture(scope="module")
def made() -> Predictions:
    """A head that errs, on 8 speakers, with two seeds."""
    task = toy_task(seed=1)
    noisy = replace(task, X=task.X + 5 * np.random.default_rng(0).standard_normal(task.X.shape).astype(np.float32))
    (p,) = compare(noisy, ["logreg"], "speakers", n_folds=4, seeds=2, jobs=1)
    return p


def taken(p: Predictions, rows: np.ndarray) -> Predictions:
    """Some rows, in any number."""
    names = ("clip_ids", "speakers", "folds", "seeds", "truth", "predicted", "proba")
    return replace(p, **{name: getattr(p, name)[rows] for name in names})


def of_one_label(p: Predictions) -> Predictions:
    """The head that always predicts the first label."""
    proba = np.zeros_like(p.proba)
    proba[:, 0] = 1
    return replace(p, predicted=np.full(len(p.truth), p.labels[0]), proba=proba)


@pytest.mark.parametrize("at_once", [1, 1 << 20])
def test_the_standard_error_is_that_of_leaving_each_speaker_out(
    made: Predictions, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Speakers of unequal size; each sample without a speaker is scored by what scores everything."""
    monkeypatch.setattr("classifiers.evaluation.intervals.AT_ONCE", at_once)
    p = taken(made, np.flatnonzero((made.speakers < "s4") | (np.arange(len(made.truth)) % 3 > 0)))
    names = np.unique(p.speakers)
    found = {one.metric: one for one in intervals(p)}
    assert list(found) == list(SCORES)
    for metric, score in SCORES.items():
        without = np.array([score(taken(p, np.flatnonzero(p.speakers != name))) for name in names])
        error = np.sqrt((len(names) - 1) / len(names) * np.square(without - without.mean()).sum())
        assert found[metric].value == pytest.approx(score(p))
        if metric in RECALLS:
            estimate = recall_estimate(p.matrices_by(p.speakers), {"uar": uar, "war": war}.get(metric, macro_f1), 2)
            assert np.sqrt(np.square(estimate.influence).sum()) == pytest.approx(error), metric
        else:
            clips = np.array([(p.speakers == name).sum() for name in names])
            df = np.square(clips).sum() ** 2 / (clips.astype(float) ** 4).sum() - 1
            half = student.ppf(0.975, df) * error
            bias = (len(names) - 1) * (without.mean() - score(p)) if metric == "ece" else 0
            assert bias > 0 or metric != "ece"
            ends = score(p) - bias - half, score(p) + half
            assert (found[metric].low, found[metric].high) == pytest.approx((max(0, ends[0]), ends[1])), metric


def test_wilsons_bounds_are_scipys() -> None:
    """With the variance of 40 independent clips and the normal distribution, the interval is that of a proportion."""
    wanted = binomtest(30, 40).proportion_ci(0.95, "wilson")
    spread = np.array([1.0, -1.0]) * np.sqrt(0.75 * 0.25 / 40 / 2)
    found = Estimate(0.75, spread, df=1e9, clips=1e9).interval()
    assert found == pytest.approx((wanted.low, wanted.high), abs=1e-6)


@pytest.mark.parametrize("df", [2.0, 5.0, 1e9])
def test_speakers_who_all_score_alike_have_the_interval_of_their_clips(df: float) -> None:
    """However few the speakers: the interval of 40 independent clips, which scipy computes."""
    wanted = binomtest(30, 40).proportion_ci(0.95, "wilson")
    assert Estimate(0.75, np.zeros(4), df, clips=40.0).interval() == pytest.approx((wanted.low, wanted.high))


def test_more_seeds_of_the_same_clips_are_no_more_clips(made: Predictions) -> None:
    one_seed = taken(made, np.flatnonzero(made.seeds == "0"))
    twice = taken(one_seed, np.tile(np.arange(len(one_seed.truth)), 2))
    twice = replace(twice, seeds=np.repeat(["0", "1"], len(one_seed.truth)))
    assert uar_interval(twice) == pytest.approx(uar_interval(one_seed))
    for once, again in zip(intervals(one_seed), intervals(twice), strict=True):
        assert (again.value, again.low, again.high) == pytest.approx((once.value, once.low, once.high)), once.metric


@pytest.mark.parametrize("value", ["right", "wrong"])
def test_no_interval_has_width_0(made: Predictions, value: str) -> None:
    other = np.array([made.labels[1 - made.labels.index(label)] for label in made.truth.tolist()])
    predicted = made.truth if value == "right" else other
    proba = np.where(np.array(made.labels)[None] == predicted[:, None], 1.0, 0.0)
    for one in intervals(replace(made, predicted=predicted, proba=proba)):
        assert one.value in (0, 1, 2)
        assert 0 <= one.low < one.high <= (2 if one.metric == "brier" else 1), one.metric


@given(seed=st.integers(0, 999), n_speakers=st.integers(3, 9), recall=st.floats(0.02, 0.98))
@settings(max_examples=40, deadline=None)
def test_an_interval_holds_its_score_and_stays_in_its_range(seed: int, n_speakers: int, recall: float) -> None:
    first, *others = simulated(np.random.default_rng(seed), n_speakers, (3, 2, 1), [recall] * 4)
    alone = {one.metric: one for one in intervals(first)}
    for one in intervals(first, others):
        assert 0 <= one.low <= one.value <= one.high <= (2 if one.metric == "brier" else 1)
        assert one.low <= alone[one.metric].low + 1e-12
        assert one.high >= alone[one.metric].high - 1e-12


def test_a_majority_guesser_has_an_interval_around_its_score() -> None:
    """Two of 24 speakers have the rare label: a bootstrap would lose it, and score the guesser 1."""
    (p,) = simulated(np.random.default_rng(0), 24, (9, 3), [0.5])
    p = of_one_label(taken(p, np.flatnonzero((p.truth == "label0") | np.isin(p.speakers, ["s3", "s4"]))))
    found = {one.metric: one for one in intervals(p)}["uar"]
    assert found.value == 0.5
    assert 0.1 < found.low < 0.5 < found.high < 0.9


def test_a_label_of_one_speaker_allows_no_interval_and_the_row_says_so() -> None:
    (p,) = simulated(np.random.default_rng(0), 6, (9, 3), [0.5])
    p = taken(p, np.flatnonzero((p.truth == "label0") | (p.speakers == "s3")))
    found = {one.metric: one for one in intervals(p)}
    assert np.isnan([found[metric].low for metric in ("uar", "macro_f1")]).all()
    assert found["war"].low < found["war"].value
    (row,) = leaderboard([p])
    assert np.isnan(row.uar_low)
    assert row.notes == "no interval of UAR and macro-F1: only one speaker has clips of label1"


def test_degrees_of_freedom_by_hand() -> None:
    assert degrees_of_freedom(np.full((6, 3), 10)) == pytest.approx(5)
    two_of_six = np.array([[10, 5], [10, 5], *[[10, 0]] * 4])
    shares = np.array([1 / 36 + 1 / 4] * 2 + [1 / 36] * 4)
    assert degrees_of_freedom(two_of_six) == pytest.approx(shares.sum() ** 2 / (shares**2).sum() - 1)


def test_more_speakers_than_are_left_out_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of speakers are left out instead: nearly the same interval, in bounded time and memory."""
    (p,) = simulated(np.random.default_rng(0), 300, (2, 2), [0.6])
    alone = {one.metric: one for one in intervals(p)}
    monkeypatch.setattr("classifiers.evaluation.jackknife.MAX_GROUPS", 100)
    for one in intervals(p):
        assert one.value == pytest.approx(alone[one.metric].value)
        assert one.low == pytest.approx(alone[one.metric].low, abs=0.01)
        assert one.high == pytest.approx(alone[one.metric].high, abs=0.01)


def test_the_row_ranked_first_has_a_longer_lower_arm() -> None:
    heads = simulated(np.random.default_rng(3), 10, BALANCED, [0.5] * 10)
    (table,) = tables(heads)
    alone = uar_interval(table.predictions[0])
    first, second = table.rows[:2]
    assert first.uar_low < alone[0] - 0.005
    assert first.uar_high == pytest.approx(alone[1])
    assert (second.uar_low, second.uar_high) == uar_interval(table.predictions[1])
    found = {(one.head, one.metric): one for one in table.intervals()}
    assert found[first.head, "uar"].low == first.uar_low
    assert found[second.head, "uar"].low == second.uar_low


def test_a_head_far_ahead_and_a_twin_need_no_longer_arm() -> None:
    first, *others = simulated(np.random.default_rng(3), 10, BALANCED, [0.9, 0.4, 0.4, 0.4])
    assert uar_interval(first, others) == pytest.approx(uar_interval(first), abs=0.004)
    assert uar_interval(first, [replace(first, head="twin")]) == pytest.approx(uar_interval(first), abs=0.004)


SPREADS = np.array([[4, -3, 2, -2, 0, -1], [3, -1, 1, -4, 2, -1], [-1, 2, 2, -2, 1, -2.0]]) / 100


@pytest.mark.parametrize(
    ("values", "errors"),
    [
        ((0.6, 0.6, 0.6), (0.7637, 1.2067, 3.2452)),
        ((0.6, 0.57, 0.55), (0.7637, 1.2067, 3.2452)),  # neither is significantly lower
        ((0.6, 0.57, 0.3), (0.5229, 1.2303, 3.0917)),
        ((0.6, 0.4, 0.3), (0.0735, 1.3262, 2.8110)),
    ],
)
def test_the_errors_of_the_first_stay_the_same(values: tuple, errors: tuple) -> None:
    """Golden: mean, standard deviation and 97.5 % quantile of the version whose coverage the documentation states."""
    found = selection_errors([Estimate(value, row, 5.0) for value, row in zip(values, SPREADS, strict=True)])
    assert (found.mean(), found.std(), np.quantile(found, 0.975)) == pytest.approx(errors, abs=1e-4)


@pytest.mark.parametrize(
    ("shared", "multipliers"),
    [
        (1, (2.7798, 2.5706)),
        (0.6, (2.6663, 2.5706)),
        (0.0, (2.5771, 2.5706)),
        (-0.3, (2.5706, 2.6197)),
        (-1, (2.5706, 2.7798)),
    ],
)
def test_the_arms_of_the_first_stay_the_same(shared: float, multipliers: tuple[float, float]) -> None:
    """Golden, as above. A score that falls as the UAR rises, such as ECE, is extended on its other side."""
    rows = [Estimate(0.6, row, 5.0) for row in SPREADS]
    assert selected_multipliers(rows[0], selection_errors(rows), shared) == pytest.approx(multipliers, abs=1e-4)


@pytest.mark.parametrize(("others", "limit"), [((), 2.57), ((0.0,), 3.16)], ids=["2 heads", "3 heads"])
def test_a_head_counts_as_good_as_the_first_up_to_the_limit_of_significance(others: tuple, limit: float) -> None:
    """The limit is Student's t with 5 degrees of freedom, at 0.05 for both sides and all heads but the first."""
    assert limit == pytest.approx(student.ppf(1 - 0.025 / (1 + len(others)), 5), abs=0.01)
    spread = np.sqrt(np.square(SPREADS[0] - SPREADS[1]).sum())

    def errors(gap: float) -> np.ndarray:
        values = (0.6, 0.6 - gap * spread, *others)
        return selection_errors([Estimate(value, row, 5.0) for value, row in zip(values, SPREADS, strict=False)])

    np.testing.assert_array_equal(errors(0.98 * limit), errors(0))
    assert not np.array_equal(errors(1.02 * limit), errors(0))


def test_errors_that_are_all_too_low_extend_the_lower_arm_by_nothing() -> None:
    (row,) = [Estimate(0.6, SPREADS[0], 5.0)]
    assert selected_multipliers(row, np.full(100, -9.0), 1) == (row.multiplier, row.multiplier)


def test_scores_without_errors_are_not_correlated() -> None:
    some, none = Estimate(0.6, SPREADS[0], 5.0), Estimate(1.0, np.zeros(6), 5.0)
    assert [correlation(some, none), correlation(none, none), correlation(some, some)] == [0, 0, pytest.approx(1)]
    opposite = Estimate(0.6, -SPREADS[0], 5.0)
    assert correlation(some, opposite) == pytest.approx(-1)


def test_selection_errors_are_those_of_the_largest() -> None:
    """Independent equal heads and many speakers: the largest of four normal errors, whose mean is 1.03."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 4000)) / np.sqrt(4000)
    equal = [Estimate(0.5, row / np.sqrt(np.square(row).sum()) * 0.02, 1e6) for row in rows]
    assert selection_errors(equal).mean() == pytest.approx(1.03, abs=0.05)
    assert selection_errors(equal[:1]).mean() == pytest.approx(0, abs=0.05)


def test_the_table_says_what_it_holds_and_agrees_with_the_leaderboard(made: Predictions) -> None:
    lines = list(csv.DictReader(io.StringIO(intervals_csv(intervals(made)))))
    (row,) = leaderboard([made])
    assert " ".join(lines[0]) == "dataset encoder head protocol metric value low high level speakers"
    by_metric = {line["metric"]: line for line in lines}
    for metric in ("uar", "war", "macro_f1", "ece", "brier"):
        assert float(by_metric[metric]["value"]) == pytest.approx(getattr(row, metric), abs=5.1e-4)
    assert float(by_metric["uar"]["low"]) == pytest.approx(row.uar_low, abs=5e-4)
    assert {(line["level"], line["speakers"]) for line in lines} == {("0.950", "8")}


def test_too_few_speakers_have_scores_and_no_interval(made: Predictions) -> None:
    two = replace(made, speakers=np.where(made.speakers < "s4", "a", "b"))
    lines = list(csv.DictReader(io.StringIO(intervals_csv(intervals(two)))))
    assert len(lines) == 6
    assert {(line["low"], line["high"], line["speakers"]) for line in lines} == {("", "", "2")}
    assert all(float(line["value"]) >= 0 for line in lines)
    assert leaderboard([two])[0].notes == "no intervals: 2 speakers of 3 that are needed"


TRIALS = 300
LEAST, MOST = 0.93, 0.975  # coverage, whose standard error over the trials is 0.013


def coverage(n_speakers: int, clips: tuple[int, ...], n_heads: int) -> tuple[dict[str, float], dict[str, float]]:
    """The shares of trials in which the intervals of any head, and of the head ranked first, hold the true score."""
    (many,) = simulated(np.random.default_rng(99), 4000, clips, [0.5])
    true = {one.metric: one.value for one in intervals(many)} | {"uar": 0.5, "war": 0.5}
    rng = np.random.default_rng([n_speakers, len(clips), n_heads])
    alone, first = dict.fromkeys(SCORES, 0.0), dict.fromkeys(SCORES, 0.0)
    for _ in range(TRIALS):
        heads = simulated(rng, n_speakers, clips, [0.5] * n_heads)
        for one in intervals(heads[0]):
            alone[one.metric] += (one.low <= true[one.metric] <= one.high) / TRIALS
        best, *others = sorted(heads, key=lambda p: -uar_estimate(p).value)
        for one in intervals(best, others):
            first[one.metric] += (one.low <= true[one.metric] <= one.high) / TRIALS
    return alone, first


@pytest.mark.long
@pytest.mark.parametrize("n_speakers", [4, 6, 10, 24])
@pytest.mark.parametrize("clips", [BALANCED, IMBALANCED], ids=["balanced", "40:10:6:1"])
@pytest.mark.parametrize("n_heads", [6, 10])
def test_how_often_an_interval_holds_the_true_score(
    n_speakers: int, clips: tuple[int, ...], n_heads: int, record_property
) -> None:
    alone, first = coverage(n_speakers, clips, n_heads)
    record_property("any row", " ".join(f"{name} {share:.3f}" for name, share in alone.items()))
    record_property("row ranked first", " ".join(f"{name} {share:.3f}" for name, share in first.items()))
    assert LEAST <= alone["uar"] <= MOST
    assert LEAST <= first["uar"] <= MOST
    assert min(alone.values()) >= 0.9
    assert min(first.values()) >= 0.87


@pytest.mark.filterwarnings("error")
def test_one_speaker_has_scores_without_intervals_and_without_warnings(made: Predictions) -> None:
    alone = intervals(taken(made, np.flatnonzero(made.speakers == made.speakers[0])))
    assert len(alone) == 6
    assert all(np.isfinite(i.value) and np.isnan(i.low) and np.isnan(i.high) for i in alone)


# Confusion matrices of three speakers, by truth and prediction: 6 of 6, 3 of 4 and 1 of 4 clips are hit.
BY_HAND = np.array(
    [
        [[2, 0, 0], [0, 1, 0], [1, 0, 0]],
        [[2, 0, 0], [0, 1, 0], [0, 1, 0]],
        [[2, 0, 0], [1, 1, 0], [1, 0, 1]],
    ]
)


def test_the_variance_that_a_label_lacks_is_added_by_hand() -> None:
    """6.25 of 6.5 has the variance 0.0370 and 6 of 6 none; 1.25 and 3.25 of 4.5 have 0.2006, 1 and 3 of 4 0.1875."""
    found = recall_estimate(BY_HAND, uar)
    sure, doubtful = 6.25 / 6.5 * (0.25 / 6.5), 1.25 / 4.5 * (3.25 / 4.5) - 0.25 * 0.75
    assert found.extra_variance == pytest.approx((sure / 6 + 2 * doubtful / 4) / 9, rel=1e-12)
    assert found.clips == pytest.approx(9 / (1 / 6 + 1 / 4 + 1 / 4), rel=1e-12)


def test_a_label_without_clips_changes_no_interval() -> None:
    with_empty = np.zeros((3, 4, 4), int)
    with_empty[:, :3, :3] = BY_HAND
    for score in (uar, war):
        np.testing.assert_array_equal(
            recall_estimate(with_empty, score).interval(), recall_estimate(BY_HAND, score).interval()
        )


def test_the_bias_is_that_of_the_jackknife_and_lowers_the_lower_end_alone() -> None:
    """Efron & Tibshirani 1993, 10.5: (n - 1) times the mean of the scores without each speaker, less the score."""
    without, clips = np.array([0.1, 0.25, 0.4]), np.array([2, 2, 2])
    assert module._mean_estimate(0.2, without, clips, biased=True).bias == pytest.approx(2 * (0.25 - 0.2))
    assert module._mean_estimate(0.3, without, clips, biased=True).bias == 0
    assert module._mean_estimate(0.2, without, clips).bias == 0


def test_a_sure_head_has_the_interval_of_its_clips_whatever_the_seeds(made: Predictions) -> None:
    proba = np.eye(len(made.labels))[made.truth_columns]
    sure = replace(made, predicted=made.truth, proba=proba)
    one = taken(sure, np.flatnonzero(sure.seeds == sure.seeds[0]))
    for a, b in zip(intervals(sure), intervals(one), strict=True):
        assert (a.metric, a.value, a.low, a.high) == pytest.approx((b.metric, b.value, b.low, b.high))


def test_the_brier_score_of_one_clip_is_its_own() -> None:
    np.testing.assert_array_equal(module._mean_square(np.array([[0.5, 1], [0.0, 0], [3.0, 2]])), [0.5, 0, 1.5])
