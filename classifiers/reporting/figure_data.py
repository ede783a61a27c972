"""The numbers that figures show, computed from predictions once: for the charts of the report and for PNG figures.

Shapes: n test clips, C labels, B bins of confidence, m distinct confidences, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ..data.csv_text import number_text
from ..evaluation.metrics import Floats, aurc, brier, ece, recalls, reliability, risk_coverage, uar
from ..evaluation.predictions import Predictions

MAX_EPOCHS, MAX_LAYERS = 1000, 200  # limits for run folders from untrusted sources; the heads of ser stay far below
MAX_LOSS = 1e9  # largest value of a learning curve


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix: rows are true labels, columns are predicted labels."""

    labels: tuple[str, ...]
    counts: NDArray[np.int64]  # (C, C) number of clips
    shares: Floats  # (C, C) share of the clips of the row's label; 0 for a label without a clip
    clips: NDArray[np.int64]  # (C,) number of clips of each label
    recalls: Floats  # (C,) NaN for a label without a clip
    uar: float

    @classmethod
    def of(cls, p: Predictions) -> Confusion:
        """Count the predictions of all test clips."""
        counts = p.matrix()
        clips = counts.sum(axis=1)
        return cls(p.labels, counts, counts / np.maximum(clips, 1)[:, None], clips, recalls(counts), float(uar(counts)))


@dataclass(frozen=True)
class SpeakerScores:
    """The UAR of each test speaker."""

    names: tuple[str, ...]
    uar: Floats  # (speakers,)
    mean: float
    sd: float  # standard deviation over the speakers

    @classmethod
    def of(cls, p: Predictions) -> SpeakerScores:
        """Compute the UAR of each speaker, in the order of their names."""
        scores = uar(p.matrices_by(p.speakers))
        return cls(tuple(map(str, np.unique(p.speakers))), scores, float(scores.mean()), float(scores.std()))


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: the accuracy in bins of confidence. Accuracy and confidence of an empty bin are NaN."""

    clips: Floats  # (B,) number of clips
    confidence: Floats  # (B,) mean confidence
    accuracy: Floats  # (B,)
    ece: float
    brier: float

    @classmethod
    def of(cls, p: Predictions) -> Reliability:
        """Bin the predictions by confidence, as `metrics.ece` does."""
        clips, confidence, accuracy = reliability(p.proba, p.correct).T
        return cls(clips, confidence, accuracy, ece(p.proba, p.correct), brier(p.proba, p.truth_columns))

    @property
    def filled(self) -> NDArray[np.bool_]:
        """Whether each bin has clips (B,)."""
        filled: NDArray[np.bool_] = self.clips > 0
        return filled

    @property
    def scores(self) -> str:
        """ECE and Brier score as text, such as `ECE 0.120, Brier score 0.580`."""
        return f"ECE {number_text(self.ece)}, Brier score {number_text(self.brier)}"


@dataclass(frozen=True)
class RiskCoverage:
    """The risk-coverage curve of a head that abstains below a threshold of confidence, see `metrics.risk_coverage`."""

    coverage: Floats  # (m,) share of the clips that is accepted, in ascending order; the last is 1
    risk: Floats  # (m,) error rate on the accepted clips
    aurc: float

    @classmethod
    def of(cls, p: Predictions) -> RiskCoverage:
        """Compute the curve over all test clips."""
        _, coverage, risk = risk_coverage(p.proba, p.correct)
        return cls(coverage, risk, float(aurc(p.proba, p.correct)))


@dataclass(frozen=True)
class Curves:
    """The values of one quantity by epoch, in each fold."""

    lines: tuple[tuple[float, ...], ...]  # of each fold that has the quantity
    mean: tuple[float, ...]  # mean at each epoch over the folds that still train then; () without lines

    @classmethod
    def of(cls, lines: Sequence[Sequence[float]]) -> Curves:
        """Compute the mean. The mean of the lines (1, 3) and (2,) is (1.5, 3)."""
        longest = max(map(len, lines), default=0)
        at_epoch = ([line[epoch] for line in lines if len(line) > epoch] for epoch in range(longest))
        return cls(tuple(map(tuple, lines)), tuple(float(np.mean(values)) for values in at_epoch))


@dataclass(frozen=True)
class LearningCurves:
    """The loss or the accuracy by epoch, on training clips and on held-out speakers."""

    quantity: str  # "loss" or "accuracy"
    training: Curves
    held_out: Curves

    @classmethod
    def of(cls, p: Predictions, quantity: str) -> LearningCurves:
        """Read the learning curves of the folds. Values that are not a list of finite numbers >= 0 are ignored."""
        training, held_out = (_read_lines(p.histories, f"{part}_{quantity}") for part in ("train", "val"))
        return cls(quantity, Curves.of(training), Curves.of(held_out))

    @property
    def lines(self) -> tuple[tuple[float, ...], ...]:
        """All lines of the folds."""
        return self.training.lines + self.held_out.lines


@dataclass(frozen=True)
class LayerWeights:
    """The learned weight of each layer, over the folds."""

    folds: int
    mean: Floats  # (L,) sums to 1
    lowest: Floats  # (L,)
    highest: Floats  # (L,)

    @classmethod
    def of(cls, p: Predictions) -> LayerWeights | None:
        """Summarise the weights; None if the head has no weights, one layer, or folds with other numbers of layers."""
        lengths = {len(weights) for weights in p.layer_weights}
        if len(lengths) != 1 or not 1 < min(lengths) <= MAX_LAYERS:
            return None
        weights = np.array(p.layer_weights, dtype=np.float64)  # (folds, L)
        return cls(len(weights), weights.mean(axis=0), weights.min(axis=0), weights.max(axis=0))


def _read_lines(histories: Sequence[Mapping[str, Any]], name: str) -> list[list[float]]:
    """Return the first MAX_EPOCHS values of the curve `name` in each fold that has this curve."""
    curves = [history.get(name) for history in histories]
    return [curve[:MAX_EPOCHS] for curve in curves if _is_curve(curve)]


def _is_curve(values: object) -> TypeGuard[list[float]]:
    return isinstance(values, list) and len(values) > 0 and all(map(_is_value, values))


def _is_value(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < MAX_LOSS  # False for NaN
