"""One temperature for all scores: the smallest calibration there is (Guo et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

HOTTEST = 100.0


def temperature(scores: NDArray[Any], truth: NDArray[np.int64]) -> float:
    """The temperature, between 1/100 and 100, at which the softmax of scores (n, C) has the least log-loss.

    truth (n,) are columns of the scores.
    """

    def loss(log_t: float) -> float:
        return -float(log_softmax(scores / np.exp(log_t), axis=1)[np.arange(len(truth)), truth].mean())

    bound = np.log(HOTTEST)
    return float(np.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x))
