"""The search for near copies in the clips of a comparison: once for each encoder, before anything is fitted.

What one encoder finds counts for the rows of all encoders, because a clip is a copy whatever computes its vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedcache import Artifacts, SerError
from embedcache.encoder import Log, is_ragged
from embedcache.text import count

from ..data.csv_text import csv_text
from ..data.memmap import Indices
from ..data.near_copies import MAX_CLIPS, MIN_CLIPS, MIN_DIMENSIONS, dimensions, find_near_copies
from ..data.task import Task
from ..protocols.fold import Fold
from ..protocols.sharing import are_split
from .configurations import ComparisonConfig

FILE = "near_copies.csv"
COLUMNS = ("clip", "copy", "label", "label_of_copy", "speaker", "speaker_of_copy", "margin", "encoder", "split")
EXAMPLES = 3  # pairs that the note names


@dataclass(frozen=True)
class CopySearch:
    """The pairs of clips of a task that are probably copies, the surest first."""

    task: Task  # with the pairs as `near_copies`
    margins: tuple[float, ...]  # largest margin of each pair, see `near_copies.py`
    encoders: tuple[str, ...]  # the encoder that gives this margin
    split: NDArray[np.bool_]  # (m,): whether a fold has one clip in the training and the other in the test clips

    @property
    def pairs(self) -> Indices:
        """The rows (m, 2) of the clips."""
        return np.empty((0, 2), np.int64) if self.task.near_copies is None else self.task.near_copies

    def note(self) -> str:
        """Return a sentence with the number of pairs and the first of them, those in training and test first."""
        ids = self.task.ids
        order = np.argsort(~self.split, kind="stable")[:EXAMPLES]
        names = ", ".join(f"{ids[a]} = {ids[b]}" for a, b in self.pairs[order])
        more = ", …" if len(self.pairs) > EXAMPLES else ""
        return (
            f"{count(len(self.pairs), 'pair')} of clips are probably copies, {int(self.split.sum())} of them in "
            f"training and test clips of a fold: {names}{more} ({FILE} in the run folder lists all)"
        )

    def files(self) -> dict[str, str]:
        """Return near_copies.csv as the text of a file of the run folder; nothing if there is no pair."""
        return {FILE: self.to_csv()} if len(self.pairs) else {}

    def to_csv(self) -> str:
        """Return the text of near_copies.csv, a row for each pair."""
        columns = [column for pair in (self.task.ids, self.task.y, self.task.speakers) for column in pair[self.pairs].T]
        split = np.where(self.split, "yes", "no")
        return csv_text([COLUMNS, *zip(*columns, self.margins, self.encoders, split, strict=True)])


def search_copies(
    artifacts: Artifacts, config: ComparisonConfig, tasks: Sequence[Task], folds: Sequence[Fold], log: Log
) -> CopySearch:
    """Search the tasks of a comparison, which have the same clips, for near copies; `log` receives a note on them."""
    if not MIN_CLIPS <= len(tasks[0]) <= MAX_CLIPS:
        fewer = f"fewer than {MIN_CLIPS}" if len(tasks[0]) < MIN_CLIPS else f"more than {MAX_CLIPS:,}"
        log(f"note: near copies are not looked for among {fewer} clips.")
    found: dict[tuple[int, int], tuple[float, str]] = {}
    for task in _one_for_each_encoder(artifacts, config, tasks, log):
        if dimensions(task) < MIN_DIMENSIONS:
            log(
                f"note: near copies are not looked for with {task.encoder}: its vectors have {dimensions(task)} "
                f"numbers, and with fewer than {MIN_DIMENSIONS}, other takes look like copies."
            )
        near = find_near_copies(task)
        for (a, b), margin in zip(near.rows.tolist(), near.margins.tolist(), strict=True):
            found[a, b] = max(found.get((a, b), (0.0, "")), (margin, task.encoder))
    ranked = sorted(found, key=lambda pair: -found[pair][0])
    pairs = np.array(ranked, np.int64).reshape(-1, 2)
    search = CopySearch(
        replace(tasks[0], near_copies=pairs),
        tuple(found[pair][0] for pair in ranked),
        tuple(found[pair][1] for pair in ranked),
        are_split(pairs, folds),
    )
    if ranked:
        log(f"note: {search.note()}.")
    return search


def _pooled_task(artifacts: Artifacts, config: ComparisonConfig, encoder: str) -> Task:
    """Return the task of a configuration with the time means of one encoder."""
    names = config.same_names
    return Task.load(config.datasets, encoder, "pooled", artifacts, config.labels, same_names=names)


def _one_for_each_encoder(
    artifacts: Artifacts, config: ComparisonConfig, tasks: Iterable[Task], log: Log
) -> Iterator[Task]:
    """Yield a task with time means for each encoder; frames are too many to be compared."""
    by_encoder: dict[str, Task] = {}
    for task in tasks:
        if task.encoder not in by_encoder or is_ragged(by_encoder[task.encoder].view):
            by_encoder[task.encoder] = task
    for encoder, task in by_encoder.items():
        try:
            yield _pooled_task(artifacts, config, encoder) if is_ragged(task.view) else task
        except SerError:
            log(f"note: near copies are not looked for with {encoder}: it has no pooled vectors of all clips.")
