"""Texts about a row of a leaderboard: the name of its vectors, and notes that a reader of its score has to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from embedcache.text import count

from .. import heads
from ..adaptation.speaker_statistics import UNADAPTED
from ..data.csv_text import number_text
from ..protocols.fold import UNION
from .metrics import uar
from .predictions import Predictions
from .statistics import MIN_SPEAKERS

SUFFIXES = ("-calibrated", "-tuned")  # suffixes that wrappers append to the name of a head
NEARLY_ALL = 0.9  # share of the clips of a fold that are predicted as one label
EXCESS = 0.25  # by which this share exceeds that of the clips that have the label


def vectors_name(head: str, encoder: str, view: str) -> str:
    """Return the name of the vectors, such as `mfcc`, or `mfcc, layers+std` for a view selected with `--view`."""
    spec = registered_head(head)
    return f"{encoder}, {view}" if view and spec and view != spec.view else encoder


def registered_head(head: str) -> heads.Head | None:
    """Return the specification of a head by the name in a row: `svm-tuned` is a variant of `svm`; None if unknown."""
    for suffix in SUFFIXES:
        head = head.removesuffix(suffix)
    return heads.find(head)


def without_inner_folds(predictions: Iterable[Predictions]) -> list[str]:
    """Return a sentence for the heads that kept their defaults in the same number of folds, without inner folds."""
    heads: dict[str, list[str]] = {}
    for p in predictions:
        untouched = [c for c in p.chosen if not c.get("tried", 1) or ("temperature" in c and c["temperature"] is None)]
        if untouched:
            heads.setdefault(f"{len(untouched)} of {count(len(p.chosen), 'fold')}", []).append(p.head)
    return [
        f"{', '.join(dict.fromkeys(names))}: in {folds} the training clips allow no inner folds that keep speakers "
        "apart; the defaults are used there"
        for folds, names in heads.items()
    ]


def row_notes(p: Predictions) -> list[str]:
    """Return sentences about approximations, missing intervals, folds with one label, parts of unions, adaptations."""
    return [
        *_approximations(p),
        *_labels_of_one_speaker(p),
        *_one_label_folds(p),
        *_scores_of_parts(p),
        *_unadapted_folds(p),
    ]


def _approximations(p: Predictions) -> Iterator[str]:
    if p.params.get("approximate") is True:
        yield "approximate, because the training clips are too many for the exact kernel of svm"


def _labels_of_one_speaker(p: Predictions) -> Iterator[str]:
    pairs = set(zip(p.truth.tolist(), p.speakers.tolist(), strict=True))
    speakers = {label: [s for one, s in pairs if one == label] for label in p.labels}
    alone = sorted(label for label, found in speakers.items() if len(found) == 1)
    if len(set(p.speakers.tolist())) < MIN_SPEAKERS:
        yield f"no intervals: {count(len(set(p.speakers.tolist())), 'speaker')} of {MIN_SPEAKERS} that are needed"
    elif alone:
        yield f"no interval of UAR and macro-F1: only one speaker has clips of {' and '.join(alone)}"


def _one_label_folds(p: Predictions) -> Iterator[str]:
    """Yield a sentence for each fold whose predictions are nearly all the same label, although its clips are not."""
    splits = np.unique(p.splits)
    matrices = p.matrices_by(p.splits)
    clips = matrices.sum(axis=(1, 2))
    predicted = matrices.sum(axis=1) / clips[:, None]
    truth = matrices.sum(axis=2) / clips[:, None]
    for split, shares, actual in zip(splits.tolist(), predicted, truth, strict=True):
        most = int(shares.argmax())
        if shares[most] >= NEARLY_ALL and shares[most] >= actual[most] + EXCESS:
            seed, _, fold = split.partition("/")
            name = f"fold {fold}" if len(np.unique(p.seeds)) == 1 else f"fold {fold} of seed {seed}"
            yield f"{name}: {100 * shares[most]:.0f} % of the predictions are {p.labels[most]}"


def _scores_of_parts(p: Predictions) -> Iterator[str]:
    """Yield the UAR of each dataset, if several are combined: their clips have the dataset's name as a prefix."""
    if UNION not in p.dataset:
        return
    owners = np.array([clip.partition(":")[0] for clip in p.clip_ids.tolist()])
    names = np.unique(owners)
    scores = uar(p.matrices_by(owners))
    yield "UAR by dataset: " + " and ".join(
        f"{name} {number_text(score)}" for name, score in zip(names, scores, strict=True)
    )


def _unadapted_folds(p: Predictions) -> Iterator[str]:
    """Yield a sentence if folds of an adaptation are not adapted, because inner folds advised against it."""
    if unadapted := p.strengths.count(UNADAPTED):
        folds = f"{unadapted} of {count(len(p.strengths), 'fold')}"
        yield f"not adapted in {folds}, because the inner folds scored higher without"
