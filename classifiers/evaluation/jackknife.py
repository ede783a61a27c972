"""Interval of a score from a sample of speakers: jackknife over speakers, Student's t, Wilson's bounds.

Conventions
-----------
Clips of one speaker are not independent, so the sampling unit is the speaker. A score is computed once from all clips
and once without each of the S speakers. The differences of these scores from their mean are the *influences* of the
speakers (S,), scaled so that the sum of their squares is the variance of the score (Efron & Tibshirani 1993,
section 11.5).

- The variance is estimated from few speakers, so the interval uses Student's t. Its degrees of freedom are those of
  Satterthwaite (1946): S - 1 if all speakers have equally many clips of each label, fewer otherwise.
- A score lies in [`bottom`, `top`]. The bounds are those of Wilson (1927) with the effective number of clips that
  belongs to the variance, as Dean & Pagano (2015) recommend for clustered samples. They never leave the range, and
  never coincide.
- A variance estimated as 0, because all speakers score alike, is no proof of certainty. No interval is narrower than
  that of equally many independent clips.

The row ranked first
--------------------
The highest of several scores is too high on average: its head was also lucky. `selection_errors` simulates the error of
the selected head, in which all heads that could as well have been ranked first are equally good, and
`selected_multipliers` extends the interval on that side until it holds what it says.

References
----------
- Dean N, Pagano M (2015). Evaluating confidence interval methods for binomial proportions in clustered surveys. Journal
  of Survey Statistics and Methodology 3(4).
- Efron B, Tibshirani RJ (1993). An introduction to the bootstrap. Chapman & Hall.
- Satterthwaite FE (1946). An approximate distribution of estimates of variance components. Biometrics Bulletin 2(6).
- Wilson EB (1927). Probable inference, the law of succession, and statistical inference. JASA 22.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from .metrics import Floats
from .statistics import ALPHA, LEVEL

DRAWS = 10_000  # simulated errors of the head ranked first
MAX_GROUPS = 1000  # of more speakers, random groups of speakers are left out one at a time
NORMAL = float(norm.ppf((1 + LEVEL) / 2))  # 1.96 standard errors

Multipliers = tuple[float, float]  # numbers of standard errors that an interval extends below and above a score


@dataclass(frozen=True)
class Estimate:
    """A score of one head, and what its interval is computed from."""

    value: float
    influence: Floats  # (S,) influences of the speakers
    df: float  # degrees of freedom of Student's t
    extra_variance: float = 0.0  # variance that the influences lack
    clips: float = math.inf  # independent clips whose interval this one is at least as wide as; infinity for no limit
    top: float = 1.0  # largest possible value
    bias: float = 0.0  # amount, 0 or more, by which the value is too high on average
    bottom: float = 0.0  # smallest possible value

    @classmethod
    def unknown(cls, value: float, n_speakers: int) -> Estimate:
        """Return the estimate of a score that too few speakers allow no interval of."""
        return cls(value, np.full(n_speakers, np.nan), math.nan)

    @property
    def error(self) -> float:
        """The standard error; NaN if unknown."""
        return math.sqrt(np.square(self.influence).sum() + self.extra_variance)

    @property
    def multiplier(self) -> float:
        """The number of standard errors that an interval of the level LEVEL extends to each side."""
        return float(student.ppf((1 + LEVEL) / 2, self.df))

    def interval(self, multipliers: Multipliers | None = None) -> tuple[float, float]:
        """Return the ends of the interval; by default with `multiplier` on both sides. NaN if unknown."""
        if math.isnan(self.error):
            return math.nan, math.nan
        below, above = multipliers or (self.multiplier, self.multiplier)
        bounds = self._student if math.isinf(self.clips) else self._wilson
        low, high = bounds(below)[0], bounds(above)[1]
        return max(self.bottom, min(low, self.value)), min(self.top, max(high, self.value))

    def _student(self, t: float) -> tuple[float, float]:
        """Return the bounds of Student's t. Only the lower one is moved by the bias, which is itself an estimate."""
        return self.value - self.bias - t * self.error, self.value + t * self.error

    def _wilson(self, t: float) -> tuple[float, float]:
        """Return Wilson's bounds for `t` standard errors, with the number of clips n that has this standard error."""
        width = self.top - self.bottom
        p = (self.value - self.bottom) / width
        most = self.clips * (t / NORMAL) ** 2
        n = min(p * (1 - p) * (width / self.error) ** 2, most) if self.error and 0 < p < 1 else most
        centre, half = p + t**2 / (2 * n), t * math.sqrt(p * (1 - p) / n + (t / (2 * n)) ** 2)
        scale = width / (1 + t**2 / n)
        return self.bottom + (centre - half) * scale, self.bottom + (centre + half) * scale


