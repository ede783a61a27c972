"""The folds that are published with a dataset, by speaker or by clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from embedcache import ProtocolError, datasets
from embedcache.dataset import Dataset, Folds, corpus_of
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
    return _folds_by_speaker(task, official_folds(task.dataset), _official, "official")


def emo_superb_folds(task: Task, n_folds: int, seed: int) -> list[Fold]:
    """Return a fold for each fold of EMO-SUPERB; in a union of datasets, a fold for each one of each dataset."""
    return _folds_by_speaker(task, _folds_of(task.dataset, _emo_superb), _emo_superb, "EMO-SUPERB")


def _official(dataset: Dataset) -> Folds:
    return dataset.official_folds


def _emo_superb(dataset: Dataset) -> Folds:
    return dataset.emo_superb_folds


def _folds_by_speaker(
    task: Task, tested: Mapping[str, Sequence[str]], of: Callable[[Dataset], Folds], kind: str
) -> list[Fold]:
    """Return folds that test the given speakers. Raises ProtocolError if there are none, or a speaker has no clips."""
    if not tested:
        names = [d.name for d in datasets.all() if of(d)]
        raise ProtocolError(
            f"no {kind} folds are known for '{task.dataset}', only for {', '.join(names)}, and for unions of these. "
            "Use --protocol speakers."
        )
    for name, speakers in tested.items():
        if absent := sorted(set(speakers) - set(task.speakers.tolist())):
            raise ProtocolError(
                f"{kind} fold {name} of {task.dataset} tests the speakers {', '.join(absent)}, who have no clips "
                "in the task. Use --protocol speakers, or complete the dataset."
            )
    is_test = {name: np.isin(task.speakers, speakers) for name, speakers in tested.items()}
    return [Fold(name, np.flatnonzero(~rows), np.flatnonzero(rows)) for name, rows in is_test.items()]


def official_folds(dataset: str) -> dict[str, tuple[str, ...]]:
    """Return the tested speakers of the official folds by name: `1`, or `emodb:1` in a union `cremad+emodb`.

    Datasets of one corpus share their speakers, and the folds of any of them. Returns no folds if those of a corpus are
    not known.
    """
    return _folds_of(dataset, _official)


def _folds_of(dataset: str, of: Callable[[Dataset], Folds]) -> dict[str, tuple[str, ...]]:
    names = dataset.split(UNION)
    by_corpus: dict[str, Sequence[Sequence[str]]] = dict.fromkeys(map(corpus_of, names), ())
    by_corpus |= {corpus_of(n): of(spec) for n in names if (spec := datasets.find(n)) and of(spec)}
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
