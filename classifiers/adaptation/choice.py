"""The choice of the strength of an adaptation, inside the training speakers of a fold.

Inner folds hold out training speakers. Each candidate adapts to them by as many clips as in the test, and a linear
classifier in closed form (ridge regression, through the matrix of the clips' products) is scored by its UAR. It is
quick, and stands in for all heads. One candidate is not to adapt, so that a few bad clips do no harm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..data.memmap import Indices
from ..data.task import Task
from ..heads import inner_folds
from ..protocols.fold import Fold
from .amounts import Amount
from .fold_vectors import Adaptation, AdaptedFold, clips_of_speakers, population_of
from .speaker_statistics import NONE, Strength, are_enough

CLOSED_FORM = Strength(1, 1)
CANDIDATES = (CLOSED_FORM, Strength(1, np.inf), Strength(0.25, 0.25), NONE)  # the first of equally good ones is chosen
N_FOLDS = 3  # inner folds
HELD_DRAWS = ("held 1", "held 2", "held 3")  # draws of the clips of speakers that are held out
MAX_ROWS = 2000  # of more training clips, a random part is used
PENALTY = 3.0  # ridge penalty, as a multiple of the number of columns


def choose_strength(task: Task, fold: Fold, amount: Amount, seed: int) -> Strength:
    """Return the candidate with the highest UAR in inner folds, or on the development clips of the fold if it has some.

    Returns CLOSED_FORM if the training speakers are too few for inner folds. Raises DataError as `population_of` does.
    """
    scores = strength_scores(task, fold, amount, seed)
    return CANDIDATES[int(np.argmax(scores))] if scores else CLOSED_FORM


def strength_scores(task: Task, fold: Fold, amount: Amount, seed: int) -> list[float]:
    """Return the mean UAR over inner folds of each of CANDIDATES; an empty list without inner folds."""
    bare = replace(task, copies=None)
    by_split = [_scores_held_out(bare, *split, amount, seed) for split in _splits(task, fold, seed)]
    return [float(score) for score in np.mean(by_split, axis=0)] if by_split else []


def _scores_held_out(task: Task, train: Indices, held: Indices, amount: Amount, seed: int) -> list[float]:
    """Return the UAR of each of CANDIDATES on held-out clips."""
    population = population_of(task, train)
    adaptations = (Adaptation(amount, strength, seed) for strength in CANDIDATES)
    return [_uar_held_out(AdaptedFold(task, population, adaptation), train, held) for adaptation in adaptations]


def _splits(task: Task, fold: Fold, seed: int) -> Sequence[tuple[Indices, Indices]]:
    rows = _some(fold.train, seed)
    if len(fold.dev):
        return [(rows, _some(fold.dev, seed))]
    _, y = np.unique(task.y[rows], return_inverse=True)
    splits = [(rows[train], rows[held]) for train, held in inner_folds(y, task.speakers[rows], N_FOLDS, seed)]
    return [(train, held) for train, held in splits if are_enough(clips_of_speakers(task, train))]


def _some(rows: Indices, seed: int) -> Indices:
    return rows if len(rows) <= MAX_ROWS else np.sort(np.random.default_rng(seed).permutation(rows)[:MAX_ROWS])


def _uar_held_out(fold: AdaptedFold, train: Indices, held: Indices) -> float:
    """Return the mean UAR over draws on held-out clips of a ridge classifier of training clips."""
    X = np.asarray(fold.training_task(train).X)[train]
    centre, deviation = X.mean(axis=0), X.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1) * math.sqrt(X.shape[1])
    Z = (X - centre) / scale
    labels, y = np.unique(fold.task.y[train], return_inverse=True)
    dual = np.linalg.solve(Z @ Z.T + PENALTY * np.eye(len(Z), dtype=Z.dtype), _targets(y))
    weights, adaptation = Z.T @ dual, fold.adaptation
    draws = HELD_DRAWS[: adaptation.amount.draws if adaptation.strength.adapts else 1]
    predicted = [labels[(((fold.test_vectors(held, d) - centre) / scale) @ weights).argmax(axis=1)] for d in draws]
    return float(np.mean([_uar(fold.task.y[held], one) for one in predicted]))


def _targets(y: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return one centred target per label (n, C), in which all labels weigh the same."""
    counts = np.bincount(y)
    targets: NDArray[np.float32] = (np.eye(len(counts))[y] / counts * counts.mean() - 1 / len(counts)).astype(
        np.float32
    )
    return targets


def _uar(truth: NDArray[np.str_], predicted: NDArray[np.str_]) -> float:
    return float(np.mean([(predicted[truth == label] == label).mean() for label in np.unique(truth)]))
