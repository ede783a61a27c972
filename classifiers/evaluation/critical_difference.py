"""Which heads can be told apart over several datasets: average ranks and critical differences (Demšar 2006).

Every dataset ranks the heads by UAR; 1 is best, and equals share a rank. Friedman's test asks whether the average ranks
differ at all. Where it says so, two heads can be told apart if their averages lie at least Nemenyi's critical
difference apart: q * sqrt(k (k + 1) / (6 N)) for k heads on N datasets, q being the studentized range over sqrt(2).
Where it does not, none can be. The level is 0.05. What is taken to be drawn is the dataset: clips and speakers do not
enter, and of datasets that share their speakers, as RAVDESS's speech and song do, one counts.

Friedman's p is by permutation of each dataset's ranks: all of them where they are no more than 20,000, else so many
drawn with seed 0. The chi-squared distribution holds for more than 10 datasets, which are rarely had. Nemenyi's
difference rests on the same approximation, behind that test.

Why not Wilcoxon's test for each pair, corrected by Holm (Benavoli, Corani & Mangili 2016)? They are right that here a
pair's verdict depends on which other heads are in the picture: read it as one about this set of heads. But the signed
ranks of N datasets have no p below 2 / 2^N, so that 5 heads, 10 pairs, could not be told apart on 8 datasets whatever
they scored. Single datasets are compared in `paired.py`, and there pair by pair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, permutations
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, studentized_range

from embedcache import DataError, datasets
from embedcache.text import count

from .leaderboard import Row, peers
from .metrics import Floats
from .protocols import knows_speakers
from .row_names import vectors
from .statistics import PERMUTATIONS, TOLERANCE

ALPHA = 0.05
FEWEST_DATASETS = 3
FEWEST_HEADS, MOST_HEADS = 2, 50  # more cannot be read
ENOUGH_DATASETS = 11  # Demšar, section 3.2.2: with 10 or fewer the usual approximations are poor

Key: TypeAlias = tuple[str, str, int]  # head, vectors, copies


@dataclass(frozen=True)
class CriticalDifference:
    """Heads by average rank, best first, and which of them cannot be told apart."""

    names: tuple[str, ...]
    ranks: tuple[float, ...]  # averages over the datasets; 1 is best
    tables: tuple[str, ...]  # `dataset (protocol)`
    p: float  # Friedman
    distance: float  # the critical difference, in ranks
    groups: tuple[tuple[int, int], ...]  # (first, last) head of each that cannot be told apart
    blind: bool  # test speakers were heard in training
    left_out: int  # rows that were not used

    @property
    def differ(self) -> bool:
        """Whether Friedman's test says that the heads differ at all."""
        return self.p < ALPHA


def critical(rows: Sequence[Row]) -> CriticalDifference:
    """The heads that were run on every dataset, by UAR, of the rows of a leaderboard.

    Rows that are blind to speakers are left out unless all are; so are those of several datasets together and across
    datasets, which share clips with others. A corpus counts once, by the table that has the most heads; of one head
    twice in it, with other parameters, the later run counts. Raises DataError for fewer than 3 datasets
    or 2 heads, and for more than 50 heads.
    """
    tables = _tables(rows)
    names = [next(iter(table.values())).dataset for table in tables]
    if len(tables) < FEWEST_DATASETS:
        raise DataError(
            f"got {count(len(tables), 'dataset')} ({', '.join(names) or 'none'}) that heads can be ranked on; wanted "
            f"{FEWEST_DATASETS}. Run `ser compare` on others, one at a time, and not blind to speakers."
        )
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    if len(shared) < FEWEST_HEADS:
        have = "; ".join(f"{name} has {', '.join(map(_called, t))}" for name, t in zip(names, tables, strict=True))
        raise DataError(
            f"got {count(len(shared), 'head')} run on every dataset; wanted {FEWEST_HEADS}: {have}. "
            "Run `ser compare` with the same heads on each, or name the runs to use."
        )
    if len(shared) > MOST_HEADS:
        raise DataError(f"got {len(shared)} heads; wanted {MOST_HEADS} at most. Name the runs to use.")
    return _compared(tables, shared, len(rows))


def _compared(tables: Sequence[dict[Key, Row]], shared: Sequence[Key], n_rows: int) -> CriticalDifference:
    scores = np.array([[table[key].uar for key in shared] for table in tables])
    ranks = average_ranks(scores)
    order = np.argsort(ranks, kind="stable")
    p, distance = friedman(scores)[1], critical_difference(len(shared), len(tables))
    firsts = [table[shared[0]] for table in tables]
    return CriticalDifference(
        names=tuple(_called(shared[place], len({key[1] for key in shared}) > 1) for place in order),
        ranks=tuple(ranks[order].tolist()),
        tables=tuple(f"{row.dataset} ({row.protocol})" for row in firsts),
        p=p,
        distance=distance,
        groups=tuple(tied(ranks[order], distance if p < ALPHA else math.inf)),
        blind=any(knows_speakers(row.leaks) for row in firsts),
        left_out=n_rows - scores.size,
    )


