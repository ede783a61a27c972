"""Comparison of heads over several datasets by average ranks, Friedman's test and Nemenyi's test (Demšar 2006).

Conventions
-----------
`scores` have the shape (N, k) for N datasets and k heads; higher is better. Each dataset ranks the heads by the score
that ranks the leaderboard, by default the UAR: rank 1 is best, and tied heads share the mean of their ranks. Average
ranks (k,) lie in [1, k].

- Friedman's test asks whether the average ranks differ at all, at the level 0.05.
- If they do, two heads differ significantly if their average ranks differ by at least Nemenyi's critical difference,
  q * sqrt(k (k + 1) / (6 N)), where q is the quantile of the studentized range divided by sqrt(2).
- If they do not, no two heads differ significantly.

The sampling unit is the dataset: the numbers of clips and speakers do not matter. Datasets that share their speakers,
such as speech and song of RAVDESS, count as one.

The p-value of Friedman's test is computed by permuting the ranks within each dataset: all permutations if they are no
more than 20,000, otherwise 20,000 drawn with seed 0. The usual chi-squared approximation requires more than 10
datasets, which are rarely available. Nemenyi's critical difference relies on the same approximation, but is only
applied after Friedman's test.

Why not Wilcoxon tests
----------------------
Benavoli, Corani & Mangili (2016) propose Wilcoxon signed-rank tests for each pair of heads, corrected by Holm's method.
Their criticism of average ranks applies here: whether two heads differ significantly depends on the other heads in the
comparison, so the result is about this set of heads. But the p-value of a signed-rank test on N datasets is at least
2 / 2^N: 5 heads, which form 10 pairs, could not differ significantly on 8 datasets whatever their scores. Heads on a
single dataset are compared in pairs, see `paired_tests.py`.

References
----------
- Benavoli A, Corani G, Mangili F (2016). Should we really use post-hoc tests based on mean-ranks? JMLR 17(5).
- Demšar J (2006). Statistical comparisons of classifiers over multiple data sets. JMLR 7.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, studentized_range

from embedcache import DataError
from embedcache.dataset import corpus_of
from embedcache.text import count

from ..protocols.leaks import trained_on_test_speakers
from .leaderboard import Row, table_key
from .metrics import Floats
from .row_texts import vectors_name
from .statistics import ALPHA, PERMUTATIONS, TOLERANCE

MIN_DATASETS = 3
MIN_HEADS, MAX_HEADS = 2, 50  # a diagram of more heads cannot be read
ENOUGH_DATASETS = 11  # Demšar, section 3.2.2: with 10 or fewer the usual approximations are poor

Key: TypeAlias = tuple[str, str, int]  # head, name of the vectors, number of copies of each clip in training


@dataclass(frozen=True)
class CriticalDifference:
    """Heads by average rank, best first, and the groups of heads without a significant difference."""

    names: tuple[str, ...]  # display names of the heads
    ranks: tuple[float, ...]  # average rank of each head; 1 is best
    tables: tuple[str, ...]  # the tables compared, as `dataset (protocol)`
    p: float  # p-value of Friedman's test
    distance: float  # Nemenyi's critical difference, in ranks
    groups: tuple[tuple[int, int], ...]  # first and last head of each group without a significant difference
    speaker_dependent: bool  # whether the heads were trained on test speakers
    left_out: int  # number of leaderboard rows that were not used
    metric: str = "UAR"  # name of the score

    @property
    def differ(self) -> bool:
        """Whether the average ranks differ significantly, by Friedman's test."""
        return self.p < ALPHA


