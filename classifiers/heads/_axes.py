"""The principal axes of a matrix: one decomposition, with which a linear classifier of every strength is a product."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

NEGLIGIBLE = 1e-12  # axes whose share of the largest eigenvalue is smaller are rounding errors


def principal_axes(A: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the positive eigenvalues (r,) of A^T A and their eigenvectors (d, r), for A (n, d).

    The smaller of the matrices A A^T and A^T A is decomposed.
    """
    wide = len(A) < A.shape[1]
    values, vectors = eigh(A @ A.T if wide else A.T @ A)
    kept = values > NEGLIGIBLE * max(values[-1], np.finfo(float).tiny)
    values, vectors = values[kept], vectors[:, kept]
    return values, A.T @ vectors / np.sqrt(values) if wide else vectors
