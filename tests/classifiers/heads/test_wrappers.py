"""Tuning and calibration: inside the training data, by speaker, and beside the head as it is."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.model_selection import ParameterGrid
from sklearn.utils.estimator_checks import parametrize_with_checks

from classifiers import Task, compare, head, heads, load_model, load_predictions
from classifiers.checks import toy_task
from classifiers.data.task import Copies
from classifiers.evaluation.row_texts import without_inner_folds
from classifiers.heads import _base as _inner
from classifiers.heads import _tuned
from classifiers.heads._calibrated import Calibrated
from classifiers.heads._tuned import Tuned
from classifiers.heads._wrappers import calibrated, tuned, wrapped
from classifiers.heads.logreg import LogReg
from classifiers.workflows.comparison import run_comparison
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts


@pytest.fixture(scope="module")
def noisy() -> Task:
    """A task on which every head errs."""
    t = toy_task(seed=1)
    return replace(t, X=t.X + 6 * np.random.default_rng(0).standard_normal(t.X.shape).astype(np.float32))


@parametrize_with_checks([Tuned(head("logreg"), {"C": (0.01, 1.0)}, 2), Calibrated(head("ridge"))])
def test_scikit_learns_common_tests(estimator, check) -> None:
    check(estimator)


def test_tuning_finds_what_a_search_over_the_whole_grid_finds(noisy: Task) -> None:
    space = {"C": (1e-6, 1e-3, 0.1, 10.0), "class_weight": (None, "balanced")}
    y = np.unique(noisy.y, return_inverse=True)[1]
    splits = _inner.inner_folds(y, noisy.speakers, _tuned.FOLDS, 0)

    def uar(setting: dict) -> float:
        said = [LogReg(C=0.01).set_params(**setting).fit(noisy.X[a], noisy.y[a]).predict(noisy.X[b]) for a, b in splits]
        return balanced_accuracy_score(np.concatenate([noisy.y[b] for _, b in splits]), np.concatenate(said))

    best = max([uar({}), *map(uar, ParameterGrid(space))])
    fitted = Tuned(LogReg(C=0.01), space, 9, random_state=0).fit(noisy.X, noisy.y, groups=noisy.speakers)
    assert fitted.chosen_["uar"] == pytest.approx(best)
    assert fitted.chosen_["untuned"] == pytest.approx(uar({}))
    assert uar(fitted.chosen_["setting"]) == pytest.approx(best)
    assert fitted.chosen_["setting"].items() <= fitted.model_.get_params().items()
    wanted = LogReg(C=0.01).set_params(**fitted.chosen_["setting"]).fit(noisy.X, noisy.y)
    np.testing.assert_array_equal(fitted.predict_proba(noisy.X), wanted.predict_proba(noisy.X))


def test_the_search_ends_on_a_plateau(noisy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """All settings are as good as the head's own: the own stays, and few are tried."""
    fitted = Tuned(head("logreg").set_params(C=0.1), {"random_state": range(100)}, 50, random_state=0).fit(
        noisy.X, noisy.y
    )
    assert fitted.chosen_["setting"] == {}
    assert fitted.chosen_["tried"] == 1 + _tuned.PLATEAU
    monkeypatch.setattr(_tuned, "PLATEAU", 1000)
    fitted = Tuned(head("logreg").set_params(C=0.1), {"random_state": range(100)}, 12, random_state=0).fit(
        noisy.X, noisy.y
    )
    assert fitted.chosen_["tried"] == 12


def test_where_no_inner_folds_can_be_cut_the_head_stays_as_it_is() -> None:
    X, y, speakers = np.eye(4), np.array(["a", "a", "b", "b"]), np.array(["x", "x", "y", "y"])
    fitted = Tuned(head("logreg").set_params(C=0.1), {"C": (1.0,)}).fit(X, y, groups=speakers)
    assert fitted.chosen_ == {"setting": {}, "tried": 0}
    assert Calibrated(head("logreg")).fit(X, y, groups=speakers).temperature_ == 1


