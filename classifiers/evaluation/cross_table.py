"""The table of a cross-corpus run: a row for each training set, test set, head and encoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CrossRow:
    """One head, trained on one dataset and tested on another. The fields, in order, are the columns of cross.csv."""

    train: str
    test: str
    head: str
    encoder: str
    protocol: str
    labels: str  # those that both have, joined by +
    classes: int
    uar: float
    uar_low: float  # 95 % bootstrap over the test speakers
    uar_high: float
    war: float
    macro_f1: float
    chance: float  # UAR of guessing, and of always saying one label
    majority_war: float  # WAR of always saying the label that is most frequent in training; of equals, the first
    train_clips: int  # within a dataset, of one fold, the mean
    test_clips: int
    train_speakers: int
    test_speakers: int
    train_other: int  # clips that are left out for their label, which the other dataset lacks
    test_other: int
    excluded: int  # test clips that are left out because their recordings are trained on
    leaks: str
