"""Paired tests of each head of a table against the best head, on the same clips.

Conventions
-----------
The difference is the UAR of the best head minus that of the other head, in [-1, 1]. Two tests ask two questions:

- Speakers: would the difference hold on other test speakers? `speaker_permutation` swaps the predictions of the two
  heads by speaker.
- Folds: would the difference hold in other folds and with other seeds? `resampled_t` corrects, as far as possible, for
  training sets that overlap.

The p-values of each test are corrected for the number of heads by `holm`. The sources are given in `statistics.py`. A
p-value is NaN if the two heads were tested on different clips or folds, or if the speakers or folds are too few.

The best head is selected on the same clips on which it is compared, which favours it slightly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..data.csv_text import csv_text
from .metrics import uar
from .predictions import Predictions
from .row_names import vectors_name
from .statistics import holm, resampled_t, speaker_permutation


@dataclass(frozen=True)
class Paired:
    """A comparison of one head with the best of its table. The fields, in order, are the columns of paired.csv."""

    dataset: str
    protocol: str
    best: str  # name of the best head and of its vectors, joined by /
    other: str  # name of the other head and of its vectors, joined by /
    difference: float  # UAR of `best` minus UAR of `other`
    p_speakers: float  # p-value of the permutation test over speakers
    p_speakers_holm: float  # p_speakers, corrected for the number of heads
    p_folds: float  # p-value of the corrected resampled t-test over folds and seeds
    p_folds_holm: float  # p_folds, corrected for the number of heads


def against_best(ranked: Sequence[Predictions]) -> list[Paired]:
    """Compare the first of the ranked predictions with each of the others, in their order."""
    if len(ranked) < 2:
        return []
    best, others = ranked[0], ranked[1:]
    speakers = [_p_over_speakers(best, other) for other in others]
    folds = [_p_over_folds(best, other) for other in others]
    return [
        Paired(best.dataset, best.protocol, _name(best), _name(other), _uar(best) - _uar(other), *p_values)
        for other, *p_values in zip(
            others, speakers, holm(np.array(speakers)), folds, holm(np.array(folds)), strict=True
        )
    ]


def paired_csv(tables: Iterable[Sequence[Paired]]) -> str:
    """Return the text of paired.csv."""
    columns = [field.name for field in fields(Paired)]
    return csv_text([columns, *(astuple(row) for table in tables for row in table)])


def _p_over_speakers(a: Predictions, b: Predictions) -> float:
    if not _same_rows(a, b):
        return float("nan")
    first, second = (p.matrices_by(p.speakers) for p in (a, b))
    counts = first.sum(axis=(0, 2))
    hits = np.diagonal(first - second, axis1=1, axis2=2)[:, counts > 0] / counts[counts > 0]  # (S, labels)
    return speaker_permutation(hits.mean(axis=1))


def _p_over_folds(a: Predictions, b: Predictions) -> float:
    if not _same_rows(a, b):
        return float("nan")
    first, second = (uar(p.matrices_by(p.splits)) for p in (a, b))
    n_test = len(a.clip_ids) / len(first)
    n_train = len(np.unique(a.clip_ids)) - n_test
    return resampled_t(first - second, n_test / n_train) if n_train > 0 else float("nan")


def _same_rows(a: Predictions, b: Predictions) -> bool:
    """Whether two heads were tested on the same clips with the same labels in the same folds."""
    return a.labels == b.labels and np.array_equal(_row_ids(a), _row_ids(b))


def _row_ids(p: Predictions) -> NDArray[np.str_]:
    return np.sort(np.char.add(np.char.add(p.splits, "\t"), p.clip_ids))


def _name(p: Predictions) -> str:
    return f"{p.head}/{vectors_name(p.head, p.encoder, p.view)}"


def _uar(p: Predictions) -> float:
    return float(uar(p.matrix()))