def rank_heads(rows: Sequence[Row]) -> CriticalDifference:
    """Rank the heads that were run on every dataset of a leaderboard, by the score that ranks the leaderboard.

    These rows are left out:

    - speaker-dependent rows, unless all rows are speaker-dependent
    - rows of unions of datasets and of cross-corpus runs, which share clips with other rows
    - rows that are adapted to the test speakers
    - rows of a corpus outside the table, of one dataset and protocol, that has the most heads
    - older rows of a head that a table has several times, with different parameters

    Raises DataError for fewer than 3 datasets, fewer than 2 heads or more than 50 heads.
    """
    tables = _largest_table_by_corpus(rows)
    names = [next(iter(table.values())).dataset for table in tables]
    if len(tables) < MIN_DATASETS:
        raise DataError(
            f"got {count(len(tables), 'dataset')} ({', '.join(names) or 'none'}) for ranking heads; wanted at least "
            f"{MIN_DATASETS}. Run `ser compare` on more datasets, one dataset a run, with a speaker-independent "
            "protocol."
        )
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    if len(shared) < MIN_HEADS:
        heads = "; ".join(
            f"{name} has {', '.join(map(_head_name, table))}" for name, table in zip(names, tables, strict=True)
        )
        raise DataError(
            f"got {count(len(shared), 'head')} run on every dataset; wanted at least {MIN_HEADS}: {heads}. "
            "Run `ser compare` with the same heads on each dataset, or name the runs to use."
        )
    if len(shared) > MAX_HEADS:
        raise DataError(f"got {len(shared)} heads; wanted at most {MAX_HEADS}. Name the runs to use.")
    return _compare_tables(tables, shared, len(rows))


def _compare_tables(tables: Sequence[dict[Key, Row]], shared: Sequence[Key], n_rows: int) -> CriticalDifference:
    """Compare the heads `shared` by all tables; `n_rows` is the number of rows before any were left out."""
    scores = np.array([[table[key].ranked_by.value for key in shared] for table in tables])
    ranks = average_ranks(scores)
    order = np.argsort(ranks, kind="stable")
    p, distance = friedman(scores)[1], critical_difference(len(shared), len(tables))
    several_vectors = len({vectors for _, vectors, _ in shared}) > 1
    first_rows = [table[shared[0]] for table in tables]
    return CriticalDifference(
        names=tuple(_head_name(shared[index], several_vectors) for index in order),
        ranks=tuple(ranks[order].tolist()),
        tables=tuple(f"{row.dataset} ({row.protocol})" for row in first_rows),
        p=p,
        distance=distance,
        groups=tuple(tied(ranks[order], distance if p < ALPHA else math.inf)),
        speaker_dependent=any(trained_on_test_speakers(row.leaks) for row in first_rows),
        left_out=n_rows - scores.size,
        metric=first_rows[0].ranked_by.metric,
    )


def average_ranks(scores: NDArray[Any]) -> Floats:
    """Return the average ranks (k,) of scores (N, k), in [1, k]; 1 is best."""
    ranks: Floats = rankdata(-np.asarray(scores), axis=1).mean(axis=0)
    return ranks


def friedman(scores: NDArray[Any], permutations: int = PERMUTATIONS, seed: int = 0) -> tuple[float, float]:
    """Return Friedman's statistic, corrected for ties, and its p-value by permutation within datasets.

    Parameters
    ----------
    scores : (N, k) scores.
    permutations : largest number of permutations. All (k!)^N permutations are computed if they are no more than this;
        otherwise this number of permutations is drawn at random, and the observed one is counted with them.
    seed : random seed of the drawn permutations.

    Returns
    -------
    statistic : Friedman's statistic, at least 0. It is 0 if the scores of each dataset are all equal.
    p : p-value, in (0, 1].
    """
    ranks = rankdata(-np.asarray(scores), axis=1)
    n, k = ranks.shape
    variance = np.square(ranks - (k + 1) / 2).sum() / (n * (k - 1))  # k (k + 1) / 12 without ties
    if not variance:
        return 0.0, 1.0
    exhaustive = math.factorial(k) ** n <= permutations
    sums = _all_rank_sums(ranks) if exhaustive else _random_rank_sums(ranks, permutations, seed)
    observed = _squared_deviation(ranks.sum(axis=0))
    extreme = int((_squared_deviation(sums) >= observed * (1 - TOLERANCE)).sum())
    extra = 0 if exhaustive else 1
    return float(observed / (n * variance)), (extreme + extra) / (len(sums) + extra)


def critical_difference(k: int, n: int, alpha: float = ALPHA) -> float:
    """Return Nemenyi's critical difference, in ranks, for k heads on n datasets (Demšar 2006, section 3.2.2).

    The difference of 4 heads on 14 datasets is 1.25 at the level `alpha` = 0.05.
    """
    q = studentized_range.ppf(1 - alpha, k, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(k * (k + 1) / (6 * n)))


