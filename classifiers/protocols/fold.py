"""Folds: splits of a task into training, development and test clips, and the hash that names them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..data.task import Task

Indices = NDArray[np.int64]


UNION = "+"  # joins the names of datasets that are combined


@dataclass(frozen=True)
class Fold:
    """One split of a task into training and test clips.

    A fold may have development clips: heads are not trained on them, but choose by them when to stop, which settings to
    take and how to calibrate. In a fold without development clips, heads set some training clips aside for that.
    """

    name: str
    train: Indices  # row numbers of the training clips
    test: Indices  # row numbers of the test clips
    dev: Indices = field(default_factory=lambda: np.arange(0))  # row numbers of the development clips

    @property
    def fitted_on(self) -> Indices:
        """Row numbers of the clips that a head learns from in any way: the training and the development clips."""
        return np.concatenate([self.train, self.dev])


def fold_hash(task: Task, folds: Sequence[Fold]) -> str:
    """Return a hash of the folds, as 12 hexadecimal digits.

    Equal hashes mean that the same recordings with the same labels and speakers were used for training, development and
    test in each fold. Folds by corrected speakers are other folds, even if they divide the clips alike: the intervals
    differ.
    """
    keys = np.full(len(task), "") if task.keys is None else task.keys
    columns = zip(task.ids.tolist(), task.y.tolist(), keys.tolist(), task.speakers.tolist(), strict=True)
    described = np.array(["\t".join(row) for row in columns])
    digest = hashlib.sha256()
    for fold in folds:
        for part in (fold.train, fold.test, *([fold.dev] if len(fold.dev) else [])):
            digest.update("\n".join(sorted(described[part])).encode() + b"\0")
    return digest.hexdigest()[:12]


def fitted_together(folds: Sequence[Fold]) -> list[tuple[Fold, ...]]:
    """Return the folds in groups with the same training and development clips: one fit of a head serves a group."""
    groups: dict[tuple[bytes, bytes], list[Fold]] = {}
    for fold in folds:
        groups.setdefault((fold.train.tobytes(), fold.dev.tobytes()), []).append(fold)
    return [tuple(group) for group in groups.values()]


def in_no_fold(task: Task, folds: Sequence[Fold]) -> Indices:
    """Return the row numbers of the clips that no fold trains on, chooses by or tests."""
    used = np.zeros(len(task), bool)
    for fold in folds:
        used[fold.fitted_on] = used[fold.test] = True
    return np.flatnonzero(~used)


def numbered(splits: Iterable[tuple[Indices, Indices]]) -> list[Fold]:
    """Return the folds of (training, test) rows, named 1, 2, …"""
    return [Fold(str(number), train, test) for number, (train, test) in enumerate(splits, start=1)]
