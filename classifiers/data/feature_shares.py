"""Which numbers of a vector a linear head weighs most, by the names that the encoder gives to its numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedcache import EncoderError, encoders

TOP = 15  # numbers, and contours, that are kept
NUMBERS, CONTOURS = "numbers", "contours"  # keys of the result

Shares = dict[str, dict[str, float]]


def feature_shares(encoder: str, by_fold: Sequence[NDArray[np.float64]]) -> Shares:
    """Return the greatest mean shares over folds, by name of the number and by name of the contour.

    `by_fold` are the shares (d,) of each fold, see `heads._scikit.coefficient_shares`. The contour of `pitch.p95` is
    `pitch`, and its share is the sum of those of all its numbers. The result is empty if there are no shares, or if the
    encoder has no names for d numbers.
    """
    names = _names(encoder) if by_fold else ()
    if not names or len(names) != len(by_fold[0]):
        return {}
    numbers = dict(zip(names, np.mean(by_fold, axis=0).tolist(), strict=True))
    contours: dict[str, float] = {}
    for name, share in numbers.items():
        contour = name.partition(".")[0]
        contours[contour] = contours.get(contour, 0.0) + share
    return {NUMBERS: _greatest(numbers), **({CONTOURS: _greatest(contours)} if len(contours) < len(numbers) else {})}


def _names(encoder: str) -> tuple[str, ...]:
    """Return the names of the numbers of an encoder without a checkpoint; of any other, there are none."""
    if encoder not in encoders.names() or encoders.get(encoder).checkpoint:
        return ()
    try:
        return encoders.feature_names(encoder)
    except EncoderError:  # no names, or a package that is missing here, such as opensmile
        return ()


def _greatest(shares: dict[str, float]) -> dict[str, float]:
    return dict(sorted(shares.items(), key=lambda item: -item[1])[:TOP])
