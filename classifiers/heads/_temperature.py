"""Temperature scaling: calibration with one parameter for all scores (Guo et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

MAX_TEMPERATURE = 100.0


def temperature(scores: NDArray[Any], truth: NDArray[np.int64]) -> float:
    """Return the temperature at which the softmax of scores (n, C) has the lowest log-loss.

    The temperature is between 1 / `MAX_TEMPERATURE` and `MAX_TEMPERATURE`. `truth` (n,) are column numbers of `scores`.
    """

    def loss(log_t: float) -> float:
        return -float(log_softmax(scores / np.exp(log_t), axis=1)[np.arange(len(truth)), truth].mean())

    bound = np.log(MAX_TEMPERATURE)
    return float(np.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x))