class Certain(ClassifierMixin, BaseEstimator):
    """Logistic regression that is far too certain."""

    def fit(self, X, y):
        self.model_ = head("logreg").fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X):
        p = self.model_.predict_proba(X) ** 30
        return p / p.sum(axis=1, keepdims=True)

    def predict(self, X):
        return self.model_.predict(X)


def test_calibration_mends_certainty_and_changes_no_label(noisy: Task) -> None:
    train, test = np.arange(100), np.arange(100, 160)
    sure = Certain().fit(noisy.X[train], noisy.y[train])
    fitted = Calibrated(Certain(), 0).fit(noisy.X[train], noisy.y[train], groups=noisy.speakers[train])
    np.testing.assert_array_equal(sure.predict(noisy.X[test]), fitted.predict(noisy.X[test]))
    np.testing.assert_array_equal(
        fitted.classes_[fitted.predict_proba(noisy.X[test]).argmax(1)], fitted.predict(noisy.X[test])
    )
    loss = [log_loss(noisy.y[test], e.predict_proba(noisy.X[test])) for e in (sure, fitted)]
    assert loss[1] < 0.8 * loss[0]
    assert fitted.temperature_ > 2


class Spy(ClassifierMixin, BaseEstimator):
    """Notes which rows it is fitted on and asked about: the first number of each is the row's."""

    seen: list

    def __init__(self, size: int = 1) -> None:
        self.size = size

    def fit(self, X, y, groups=None, copy_of=None):
        self.classes_ = np.unique(y)
        self.rows_ = X[:, 0].astype(int)
        Spy.seen.append(("fit", self.rows_, None if copy_of is None else np.asarray(copy_of), groups))
        return self

    def predict_proba(self, X):
        Spy.seen.append(("ask", X[:, 0].astype(int), self.rows_))
        return np.tile([0.4, 0.6], (len(X), 1))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(1)]


@pytest.mark.parametrize("around", [lambda spy: Tuned(spy, {"size": (2, 3)}), Calibrated])
def test_inner_folds_know_speakers_and_copies(around) -> None:
    """No speaker is on both sides; no copy is held out, nor trained on without its clip; copies keep their clips."""
    task = toy_task()
    of = np.arange(0, 160, 2)
    X = np.concatenate([np.arange(160.0), 1000 + of])[:, None] * np.ones(3)
    y, speakers = np.concatenate([task.y, task.y[of]]), np.concatenate([task.speakers, task.speakers[of]])
    Spy.seen = []
    around(Spy()).fit(X, y, groups=speakers, copy_of=np.concatenate([np.full(160, -1), of]))
    inner = [call for call in Spy.seen if call[0] == "ask"]
    assert inner
    for _, held, trained in inner:
        assert (held < 160).all()
        assert not set(task.speakers[held]) & set(task.speakers[trained % 1000])
        assert set(trained[trained >= 1000] - 1000) <= set(trained)
    for _, rows, copy_of, groups in [call for call in Spy.seen if call[0] == "fit"]:
        np.testing.assert_array_equal(task.speakers[rows % 1000], groups)
        np.testing.assert_array_equal(rows[copy_of[copy_of >= 0]], rows[copy_of >= 0] - 1000)


