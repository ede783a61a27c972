"""Statistics that know about speakers: clips of one speaker are not independent, speakers are what is drawn anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
FEWEST_SPEAKERS = 3


def speaker_bootstrap(
    matrices: NDArray[Any],
    score: Callable[[NDArray[Any]], NDArray[np.float64]],
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """A percentile interval of `score` under resampling of speakers (cluster bootstrap, Davison & Hinkley 1997, 3.8).

    matrices (S, C, C): one confusion matrix a speaker. Gives (nan, nan) for fewer than 3 speakers, from whom no
    interval can be had. Labels that a resample lacks do not count in its score.
    """
    n = len(matrices)
    if n < FEWEST_SPEAKERS:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    times = rng.multinomial(n, np.full(n, 1 / n), size=resamples)  # (resamples, S)
    scores = score(np.tensordot(times, matrices, axes=1))  # (resamples,)
    tail = 100 * (1 - level) / 2
    low, high = np.nanpercentile(scores, [tail, 100 - tail])
    return float(low), float(high)
