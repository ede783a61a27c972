"""Statistics of a speaker's vectors, shrunk towards those of the training speakers, and vectors standardised by them.

A speaker's mean and deviation from few clips are noisy, and a z-score with them is worse than none. So they are shrunk:

    mean     = a * mean of the clips     + (1 - a) * mean of the training speakers,   a = N / (N + k)
    variance = b * variance of the clips + (1 - b) * variance within the training speakers

k is different for each column, and follows from the training speakers (James and Stein's estimator, in the form of
empirical Bayes; Efron and Morris 1973). For the mean, k is the variance within speakers divided by the variance between
the means of speakers: the less speakers differ in a column, the less a few clips can say about a speaker. b follows in
the same way from how much the variances of speakers differ, with N - 1 in place of N. `Strength` multiplies k.

Labels are no argument of any function here.

References
----------
- Efron B, Morris C (1973). Stein's estimation rule and its competitors: an empirical Bayes approach. JASA 68.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache import DataError

Floats = NDArray[np.float64]

MIN_SPEAKERS = 2  # speakers with two clips or more that are needed to tell speakers from clips
UNADAPTED = "none"  # name of the strength that leaves vectors as they are
ROUNDING, TINY = 1e-6, 1e-30  # a deviation below this share of the mean, or a variance below TINY, is rounding
LEAST_VARIANCE = 0.01  # smallest variance of a speaker, as a share of the variance within training speakers


@dataclass(frozen=True)
class SpeakerStatistics:
    """The mean and the variance of each column, over the clips of one speaker."""

    mean: Floats  # (d,)
    variance: Floats  # (d,) unbiased; 0 for one clip
    clips: int

    @classmethod
    def of(cls, X: NDArray[np.floating]) -> SpeakerStatistics:
        """Compute the statistics of the vectors X (n, d) of a speaker's clips. Of no clips, both are 0."""
        n = len(X)
        zeros = np.zeros(X.shape[1])
        mean = X.mean(axis=0, dtype=np.float64) if n else zeros
        variance = np.square(X - mean).sum(axis=0) / (n - 1) if n > 1 else zeros
        return cls(mean, variance, n)


@dataclass(frozen=True)
class Strength:
    """By what k is multiplied: 0 trusts the clips of a speaker alone, infinity the training speakers alone."""

    mean: float
    variance: float

    @property
    def adapts(self) -> bool:
        """Whether clips of a speaker have any effect."""
        return not (math.isinf(self.mean) and math.isinf(self.variance))

    @property
    def name(self) -> str:
        """Text for run.json, such as `k x 1 (means), k x 0.25 (variances)`; `none` without adaptation."""
        return f"k x {self.mean:g} (means), k x {self.variance:g} (variances)" if self.adapts else UNADAPTED


NONE = Strength(math.inf, math.inf)  # no adaptation: vectors stay as they are


@dataclass(frozen=True)
class Population:
    """What is known of the speakers in general, from the training speakers; each array is (d,)."""

    mean: Floats  # mean of the speakers' means
    variance: Floats  # mean of the speakers' variances: the variance within a speaker
    mean_spread: Floats  # variance between the speakers' means, without what is due to few clips
    variance_spread: Floats  # variance between the speakers' variances, without what is due to few clips

    @classmethod
    def of(cls, speakers: Sequence[SpeakerStatistics]) -> Population:
        """Estimate the population from training speakers. Those with one clip say nothing of variances: left out.

        Raises DataError for fewer than MIN_SPEAKERS speakers with two clips or more.
        """
        several = [speaker for speaker in speakers if speaker.clips > 1]
        check_speakers([speaker.clips for speaker in speakers])
        n = np.array([speaker.clips for speaker in several])[:, None]
        means, variances = (np.stack([getattr(s, name) for s in several]) for name in ("mean", "variance"))
        within = variances.mean(axis=0)
        by_chance = (within / n).mean(axis=0), (2 * within**2 / (n - 1)).mean(axis=0)
        spreads = (np.maximum(0, v.var(axis=0, ddof=1) - c) for v, c in zip((means, variances), by_chance, strict=True))
        return cls(means.mean(axis=0), within, *spreads)

    def shrunk(self, speaker: SpeakerStatistics, strength: Strength) -> SpeakerStatistics:
        """Return the statistics of a speaker, between those of the speaker's clips and those of the population.

        No variance is below LEAST_VARIANCE of that within the training speakers.
        """
        n = speaker.clips
        a = _weight(n, self.mean_spread, self.variance, strength.mean)
        b = _weight(max(0, n - 1), self.variance_spread, 2 * self.variance**2, strength.variance)
        mean = self.mean + a * (speaker.mean - self.mean)
        variance = self.variance + b * (speaker.variance - self.variance)
        return SpeakerStatistics(mean, np.maximum(variance, LEAST_VARIANCE * self.variance), n)


def are_enough(clips: Sequence[int]) -> bool:
    """Whether enough speakers have two clips or more, given the clips of each speaker."""
    return sum(n > 1 for n in clips) >= MIN_SPEAKERS


def check_speakers(clips: Sequence[int]) -> None:
    """Raise DataError unless enough training speakers have two clips or more, given the clips of each speaker."""
    if not are_enough(clips):
        several = sum(n > 1 for n in clips)
        raise DataError(
            f"got {several} training speakers with two clips or more; wanted at least {MIN_SPEAKERS} for --adapt, "
            "which compares the clips of a speaker with those of other speakers. Leave --adapt out."
        )


def _weight(n: int, spread: Floats, noise: Floats, strength: float) -> Floats:
    """Return n / (n + k) for k = strength * noise / spread, in [0, 1]: 1 for the strength 0; 0 if n or spread is 0."""
    if n == 0 or math.isinf(strength):
        return np.zeros_like(spread)
    if strength == 0:
        return np.ones_like(spread)
    signal = n * spread
    total = signal + strength * noise
    weight: Floats = np.divide(signal, total, out=np.zeros_like(signal), where=total > 0)
    return weight


def standardised(X: NDArray[np.floating], by: SpeakerStatistics) -> NDArray[np.float32]:
    """Return X (n, d) minus the mean, divided by the deviation. Columns that are constant but for rounding stay small.

    They are not divided: a clip that differs there would otherwise become huge.
    """
    constant = by.variance <= np.square(ROUNDING * by.mean) + TINY
    deviation = np.sqrt(np.where(constant, 1, by.variance))
    result: NDArray[np.float32] = ((X - by.mean) / deviation).astype(np.float32)
    return result
