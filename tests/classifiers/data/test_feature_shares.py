"""Which named numbers a linear head weighs most, from the fit to the report."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.leaderboards import simulated

from classifiers import compare, head
from classifiers.checks import toy_task
from classifiers.data.feature_shares import TOP, feature_shares
from classifiers.evaluation.run_folder import load_predictions, save_predictions
from classifiers.heads._scikit import coefficient_shares
from classifiers.reporting.sections import _features
from embedcache import encoders

NAMES = encoders.feature_names("functionals")


@pytest.mark.parametrize("name", ["ridge", "lda", "logreg"])
@pytest.mark.parametrize("labels", [2, 3])
def test_the_feature_that_tells_the_labels_apart_weighs_most(name: str, labels: int) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(240) % labels
    X = rng.standard_normal((240, 20)).astype(np.float32)
    X[:, 7] += 3 * y
    shares = head(name).fit(X, y).feature_shares_
    assert shares.shape == (20,)
    assert shares.sum() == pytest.approx(1)
    assert shares.argmax() == 7
    assert shares[7] > 0.5


def test_what_all_labels_share_does_not_count() -> None:
    coef = np.array([[1.0, 5.0, 0.0], [-1.0, 5.0, 0.0]])
    assert coefficient_shares(coef).tolist() == [1, 0, 0]
    assert coefficient_shares(coef[:1]).tolist() == pytest.approx([1 / 26, 25 / 26, 0])
    assert coefficient_shares(np.zeros((2, 3))).tolist() == [0, 0, 0]


def test_shares_are_means_over_folds_by_number_and_by_contour() -> None:
    first, second = np.zeros(len(NAMES)), np.zeros(len(NAMES))
    first[NAMES.index("pitch.p95")], first[NAMES.index("energy.mean")] = 0.6, 0.4
    second[NAMES.index("pitch.mean")] = 1.0
    found = feature_shares("functionals", [first, second])
    assert {name: share for name, share in found["numbers"].items() if share} == pytest.approx(
        {"pitch.mean": 0.5, "pitch.p95": 0.3, "energy.mean": 0.2}
    )
    assert list(found["contours"].items())[:2] == [("pitch", pytest.approx(0.8)), ("energy", pytest.approx(0.2))]
    assert len(found["numbers"]) == len(found["contours"]) == TOP


@pytest.mark.parametrize("encoder", ["mfcc", "wav2vec2-base", "an encoder of somebody", "functionals+mfcc"])
def test_numbers_without_names_have_no_shares(encoder: str) -> None:
    """An encoder with a checkpoint is not loaded for that."""
    assert feature_shares(encoder, [np.ones(5) / 5]) == {}
    assert feature_shares("functionals", []) == {}
    assert feature_shares("functionals", [np.ones(5) / 5]) == {}, "imported vectors of this name with other numbers"


def test_a_run_keeps_them_and_the_report_shows_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    task = toy_task()
    wide = np.concatenate([task.X, rng.standard_normal((len(task), len(NAMES) - task.X.shape[1]))], axis=1)
    named = replace(task, X=wide.astype(np.float32), encoder="functionals")
    ridge, knn = compare(named, ["ridge", "knn"], n_folds=2, jobs=1)
    assert knn.feature_shares == {}
    assert _features(knn) == ()
    save_predictions(tmp_path / "run", [ridge, knn], {})
    again, _ = load_predictions(tmp_path / "run")
    assert again.feature_shares == ridge.feature_shares
    numbers, contours = _features(again)
    assert (numbers.header, contours.header) == (("number", "share"), ("contour", "share"))
    assert len(numbers.rows) == len(contours.rows) == TOP
    name, share = numbers.rows[0]
    heaviest = max(ridge.feature_shares["numbers"].items(), key=lambda item: item[1])
    assert (name, share) == (heaviest[0], f"{100 * heaviest[1]:.1f} %")


def test_a_run_with_shares_that_are_none_is_refused(tmp_path: Path) -> None:
    (p,) = simulated(np.random.default_rng(0), 3, (4, 4), [0.5])
    save_predictions(tmp_path / "run", [replace(p, feature_shares={"numbers": {"pitch.mean": 7.0}})], {})
    with pytest.raises(Exception, match="feature_shares"):
        load_predictions(tmp_path / "run")
