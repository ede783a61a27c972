"""The table of a cross-corpus run: a row for each training set, test set, head and encoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CrossRow:
    """The scores of a head trained on one dataset and tested on another. The fields are the columns of cross.csv."""

    train: str  # name of the training dataset
    test: str  # name of the test dataset
    head: str
    encoder: str
    protocol: str
    labels: str  # labels that occur in both datasets, joined by +
    classes: int  # number of labels
    uar: float
    uar_low: float  # lower end of the 95 % interval over the test speakers
    uar_high: float  # upper end of the 95 % interval over the test speakers
    war: float
    macro_f1: float
    chance: float  # UAR of random guessing, and of always predicting the same label
    majority_war: float  # WAR of predicting the most frequent training label; the first in order if several are
    train_clips: int  # number of training clips; within one dataset, the mean over the folds
    test_clips: int
    train_speakers: int  # number of training speakers; within one dataset, the mean over the folds
    test_speakers: int
    train_other: int  # training clips left out because the test dataset lacks their label
    test_other: int  # test clips left out because the training dataset lacks their label
    excluded: int  # test clips left out: their recording, or their speaker under another name, is in the training set
    leaks: str
