"""Which clips of a speaker are drawn. Labels, vectors, heads and the order of the clips have no effect on it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from embedcache.manifest import is_unknown

from ..data.csv_text import csv_text
from ..data.memmap import Indices
from ..data.task import Task
from ..protocols.fold import Fold
from .amounts import Amount

FILE = "adapt_clips.csv"
COLUMNS = ("adapted", "seed", "fold", "draw", "speaker", "clip_id")
TRAINING = "training"  # name of the draw of training and development speakers, in place of a number


def rows_by_speaker(task: Task, rows: Indices) -> dict[str, Indices]:
    """Return the rows of each speaker among selected rows, by the speaker's name in sorted order."""
    speakers = task.speakers[rows]
    return {str(name): rows[speakers == name] for name in np.unique(speakers)}


def drawn_clips(task: Task, rows: Indices, amount: Amount, seed: int, draw: str) -> Mapping[str, Indices]:
    """Return for each speaker among selected rows the rows of the clips that are drawn; none of an unknown speaker.

    The first 5 of the 10 clips of one draw are the 5 clips of that draw, so that amounts are compared on nested clips.
    """
    return {
        speaker: _drawn(task, own, amount, f"{seed}|{draw}|{speaker}") if not is_unknown(speaker) else own[:0]
        for speaker, own in rows_by_speaker(task, rows).items()
    }


def _drawn(task: Task, rows: Indices, amount: Amount, key: str) -> Indices:
    in_order = rows[np.argsort(task.ids[rows], kind="stable")]
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    drawn: Indices = np.random.default_rng(number).permutation(in_order)[: amount.of_speaker(len(rows))]
    return np.sort(drawn)


def drawn_files(task: Task, splits: Sequence[Sequence[Fold]], amounts: Sequence[Amount]) -> dict[str, str]:
    """Return adapt_clips.csv as a file of a run folder: the test clips of each draw; no file without an adaptation.

    `splits` are the folds for seed 0, for seed 1, …. For all clips of a speaker there is no list.
    """
    lines = [
        (amount.name, seed, fold.name, draw, speaker, clip)
        for amount in amounts
        if amount.clips
        for seed, folds in enumerate(splits)
        for fold in folds
        for draw in range(amount.draws)
        for speaker, rows in drawn_clips(task, fold.test, amount, seed, str(draw)).items()
        for clip in task.ids[rows].tolist()
    ]
    return {FILE: csv_text([COLUMNS, *lines])} if lines else {}
