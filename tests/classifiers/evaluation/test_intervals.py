"""Intervals: resampling rows the slow way as the oracle, scipy's bootstrap as another, and how often they hold."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import bootstrap

from classifiers import Predictions, compare, leaderboard
from classifiers.checks import toy_task
from classifiers.evaluation.intervals import intervals, intervals_csv, percentiles, speaker_bootstrap, speaker_draws
from classifiers.evaluation.metrics import aurc, bin_sums, brier, ece, ece_of, macro_f1, uar, war

SCORES = {
    "uar": lambda p: float(uar(p.matrix())),
    "war": lambda p: float(war(p.matrix())),
    "macro_f1": lambda p: float(macro_f1(p.matrix())),
    "ece": lambda p: ece(p.proba, p.correct),
    "brier": lambda p: brier(p.proba, p.truth_columns),
    "aurc": lambda p: float(aurc(p.proba, p.correct)),
}


@pytest.fixture(scope="module")
def made() -> Predictions:
    """A head that errs, on 8 speakers."""
    task = toy_task(seed=1)
    noisy = replace(task, X=task.X + 5 * np.random.default_rng(0).standard_normal(task.X.shape).astype(np.float32))
    (p,) = compare(noisy, ["logreg"], "speakers", n_folds=4, seeds=2, jobs=1)
    return p


def taken(p: Predictions, rows: np.ndarray) -> Predictions:
    """Some rows, in any number."""
    names = ("clip_ids", "speakers", "folds", "seeds", "truth", "predicted", "proba")
    return replace(p, **{name: getattr(p, name)[rows] for name in names})


def test_every_score_has_the_interval_that_resampling_its_rows_gives(
    made: Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speakers of unequal size; each resample is built row by row and scored by what scores everything."""
    monkeypatch.setattr("classifiers.evaluation.intervals.AT_ONCE", 1)
    p = taken(made, np.flatnonzero((made.speakers < "s4") | (np.arange(len(made.truth)) % 3 > 0)))
    names = np.unique(p.speakers)
    rows = [np.flatnonzero(p.speakers == name) for name in names]
    drawn = speaker_draws(len(names), 40)
    resamples = [taken(p, np.concatenate([np.tile(r, t) for r, t in zip(rows, times, strict=True)])) for times in drawn]
    monkeypatch.setattr("classifiers.evaluation.intervals.speaker_draws", lambda n, *_: speaker_draws(n, 40))
    found = {one.metric: one for one in intervals(p)}
    assert list(found) == list(SCORES)
    for metric, score in SCORES.items():
        scores = np.array([score(resample) for resample in resamples])
        if metric == "ece":  # chance makes it larger
            scores -= scores.mean() - score(p)
        wanted = (score(p), *percentiles(scores))
        assert (found[metric].value, found[metric].low, found[metric].high) == pytest.approx(wanted), metric


def test_a_small_calibration_error_lies_in_its_interval() -> None:
    """Of a head that is as certain as it should be, resamples err more than the sample: the interval is moved."""
    rng = np.random.default_rng(5)
    p = voices(rng, 8, each=90)
    right = rng.random(len(p.truth)) < p.proba.max(axis=1)
    likeliest = np.array(p.labels)[p.proba.argmax(axis=1)]
    other = np.array(p.labels)[(p.proba.argmax(axis=1) + 1) % 3]
    found = {one.metric: one for one in intervals(replace(p, truth=np.where(right, likeliest, other)))}["ece"]
    sums = bin_sums(p.proba, right, np.unique(p.speakers, return_inverse=True)[1])
    assert speaker_bootstrap(sums, ece_of)[0] > found.low
    assert 0 <= found.low < found.value < found.high


def test_percentiles_by_hand() -> None:
    """Of 0 … 100, 95 % lie between 2.5 and 97.5; a score that a resample lacks does not count."""
    assert percentiles(np.array([*range(101), np.nan])) == pytest.approx((2.5, 97.5))


def test_draws_are_of_all_speakers_and_always_the_same() -> None:
    drawn = speaker_draws(5, 1000)
    assert drawn.shape == (1000, 5)
    assert set(drawn.sum(axis=1)) == {5}
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.1)
    np.testing.assert_array_equal(drawn, speaker_draws(5, 1000))
    assert (drawn != speaker_draws(5, 1000, seed=1)).any()


