"""The specification of a metric: its name, its function, and the range of its scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Function: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], tuple[str, ...]], Any]


@dataclass(frozen=True)
class Metric:
    """The specification of a metric. A greater score is better: negate a loss.

    `function(truth, predicted, proba, labels)` returns one finite number for n predictions of C labels:

    - `truth`, `predicted`: (n,) number of the true and of the predicted label, which is its place in `labels` and its
      column in `proba`.
    - `proba`: (n, C) probabilities; each row sums to 1.
    - `labels`: the C names of the labels.

    The function must not depend on the order of the predictions. It is called once for all predictions of a head, and
    once without each speaker, for the interval.
    """

    name: str
    about: str  # description in one line
    source: str  # paper or library
    function: Function
    lowest: float = -math.inf  # lowest possible score
    highest: float = math.inf  # highest possible score
