"""The folds of the datasets, as `folds.json` lists them: what is tested in each; the rest is for training.

`official` are by speaker: EmoBox's where it has such, else ours, stratified and seeded. `published` are EmoBox's where
those cut speakers in two. The file is plain, so that others can test on the same clips.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from ..dataset import Folds


def official(dataset: str) -> Folds:
    """The test speakers of each fold."""
    return _folds("official", dataset)


def published(dataset: str) -> Folds:
    """The test clips of each fold."""
    return _folds("published", dataset)


def source(dataset: str) -> str:
    """Who made the official folds, and how."""
    said: str = _read()["official"][dataset]["source"]
    return said


def _folds(kind: str, dataset: str) -> Folds:
    return tuple(tuple(fold) for fold in _read()[kind][dataset]["folds"])


@functools.cache
def _read() -> Any:
    return json.loads(Path(__file__).with_name("folds.json").read_text(encoding="utf-8"))
