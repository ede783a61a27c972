"""The folds of the datasets, read from `folds.json`. A fold lists its test set; all other clips are for training.

The `official` folds are speaker-independent: those of EmoBox if it has such folds, otherwise our own, stratified and
with a fixed seed. The `emo-superb` folds are those of the benchmark EMO-SUPERB, speaker-independent too; it develops on
one of the four parts that it does not test, and here all four are for training. The `published` folds are those of
EmoBox that put clips of one speaker into training and test. The file is plain JSON so that other projects can test on
the same clips.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from ..dataset import Folds


def official(dataset: str) -> Folds:
    """Return the test speakers of each official fold."""
    return _load_folds("official", dataset)


def emo_superb(dataset: str) -> Folds:
    """Return the test speakers of each fold of EMO-SUPERB."""
    return _load_folds("emo-superb", dataset)


def published(dataset: str) -> Folds:
    """Return the ids of the test clips of each published fold."""
    return _load_folds("published", dataset)


def source(dataset: str) -> str:
    """Return who made the official folds, and how."""
    text: str = _read_json()["official"][dataset]["source"]
    return text


def _load_folds(kind: str, dataset: str) -> Folds:
    return tuple(tuple(fold) for fold in _read_json()[kind][dataset]["folds"])


@functools.cache
def _read_json() -> Any:
    return json.loads(Path(__file__).with_name("folds.json").read_text(encoding="utf-8"))