def scaled_influences(without: Floats) -> Floats:
    """Return the influences of speakers (S,), given the score without each of them (S,)."""
    n = len(without)
    scaled: Floats = (without.mean() - without) * math.sqrt((n - 1) / n)
    return scaled


def degrees_of_freedom(clips: NDArray[Any]) -> float:
    """Return Satterthwaite's degrees of freedom of the mean recall, given the clips by speaker and label (S, C).

    A speaker contributes to the variance of a label's recall by the square of the share of its clips. Six speakers with
    equal shares give 5 degrees of freedom. With a label that only two of them have, 1.6 remain.
    """
    weights = np.square(clips / clips.sum(axis=0)).sum(axis=1)
    return float(weights.sum() ** 2 / np.square(weights).sum() - 1)


def speaker_groups(n_speakers: int, most: int | None = None) -> NDArray[np.int64]:
    """Return the number of the group (S,) with which each speaker is left out, below `most` or else MAX_GROUPS."""
    numbers, groups = np.arange(n_speakers), most or MAX_GROUPS
    return numbers if n_speakers <= groups else np.random.default_rng(0).permutation(numbers) % groups


def correlation(a: Estimate, b: Estimate) -> float:
    """Return the correlation of the errors of two scores over speakers, in [-1, 1]; 0 if one has no errors."""
    norms = math.sqrt(np.square(a.influence).sum() * np.square(b.influence).sum())
    return float(a.influence @ b.influence / norms) if norms else 0.0


def selected_multipliers(estimate: Estimate, errors: Floats, shared: float) -> Multipliers:
    """Return the multipliers of the interval of a score of the head that was selected by another score.

    Parameters
    ----------
    estimate : the score of the selected head.
    errors : (m,) simulated errors of the score by which it was selected, see `selection_errors`.
    shared : correlation of the errors of the two scores, in [-1, 1]; 1 if they are the same.
    """
    usual = estimate.multiplier
    own = np.random.default_rng(1).standard_t(estimate.df, len(errors))
    mixed = shared * errors + math.sqrt(max(0.0, 1 - shared**2)) * own
    below, above = _extended(mixed if shared >= 0 else -mixed, usual)
    return (below, above) if shared >= 0 else (above, below)


def selection_errors(estimates: Sequence[Estimate], draws: int = DRAWS, seed: int = 0) -> Floats:
    """Return simulated errors (draws,) of the highest of several scores, in its standard errors.

    The errors of the heads are drawn from a multivariate t distribution with the mean correlation of the heads: few
    speakers do not suffice to estimate each correlation. Heads whose score is not significantly below the highest are
    simulated as equal to it, which is the worst case. With one head, the errors are those of Student's t.

    Parameters
    ----------
    estimates : the scores of all heads, on the same speakers.
    draws : number of simulated errors.
    seed : random seed.
    """
    values = np.array([estimate.value for estimate in estimates])
    errors = np.array([estimate.error for estimate in estimates])
    best, df = int(values.argmax()), min(estimate.df for estimate in estimates)
    common = _mean_correlation(np.array([estimate.influence for estimate in estimates]))
    rng = np.random.default_rng(seed)
    size = (draws, len(values))
    normal = math.sqrt(common) * rng.standard_normal((draws, 1)) + math.sqrt(1 - common) * rng.standard_normal(size)
    standardised = normal * np.sqrt(df / rng.chisquare(df, draws))[:, None]
    selected = (_simulated_truth(estimates, best, df) + standardised * errors).argmax(axis=1)
    chosen: Floats = standardised[np.arange(draws), selected]
    return chosen


def _simulated_truth(estimates: Sequence[Estimate], best: int, df: float) -> Floats:
    """Return the true scores (H,) of the simulation minus the best: 0 where a head may be as good as the best."""
    gaps = np.array([estimates[best].value - estimate.value for estimate in estimates])
    spread = [np.sqrt(np.square(estimates[best].influence - estimate.influence).sum()) for estimate in estimates]
    limit = student.ppf(1 - ALPHA / (2 * max(1, len(estimates) - 1)), df)
    return np.where(gaps <= limit * np.array(spread), 0.0, -gaps)


def _mean_correlation(influence: Floats) -> float:
    """Return the mean correlation, in [0, 1], of the errors of the heads, given their influences (H, S)."""
    norms = np.sqrt(np.square(influence).sum(axis=1))
    pairs = norms.sum() ** 2 - np.square(norms).sum()
    covariances = np.square(influence.sum(axis=0)).sum() - np.square(norms).sum()
    return float(min(1.0, max(0.0, covariances / pairs))) if pairs > 0 else 1.0


def _extended(errors: Floats, usual: float) -> Multipliers:
    """Return multipliers between which the share LEVEL of errors lies; the upper one is the usual one."""
    above = float(np.mean(errors < -usual))  # share of errors for which the interval lies below the true score
    return max(usual, float(np.quantile(errors, min(1.0, LEVEL + above)))), usual
