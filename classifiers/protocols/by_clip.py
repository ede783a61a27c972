"""Protocols that split clips, whoever speaks them: as in most published scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

from embedcache import ProtocolError

from ..data.task import Task
from .fold import Fold, Indices, numbered

HOLDOUT_SHARE, HOLDOUT_SEED = 0.1, 42  # share of test clips, and random seed, of many published scores


def random_folds(task: Task, n_folds: int, seed: int) -> list[Fold]:
    """Return stratified folds by clip, with equal recordings in one fold."""
    _check_clips(task, n_folds, "random")
    first, clips = _recordings(task)
    splits = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(first, task.y[first])
    return numbered((clips(train), clips(test)) for train, test in splits)


def holdout_folds(task: Task, n_folds: int, seed: int) -> list[Fold]:
    """Return one split; with seed 0, the split of many published scores."""
    _check_clips(task, 2, "holdout")
    first, clips = _recordings(task)
    train, test = train_test_split(
        np.arange(len(first)), test_size=HOLDOUT_SHARE, stratify=task.y[first], random_state=HOLDOUT_SEED + seed
    )
    return [Fold("1", clips(train), clips(test))]


def _recordings(task: Task) -> tuple[Indices, Callable[[Indices], Indices]]:
    """Group clips that are the same recording, so that they stay in the same part of a split.

    If clips 0 and 2 of four clips are the same recording, the recordings are [0, 2], [1] and [3]: their first clips are
    [0, 1, 3], and the clips of recordings 0 and 2 are [0, 2, 3].

    Returns
    -------
    first : row of the first clip of each recording, in the order of the rows.
    clips : function that maps numbers of recordings to the rows of all of their clips.
    """
    names = task.ids if task.keys is None else np.where(task.keys == "", task.ids, task.keys)
    rows_by_name: dict[str, list[int]] = {}
    for row, name in enumerate(names.tolist()):
        rows_by_name.setdefault(name, []).append(row)
    recordings = list(rows_by_name.values())
    return np.array([rows[0] for rows in recordings]), lambda chosen: np.concatenate([recordings[n] for n in chosen])


def _check_clips(task: Task, n: int, protocol: str) -> None:
    """Raise ProtocolError unless every label has at least n clips and, for `holdout`, can occur in the test clips."""
    labels, counts = np.unique(task.y, return_counts=True)
    if counts.min() < n:
        raise ProtocolError(
            f"protocol '{protocol}' needs {n} clips of each label; '{labels[counts.argmin()]}' has {counts.min()}. "
            "Leave the label out, or record more clips."
        )
    if protocol == "holdout" and len(task) * HOLDOUT_SHARE < len(labels):
        raise ProtocolError(
            f"protocol 'holdout' tests a tenth of {len(task)} clips, fewer than the {len(labels)} labels. Use "
            "--protocol random, or record more clips."
        )
