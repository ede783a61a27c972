"""Scores of a chosen metric, with what their intervals and comparisons are computed from.

A metric is a function of all predictions, and need not be a sum over speakers as the UAR nearly is. So it is evaluated
once for all predictions of a head, and once without each of S speakers (the jackknife, see `jackknife.py`). With more
than MOST_GROUPS speakers, random groups of speakers are left out instead. One head takes 1 + min(S, MOST_GROUPS)
evaluations.

- Interval: that of `jackknife.py`, with the degrees of freedom of the UAR, because it is unknown how a metric weights
  the labels. A metric with two finite ends has Wilson's bounds, scaled to its range; any other has Student's.
- Comparison: `max_t_permutation` of the contributions of the speakers to the score. The contribution of a speaker is
  the share of clips, averaged over labels, times the score, plus the influence of the speaker. It is exact for the UAR
  and the accuracy if all speakers have equally many clips of each label, and a linear approximation otherwise.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import DataError
from embedcache.errors import complain, first_line
from embedcache.progress import Advance
from embedcache.text import count, examples

from ..metrics import Metric
from .intervals import recall_estimate, sum_groups
from .jackknife import Estimate, degrees_of_freedom, scaled_influences, speaker_groups
from .metrics import Floats, uar
from .predictions import Predictions
from .row_texts import vectors_name
from .statistics import MIN_SPEAKERS, TOLERANCE

MOST_GROUPS = 100  # a metric may take a tenth of a second, so fewer groups than of the other scores
ADVICE = "Rank other runs, given by name, or choose another metric."


@dataclass(frozen=True)
class MetricEstimate:
    """The score of one head by a metric."""

    estimate: Estimate
    uar: Estimate  # the UAR, with the influences of the same speakers or groups
    shares: Floats  # (S,) contributions of the speakers, or groups of speakers, to the score; NaN if there are too few
    note: str = ""  # why there is no interval, for the notes of the row


def estimate_all(metric: Metric, predictions: Sequence[Predictions], advance: Advance) -> list[MetricEstimate]:
    """Return the score of each head by a metric. `advance` is called after each head.

    Raises DataError, with the heads and the reasons, if the metric fails, or returns anything but one finite number in
    its range.
    """
    found, complaints = [], []
    for p in predictions:
        try:
            found.append(estimate_metric(metric, p))
        except DataError as error:
            complaints.append(f"{_row_name(p)}: {error}")
        advance(1)
    if complaints:
        failed = f"metric '{metric.name}' cannot score {len(complaints)} of {count(len(predictions), 'row')}"
        raise DataError(*complain(failed, complaints, ADVICE))
    return found


def estimate_metric(metric: Metric, p: Predictions) -> MetricEstimate:
    """Return the score of one head by a metric. Raises DataError as `estimate_all` does, without the head's name."""
    names, speaker = np.unique(p.speakers, return_inverse=True)
    value = evaluate(metric, p, np.ones(len(speaker), dtype=bool))
    group_of = speaker_groups(len(names), MOST_GROUPS)
    matrices, repeats = sum_groups(p.matrices_by(p.speakers), group_of), p.repeats
    uar_estimate = recall_estimate(matrices, uar, repeats)
    clips = matrices.sum(axis=2) / repeats
    clips = clips[:, clips.any(axis=0)]
    if len(names) < MIN_SPEAKERS or (np.count_nonzero(clips, axis=0) < 2).any():
        unknown = Estimate.unknown(value, len(clips))
        return MetricEstimate(unknown, uar_estimate, np.full(len(clips), np.nan), _why_unknown(metric, len(names)))
    without = np.array(list(_without_each(metric, p, names, group_of, speaker)))
    shares = (clips / clips.sum(axis=0)).mean(axis=1)
    centred = (without.mean() - without) * (len(without) - 1) / len(without)
    return MetricEstimate(_estimate(metric, value, without, clips), uar_estimate, value * shares + centred)


