"""Development clips: heads stop, choose settings and calibrate by them, and are trained on none of them."""

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin

from classifiers import Task, heads
from classifiers.checks import toy_task, toy_task_of
from classifiers.data.task import Copies
from classifiers.evaluation.cross_validation import fit_head
from classifiers.heads import _base, _temperature, fit_with_context
from classifiers.heads._calibrated import Calibrated, _log_probabilities
from classifiers.heads._scikit import scores_of
from classifiers.heads._tuned import Tuned
from classifiers.heads.best_layer import BestLayer
from classifiers.heads.mlp import MLP
from classifiers.heads.stack import Stack

TRAIN, DEV = np.arange(120), np.arange(120, 160)
IS_DEV = np.arange(160) >= 120


@pytest.fixture(scope="module")
def noisy() -> Task:
    """A task on which every head errs."""
    t = toy_task(seed=1)
    return replace(t, X=t.X + 4 * np.random.default_rng(0).standard_normal(t.X.shape).astype(np.float32))


@given(st.lists(st.tuples(st.integers(0, 1), st.booleans()), min_size=2, max_size=12), st.data())
def test_rows_are_trained_on_or_held_out_and_copies_of_development_rows_are_neither(
    clips: list[tuple[int, bool]], data: st.DataObject
) -> None:
    clips += [(0, False), (1, False), (0, True)]
    sources = data.draw(st.lists(st.integers(0, len(clips) - 1), max_size=8))
    n = len(clips)
    y = np.array([label for label, _ in clips] + [clips[row][0] for row in sources])
    copy_of = np.array([-1] * n + sources)
    dev = np.array([is_dev for _, is_dev in clips] + [False] * len(sources))
    ((train, held),) = _base.inner_folds(y, None, 3, 0, copy_of, dev)
    assert held.tolist() == [row for row, (_, is_dev) in enumerate(clips) if is_dev]
    copies = [n + row for row, source in enumerate(sources) if not clips[source][1]]
    assert train.tolist() == [row for row, (_, is_dev) in enumerate(clips) if not is_dev] + copies


@pytest.mark.parametrize("name", heads.names())
def test_every_head_is_trained_on_the_training_clips_alone(name: str) -> None:
    """Development clips with absurd vectors: none of them reaches the trained part of a head."""
    spec = heads.get(name)
    task = toy_task_of(spec.view)
    absurd = replace(task, X=task.X.copy())
    absurd.X[DEV] *= -100
    estimator = fit_head(spec, absurd, TRAIN, 0, DEV)
    plain = fit_head(spec, task.take(TRAIN), TRAIN, 0)
    for part in ("scaler_", "model_", "booster_"):
        if hasattr(plain, part) and part != "scaler_":
            ours, wanted = (getattr(each, part) for each in (estimator, plain))
            _equal_predictions(ours, wanted, task.X[:, : getattr(wanted, "n_features_in_", task.X.shape[1])])
    if hasattr(plain, "scaler_"):
        assert np.abs(estimator.scaler_.mean_).max() < 5


def _equal_predictions(ours: Any, wanted: Any, X: np.ndarray) -> None:
    np.testing.assert_array_equal(ours.predict(X), wanted.predict(X))


@pytest.mark.parametrize("name", ["svm", "ridge", "lda"])
def test_a_temperature_is_that_of_the_development_clips(name: str, noisy: Task) -> None:
    fitted = heads.head(name).fit(noisy.X, noisy.y, dev=IS_DEV)
    y = np.unique(noisy.y, return_inverse=True)[1]
    alone = heads.head(name).set_params(**fitted.chosen_["setting"]).fit(noisy.X[TRAIN], noisy.y[TRAIN])
    wanted = _temperature.temperature(scores_of(alone.model_, noisy.X[DEV]), y[DEV])
    assert fitted.temperature_ == pytest.approx(wanted, rel=1e-3)


