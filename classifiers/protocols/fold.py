"""Folds: splits of a task into training and test clips, and the hash that names them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.task import Task

Indices = NDArray[np.int64]


UNION = "+"  # joins the names of datasets that are combined


@dataclass(frozen=True)
class Fold:
    """One split of a task into training and test clips."""

    name: str
    train: Indices  # row numbers of the training clips
    test: Indices  # row numbers of the test clips


def fold_hash(task: Task, folds: Sequence[Fold]) -> str:
    """Return a hash of the folds, as 12 hexadecimal digits.

    Equal hashes mean that the same recordings with the same labels and speakers were used for training and test in each
    fold. Folds by corrected speakers are other folds, even if they divide the clips alike: the intervals differ.
    """
    keys = np.full(len(task), "") if task.keys is None else task.keys
    columns = zip(task.ids.tolist(), task.y.tolist(), keys.tolist(), task.speakers.tolist(), strict=True)
    described = np.array(["\t".join(row) for row in columns])
    digest = hashlib.sha256()
    for fold in folds:
        for part in (fold.train, fold.test):
            digest.update("\n".join(sorted(described[part])).encode() + b"\0")
    return digest.hexdigest()[:12]


def numbered(splits: Iterable[tuple[Indices, Indices]]) -> list[Fold]:
    """Return the folds of (training, test) rows, named 1, 2, …"""
    return [Fold(str(number), train, test) for number, (train, test) in enumerate(splits, start=1)]