def _why_unknown(metric: Metric, n_speakers: int) -> str:
    """Return the reason why a score has no interval; "" for too few speakers, which another note states."""
    if n_speakers < MIN_SPEAKERS:
        return ""
    return f"no interval and no comparison of {metric.name}: without one speaker or group, a label has no clips"


def evaluate(metric: Metric, p: Predictions, rows: NDArray[np.bool_]) -> float:
    """Return the score of selected rows (n,) by a metric. Raises DataError as `estimate_metric` does."""
    if len(missing := np.flatnonzero(~np.isfinite(p.proba).all(axis=1))):
        raise DataError(f"{count(len(missing), 'row')} without probabilities: {examples(p.clip_ids[missing].tolist())}")
    proba = p.proba[rows].astype(np.float64)
    proba /= proba.sum(axis=1, keepdims=True)  # a scorer may refuse sums that differ from 1 by the rounding of float32
    return call_metric(metric, p.truth_columns[rows], p.predicted_columns[rows], proba, p.labels)


def call_metric(
    metric: Metric,
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    proba: NDArray[np.float64],
    labels: tuple[str, ...],
) -> float:
    """Return the score of n predictions, with the arguments of `Metric`. Raises DataError as `estimate_metric` does."""
    try:
        with warnings.catch_warnings():
            # Once for each of hundreds of evaluations. What matters is an error: an undefined score is NaN.
            warnings.simplefilter("ignore")
            value = metric.function(truth, predicted, proba, labels)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"it raised {type(error).__name__}: {first_line(error)}") from error
    return _checked(metric, value)


def _checked(metric: Metric, value: Any) -> float:
    """Return the value of a metric. Raises DataError if it is not one finite number in the range of the metric."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise DataError(f"it returned an object of the type {type(value).__name__}; wanted one number")
    number = float(value)
    if not math.isfinite(number):
        raise DataError(f"it returned {number}; wanted a finite number")
    if not metric.lowest - TOLERANCE <= number <= metric.highest + TOLERANCE:
        raise DataError(f"it returned {number:g}; its range is {metric.lowest:g} to {metric.highest:g}")
    return min(metric.highest, max(metric.lowest, number))


def _without_each(
    metric: Metric, p: Predictions, names: NDArray[Any], group_of: NDArray[np.int64], speaker: NDArray[np.int64]
) -> Iterator[float]:
    """Yield the score without each group of speakers, given the names and groups (S,), and the speaker of each row."""
    for group in range(int(group_of.max()) + 1):
        try:
            yield evaluate(metric, p, group_of[speaker] != group)
        except DataError as error:
            left_out = examples(names[group_of == group].tolist())
            raise DataError(f"without speaker {left_out}, {error}") from error


def _estimate(metric: Metric, value: float, without: Floats, clips: NDArray[Any]) -> Estimate:
    """Return the estimate of a score, given the score without each group (G,), and its clips of each label (G, C)."""
    influence, width = scaled_influences(without), metric.highest - metric.lowest
    error = math.sqrt(np.square(influence).sum())
    certain = error <= TOLERANCE * max(1.0, abs(value))
    if certain and math.isinf(width):
        return Estimate.unknown(value, len(clips))  # equal scores of all speakers are no proof of certainty
    # As many independent clips as have this standard error, or all clips if the error is 0: see `Estimate.clips`.
    spread = (value - metric.lowest) * (metric.highest - value)
    independent = math.inf if math.isinf(width) else max(float(clips.sum()), 0.0 if certain else spread / error**2)
    return Estimate(
        value=value,
        influence=influence,
        df=degrees_of_freedom(clips),
        clips=independent,
        top=metric.highest,
        bottom=metric.lowest,
    )


def _row_name(p: Predictions) -> str:
    return f"{p.head} on {vectors_name(p.head, p.encoder, p.view)} ({p.dataset}, {p.protocol}{p.run and f', {p.run}'})"
