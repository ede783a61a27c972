"""Constants, windows and sorting for the arithmetic of contours and functionals.

torch's exporter to ONNX fixes what a view, and a full sort, read of the example's length. Where it traces, the same
numbers are therefore computed by operations that it leaves open.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def constant(make: Callable[[], NDArray[Any]]) -> Callable[[], Tensor]:
    """Return a function that computes a constant array once and returns it as a float64 tensor."""

    @functools.cache
    @functools.wraps(make)
    def tensor() -> Tensor:
        with torch.inference_mode(False):  # a tensor of inference mode could not be exported
            return torch.from_numpy(np.ascontiguousarray(make(), dtype=np.float64))

    return tensor


def windows(values: Tensor, width: int, hop: int, count: int) -> Tensor:
    """Return the windows (…, count, width) of values (…, n); window t begins at t * hop."""
    if not torch.compiler.is_exporting():
        return values.unfold(-1, width, hop)[..., :count, :]
    return values[..., torch.arange(count)[:, None] * hop + torch.arange(width)]


def ascending(values: Tensor) -> Tensor:
    """Return values (T, k), each column sorted."""
    if not torch.compiler.is_exporting():
        return values.sort(0).values
    return values.topk(values.shape[0], 0, largest=False).values


def power_of(spectrum: Tensor) -> Tensor:
    """Return the squared absolute values of a complex tensor."""
    parts = torch.view_as_real(spectrum)
    return parts[..., 0].square() + parts[..., 1].square()


def decibels(power: Tensor) -> Tensor:
    """Return 10 log10 of powers above zero."""
    return 10 * torch.log10(power)
