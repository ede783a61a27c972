"""A support vector machine with an RBF kernel and calibrated probabilities.

The time and the memory of libsvm grow with the square of the training clips. With more than `EXACT_UP_TO` of them, the
kernel is approximated from a random sample of the clips (Williams & Seeger 2001), and the errors of the machine are
squared (Suykens & Vandewalle 1999): time and memory then grow in proportion to the clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ..data.memmap import Floats
from ._base import Split
from ._scikit import SEED, ScoreHead, scores_of
from ._spec import Head
from ._strength import CHOSEN, Strength, best_strength, held_out, thinned

EXACT_UP_TO = 10_000  # training clips: a kernel matrix of 0.8 GB, and a minute for a fit
# Multiples of 1 / number of features, which is `gamma="scale"` of standardised features.
GAMMAS = (0.1, 0.25, 0.5, 1.0)
USUAL = 0.5

SAMPLE = 2_000  # clips whose kernels with a clip are its features: 16 kB a clip


class SVM(ScoreHead):
    """Standardise, then SVC with an RBF kernel (scikit-learn, libsvm).

    `gamma` is a number, "scale" or "auto" as in SVC, or "chosen": inner folds then compare a few, the widest kernel
    being a tenth as steep as that of "scale". Probabilities are computed from the decision values with a temperature.

    With more than `exact_up_to` training clips, the kernel is approximated: `approximate_` is True. The features of a
    clip are its kernels with `SAMPLE` random training clips (`Nystroem`), the same for every seed, and the classifier
    is `RidgeClassifier` with the penalty 1 / C. `gamma` is then chosen with the exact kernel on a part of the clips.
    """

    strength = Strength("gamma", GAMMAS, USUAL, by_feature=True, names=("scale", "auto"))

    def __init__(
        self,
        C: float = 10.0,
        gamma: str | float = CHOSEN,
        class_weight: Any = None,
        random_state: int | None = None,
        exact_up_to: int = EXACT_UP_TO,
    ) -> None:
        self.C = C
        self.gamma = gamma
        self.class_weight = class_weight
        self.random_state = random_state
        self.exact_up_to = exact_up_to

    def _prepare(self, n_rows: int) -> None:
        self.approximate_ = n_rows > self.exact_up_to

    def _choose(
        self, X: Floats, y: NDArray[np.int64], folds: Sequence[Split], candidates: Sequence[Any]
    ) -> tuple[Any, float]:
        if not self.approximate_ or len(candidates) == 1:
            return super()._choose(X, y, folds, candidates)
        best = best_strength(*held_out(self._exact_scores, X, y, thinned(folds, y, SEED), candidates))
        return super()._choose(X, y, folds, candidates[best : best + 1])

    def _fit_model(self, X: Floats, y: NDArray[np.int64], strength: Any) -> Pipeline:
        if self.approximate_:
            return self._approximation(X, y, strength)
        svc = SVC(C=self.C, gamma=strength, class_weight=self.class_weight)
        return make_pipeline(StandardScaler(), svc).fit(X, self.classes_[y])

    def _held_out_scores(
        self, X: Floats, y: NDArray[np.int64], held: Floats, strengths: Sequence[Any]
    ) -> NDArray[np.float64]:
        scores = super()._held_out_scores if self.approximate_ else self._exact_scores
        return scores(X, y, held, strengths)

    def _exact_scores(
        self, X: Floats, y: NDArray[np.int64], held: Floats, strengths: Sequence[Any]
    ) -> NDArray[np.float64]:
        """Return the same scores as the base class, with kernel matrices that are computed in advance.

        Matrix products are faster than libsvm, which computes the kernel of each pair of rows separately.
        """
        scaler = StandardScaler().fit(X)
        train, test = (scaler.transform(rows).astype(np.float64) for rows in (X, held))
        within, across = (euclidean_distances(rows, train, squared=True) for rows in (train, test))
        scores = []
        for gamma in (_number(strength, train) for strength in strengths):
            model = SVC(C=self.C, kernel="precomputed", class_weight=self.class_weight)
            model.fit(np.exp(-gamma * within), self.classes_[y])
            scores.append(scores_of(model, np.exp(-gamma * across)))
        return np.stack(scores)

    def _approximation(self, X: Floats, y: NDArray[np.int64], gamma: Any) -> Pipeline:
        """Fit on X (n, d) and indices y (n,) in float64: in float32, the smallest components would be noise."""
        scaler = StandardScaler().fit(X)
        train = scaler.transform(X).astype(np.float64)
        kernel = Nystroem(gamma=_number(gamma, train), n_components=min(SAMPLE, len(X)), random_state=SEED).fit(train)
        ridge = RidgeClassifier(1 / self.C, copy_X=False, class_weight=self.class_weight)
        ridge.fit(kernel.transform(train), self.classes_[y])
        return Pipeline([("scaler", scaler), ("kernel", kernel), ("ridge", ridge)])


def _number(gamma: Any, train: NDArray[np.float64]) -> Any:
    """Return `gamma` as a number, as SVC understands its names, for standardised rows (n, d)."""
    named: dict[Any, float] = {
        "scale": 1 / (train.shape[1] * (train.var() or 1.0)),
        "auto": 1 / train.shape[1],
    }
    return named.get(gamma, gamma)


def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> SVM:
    """Return the unfitted head. `n_layers` and `n_frames` are ignored: the head reads one vector per clip."""
    return SVM(random_state=random_state)


head = Head(
    "svm",
    "pooled",
    "support vector machine with an RBF kernel, temperature-scaled",
    "scikit-learn, SVC",
    build,
    {
        "C": (0.3, 1.0, 3.0, 10.0, 30.0),
        "gamma": (CHOSEN, "scale", 1e-4, 3e-4, 1e-3, 3e-3),
        "class_weight": (None, "balanced"),
    },
)
