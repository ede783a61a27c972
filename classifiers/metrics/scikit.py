"""scikit-learn's scorers of several labels, as metrics, and the reasons why its other scorers cannot rank heads.

A scorer calls `predict` or `predict_proba` of a fitted classifier. It gets a classifier that returns the stored
predictions, so all scorers work in the way that scikit-learn documents. A greater score is always better: scikit-learn
negates losses, and their names begin with `neg_`.

This list is ours, since scikit-learn does not tell what kind of targets a scorer is for, nor the range of its scores.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer, get_scorer_names

from embedcache import DataError

from ._spec import Metric

UNIT = (0.0, 1.0)
BELOW_0 = (-math.inf, 0.0)
BELOW_1 = (-math.inf, 1.0)
SCORERS = {  # name: what it is, and the range of its scores
    "accuracy": ("share of clips whose label is predicted; also called WAR", UNIT),
    "average_precision": ("mean of the average precisions of the labels", UNIT),
    "balanced_accuracy": ("mean recall of the labels; also called UAR", UNIT),
    "d2_brier_score": ("share of the Brier score of the label frequencies that is saved", BELOW_1),
    "d2_log_loss_score": ("share of the log loss of the label frequencies that is saved", BELOW_1),
    "f1_macro": ("mean F1 of the labels", UNIT),
    "f1_micro": ("F1 of all labels together, which is the accuracy", UNIT),
    "f1_weighted": ("F1 of the labels, weighted by their clips", UNIT),
    "jaccard_macro": ("mean Jaccard index of the labels", UNIT),
    "jaccard_micro": ("Jaccard index of all labels together", UNIT),
    "jaccard_weighted": ("Jaccard index of the labels, weighted by their clips", UNIT),
    "matthews_corrcoef": ("Matthews' correlation of true and predicted labels", (-1.0, 1.0)),
    "neg_brier_score": ("Brier score, negated", (-2.0, 0.0)),
    "neg_log_loss": ("log loss in nats, negated", BELOW_0),
    "precision_macro": ("mean precision of the labels", UNIT),
    "precision_micro": ("precision of all labels together, which is the accuracy", UNIT),
    "precision_weighted": ("precision of the labels, weighted by their clips", UNIT),
    "recall_macro": ("mean recall of the labels; also called UAR", UNIT),
    "recall_micro": ("recall of all labels together, which is the accuracy", UNIT),
    "recall_weighted": ("recall of the labels, weighted by their clips, which is the accuracy", UNIT),
    "roc_auc_ovo": ("mean area under the ROC curve of pairs of labels", UNIT),
    "roc_auc_ovo_weighted": ("area under the ROC curve of pairs of labels, weighted by their clips", UNIT),
    "roc_auc_ovr": ("mean area under the ROC curve of each label against the rest", UNIT),
    "roc_auc_ovr_weighted": ("area under the ROC curve of each label, weighted by their clips", UNIT),
    "top_k_accuracy": ("share of clips whose label is one of the two most probable ones", UNIT),
}
# What needs one label to be the positive one, and what to use instead: no emotion is "positive" in this sense.
ONE_POSITIVE = {
    "f1": "f1_macro",
    "jaccard": "jaccard_macro",
    "neg_negative_likelihood_ratio": "matthews_corrcoef",
    "positive_likelihood_ratio": "matthews_corrcoef",
    "precision": "precision_macro",
    "recall": "recall_macro",
    "roc_auc": "roc_auc_ovr",
}
TWO_LABELS = {  # what is wrong with a scorer if there are two labels, and what to use instead
    "average_precision": "it scores the second one only. Use roc_auc_ovr, which treats both alike",
    "top_k_accuracy": "both are the two most probable ones, so it is always 1. Use accuracy",
}
MULTILABEL = {f"{name}_samples": f"{name}_macro" for name in ("f1", "jaccard", "precision", "recall")}
CLUSTERING = (
    *("adjusted_mutual_info_score", "adjusted_rand_score", "completeness_score", "fowlkes_mallows_score"),
    *("homogeneity_score", "mutual_info_score", "normalized_mutual_info_score", "rand_score", "v_measure_score"),
)


def refusal(name: str) -> str:
    """Return why a scorer of scikit-learn cannot rank heads, and what to use instead; "" for any other name."""
    if name in SCORERS or name not in get_scorer_names():
        return ""
    if name in ONE_POSITIVE:
        reason = f"needs one label to be the positive one. Use {ONE_POSITIVE[name]}, which treats all labels alike."
    elif name in MULTILABEL:
        reason = f"is for clips that have several labels at once. Use {MULTILABEL[name]}."
    elif name in CLUSTERING:
        reason = "compares clusterings, whatever the names of the labels. Use matthews_corrcoef or accuracy."
    else:
        reason = "is for numbers, not for labels (regression). Use accuracy, f1_macro, roc_auc_ovr or neg_log_loss."
    return f"scikit-learn's scorer '{name}' {reason}"


class StoredPredictions(ClassifierMixin, BaseEstimator):
    """A classifier that was fitted elsewhere, and returns its stored predictions (n,) and probabilities (n, C)."""

    def __init__(self, predicted: NDArray[np.int64], proba: NDArray[np.float64]) -> None:
        self.predicted = predicted
        self.proba = proba
        self.classes_ = np.arange(proba.shape[1])

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return the predicted labels (n,); X is ignored."""
        return self.predicted

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probabilities (n, C); X is ignored."""
        return self.proba


def _scored_by(name: str) -> Any:
    """Return the function of the metric that calls a scorer."""

    def function(
        truth: NDArray[np.int64], predicted: NDArray[np.int64], proba: NDArray[np.float64], labels: Any
    ) -> Any:
        if len(labels) == 2 and name in TWO_LABELS:
            raise DataError(f"of two labels, {TWO_LABELS[name]}")
        return get_scorer(name)(StoredPredictions(predicted, proba), np.zeros((len(truth), 1)), truth)

    return function


metric = tuple(
    Metric(name, about, f"scikit-learn, {name}", _scored_by(name), *ends)
    for name, (about, ends) in SCORERS.items()
    if name in get_scorer_names()
)