def average_ranks(scores: NDArray[Any]) -> Floats:
    """(k,): the mean over datasets of the ranks of scores (N, k); the highest score has rank 1, equals share theirs."""
    ranks: Floats = rankdata(-np.asarray(scores), axis=1).mean(axis=0)
    return ranks


def friedman(scores: NDArray[Any], most: int = PERMUTATIONS, seed: int = 0) -> tuple[float, float]:
    """Friedman's statistic of scores (N, k), corrected for ties, and its p by permutation within datasets.

    All (k!)^N permutations are made where they are no more than `most`, else so many are drawn, and the one that was
    observed is counted with them. Where all scores of each dataset are equal, the statistic is 0.
    """
    ranks = rankdata(-np.asarray(scores), axis=1)
    n, k = ranks.shape
    variance = np.square(ranks - (k + 1) / 2).sum() / (n * (k - 1))  # k (k + 1) / 12 without ties
    if not variance:
        return 0.0, 1.0
    all_of_them = math.factorial(k) ** n <= most
    sums = _permuted(ranks) if all_of_them else _drawn(ranks, most, seed)
    observed = _spread(ranks.sum(axis=0))
    as_far = int((_spread(sums) >= observed * (1 - TOLERANCE)).sum())
    extra = 0 if all_of_them else 1
    return float(observed / (n * variance)), (as_far + extra) / (len(sums) + extra)


def critical_difference(k: int, n: int, alpha: float = ALPHA) -> float:
    """Nemenyi's: how far the average ranks of two of k heads on n datasets must lie apart (Demšar 2006, 3.2.2)."""
    q = studentized_range.ppf(1 - alpha, k, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(k * (k + 1) / (6 * n)))


def tied(ranks: NDArray[Any], distance: float) -> list[tuple[int, int]]:
    """(first, last) of the largest groups of 2 or more heads, in order of rank (k,), within less than `distance`."""
    lasts = [int(np.searchsorted(ranks, rank + distance)) - 1 for rank in ranks]
    return [(i, last) for i, last in enumerate(lasts) if last > i and (i == 0 or last > lasts[i - 1])]


def told(found: CriticalDifference) -> list[str]:
    """What was compared, how, and what it may not be taken for: a sentence a line."""
    heard = ", all blind to speakers" if found.blind else ", none blind to speakers"
    ranked = ", ".join(f"{name} {rank:.2f}" for name, rank in zip(found.names, found.ranks, strict=True))
    lines = [
        f"used: {len(found.names)} heads on {', '.join(found.tables)}{heard}; rows left out: {found.left_out}.",
        f"average ranks: {ranked}.",
        f"Friedman p = {found.p:.3g} (permutation); Nemenyi's critical difference: {found.distance:.2f} ranks.",
        f"cannot be told apart: {'; '.join(_joined(found, *group) for group in found.groups) or 'no two'}.",
    ]
    if len(found.tables) < ENOUGH_DATASETS:
        lines.append(f"{len(found.tables)} datasets have little power: heads that are not told apart may well differ.")
    return lines


def _tables(rows: Sequence[Row]) -> list[dict[Key, Row]]:
    """Of each corpus, the table that has the most heads, by head."""
    single = [row for row in rows if "+" not in row.dataset and "->" not in row.dataset]
    seeing = [row for row in single if not knows_speakers(row.leaks)]
    made: dict[str, dict[Key, Row]] = {}
    for _, group in groupby(sorted(seeing or single, key=peers), key=peers):
        table = {
            (row.head, vectors(row.head, row.encoder, row.view), row.copies): row
            for row in sorted(group, key=lambda row: row.run)
        }
        corpus = _corpus(next(iter(table.values())).dataset)
        if len(table) > len(made.get(corpus, ())):
            made[corpus] = table
    return list(made.values())


def _joined(found: CriticalDifference, first: int, last: int) -> str:
    between = " and " if last == first + 1 else " to "
    return found.names[first] + between + found.names[last]


def _corpus(name: str) -> str:
    """What a dataset shares its speakers with others under."""
    spec = datasets.find(name)
    return (spec.corpus if spec else "") or name


def _called(key: Key, with_encoder: bool = True) -> str:
    head, encoder, copies = key
    return head + (f" on {encoder}" if with_encoder else "") + (f", {copies} copies" if copies else "")


def _permuted(ranks: Floats) -> Floats:
    """The rank sums (m, k) of all permutations of each dataset's ranks (N, k)."""
    sums = np.zeros((1, ranks.shape[1]))
    for row in ranks:
        orders = np.array(list(permutations(row)))
        sums = (sums[:, None] + orders[None]).reshape(-1, ranks.shape[1])
    return sums


def _drawn(ranks: Floats, count: int, seed: int) -> Floats:
    """The rank sums (count, k) of permutations drawn at random."""
    rng = np.random.default_rng(seed)
    sums = np.zeros((count, ranks.shape[1]))
    for row in ranks:
        sums += rng.permuted(np.tile(row, (count, 1)), axis=1)
    return sums


def _spread(sums: Floats) -> Any:
    """(…): the squared distances of rank sums (…, k) from their mean, added up."""
    return np.square(sums - sums.mean(axis=-1, keepdims=True)).sum(axis=-1)
