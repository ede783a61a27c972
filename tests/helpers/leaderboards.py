"""Leaderboards with a known truth: heads on simulated speakers, for tests of intervals and comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from classifiers import Predictions

BALANCED, IMBALANCED = (10, 10, 10, 10), (40, 10, 6, 1)  # clips of each label by one speaker
SPREADS = {"speaker": 0.3, "speaker_label": 0.3, "clip": 0.6, "head_speaker": 0.15, "head_clip": 0.8}


def simulated(
    rng: np.random.Generator, n_speakers: int, clips: Sequence[int], recalls: Sequence[float]
) -> list[Predictions]:
    """Predictions of one head per recall, which is the true recall of all labels over all possible speakers.

    A clip is predicted correctly if a normal variable is positive. Speakers, their labels, clips, and heads with
    speakers and with clips add to it; the clips are as hard for all heads.
    """
    n_labels = len(clips)
    truth = np.tile(np.repeat(np.arange(n_labels), clips), n_speakers)
    speaker = np.repeat(np.arange(n_speakers), sum(clips))
    n = len(truth)
    shared = (
        rng.normal(0, SPREADS["speaker"], n_speakers)[speaker]
        + rng.normal(0, SPREADS["speaker_label"], (n_speakers, n_labels))[speaker, truth]
        + rng.normal(0, SPREADS["clip"], n)
    )
    scale = np.sqrt(sum(spread**2 for spread in SPREADS.values()))
    labels = np.array([f"label{number}" for number in range(n_labels)])
    heads = []
    for number, recall in enumerate(recalls):
        own = rng.normal(0, SPREADS["head_speaker"], n_speakers)[speaker] + rng.normal(0, SPREADS["head_clip"], n)
        evidence = norm.ppf(recall) * scale + shared + own
        predicted = np.where(evidence > 0, truth, (truth + rng.integers(1, n_labels, n)) % n_labels)
        confidence = 1 / n_labels + (1 - 1 / n_labels) * norm.cdf(0.8 * np.abs(evidence)) ** 2
        proba = np.repeat(((1 - confidence) / (n_labels - 1))[:, None], n_labels, axis=1)
        proba[np.arange(n), predicted] = confidence
        heads.append(
            Predictions(
                head=f"head{number}",
                encoder="e",
                dataset="d",
                view="pooled",
                protocol="speakers",
                labels=tuple(labels),
                clip_ids=np.arange(n).astype(str),
                speakers=np.char.add("s", speaker.astype(str)),
                folds=np.full(n, "1"),
                seeds=np.full(n, "0"),
                truth=labels[truth],
                predicted=labels[predicted],
                proba=proba.astype(np.float32),
            )
        )
    return heads
