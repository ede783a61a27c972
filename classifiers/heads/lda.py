"""Linear discriminant analysis with a shrunk covariance, in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from ..data.memmap import Floats
from ._scikit import ScoreHead, coefficient_shares
from ._solutions import penalised_solutions
from ._spec import Head
from ._strength import CHOSEN, Strength

SHRINKAGES = (0.95, 0.8, 0.6, 0.4, 0.2, 0.1, 0.03)
USUAL = 0.6  # the one that inner folds of RAVDESS and EMO-DB choose most often
LEAST = 1e-9  # share of the covariance that is left with a shrinkage of 1


class LDA(ScoreHead):
    """Standardise, then LDA (Fisher 1936; scikit-learn) with a shrunk covariance matrix.

    `shrinkage` is a number in (0, 1], the share of a multiple of the identity in the covariance within labels
    (Friedman 1989), or "chosen", which compares a few on inner folds. Class weights multiply the prior probabilities of
    the classes, so "balanced" makes the priors equal. In many dimensions LDA's own probabilities are far too close to 0
    and 1, so they are replaced by temperature-scaled ones.
    """

    strength = Strength("shrinkage", SHRINKAGES, USUAL)

    def __init__(
        self,
        shrinkage: float | str = CHOSEN,
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.shrinkage = shrinkage
        self.class_weight = class_weight
        self.random_state = random_state

    @property
    def feature_shares_(self) -> NDArray[np.float64]:
        """How much each feature weighs (d,), see `coefficient_shares`."""
        return coefficient_shares(self.model_[-1].coef_)

    def _fit_model(self, X: Floats, y: NDArray[np.int64], strength: Any) -> Pipeline:
        """Return scikit-learn's classifier with the coefficients of its solver `lsqr`, which would take longer."""
        scaler, labels = self._fit_labels(X, y)
        lda = LinearDiscriminantAnalysis("lsqr", shrinkage=strength, priors=labels.priors)
        lda.classes_, lda.n_features_in_ = self.classes_, X.shape[1]
        ((coef, intercept),) = labels.coefficients([strength])
        lda.coef_, lda.intercept_ = _as_scikit(coef, intercept)
        return Pipeline([("standardscaler", scaler), ("lineardiscriminantanalysis", lda)])

    def _held_out_scores(
        self, X: Floats, y: NDArray[np.int64], held: Floats, strengths: Sequence[Any]
    ) -> NDArray[np.float64]:
        """Return the scores of the base class, from one product of the rows."""
        scaler, labels = self._fit_labels(X, y)
        rows = scaler.transform(held).astype(np.float64)
        return np.stack([rows @ coef.T + intercept for coef, intercept in labels.coefficients(strengths)])

    def _fit_labels(self, X: Floats, y: NDArray[np.int64]) -> tuple[StandardScaler, _Labels]:
        scaler = StandardScaler().fit(X)
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[y])
        priors = weights * np.bincount(y)
        return scaler, _Labels.of(scaler.transform(X).astype(np.float64), y, priors / priors.sum())


@dataclass(frozen=True)
class _Labels:
    """The means of the labels, and the rows from which the covariance within labels is computed."""

    means: NDArray[np.float64]  # (C, d)
    priors: NDArray[np.float64]  # (C,)
    residuals: NDArray[np.float64]  # (n, d), weighted; the covariance is their product with themselves

    @classmethod
    def of(cls, X: NDArray[np.float64], y: NDArray[np.int64], priors: NDArray[np.float64]) -> _Labels:
        """Return those of X (n, d) and indices y (n,). The covariances of labels are weighted by their priors (C,)."""
        counts = np.bincount(y)
        means = np.stack([X[y == label].mean(axis=0) for label in range(len(counts))])
        return cls(means, priors, (X - means[y]) * np.sqrt(priors / counts)[y][:, None])

    def coefficients(self, shrinkages: Sequence[float]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Yield coefficients (C, d) and intercepts (C,): the inverse of the shrunk covariance times the means.

        The shrunk covariance is the one multiplied by 1 - `shrinkage`, plus `shrinkage` times its mean variance in all
        directions. It is solved as a penalised system, divided by 1 - `shrinkage`. Raises ValueError unless each
        shrinkage is in (0, 1].
        """
        for shrinkage in shrinkages:
            if not 0 < shrinkage <= 1:
                raise ValueError(f"got shrinkage={shrinkage!r}; wanted {CHOSEN!r} or a number above 0 and at most 1.")
        mean_variance = np.square(self.residuals).sum() / self.residuals.shape[1] or 1.0
        kept = [max(1 - shrinkage, LEAST) for shrinkage in shrinkages]
        penalties = [shrinkage * mean_variance / share for shrinkage, share in zip(shrinkages, kept, strict=True)]
        solutions = penalised_solutions(self.residuals, self.means.T, penalties)
        for solution, share in zip(solutions, kept, strict=True):
            coef = solution.T / share
            yield coef, np.log(self.priors) - (self.means * coef).sum(axis=1) / 2


def _as_scikit(coef: NDArray[np.float64], intercept: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the parameters as scikit-learn has them: for two labels, the difference, (1, d) and (1,)."""
    return (coef, intercept) if len(coef) > 2 else (np.diff(coef, axis=0), np.diff(intercept))


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> LDA:
    """Return the unfitted head. `n_layers` and `n_frames` are ignored: the head reads one vector per clip."""
    return LDA(random_state=random_state)


head = Head(
    "lda",
    "pooled",
    "linear discriminant analysis, shrunk covariance, temperature-scaled",
    "Friedman 1989; scikit-learn, LinearDiscriminantAnalysis",
    build,
    {"shrinkage": (CHOSEN, *SHRINKAGES), "class_weight": (None, "balanced")},
)
