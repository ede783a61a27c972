"""An interval for every score: a bootstrap over speakers, the same resamples for all scores of a head.

Speakers are drawn anew, with all that was predicted of them, over all folds and seeds; what the head was trained on is
not. So an interval says how far the score may be another on other test speakers, not with other training speakers. It
is the percentile interval of `stats.speaker_bootstrap`: 95 %, 2000 resamples, seed 0. It is a little narrow where
speakers are few: of 24 simulated ones, it held the true score in 92 to 94 % of the trials, which a test counts. With
fewer than 3 speakers there is none.

`uar`, `war`, `macro_f1`, `ece`, `brier` and `aurc` are those of `metrics`. ECE is a sum of absolute values, which
chance makes larger: a resample's is on average above the sample's, and that above the true one. Its interval is moved
down by the first of these two, which can be seen; the Brier score has no such bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..data.csv_text import csv_text
from .metrics import Floats, aurc, bin_sums, brier_terms, ece_of, macro_f1, uar, war
from .predictions import Predictions
from .statistics import FEWEST_SPEAKERS, LEVEL, RESAMPLES

AT_ONCE = 1 << 20  # numbers of resamples that are held in memory

Score: TypeAlias = Callable[[NDArray[Any]], Floats]


@dataclass(frozen=True)
class Interval:
    """One score of one head. The fields, in order, are the columns of intervals.csv; NaN is unknown."""

    dataset: str
    encoder: str
    head: str
    protocol: str
    metric: str
    value: float  # over all test predictions together
    low: float
    high: float
    level: float
    resamples: int
    speakers: int


def intervals(p: Predictions) -> list[Interval]:
    """The scores of one head, each with its interval; NaN at both ends with fewer than 3 speakers."""
    names, speaker = np.unique(p.speakers, return_inverse=True)
    found = [
        (metric, score(sums.sum(axis=0)), (_unbiased if metric == "ece" else speaker_bootstrap)(sums, score))
        for metric, sums, score in _sums(p)
    ]
    found.append(("aurc", aurc(p.proba, p.correct), _aurc_interval(p, speaker, len(names))))
    who = (p.dataset, p.encoder, p.head, p.protocol)
    return [Interval(*who, name, float(value), *ends, LEVEL, RESAMPLES, len(names)) for name, value, ends in found]


def intervals_csv(found: Iterable[Interval]) -> str:
    """The text of intervals.csv."""
    return csv_text([(field.name for field in fields(Interval)), *map(astuple, found)])


def speaker_bootstrap(
    sums: NDArray[Any],
    score: Callable[[NDArray[Any]], NDArray[np.float64]],
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """A percentile interval of `score` under resampling of speakers (cluster bootstrap, Davison & Hinkley 1997, 3.8).

    sums (S, …): what is counted of each speaker and may be added up over speakers, such as a confusion matrix (C, C);
    `score` makes (m,) of (m, …). A resample is S speakers drawn with replacement, each with all its rows. Gives
    (nan, nan) for fewer than 3 speakers, from whom no interval can be had. Labels that a resample lacks do not count
    in its score.
    """
    if len(sums) < FEWEST_SPEAKERS:
        return float("nan"), float("nan")
    times = speaker_draws(len(sums), resamples, seed)
    return percentiles(score(np.tensordot(times, sums, axes=1)), level)


def speaker_draws(n: int, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.int64]:
    """(resamples, n): how often each of n speakers is drawn. The same for equal arguments, whatever is scored."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples)


def percentiles(scores: NDArray[Any], level: float = LEVEL) -> tuple[float, float]:
    """The interval that holds `level` of the scores (m,) of resamples and leaves out as many at both ends."""
    tail = 100 * (1 - level) / 2
    low, high = np.nanpercentile(scores, [tail, 100 - tail])
    return float(low), float(high)


def _sums(p: Predictions) -> list[tuple[str, NDArray[Any], Score]]:
    """Scores that depend on sums over clips alone: name, the sums of each speaker (S, …), the score of sums."""
    _, speaker = np.unique(p.speakers, return_inverse=True)
    matrices = p.matrices_by(p.speakers)
    squares = np.bincount(speaker, weights=brier_terms(p.proba, p.truth_columns))
    return [
        ("uar", matrices, uar),
        ("war", matrices, war),
        ("macro_f1", matrices, macro_f1),
        ("ece", bin_sums(p.proba, p.correct, speaker), ece_of),
        ("brier", np.stack([squares, np.bincount(speaker)], axis=1), lambda sums: sums[..., 0] / sums[..., 1]),
    ]


def _unbiased(sums: NDArray[Any], score: Score) -> tuple[float, float]:
    """The percentile interval, lower by as much as resamples lie too high on average; not below 0."""
    if len(sums) < FEWEST_SPEAKERS:
        return float("nan"), float("nan")
    scores = score(np.tensordot(speaker_draws(len(sums)), sums, axes=1))
    low, high = percentiles(scores - (scores.mean() - score(sums.sum(axis=0))))
    return max(0.0, low), high


def _aurc_interval(p: Predictions, speaker: NDArray[np.int64], speakers: int) -> tuple[float, float]:
    """The order of all clips decides this score, so that every resample is gone through clip by clip."""
    if speakers < FEWEST_SPEAKERS:
        return float("nan"), float("nan")
    draws = speaker_draws(speakers)
    step = max(1, AT_ONCE // len(speaker))
    parts = (draws[start : start + step, speaker] for start in range(0, len(draws), step))
    return percentiles(np.concatenate([aurc(p.proba, p.correct, times) for times in parts]))