def test_the_untuned_row_stays_beside_the_tuned_one(artifacts: Artifacts) -> None:
    said: list[str] = []
    asked = ComparisonConfig(heads=("logreg", "ridge"), folds=2, tune=3, calibrate=True)
    folder, predictions = run_comparison(artifacts, asked, jobs=1, log=said.append)
    names = ["logreg-calibrated", "logreg-tuned-calibrated", "ridge-calibrated", "ridge-tuned-calibrated"]
    assert [p.head for p in predictions] == names
    rows = list(csv.DictReader((folder / "chosen.csv").open()))
    assert [(row["head"], row["fold"]) for row in rows] == [(name, fold) for name in names for fold in "12"]
    assert all(float(row["temperature"]) > 0 for row in rows)
    for row in (row for row in rows if "tuned" in row["head"]):
        assert set(json.loads(row["setting"])) <= {"C", "class_weight", "alpha"}
        assert float(row["uar"]) >= float(row["untuned"])
    again = load_predictions(folder)
    assert [p.chosen for p in again] == [tuple(json.loads(json.dumps(p.chosen))) for p in predictions]
    assert again[1].params["estimator__C"] == "chosen"


def test_a_head_without_a_space_is_said_to_have_none(noisy: Task) -> None:
    plain = replace(heads.get("logreg"), space={})
    assert [spec.name for spec in wrapped([plain], 5, False)] == ["logreg"]
    assert tuned(heads.get("svm"), 3).name == "svm-tuned"
    assert calibrated(heads.get("svm")).view == "pooled"


def test_the_result_does_not_depend_on_the_number_of_jobs(noisy: Task) -> None:
    specs = wrapped([heads.get("logreg")], 3, True)
    one, two = (compare(noisy, specs, n_folds=2, jobs=jobs) for jobs in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.proba, b.proba)
        assert a.chosen == b.chosen


@pytest.mark.parametrize(("tune", "calibrate"), [(3, False), (0, True), (3, True)])
def test_a_tuned_and_calibrated_model_is_saved(
    artifacts: Artifacts, tmp_path: Path, tune: int, calibrate: bool
) -> None:
    asked = ComparisonConfig(heads=("ridge",), folds=2, tune=tune, calibrate=calibrate)
    folder, card, predictions = fit_model(artifacts, asked, tmp_path / "model", jobs=1)
    estimator, again = load_model(folder)
    assert card.head == again.head == predictions[-1].head
    assert isinstance(estimator, Calibrated) == calibrate
    assert not isinstance(estimator, Tuned)
    assert again.params


def test_copies_are_trained_on_by_what_tunes_itself(noisy: Task) -> None:
    copied = replace(noisy, copies=Copies(noisy.X[:50] + 1, np.arange(50), 1))
    (_, tuned_row) = compare(copied, wrapped([heads.get("logreg")], 2, False), n_folds=2, jobs=1)
    assert tuned_row.copies == 1


def test_a_tuned_head_says_what_it_chose_by_itself_too() -> None:
    """`best_layer` chooses its layer, the search its C, and the calibration a temperature."""
    task = toy_task(3, "layers")
    (_, tuned_row) = compare(task, wrapped([heads.get("best_layer")], 3, True), n_folds=2, jobs=1)
    for chosen in tuned_row.chosen:
        assert "layer" in chosen["setting"]
        assert chosen["temperature"] > 0
        assert chosen["tried"] == 3


def test_where_nothing_could_be_chosen_it_is_said(noisy: Task) -> None:
    """Two speakers, one held out: the other makes no inner folds."""
    two = replace(noisy, speakers=np.where(noisy.speakers < "s4", "a", "b"))
    predictions = compare(two, wrapped([heads.get("logreg")], 3, True), "loso", jobs=1)
    sentence = "in 2 of 2 folds the training clips allow no inner folds that keep speakers apart; the defaults are used"
    assert without_inner_folds(predictions) == [f"logreg-calibrated, logreg-tuned-calibrated: {sentence} there"]
    assert without_inner_folds(compare(noisy, wrapped([heads.get("logreg")], 3, True), n_folds=2, jobs=1)) == []
    strengths = compare(two, ["ridge", "svm", "knn", "stack"], "loso", jobs=1)
    assert without_inner_folds(strengths) == [f"ridge, svm: {sentence} there"]
    assert without_inner_folds(compare(noisy, ["ridge", "svm", "knn", "stack"], n_folds=2, jobs=1)) == []
