"""The contract that every head keeps, as a function that third parties run on their own: `check_head(my_head)`."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils.estimator_checks import check_estimator

from embedcache import SerError

from .data.task import Task
from .evaluation.cross_validation import compare
from .heads import Head


def check_head(head: Head) -> None:
    """scikit-learn's common tests at one layer, and ours: it learns, repeats itself, weighs classes, keeps strings.

    A head over frames is given clips of different lengths, whose answers must not depend on the clips beside them.

    Raises AssertionError from scikit-learn's tests, SerError from ours.
    """
    check_estimator(head.build(n_layers=1, n_frames=1, random_state=0), on_skip=None)
    task = toy_task_of(head.view)
    fitted, again = (_fitted(head, task) for _ in range(2))
    first, second = (estimator.predict_proba(task.X) for estimator in (fitted, again))
    if not np.array_equal(first, second):
        raise SerError(f"head '{head.name}': the same seed gives two answers; wanted every draw from random_state.")
    alone = np.concatenate([fitted.predict_proba(task.X[row : row + 1]) for row in range(20)])
    if not np.allclose(alone, first[:20], atol=1e-5):
        raise SerError(f"head '{head.name}': a clip alone gets another answer than beside others; wanted the same.")
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


def toy_task(n_layers: int = 1, view: str = "pooled", seed: int = 0, n_frames: int = 1) -> Task:
    """160 clips of 8 speakers in 2 labels that the first dimension of every layer, and frame, tells apart.

    Of several frames, clips have one at least, and NaN behind their last.
    """
    rng = np.random.default_rng(seed)
    y = np.tile(["left", "right"], 80)
    X = rng.standard_normal((160, n_layers, n_frames, 6)).astype(np.float32)
    X[..., 0] += np.where(y == "right", 3, -3)[:, None, None]
    if n_frames > 1:
        beyond = np.arange(n_frames) >= rng.integers(1, n_frames + 1, 160)[:, None]
        X.swapaxes(1, 2)[beyond] = np.nan
    speakers = np.repeat([f"s{n}" for n in range(8)], 20)
    made = Task(X.reshape(160, -1), y, speakers, view=view, n_layers=n_layers, dataset="toy", encoder="toy")
    return replace(made, n_frames=n_frames)


def toy_task_of(view: str) -> Task:
    """One for heads that read a view: three layers where they read layers, nine frames where they read frames."""
    n_layers = 3 if view in ("layers", "frames:all") else 1
    return toy_task(n_layers, view, n_frames=9 if view.startswith("frames") else 1)


def _fitted(head: Head, task: Task) -> Any:
    return head.build(n_layers=task.n_layers, n_frames=task.n_frames, random_state=7).fit(task.X, task.y)