def test_against_scipys_bootstrap(made: Predictions) -> None:
    """scipy draws speakers by other random numbers: with many resamples the ends agree to the second digit."""
    matrices = made.matrices_by(made.speakers)
    found = bootstrap(
        (np.arange(len(matrices)),),
        lambda drawn, axis: uar(matrices[drawn].sum(axis=axis % drawn.ndim)),
        n_resamples=20_000,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(7),
    ).confidence_interval
    assert speaker_bootstrap(matrices, uar, resamples=20_000) == pytest.approx((found.low, found.high), abs=0.004)


def test_the_table_says_what_it_holds_and_agrees_with_the_leaderboard(made: Predictions) -> None:
    lines = list(csv.DictReader(io.StringIO(intervals_csv(intervals(made)))))
    (row,) = leaderboard([made])
    assert " ".join(lines[0]) == "dataset encoder head protocol metric value low high level resamples speakers"
    by_metric = {line["metric"]: line for line in lines}
    for metric in ("uar", "war", "macro_f1", "ece", "brier"):
        assert float(by_metric[metric]["value"]) == pytest.approx(getattr(row, metric), abs=1e-4)
    assert float(by_metric["uar"]["low"]) == pytest.approx(row.uar_low, abs=1e-4)
    assert {(line["level"], line["resamples"], line["speakers"]) for line in lines} == {("0.9500", "2000", "8")}


def test_too_few_speakers_have_scores_and_no_interval(made: Predictions) -> None:
    two = replace(made, speakers=np.where(made.speakers < "s4", "a", "b"))
    lines = list(csv.DictReader(io.StringIO(intervals_csv(intervals(two)))))
    assert len(lines) == 6
    assert {(line["low"], line["high"], line["speakers"]) for line in lines} == {("", "", "2")}
    assert all(float(line["value"]) >= 0 for line in lines)


def voices(rng: np.random.Generator, n: int, each: int = 60) -> Predictions:
    """n speakers, who differ in how well they are understood; the head is too sure of itself."""
    labels = np.array(["a", "b", "c"])
    speaker = np.repeat(np.arange(n), each)
    truth = np.tile([0, 1, 2], len(speaker) // 3)
    clear = rng.normal(1.0, 0.7, n)[speaker]
    evidence = rng.standard_normal((len(truth), 3)) + clear[:, None] * np.eye(3)[truth]
    proba = np.exp(2 * evidence)
    proba /= proba.sum(axis=1, keepdims=True)
    one = np.full(len(truth), "1")
    names, ids = (np.char.add(prefix, values.astype(str)) for prefix, values in (("s", speaker), ("c", truth)))
    said = labels[proba.argmax(axis=1)]
    return Predictions(
        "h", "e", "d", "pooled", "speakers", tuple(labels), ids, names, one, one, labels[truth], said, proba
    )


@pytest.mark.long
def test_how_often_an_interval_holds_the_true_score(record_property) -> None:
    """The true score is that of 4000 speakers. With 24 of them 95 % are meant, and 92 to 94 % are had."""
    rng = np.random.default_rng(0)
    true = {one: score(voices(rng, 4000)) for one, score in SCORES.items()}
    trials, held = 300, dict.fromkeys(SCORES, 0)
    for _ in range(trials):
        for one in intervals(voices(rng, 24)):
            held[one.metric] += one.low <= true[one.metric] <= one.high
    for metric, times in held.items():
        record_property(f"{metric} held, of {trials}", times)
        assert times >= 0.88 * trials, metric


def test_three_speakers_have_an_interval_and_two_have_none(made: Predictions) -> None:
    """Of every score alike."""
    for n, known in ((3, True), (2, False)):
        few = taken(made, np.flatnonzero(np.isin(made.speakers, np.unique(made.speakers)[:n])))
        assert {np.isfinite(one.low) for one in intervals(few)} == {known}


def test_a_seed_decides_the_resamples() -> None:
    matrices = np.random.default_rng(0).integers(0, 9, (6, 2, 2))
    first, again, other = (speaker_bootstrap(matrices, uar, resamples=50, seed=seed) for seed in (0, 0, 7))
    assert first == again != other
    assert speaker_bootstrap(matrices, uar, resamples=50) == first