def test_a_network_stops_by_the_development_clips_and_learns_none_of_their_labels() -> None:
    """If the labels of the development clips are swapped, the loss on them grows from the first epoch on."""
    task = toy_task(seed=1)
    swapped = np.where(IS_DEV, np.where(task.y == "left", "right", "left"), task.y)
    settings = {"epochs": 8, "patience": 2, "lr": 1e-3, "random_state": 0}
    right, wrong = (MLP(**settings).fit(task.X, y, dev=IS_DEV) for y in (task.y, swapped))
    assert (right.n_iter_, wrong.n_iter_) == (8, 3)
    assert right.history_["train_loss"][:3] == wrong.history_["train_loss"]
    one = {**settings, "epochs": 1}
    first, second = (MLP(**one).fit(task.X, y, dev=IS_DEV) for y in (task.y, swapped))
    np.testing.assert_array_equal(first.predict_proba(task.X), second.predict_proba(task.X))
    every = MLP(**{**settings, "validation": 0}).fit(task.X, swapped, dev=IS_DEV)
    alone = MLP(**{**settings, "validation": 0}).fit(task.X[TRAIN], task.y[TRAIN])
    np.testing.assert_array_equal(every.predict_proba(task.X), alone.predict_proba(task.X))


class Sign(ClassifierMixin, BaseEstimator):
    """Predicts by the sign of the first feature, or, with `flip`, by the opposite."""

    fitted: list[tuple] = []  # noqa: RUF012

    def __init__(self, flip: bool = False, random_state: int | None = None, class_weight: Any = None) -> None:
        self.flip, self.random_state, self.class_weight = flip, random_state, class_weight

    def fit(self, X: Any, y: Any) -> "Sign":
        self.classes_ = np.unique(y)
        Sign.fitted.append((len(X), self.flip))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        right = 1 / (1 + np.exp(-np.asarray(X, np.float64)[:, 0] * (-1 if self.flip else 1)))
        return np.stack([1 - right, right], axis=1)

    def predict(self, X: Any) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def test_settings_are_compared_on_the_development_clips_alone() -> None:
    """The signal is planted the other way round in the development clips."""
    task = toy_task()
    X = np.where(IS_DEV[:, None], -task.X, task.X)
    Sign.fitted.clear()
    chosen = Tuned(Sign(), {"flip": (False, True)}, random_state=0).fit(X, task.y, groups=task.speakers, dev=IS_DEV)
    assert chosen.chosen_["setting"] == {"flip": True}
    assert chosen.chosen_["uar"] > 0.9 > 0.1 > chosen.chosen_["untuned"]
    assert {size for size, _ in Sign.fitted} == {len(TRAIN)}, "an estimator without `dev` gets the training clips"
    without = Tuned(Sign(), {"flip": (False, True)}, random_state=0).fit(X[TRAIN], task.y[TRAIN])
    assert without.chosen_["setting"] == {}


def test_a_wrapper_calibrates_on_the_development_clips(noisy: Task) -> None:
    Sign.fitted.clear()
    fitted = Calibrated(Sign()).fit(noisy.X, noisy.y, groups=noisy.speakers, dev=IS_DEV)
    logs = _log_probabilities(Sign().fit(noisy.X, noisy.y), noisy.X[DEV])
    wanted = _temperature.temperature(logs, (noisy.y[DEV] == "right").astype(int))
    assert fitted.temperature_ == pytest.approx(wanted)
    assert Sign.fitted[0] == (len(TRAIN), False)
    assert fitted.chosen_["temperature"] == fitted.temperature_


def test_wrappers_pass_development_clips_on_to_a_network(noisy: Task) -> None:
    network = MLP(epochs=3, random_state=0)
    wanted = MLP(epochs=3, random_state=0).fit(noisy.X, noisy.y, dev=IS_DEV)
    for wrapper in (Calibrated(network), Tuned(network, {"epochs": (3,)}, calibrate=True)):
        wrapper.fit(noisy.X, noisy.y, groups=noisy.speakers, dev=IS_DEV)
        assert wrapper.history_ == wanted.history_
        np.testing.assert_array_equal(wrapper.predict(noisy.X), wanted.predict(noisy.X))


