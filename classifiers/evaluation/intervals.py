"""Confidence intervals of all scores of a head, over speakers. `jackknife.py` has the method.

Interpretation
--------------
An interval says how much a score may differ on other test speakers. The heads are not fitted again, so an interval
covers the choice of the test speakers, not of the training speakers. The level is 95 %. Simulations in the tests count
how often an interval contains the true score, and `docs/explanation/statistics.md` has the results.

Both ends are NaN with fewer than 3 speakers, and for UAR and macro-F1 also if only one speaker has clips of some label.

The row ranked first in a table was selected by its UAR, so its score is too high on average. All of its intervals are
extended for this, see `jackknife.selection_errors`.

ECE is a sum of absolute values and therefore biased upwards by chance. The jackknife estimates the bias, and the
lower end of the interval is moved down by it. The other scores have no such bias.

The metrics `uar`, `war`, `macro_f1`, `ece`, `brier` and `aurc` are defined in `metrics.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.csv_text import csv_text
from .jackknife import (
    Estimate,
    correlation,
    degrees_of_freedom,
    scaled_influences,
    selected_multipliers,
    selection_errors,
    speaker_groups,
)
from .metrics import Floats, aurc, bin_sums, brier_terms, ece_of, macro_f1, uar, war
from .predictions import Predictions
from .statistics import LEVEL, MIN_SPEAKERS

AT_ONCE = 1 << 20  # largest number of counts of clips that `_aurc_without` holds in memory
PSEUDO_CLIPS = 0.25  # clips added to the hits and to the misses of a label: a recall of 0 or 1 has a variance, too

Score = Callable[[NDArray[Any]], Floats]  # maps sums (…) to a score, and sums (m, …) to scores (m,)


@dataclass(frozen=True)
class Interval:
    """One score of one head with its interval. The fields, in order, are the columns of intervals.csv."""

    dataset: str
    encoder: str
    head: str
    protocol: str
    metric: str
    value: float  # score over all test predictions
    low: float  # lower end of the interval; NaN if there are too few speakers
    high: float  # upper end of the interval; NaN if there are too few speakers
    level: float  # confidence level, in (0, 1)
    speakers: int


def intervals(p: Predictions, rivals: Sequence[Predictions] = ()) -> list[Interval]:
    """Return the six scores of one head, each with its interval.

    `rivals` are the other heads of the table, if this head is ranked first in it.
    """
    found = _estimates(p)
    errors = errors_of_the_first(found["uar"], [uar_estimate(rival) for rival in rivals])
    origin = (p.dataset, p.encoder, p.head, p.protocol)
    speakers = len(np.unique(p.speakers))
    return [
        Interval(*origin, name, estimate.value, *ends(estimate, found["uar"], errors), LEVEL, speakers)
        for name, estimate in found.items()
    ]


def uar_interval(p: Predictions, rivals: Sequence[Predictions] = ()) -> tuple[float, float]:
    """Return the ends of the interval of the UAR, as `intervals` does."""
    estimate = uar_estimate(p)
    return ends(estimate, estimate, errors_of_the_first(estimate, [uar_estimate(rival) for rival in rivals]))


def uar_estimate(p: Predictions) -> Estimate:
    """Return the UAR of one head, with what its interval is computed from."""
    return recall_estimate(p.matrices_by(p.speakers), uar, p.repeats)


def recall_estimate(matrices: NDArray[np.int64], score: Score, repeats: int = 1) -> Estimate:
    """Return a score of confusion matrices with what its interval is computed from.

    Parameters
    ----------
    matrices : (S, C, C) confusion matrices of the speakers.
    score : `uar`, `war` or `macro_f1`.
    repeats : number of seeds, which predict the same clips again.
    """
    total, clips = matrices.sum(axis=0), matrices.sum(axis=2) / repeats
    value = float(score(total))
    hits = np.diagonal(total) / repeats
    if score is war:
        clips, hits = clips.sum(axis=1, keepdims=True), hits.sum(keepdims=True)
    clips, hits = clips[:, clips.any(axis=0)], hits[clips.any(axis=0)]
    if len(matrices) < MIN_SPEAKERS or (np.count_nonzero(clips, axis=0) < 2).any():
        return Estimate.unknown(value, len(matrices))
    groups = sum_groups(matrices, speaker_groups(len(matrices)))
    n = clips.sum(axis=0)
    return Estimate(
        value=value,
        influence=scaled_influences(score(total - groups)),
        df=degrees_of_freedom(clips),
        extra_variance=float((_missing_variance(hits, n) / n).sum() / len(n) ** 2),
        clips=float(len(n) ** 2 / (1 / n).sum()),
    )


def intervals_csv(rows: Iterable[Interval]) -> str:
    """Return the text of intervals.csv."""
    return csv_text([(field.name for field in fields(Interval)), *map(astuple, rows)])


def _estimates(p: Predictions) -> dict[str, Estimate]:
    """Return the estimates of the six scores by name."""
    matrices, repeats = p.matrices_by(p.speakers), p.repeats
    _, speaker = np.unique(p.speakers, return_inverse=True)
    clips = np.bincount(speaker) / repeats
    squares = np.bincount(speaker, weights=brier_terms(p.proba, p.truth_columns))
    brier_sums = np.stack([squares, np.bincount(speaker)], axis=1)
    found = {
        name: recall_estimate(matrices, score, repeats)
        for name, score in (("uar", uar), ("war", war), ("macro_f1", macro_f1))
    }
    group = speaker_groups(len(clips))[speaker]
    return found | {
        "ece": _mean_estimate(*_without(bin_sums(p.proba, p.correct, group), ece_of), clips, biased=True),
        "brier": _mean_estimate(
            *_without(sum_groups(brier_sums, speaker_groups(len(clips))), _mean_square), clips, top=2.0
        ),
        "aurc": _mean_estimate(float(aurc(p.proba, p.correct)), _aurc_without(p, group), clips),
    }


def _mean_estimate(
    value: float, without: Floats, clips: NDArray[Any], top: float = 1.0, biased: bool = False
) -> Estimate:
    """Return the estimate of a score that weights all clips equally.

    Parameters
    ----------
    value : the score.
    without : (G,) the score without each speaker, or without each group of speakers.
    clips : (S,) number of clips of each speaker.
    top : largest possible score.
    biased : whether to consider the bias that the jackknife estimates (Efron & Tibshirani 1993, section 10.5).
    """
    if len(clips) < MIN_SPEAKERS:
        return Estimate.unknown(value, len(clips))
    bias = (len(without) - 1) * (float(without.mean()) - value) if biased else 0.0
    influence = scaled_influences(without)
    certain = not influence.any()
    return Estimate(
        value=value,
        influence=influence,
        df=degrees_of_freedom(clips[:, None]),
        clips=float(clips.sum()) if certain else math.inf,
        top=top,
        bias=max(0.0, bias),
    )


def _without(sums: NDArray[Any], score: Score) -> tuple[float, Floats]:
    """Return a score, and the score without each speaker or group, given their sums (G, …)."""
    total = sums.sum(axis=0)
    return float(score(total)), score(total - sums)


def _mean_square(sums: NDArray[Any]) -> Floats:
    """Return the Brier score, given its sum and the number of clips (…, 2); 0 of no clips, without the only speaker."""
    mean: Floats = sums[..., 0] / np.maximum(sums[..., 1], 1)
    return mean


def _aurc_without(p: Predictions, group: NDArray[np.int64]) -> Floats:
    """Return the AURC without each speaker or group (G,), given the group of each row (n,).

    AURC depends on the order of all clips, so it is computed from the clips that remain, a block of groups at a time.
    """
    numbers = np.arange(group.max() + 1)
    step = max(1, AT_ONCE // len(group))
    blocks = (numbers[start : start + step, None] != group for start in range(0, len(numbers), step))
    return np.concatenate([aurc(p.proba, p.correct, kept.astype(float)) for kept in blocks])


def sum_groups(sums: NDArray[Any], group: NDArray[np.int64]) -> NDArray[Any]:
    """Return the sums of groups of speakers (G, …), given sums per speaker (S, …) and the group of each (S,)."""
    grouped = np.zeros((int(group.max()) + 1, *sums.shape[1:]), sums.dtype)
    np.add.at(grouped, group, sums)
    return grouped


def _missing_variance(hits: NDArray[Any], clips: NDArray[Any]) -> Floats:
    """Return by how much the variance of a clip is underestimated (C,) for labels that are nearly always or never hit.

    If all of 4 clips are hit, the variance p (1 - p) of a clip is 0 for p = 1, but 0.05 for p = 4.25 / 4.5.
    """
    raw, smoothed = hits / clips, (hits + PSEUDO_CLIPS) / (clips + 2 * PSEUDO_CLIPS)
    missing: Floats = np.maximum(0, smoothed * (1 - smoothed) - raw * (1 - raw))
    return missing


def errors_of_the_first(first: Estimate, others: Sequence[Estimate]) -> Floats | None:
    """Return the simulated errors of the score of the head ranked first, given the scores of the others of its table.

    None if no other head has an interval over the same number of speakers, or if the first has none.
    """
    comparable = [o for o in others if len(o.influence) == len(first.influence) and not math.isnan(o.error)]
    if math.isnan(first.error) or not comparable:
        return None
    return selection_errors([first, *comparable])


def ends(estimate: Estimate, first: Estimate, errors: Floats | None) -> tuple[float, float]:
    """Return the ends of the interval of a score of the head ranked first by another score, whose errors are given."""
    if errors is None or math.isnan(estimate.error):
        return estimate.interval()
    return estimate.interval(selected_multipliers(estimate, errors, correlation(estimate, first)))
