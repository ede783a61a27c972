"""Find clips that are probably copies of each other: re-encoded, louder or quieter, trimmed or resampled.

Content keys find files that are identical byte for byte. A copy under another name and with other bytes still has
nearly the same embedding. The cosine alone does not tell copies from repeats, because another take of a sentence by the
same speaker can have a higher cosine than an MP3 of the same take. Therefore

1. each dimension is standardised and clipped, so that the few dimensions that a codec changes most do not decide;
2. the principal components are scaled to equal variance (whitened), so that what all clips share counts little;
3. the cosine of two clips is compared with that of their neighbours: the margin of a pair is its cosine minus the
   larger of the two clips' cosines with their NEIGHBOUR-th nearest clips. A repeat has several near neighbours, a copy
   has one.

Margins of clips that are not copies shrink with the number of clips. `least_margin` lies above the largest margins
measured on RAVDESS, EMO-DB and random parts of them, with several encoders; `docs/explanation/leaks.md` has the
figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.encoder import is_ragged

from .memmap import Floats, Indices, Matrix, blocks
from .task import Task

MIN_CLIPS = 150  # with fewer clips, the margins of copies and of other clips overlap
MAX_CLIPS = 100_000  # the time grows with the square: 50,000 clips of 768 dimensions take about half a minute
MIN_DIMENSIONS = 256  # with the 88 dimensions of `egemaps`, margins of other takes reach those of copies
NEIGHBOUR = 5  # a clip with up to 3 copies still has a neighbour of this rank that is not a copy
CLIP = 2.0  # standard deviations beyond which a value is clipped
SHRINKAGE = 0.01  # added to the variance of each component, as a share of the mean variance
SCALE, LOWEST = 4.5, 0.3  # of `least_margin`
MANY_CLIPS, MOST_COMPONENTS = 10_000, 384  # with more clips than this, fewer components are used, to save time
ROWS, BYTES = 512, 2**25  # most rows whose cosines with all clips are in memory at a time, and most bytes of these


@dataclass(frozen=True)
class NearCopies:
    """Pairs of clips that are probably copies, the surest first."""

    rows: Indices  # (m, 2): the rows of the two clips in the task
    margins: Floats  # (m,): how much nearer they are than their other neighbours, up to about 1


def find_near_copies(task: Task) -> NearCopies:
    """Return the pairs of clips of a task that are probably copies, without those that are identical byte for byte.

    A task with frames, with fewer than MIN_CLIPS or more than MAX_CLIPS clips, or with fewer than MIN_DIMENSIONS
    dimensions is not searched.
    """
    if is_ragged(task.view) or not MIN_CLIPS <= len(task) <= MAX_CLIPS or dimensions(task) < MIN_DIMENSIONS:
        return NearCopies(np.empty((0, 2), np.int64), np.empty(0, np.float32))
    last = task.X[:, task.X.shape[1] - dimensions(task) :]
    rows, margins = _pairs_above(_whitened(last), least_margin(len(task)))
    if task.keys is not None:
        a, b = task.keys[rows].T
        differ = (a != b) | (a == "")
        rows, margins = rows[differ], margins[differ]
    order = np.argsort(-margins, kind="stable")
    return NearCopies(rows[order], margins[order])


def dimensions(task: Task) -> int:
    """Return the number of dimensions that are searched: those of the last layer."""
    return int(task.X.shape[1] // task.n_layers)


def least_margin(n_clips: int) -> float:
    """Return the margin from which a pair counts as copies: 0.45 for 1,000 clips, 0.3 for 3,375 and more."""
    return max(LOWEST, float(SCALE / np.cbrt(n_clips)))


def _whitened(X: Matrix) -> Floats:
    """Return X (n, d) standardised, clipped and whitened, as rows (n, k) of length 1."""
    mean, scale = _mean_and_scale(X)

    def parts() -> Iterator[Floats]:
        for part in blocks(X):
            yield np.clip((part - mean) * scale, -CLIP, CLIP)

    centre, projection = _whitening(parts, len(X))
    Z: Floats = np.concatenate([(part - centre) @ projection for part in parts()])
    lengths = np.linalg.norm(Z, axis=1, keepdims=True)
    return (Z / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _mean_and_scale(X: Matrix) -> tuple[Floats, Floats]:
    """Return the mean (d,) of each dimension, and the reciprocal of its standard deviation; 0 if that is about 0."""
    mean = sum(part.sum(axis=0, dtype=np.float64) for part in blocks(X)) / len(X)
    variance = sum(((part - mean) ** 2).sum(axis=0) for part in blocks(X)) / len(X)
    varies = variance > 1e-12 * max(variance.max(), float((mean**2).max()))
    scale = np.divide(1, np.sqrt(variance), out=np.zeros_like(mean), where=varies)
    return mean.astype(np.float32), scale.astype(np.float32)


def _whitening(parts: Callable[[], Iterator[Floats]], n: int) -> tuple[Floats, Floats]:
    """Return the mean (d,) of n rows, and the projection (d, k) on their principal components, scaled."""
    centre = (sum(part.sum(axis=0, dtype=np.float64) for part in parts()) / n).astype(np.float32)
    covariance = sum((part - centre).T @ (part - centre).astype(np.float64) for part in parts()) / n
    variances, components = np.linalg.eigh(covariance)  # in ascending order
    k = min(len(variances), n // 2, MOST_COMPONENTS if n > MANY_CLIPS else n)
    kept = np.maximum(variances[-k:], 0) + SHRINKAGE * variances.mean() + np.finfo(np.float32).tiny
    return centre, (components[:, -k:] / np.sqrt(kept)).astype(np.float32)


def _pairs_above(Z: Floats, least: float) -> tuple[Indices, Floats]:
    """Return the pairs of rows (m, 2) of Z (n, k) whose margin is above `least`, and their margins (m,).

    A row is in fewer than NEIGHBOUR pairs, so the result is small whatever the vectors are.
    """
    found: dict[tuple[int, int], float] = {}
    step = min(ROWS, 1 + BYTES // (4 * len(Z)))
    rows = np.flatnonzero(_have_neighbour(Z, least, step))  # few, so that the others are compared only once
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        cosines = Z[part] @ Z.T
        cosines[np.arange(len(part)), part] = -1
        margins = cosines - np.partition(cosines, -NEIGHBOUR, axis=1)[:, -NEIGHBOUR, None]
        for i, j in zip(*np.nonzero(margins > least), strict=True):
            found[int(part[i]), int(j)] = float(margins[i, j])
    pairs = [(i, j) for i, j in found if i < j and (j, i) in found]
    smaller = [min(found[i, j], found[j, i]) for i, j in pairs]
    return np.array(pairs, np.int64).reshape(-1, 2), np.array(smaller, np.float32)


def _have_neighbour(Z: Floats, least: float, step: int) -> NDArray[np.bool_]:
    """Return for each row of Z (n, k) whether its cosine with another row is above `least`."""
    have = np.zeros(len(Z), bool)
    for start in range(0, len(Z), step):
        above = Z[start : start + step] @ Z[start:].T > least
        above[np.arange(len(above)), np.arange(len(above))] = False
        have[start : start + len(above)] |= above.any(axis=1)
        have[start:] |= above.any(axis=0)
    return have