def tied(ranks: NDArray[Any], distance: float) -> list[tuple[int, int]]:
    """Return the largest groups of 2 or more heads whose average ranks differ by less than `distance`.

    For the ranks 1.0, 1.4, 3.0, 3.5, the distance 0.6 gives [(0, 1), (2, 3)], and 2.05 gives [(0, 2), (2, 3)].

    Parameters
    ----------
    ranks : (k,) average ranks, in ascending order.
    distance : difference of ranks from which two heads differ significantly.

    Returns
    -------
    groups : index of the first and the last head of each group. Groups can overlap, but none contains another.
    """
    lasts = [int(np.searchsorted(ranks, rank + distance)) - 1 for rank in ranks]
    return [(i, last) for i, last in enumerate(lasts) if last > i and (i == 0 or last > lasts[i - 1])]


def summary_lines(result: CriticalDifference) -> list[str]:
    """Return one sentence per line about the rows used, the result and its limits."""
    kind = "speaker-dependent" if result.speaker_dependent else "speaker-independent"
    ranked = ", ".join(f"{name} {rank:.2f}" for name, rank in zip(result.names, result.ranks, strict=True))
    groups = "; ".join(_group_text(result, *group) for group in result.groups)
    lines = [
        f"used: {len(result.names)} heads on {', '.join(result.tables)}, all {kind}; rows left out: {result.left_out}.",
        f"average ranks: {ranked}.",
        f"Friedman p = {result.p:.3g} (permutation); Nemenyi's critical difference: {result.distance:.2f} ranks.",
        f"no significant difference: {groups or 'no two heads'}.",
    ]
    if len(result.tables) < ENOUGH_DATASETS:
        few = f"{len(result.tables)} datasets have little power"
        lines.append(f"{few}: heads without a significant difference may differ.")
    return lines


def _largest_table_by_corpus(rows: Sequence[Row]) -> list[dict[Key, Row]]:
    """Return, for each corpus, the rows of its table with the most heads, by head."""
    single = [row for row in rows if not ("+" in row.dataset or "->" in row.dataset or row.adapted)]
    independent = [row for row in single if not trained_on_test_speakers(row.leaks)]
    tables: dict[str, dict[Key, Row]] = {}
    for _, group in itertools.groupby(sorted(independent or single, key=table_key), key=table_key):
        table = {
            (row.head, vectors_name(row.head, row.encoder, row.view), row.copies): row
            for row in sorted(group, key=lambda row: row.run)
        }
        corpus = corpus_of(next(iter(table.values())).dataset)
        if len(table) > len(tables.get(corpus, ())):
            tables[corpus] = table
    return list(tables.values())


def _group_text(result: CriticalDifference, first: int, last: int) -> str:
    between = " and " if last == first + 1 else " to "
    return result.names[first] + between + result.names[last]


def _head_name(key: Key, with_vectors: bool = True) -> str:
    head, vectors, copies = key
    return head + (f" on {vectors}" if with_vectors else "") + (f", {copies} copies" if copies else "")


def _all_rank_sums(ranks: Floats) -> Floats:
    """Return the rank sums (m, k) of all m = (k!)^N permutations of the ranks (N, k) within datasets."""
    sums = np.zeros((1, ranks.shape[1]))
    for row in ranks:
        orders = np.array(list(itertools.permutations(row)))
        sums = (sums[:, None] + orders[None]).reshape(-1, ranks.shape[1])
    return sums


def _random_rank_sums(ranks: Floats, m: int, seed: int) -> Floats:
    """Return the rank sums (m, k) of m random permutations of the ranks (N, k) within datasets."""
    rng = np.random.default_rng(seed)
    sums = np.zeros((m, ranks.shape[1]))
    for row in ranks:
        sums += rng.permuted(np.tile(row, (m, 1)), axis=1)
    return sums


def _squared_deviation(sums: Floats) -> Any:
    """Return the sum (…) of the squared deviations of rank sums (…, k) from their mean."""
    return np.square(sums - sums.mean(axis=-1, keepdims=True)).sum(axis=-1)
