"""Paired tests of each head of a table against the best head, on the same clips.

Conventions
-----------
The difference is the UAR of the best head minus that of the other head, in [-1, 1]. Two tests ask two questions:

- Speakers: would the difference hold on other test speakers? `speaker_permutation` swaps the predictions of the two
  heads by speaker.
- Folds: would the difference hold in other folds and with other seeds? `resampled_t` corrects, as far as possible, for
  training sets that overlap.

The first test adjusts for all pairs of heads of the table, because the best head is selected on the same clips
(`max_t_permutation`). The p-values of the second test are corrected for the number of heads by `holm`. The sources are
given in `statistics.py`. A p-value is NaN if the two heads were tested on different clips, folds or speakers, or if the
speakers or folds are too few.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..data.csv_text import csv_text
from .metrics import uar
from .predictions import Predictions
from .row_texts import vectors_name
from .statistics import holm, max_t_permutation, resampled_t

UNTESTED = (float("nan"), float("nan"), float("nan"))  # results of a test that the data do not allow


@dataclass(frozen=True)
class Paired:
    """A comparison of one head with the best of its table. The fields, in order, are the columns of paired.csv."""

    dataset: str
    protocol: str
    best: str  # name of the best head and of its vectors, joined by /
    other: str  # name of the other head and of its vectors, joined by /
    difference: float  # UAR of `best` minus UAR of `other`
    p_speakers: float  # p-value of the permutation test over speakers, of this pair alone
    p_speakers_adjusted: float  # p-value of the permutation test, adjusted for all pairs of the table
    smallest_difference: (
        float  # difference from which p_speakers_adjusted would have been 0.05 or less; may be infinite
    )
    p_folds: float  # p-value of the corrected resampled t-test over folds and seeds
    p_folds_holm: float  # p_folds, corrected for the number of heads


def against_best(ranked: Sequence[Predictions]) -> list[Paired]:
    """Compare the first of the ranked predictions with each of the others, in their order."""
    if len(ranked) < 2:
        return []
    best, others = ranked[0], ranked[1:]
    speakers = tests_over_speakers(ranked, [_shares_of_uar(p) for p in ranked])
    folds = [_p_over_folds(best, other) for other in others]
    return [
        Paired(best.dataset, best.protocol, _name(best), _name(other), _uar(best) - _uar(other), *tests, *p_folds)
        for other, tests, p_folds in zip(others, speakers, zip(folds, holm(np.array(folds)), strict=True), strict=True)
    ]


def paired_csv(tables: Iterable[Sequence[Paired]]) -> str:
    """Return the text of paired.csv."""
    columns = [field.name for field in fields(Paired)]
    return csv_text([columns, *(astuple(row) for table in tables for row in table)])


def tests_over_speakers(
    ranked: Sequence[Predictions], shares: Sequence[NDArray[np.float64]]
) -> list[tuple[float, float, float]]:
    """Return p-value, adjusted p-value and smallest significant difference of the first head and each of the others.

    `shares` are the contributions (S,) of the speakers to the score of each head; their sum is the score. They are NaN
    if they are unknown, which they are for all heads with the same rows.
    """
    if np.isnan(shares[0]).any():
        return [UNTESTED] * (len(ranked) - 1)
    comparable = [n for n, p in enumerate(ranked) if _same_rows(ranked[0], p)]
    tests = max_t_permutation(np.stack([shares[n] for n in comparable], axis=1))
    columns = [
        (float(tests.single_p[0, i]), float(tests.p[0, i]), float(tests.smallest[0, i])) for i in range(len(comparable))
    ]
    results = dict(zip(comparable, columns, strict=True))
    return [results.get(n, UNTESTED) for n in range(1, len(ranked))]


def _shares_of_uar(p: Predictions) -> NDArray[np.float64]:
    """Return the contribution of each speaker to the UAR (S,); the sum of the contributions is the UAR."""
    matrices = p.matrices_by(p.speakers)
    clips = matrices.sum(axis=(0, 2))
    hits = np.diagonal(matrices, axis1=1, axis2=2)[:, clips > 0] / clips[clips > 0]  # (S, labels)
    shares: NDArray[np.float64] = hits.mean(axis=1)
    return shares


def _p_over_folds(a: Predictions, b: Predictions) -> float:
    if not _same_rows(a, b):
        return float("nan")
    first, second = (uar(p.matrices_by(p.splits)) for p in (a, b))
    n_test = len(a.clip_ids) / len(first) / a.n_draws
    n_train = a.train_clips or len(np.unique(a.clip_ids)) - n_test
    return resampled_t(first - second, n_test / n_train) if n_train > 0 else float("nan")


def _same_rows(a: Predictions, b: Predictions) -> bool:
    """Whether two heads were tested on the same clips with the same labels and speakers in the same folds."""
    return a.labels == b.labels and np.array_equal(_row_ids(a), _row_ids(b))


def _row_ids(p: Predictions) -> NDArray[np.str_]:
    draws = p.draws if p.draws is not None else np.full(len(p.clip_ids), "")
    columns = zip(*(c.tolist() for c in (p.splits, draws, p.clip_ids, p.speakers, p.truth)), strict=True)
    return np.array(sorted("\t".join(cells) for cells in columns))


def _name(p: Predictions) -> str:
    return f"{p.head}/{vectors_name(p.head, p.encoder, p.view)}"


def _uar(p: Predictions) -> float:
    return float(uar(p.matrix()))
