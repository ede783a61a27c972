"""Predictions of heads on test clips. Every score is computed from these predictions alone.

`run_folder.py` writes and reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import __version__

from ..data.labels import NATIVE
from ..data.task import Strings, Task
from ..protocols.fold import Fold
from .metrics import confusion


@dataclass(frozen=True)
class Predictions:
    """The predictions of one head on one task with one protocol.

    The arrays have n rows: one for each test clip in each fold, with each seed and in each draw of an adaptation.
    """

    head: str
    encoder: str
    dataset: str
    view: str
    protocol: str
    labels: tuple[str, ...]
    clip_ids: Strings  # (n,)
    speakers: Strings  # (n,)
    folds: Strings  # (n,) names of folds
    seeds: Strings  # (n,) seeds as strings
    truth: Strings  # (n,) true labels
    predicted: Strings  # (n,) predicted labels
    proba: NDArray[np.float32]  # (n, C) probabilities, columns in the order of `labels`
    leaks: str = ""  # what training and test clips share, see `protocols.leaks`
    fold_hash: str = ""  # see `protocols.fold_hash`
    fingerprint: str = ""  # fingerprint of the encoder
    fit_seconds: float = 0.0  # mean time to fit a fold, in seconds
    predict_ms: float = 0.0  # mean time to predict a clip, in milliseconds
    skipped: tuple[str, ...] = ()  # ids of clips and copies without an embedding
    label_view: str = "native"
    copies: int = 0  # number of augmented copies of each training clip
    augment: str = ""  # how the copies were made
    train_clips: float = 0.0  # mean number of training clips of a fold; 0 if unknown
    params: dict[str, Any] = field(default_factory=dict)  # parameters of the head in the first fold
    histories: tuple[dict[str, list[float]], ...] = ()  # learning curves by fold, of heads that learn in epochs
    chosen: tuple[dict[str, Any], ...] = ()  # chosen parameters by fold, of heads that choose parameters
    layer_weights: tuple[list[float], ...] = ()  # weights (L,), sum 1, by fold, of heads that weight layers
    # Names of the features that a linear head weighs most, each with its share: see `data.feature_shares`.
    feature_shares: dict[str, dict[str, float]] = field(default_factory=dict)
    draws: Strings | None = None  # (n,) numbers of the draws of clips that vectors are adapted by; None if they are not
    adapt_clips: int = 0  # number of test clips that the vectors of one draw are adapted by
    strengths: tuple[str, ...] = ()  # strength of the adaptation by fold, see `adaptation.speaker_statistics`
    run: str = ""  # name of the run folder; "" if not saved
    version: str = __version__  # version of ser that made the predictions

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each prediction is correct (n,)."""
        correct: NDArray[np.bool_] = self.predicted == self.truth
        return correct

    @property
    def truth_columns(self) -> NDArray[np.int64]:
        """The column of `proba` that belongs to the true label of each row (n,)."""
        return self._columns_of(self.truth)

    @property
    def predicted_columns(self) -> NDArray[np.int64]:
        """The column of `proba` that belongs to the predicted label of each row (n,)."""
        return self._columns_of(self.predicted)

    def _columns_of(self, labels: Strings) -> NDArray[np.int64]:
        column = {label: number for number, label in enumerate(self.labels)}
        return np.array([column[label] for label in labels.tolist()])

    @property
    def splits(self) -> Strings:
        """The seed and fold of each row (n,), as `seed/fold`."""
        return np.char.add(np.char.add(self.seeds, "/"), self.folds)

    @property
    def n_draws(self) -> int:
        """The number of draws of clips that vectors are adapted by; 1 if they are not adapted."""
        return 1 if self.draws is None else len(np.unique(self.draws))

    @property
    def repeats(self) -> int:
        """How many times the same clips are predicted: the number of seeds times the number of draws."""
        return len(np.unique(self.seeds)) * self.n_draws

    def matrix(self, rows: Any = slice(None)) -> NDArray[np.int64]:
        """Return the confusion matrix (C, C) of selected rows, by default of all."""
        return confusion(self.truth[rows], self.predicted[rows], self.labels)

    def matrices_by(self, column: Strings) -> NDArray[np.int64]:
        """Return a confusion matrix for each distinct value of a column (n,), in sorted order: (values, C, C)."""
        names, group = np.unique(column, return_inverse=True)
        n = len(self.labels)
        cells = (group * n + self.truth_columns) * n + self.predicted_columns
        return np.bincount(cells, minlength=len(names) * n * n).reshape(len(names), n, n)


def assemble(task: Task, tested: Sequence[tuple[Fold, int]], proba: NDArray[np.float32], **fields: Any) -> Predictions:
    """Return the predictions of one head, given its probabilities on the test clips of its folds.

    Parameters
    ----------
    task : the task that the folds index.
    tested : folds, each with its seed.
    proba : (n, C) probabilities of the test clips of the first fold, the second fold, …; columns in the order of
        `task.labels`.
    fields : fields of `Predictions` that the task does not determine (head, view, protocol, leaks, times), or that
        override those of the task. If `labels` is among them, it gives the columns of `proba`.
    """
    labels = tuple(fields.get("labels", task.labels))
    rows = np.concatenate([fold.test for fold, _ in tested])
    sizes = [len(fold.test) for fold, _ in tested]
    columns = {
        "encoder": task.encoder,
        "dataset": task.dataset,
        "labels": labels,
        "clip_ids": task.ids[rows],
        "speakers": task.speakers[rows],
        "folds": np.repeat([fold.name for fold, _ in tested], sizes),
        "seeds": np.repeat([str(seed) for _, seed in tested], sizes),
        "truth": task.y[rows],
        "predicted": np.array(labels)[proba.argmax(axis=1)],
        "proba": proba,
        "fingerprint": task.fingerprint,
        "skipped": task.skipped,
        "train_clips": float(np.mean([len(fold.train) for fold, _ in tested])),
        "label_view": task.labels_from.view if task.labels_from else NATIVE,
        "copies": task.copies.per_clip if task.copies else 0,
        "augment": task.copies.recipe if task.copies else "",
    }
    return Predictions(**{**columns, **fields})
