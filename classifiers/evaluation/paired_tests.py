"""Heads against the best of their table, on the same clips: two paired tests, corrected for their number.

The first asks whether the difference would hold on other speakers: the two heads' answers are swapped speaker by
speaker. The second asks whether it would hold in other folds and seeds, as far as overlapping training sets can tell.
The best is picked on the same clips that it is compared on, which flatters it a little.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..data.csv_text import csv_text
from .metrics import uar
from .predictions import Predictions
from .row_names import vectors
from .statistics import holm, resampled_t, speaker_permutation


@dataclass(frozen=True)
class Paired:
    """One head against the best of its table. The fields, in order, are the columns of paired.csv."""

    dataset: str
    protocol: str
    best: str  # head/vectors
    other: str
    difference: float  # of UAR, best less other
    p_speakers: float  # permutation over speakers
    p_speakers_holm: float
    p_folds: float  # corrected resampled t-test over folds and seeds
    p_folds_holm: float


def against_best(ranked: Sequence[Predictions]) -> list[Paired]:
    """Every head but the first, in order, against the first. All were tested on the same clips, or p is NaN."""
    if len(ranked) < 2:
        return []
    best, others = ranked[0], ranked[1:]
    speakers = [_over_speakers(best, other) for other in others]
    folds = [_over_folds(best, other) for other in others]
    return [
        Paired(best.dataset, best.protocol, _name(best), _name(other), _uar(best) - _uar(other), *ps)
        for other, *ps in zip(others, speakers, holm(np.array(speakers)), folds, holm(np.array(folds)), strict=True)
    ]


def paired_csv(tables: Iterable[Sequence[Paired]]) -> str:
    """The text of paired.csv."""
    columns = [field.name for field in fields(Paired)]
    return csv_text([columns, *(astuple(one) for table in tables for one in table)])


def _over_speakers(a: Predictions, b: Predictions) -> float:
    if not _same_rows(a, b):
        return float("nan")
    first, second = (p.matrices_by(p.speakers) for p in (a, b))
    counts = first.sum(axis=(0, 2))
    hits = np.diagonal(first - second, axis1=1, axis2=2)[:, counts > 0] / counts[counts > 0]  # (S, labels)
    return speaker_permutation(hits.mean(axis=1))


def _over_folds(a: Predictions, b: Predictions) -> float:
    if not _same_rows(a, b):
        return float("nan")
    first, second = (uar(p.matrices_by(p.splits)) for p in (a, b))
    tested = len(a.clip_ids) / len(first)
    others = len(np.unique(a.clip_ids)) - tested
    return resampled_t(first - second, tested / others) if others > 0 else float("nan")


def _same_rows(a: Predictions, b: Predictions) -> bool:
    return a.labels == b.labels and np.array_equal(_rows(a), _rows(b))


def _rows(p: Predictions) -> NDArray[np.str_]:
    return np.sort(np.char.add(np.char.add(p.splits, "\t"), p.clip_ids))


def _name(p: Predictions) -> str:
    return f"{p.head}/{vectors(p.head, p.encoder, p.view)}"


def _uar(p: Predictions) -> float:
    return float(uar(p.matrix()))
