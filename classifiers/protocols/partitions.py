"""The partitions that are published with a dataset: train, dev and test, or several test partitions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from embedcache import ProtocolError, datasets
from embedcache.text import count

from ..data.task import Strings, Task
from .fold import UNION, Fold
from .fold_list import DEV

TRAIN = "train"  # partition for training; all but this and DEV are test partitions


def partition_folds(task: Task, n_folds: int, seed: int) -> list[Fold]:
    """Return a fold for each test partition, with its name; all folds have the same training and development clips.

    Clips without a partition are in no fold. Raises ProtocolError if the partitions are not complete enough.
    """
    partitions = np.full(len(task), "") if task.partitions is None else task.partitions
    if faults := list(_faults(task, partitions)):
        raise ProtocolError(
            f"protocol 'partition' cannot be used on {task.dataset or 'the task'} ({_counts(partitions)}): "
            f"{'; '.join(faults)}. Correct the partitions and run `ser extract` again, use another --labels view, or "
            "use --protocol speakers."
        )
    train, dev = (np.flatnonzero(partitions == name) for name in (TRAIN, DEV))
    return [Fold(name, train, np.flatnonzero(partitions == name), dev) for name in _test_partitions(partitions)]


def has_official_partitions(dataset: str) -> bool:
    """Whether a dataset is published with partitions, instead of folds by speaker. A union of datasets is not."""
    spec = datasets.find(dataset)
    return spec is not None and spec.official_partitions


def refuse_union(dataset: str) -> None:
    """Raise ProtocolError for a union with a dataset that is published with partitions.

    Such a dataset has no folds by speaker that could be joined with those of the others.
    """
    if parts := [name for name in dataset.split(UNION) if has_official_partitions(name)]:
        raise ProtocolError(
            f"protocol 'official' cannot be used on {dataset}: {' and '.join(parts)} "
            f"{'is' if len(parts) == 1 else 'are'} published with partitions, which a union of datasets does not have. "
            "Use --protocol partition, which trains on the train partitions of all of them, or --protocol speakers."
        )


def _test_partitions(partitions: Strings) -> list[str]:
    return sorted(set(partitions.tolist()) - {"", TRAIN, DEV})


def _counts(partitions: Strings) -> str:
    """Return the number of clips in each partition, such as `clips by partition: train 80, test 20, none 3`."""
    tested = _test_partitions(partitions)
    n = {name: np.count_nonzero(partitions == name) for name in (TRAIN, DEV, *tested, "")}
    return "clips by partition: " + ", ".join(f"{name or 'none'} {k:,}" for name, k in n.items() if k)


def _faults(task: Task, partitions: Strings) -> Iterator[str]:
    """Yield what is missing for a fold."""
    tested = _test_partitions(partitions)
    if (partitions == "").all():
        yield "no clip has a partition"
        return
    if TRAIN not in partitions:
        yield "there is no partition train to train on"
    if not tested:
        yield "there is no test partition, which is any but train and dev"
    for name in (TRAIN, DEV, *tested):
        if unknown := int(np.count_nonzero(task.speakers[partitions == name] == "")):
            yield f"{count(unknown, 'clip')} of {name} without a speaker"
    if TRAIN in partitions:
        yield from _label_faults(task, partitions)


def _label_faults(task: Task, partitions: Strings) -> Iterator[str]:
    known = set(task.y[partitions == TRAIN].tolist())
    if len(known) == 1:
        yield f"all clips of train have the label {min(known)}"
    for name in (DEV, *_test_partitions(partitions)):
        if new := sorted(set(task.y[partitions == name].tolist()) - known):
            yield f"{name} has labels that train lacks ({', '.join(new)})"