def test_the_best_layer_is_the_best_on_the_development_clips() -> None:
    """Layer 0 has the signal in the training clips, and layer 1 in all clips."""
    task = toy_task(3, "layers")
    layers = np.random.default_rng(0).standard_normal((160, 3, 6)).astype(np.float32)
    signal = np.where(task.y == "right", 3, -3)
    layers[TRAIN, 0, 0] += 4 * signal[TRAIN]
    layers[:, 1, 0] += signal / 2
    X = layers.reshape(160, -1)
    assert BestLayer(3).fit(X, task.y, dev=IS_DEV).layer_ == 1
    assert BestLayer(3).fit(X[TRAIN], task.y[TRAIN], groups=task.speakers[TRAIN]).layer_ == 0


def test_a_stack_learns_its_regression_on_the_development_clips(noisy: Task) -> None:
    stack = Stack(("logreg", "ridge"), "logistic").fit(noisy.X, noisy.y, dev=IS_DEV)
    members = [heads.head(name).fit(noisy.X[TRAIN], noisy.y[TRAIN]) for name in ("logreg", "ridge")]
    np.testing.assert_array_equal(stack.members_[0].predict(noisy.X), members[0].predict(noisy.X))
    assert stack.final_ is not None
    assert stack.final_[0].n_samples_seen_ == len(DEV)
    one_label = IS_DEV & (noisy.y == "left")
    assert Stack(("logreg", "ridge"), "logistic").fit(noisy.X, noisy.y, dev=one_label).final_ is None


SPLITTING = [name for name in heads.names() if "groups" in inspect.signature(heads.head(name).fit).parameters]


@pytest.mark.parametrize("name", SPLITTING)
def test_a_head_that_splits_its_training_clips_takes_development_clips_instead(name: str) -> None:
    assert "dev" in inspect.signature(heads.head(name).fit).parameters
    task = toy_task_of(heads.get(name).view)
    estimator = heads.get(name).build(n_layers=task.n_layers, n_frames=task.n_frames, random_state=0)
    with pytest.raises(ValueError, match="development rows with 1 classes that no training row has"):
        estimator.fit(task.X, np.where(IS_DEV, "new", task.y), dev=IS_DEV)


def test_no_development_rows_are_none(noisy: Task) -> None:
    none = np.zeros(160, bool)
    a, b = (heads.head("svm").fit(noisy.X, noisy.y, groups=noisy.speakers, dev=dev) for dev in (None, none))
    np.testing.assert_array_equal(a.predict_proba(noisy.X), b.predict_proba(noisy.X))


def test_a_head_without_the_parameter_gets_the_training_clips_and_their_copies_renumbered() -> None:
    class Plug:
        def fit(self, X: Any, y: Any, copy_of: Any = None) -> tuple:
            return np.asarray(X)[:, 0].tolist(), list(y), copy_of.tolist()

    X, y = np.arange(6)[:, None], np.array(list("aabbaa"))
    context = {"copy_of": np.array([-1, -1, -1, -1, 0, 2]), "dev": np.array([False, False, True, False, False, False])}
    seen = fit_with_context(Plug(), X, y, context)
    assert seen == ([0, 1, 3, 4], list("aaba"), [-1, -1, -1, 0])
    part = np.array([1, 2, 5])
    assert fit_with_context(Plug(), X[part], y[part], context, part) == ([1], ["a"], [-1])


def test_copies_of_development_clips_are_not_loaded_for_a_fit() -> None:
    task = toy_task()
    copies = Copies(np.concatenate([task.X, task.X]) + 1, np.tile(np.arange(160), 2), 2)
    data = replace(task, copies=copies).training(np.array([5, 3]), np.array([8]))
    np.testing.assert_array_equal(data.X, np.concatenate([task.X[[5, 3, 8]], task.X[[3, 5, 3, 5]] + 1]))
    assert data.copy_of.tolist() == [-1, -1, -1, 1, 0, 1, 0]
    assert data.dev.tolist() == [False, False, True, False, False, False, False]
    assert task.training(np.array([5, 3])).dev is None
