"""The contracts of a head and of a metric, as functions that their authors can run in their own tests.

check_head(my_head)    check_metric(my_metric)
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.estimator_checks import check_estimator

from embedcache import DataError, SerError

from .data.task import Task
from .evaluation.cross_validation import compare
from .evaluation.metric_estimates import call_metric
from .heads import Head
from .metrics import Metric

MIN_ACCURACY = 0.8  # accuracy that a head must reach on the toy task with held-out speakers


def check_head(head: Head) -> None:
    """Check that a head keeps the contract: scikit-learn's common tests, then the tests of this package.

    scikit-learn's tests run with one layer and one frame. The tests of this package require that the same seed gives
    the same probabilities, that the prediction for a clip does not depend on the other clips in X, that probabilities
    sum to 1, that an easy task is learned, and that `fit` and the constructor have the parameters that the evaluation
    needs. A head over frames is tested with clips of different lengths.

    Raises AssertionError if a scikit-learn test fails, SerError if a test of this package fails.
    """
    check_estimator(head.build(n_layers=1, n_frames=1, random_state=0), on_skip=None)
    task = toy_task_of(head.view)
    _check_probabilities(head, task)
    _check_accuracy(head, task)
    _check_parameters(head)


def toy_task(n_layers: int = 1, view: str = "pooled", seed: int = 0, n_frames: int = 1) -> Task:
    """Return an easy task: 160 clips of 8 speakers with the labels "left" and "right".

    The first dimension of every frame in every layer separates the two labels. With more than one frame, clips have
    between 1 and `n_frames` frames, followed by NaN.
    """
    rng = np.random.default_rng(seed)
    y = np.tile(["left", "right"], 80)
    X = rng.standard_normal((160, n_layers, n_frames, 6)).astype(np.float32)
    X[..., 0] += np.where(y == "right", 3, -3)[:, None, None]
    if n_frames > 1:
        padding = np.arange(n_frames) >= rng.integers(1, n_frames + 1, 160)[:, None]
        X.swapaxes(1, 2)[padding] = np.nan
    speakers = np.repeat([f"s{n}" for n in range(8)], 20)
    task = Task(X.reshape(160, -1), y, speakers, view=view, n_layers=n_layers, dataset="toy", encoder="toy")
    texts = np.array([f"sentence {n}" for n in range(160)])
    return replace(task, n_frames=n_frames, texts=texts, training_known=True)


def toy_task_of(view: str) -> Task:
    """Return the toy task in a view: three layers for views of all layers, nine frames for views of frames."""
    n_layers = 3 if view in ("layers", "frames:all") else 1
    return toy_task(n_layers, view, n_frames=9 if view.startswith("frames") else 1)


def _check_probabilities(head: Head, task: Task) -> None:
    fitted, refitted = (_fit(head, task) for _ in range(2))
    proba: NDArray[np.float64] = fitted.predict_proba(task.X)
    if not np.array_equal(proba, refitted.predict_proba(task.X)):
        raise SerError(
            f"head '{head.name}': two fits with the same seed give different probabilities; wanted the same. "
            "Draw all random numbers from random_state."
        )
    alone = np.concatenate([fitted.predict_proba(task.X[row : row + 1]) for row in range(20)])
    if not np.allclose(alone, proba[:20], atol=1e-5):
        raise SerError(
            f"head '{head.name}': the probabilities of a clip depend on the other clips in X; wanted the same for a "
            "clip alone. Compute each row of predict_proba from that row only."
        )
    if not np.allclose(proba.sum(axis=1), 1, atol=1e-6):
        raise SerError(
            f"head '{head.name}': probabilities sum to {proba.sum(axis=1)[:3]}; wanted 1. Normalise each row."
        )


def _check_accuracy(head: Head, task: Task) -> None:
    (predictions,) = compare(task, [head], protocol="speakers", n_folds=2, jobs=1)
    accuracy = float((predictions.predicted == predictions.truth).mean())
    if accuracy < MIN_ACCURACY:
        raise SerError(
            f"head '{head.name}': accuracy {accuracy:.2f} on two linearly separable labels; wanted at least "
            f"{MIN_ACCURACY}. Check fit and the order of the columns of predict_proba."
        )


def _check_parameters(head: Head) -> None:
    fit_parameters = inspect.signature(head.build().fit).parameters
    if "groups" in fit_parameters and "copy_of" not in fit_parameters:
        raise SerError(
            f"head '{head.name}': fit takes groups but not copy_of; wanted both. Add copy_of, so that augmented copies "
            "are not held out."
        )
    if "class_weight" not in head.build().get_params():
        raise SerError(
            f"head '{head.name}': the constructor has no parameter class_weight; wanted one. Add it, so that rare "
            "labels can be weighted."
        )


def _fit(head: Head, task: Task) -> Any:
    return head.build(n_layers=task.n_layers, n_frames=task.n_frames, random_state=7).fit(task.X, task.y)


def check_metric(metric: Metric) -> None:
    """Check that a metric keeps the contract of `Metric`, on predictions of four labels.

    The metric must return one finite number in its range, must give true predictions a higher score than false ones,
    must return the same for the predictions in another order and for the labels in another order, and must not change
    its arguments.

    Raises SerError if a test fails.
    """
    rng = np.random.default_rng(0)
    truth, labels = np.repeat(np.arange(4), 10), ("anger", "fear", "joy", "sadness")
    right, wrong = _probabilities(truth, rng), _probabilities((truth + 1) % 4, rng)
    best, worst = (_scored(metric, truth, proba, labels) for proba in (right, wrong))
    if not best > worst:
        raise SerError(
            f"metric '{metric.name}': true predictions score {best:g}, false ones {worst:g}; wanted more for true "
            "ones. Return a score of which a greater one is better; negate a loss."
        )
    mixed = np.where(np.arange(40)[:, None] < 15, right, wrong)
    score = _scored(metric, truth, mixed, labels)
    shuffled = rng.permutation(40)
    for other, what in (
        (_scored(metric, truth[shuffled], mixed[shuffled], labels), "predictions"),
        (_scored(metric, 3 - truth, mixed[:, ::-1], labels[::-1]), "labels"),
    ):
        if not np.isclose(other, score):
            raise SerError(
                f"metric '{metric.name}': {score:g}, but {other:g} for the {what} in another order; wanted the same. "
                "Use `truth` and `predicted` as places in `labels` and columns of `proba`."
            )


def _probabilities(likeliest: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return probabilities (n, 4) of which those of the given labels are the highest."""
    noisy = rng.uniform(0.1, 1, (len(likeliest), 4)) + 3 * np.eye(4)[likeliest]
    proba: NDArray[np.float64] = noisy / noisy.sum(axis=1, keepdims=True)
    return proba


def _scored(metric: Metric, truth: NDArray[np.int64], proba: NDArray[np.float64], labels: tuple[str, ...]) -> float:
    """Return the score of some predictions. Raises SerError if it is no score, or if the metric changes an argument."""
    given = truth.copy(), proba.argmax(axis=1), proba.copy()
    try:
        score = call_metric(metric, *given, labels)
    except DataError as error:
        raise SerError(f"metric '{metric.name}': {error}.") from error
    if not all(map(np.array_equal, given, (truth, proba.argmax(axis=1), proba))):
        raise SerError(f"metric '{metric.name}' changes its arguments; wanted them unchanged. Work on a copy.")
    return score
