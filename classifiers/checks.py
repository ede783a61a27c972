"""The contract that every head keeps, as a function that third parties run on their own: `check_head(my_head)`."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from sklearn.utils.estimator_checks import check_estimator

from embedcache import SerError

from .compare import compare
from .head import Head
from .task import Task


def check_head(head: Head) -> None:
    """scikit-learn's common tests at one layer, and ours: it learns, repeats itself, weighs classes, keeps strings.

    Raises AssertionError from scikit-learn's tests, SerError from ours.
    """
    check_estimator(head.build(n_layers=1, n_frames=1, random_state=0), on_skip=None)
    n_layers = 3 if head.view == "layers" else 1
    task = toy_task(n_layers, head.view)
    first, second = (_proba(head, task) for _ in range(2))
    if not np.array_equal(first, second):
        raise SerError(f"head '{head.name}': the same seed gives two answers; wanted every draw from random_state.")
    if not np.allclose(first.sum(axis=1), 1, atol=1e-6):
        raise SerError(f"head '{head.name}': probabilities sum to {first.sum(axis=1)[:3]}; wanted 1.")
    (predictions,) = compare(task, [head], protocol="speakers", n_folds=2, jobs=1)
    accuracy = float((predictions.predicted == predictions.truth).mean())
    if accuracy < 0.8:
        raise SerError(f"head '{head.name}': accuracy {accuracy:.2f} on labels a line can tell apart; wanted 0.8.")
    asks = inspect.signature(head.build().fit).parameters
    if "groups" in asks and "copy_of" not in asks:
        raise SerError(f"head '{head.name}': fit takes groups and no copy_of; wanted both, for augmented copies.")
    if "class_weight" not in head.build().get_params():
        raise SerError(f"head '{head.name}': no parameter class_weight; wanted one, for labels that are rare.")


def toy_task(n_layers: int = 1, view: str = "pooled", seed: int = 0) -> Task:
    """160 clips of 8 speakers in 2 labels that the first dimension of the last layer tells apart."""
    rng = np.random.default_rng(seed)
    y = np.tile(["left", "right"], 80)
    X = rng.standard_normal((160, n_layers, 6)).astype(np.float32)
    X[:, :, 0] += np.where(y == "right", 3, -3)[:, None]
    speakers = np.repeat([f"s{n}" for n in range(8)], 20)
    return Task(X.reshape(160, -1), y, speakers, view=view, n_layers=n_layers, dataset="toy", encoder="toy")


def _proba(head: Head, task: Task) -> Any:
    estimator = head.build(n_layers=task.n_layers, n_frames=task.n_frames, random_state=7)
    return estimator.fit(task.X, task.y).predict_proba(task.X)
