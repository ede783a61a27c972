"""Solutions of a penalised linear system for several penalties, which share the product of the matrix with itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Matrix64 = NDArray[np.float64]


def penalised_solutions(A: Matrix64, B: Matrix64, penalties: Sequence[float]) -> Iterator[Matrix64]:
    """Yield (A^T A + penalty I)^-1 B for each penalty above zero, given A (n, d) and B (d, k).

    With more columns than rows, the smaller system of A A^T is solved (Woodbury's identity).
    """
    if len(A) >= A.shape[1]:
        product = A.T @ A
        for penalty in penalties:
            yield _solved(product, B, penalty)
        return
    product, image = A @ A.T, A @ B
    for penalty in penalties:
        yield (B - A.T @ _solved(product, image, penalty)) / penalty


def _solved(product: Matrix64, right: Matrix64, penalty: float) -> Matrix64:
    """Return (product + penalty I)^-1 right by a Cholesky factor, in half the time of `scipy.linalg.solve`."""
    system = product.copy()
    system.flat[:: len(system) + 1] += penalty  # the diagonal
    factor = cho_factor(system.T, overwrite_a=True, check_finite=False)  # LAPACK reads columns: this is no copy
    solution: Matrix64 = cho_solve(factor, right, check_finite=False)
    return solution
