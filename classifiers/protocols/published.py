"""The folds that are published with a dataset, by speaker or by clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedcache import ProtocolError, datasets
from embedcache.dataset import corpus_of
from embedcache.text import count

from ..data.task import Task
from .fold import UNION, Fold, numbered
from .partitions import has_official_partitions, partition_folds, refuse_union


def folds_of_dataset(task: Task, n_folds: int, seed: int) -> list[Fold]:
    """Return a fold for each official fold; in a union of datasets, a fold for each one of each dataset.

    A dataset that is published with partitions has a fold for each test partition.
    """
    if has_official_partitions(task.dataset):
        return partition_folds(task, n_folds, seed)
    refuse_union(task.dataset)
    names = [d.name for d in datasets.all() if d.official_folds]
    tested = official_folds(task.dataset)
    if not tested:
        raise ProtocolError(
            f"no official folds are known for '{task.dataset}', only for {', '.join(names)}, and for unions of these. "
            "Use --protocol speakers."
        )
    for name, speakers in tested.items():
        if absent := sorted(set(speakers) - set(task.speakers.tolist())):
            raise ProtocolError(
                f"official fold {name} of {task.dataset} tests the speakers {', '.join(absent)}, who have no clips "
                "in the task. Use --protocol speakers, or complete the dataset."
            )
    is_test = {name: np.isin(task.speakers, speakers) for name, speakers in tested.items()}
    return [Fold(name, np.flatnonzero(~rows), np.flatnonzero(rows)) for name, rows in is_test.items()]


def official_folds(dataset: str) -> dict[str, tuple[str, ...]]:
    """Return the tested speakers of the official folds by name: `1`, or `emodb:1` in a union `cremad+emodb`.

    Datasets of one corpus share their speakers, and the folds of any of them. Returns no folds if those of a corpus are
    not known.
    """
    names = dataset.split(UNION)
    by_corpus: dict[str, Sequence[Sequence[str]]] = dict.fromkeys(map(corpus_of, names), ())
    by_corpus |= {
        corpus_of(n): spec.official_folds for n in names if (spec := datasets.find(n)) and spec.official_folds
    }
    if not all(by_corpus.values()):
        return {}
    prefixes = {corpus: f"{corpus}:" if len(names) > 1 else "" for corpus in by_corpus}
    return {
        f"{prefixes[corpus]}{number}": tuple(prefixes[corpus] + speaker for speaker in speakers)
        for corpus, folds in by_corpus.items()
        for number, speakers in enumerate(folds, start=1)
    }


def published_folds(task: Task, n_folds: int, seed: int) -> list[Fold]:
    """Return the folds by clip that are published with a dataset. Raises ProtocolError if none are."""
    spec = datasets.find(task.dataset)
    if spec is None or spec.published_folds is None:
        names = [d.name for d in datasets.all() if d.published_folds]
        alternative = "official, with folds by speaker" if spec and spec.official_folds else "speakers"
        raise ProtocolError(
            f"no folds by clip are known for '{task.dataset}', only for {', '.join(names)}. Use --protocol "
            f"{alternative}."
        )
    folds = spec.published_folds()
    known_clips = {*task.ids.tolist(), *task.skipped, *task.dropped}
    if absent := sorted({clip for fold in folds for clip in fold} - known_clips):
        raise ProtocolError(
            f"the published folds of {task.dataset} test {count(len(absent), 'clip')} that the task lacks, such as "
            f"{absent[0]}. Use --protocol speakers, or complete the dataset."
        )
    is_test = [np.isin(task.ids, fold) for fold in folds]
    return numbered((np.flatnonzero(~rows), np.flatnonzero(rows)) for rows in is_test)
