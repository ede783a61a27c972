"""A sentence about what the durations of the clips alone tell about their labels."""

from __future__ import annotations

import math

import numpy as np

from embedcache.auditing.baseline import baseline_text, uar_of_nearest_mean

from ..evaluation.predictions import Predictions
from .hardest_clips import ClipFacts


def duration_text(p: Predictions, facts: ClipFacts) -> str:
    """Return the UAR of the test clips' durations alone, as a sentence; "" if the manifest lacks a duration.

    It is the UAR of the nearest class mean, on speakers it was not fitted on, whatever the protocol of the run.
    """
    ids, first = np.unique(p.clip_ids, return_index=True)
    seconds = np.array([facts.clips[i].seconds if i in facts.clips else 0.0 for i in ids.tolist()])
    if not (seconds > 0).all():
        return ""
    uar = uar_of_nearest_mean(np.log(seconds)[:, None], p.truth[first], p.speakers[first])
    if math.isnan(uar):
        return ""
    n_labels = len(np.unique(p.truth[first]))
    method = "nearest class mean, on other speakers; a head that is not better has learned no more"
    return f"{baseline_text('Duration', uar, n_labels)} ({method})."
