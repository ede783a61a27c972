"""What a task needs so that a protocol can split it: enough speakers, enough clips of a label."""

from __future__ import annotations

import numpy as np

from embedcache import ProtocolError
from embedcache.text import count

from ..data.task import Task
from .fold import Fold
from .published import official_folds


def check_two_labels(task: Task) -> None:
    """Raise ProtocolError unless the clips have at least two labels."""
    if len(task.labels) < 2:
        raise ProtocolError(
            f"{task.dataset or 'the task'}: got {count(len(task.labels), 'label')} ({', '.join(task.labels)}); wanted "
            "at least two. Use another --labels view, or record clips with other labels."
        )


def no_listed_folds(task: Task, n_folds: int, seed: int) -> list[Fold]:
    """Raise ProtocolError: folds of one's own cannot be made, only read, see `listed.py`."""
    raise ProtocolError(
        f"protocol 'listed' needs the folds of {task.dataset or 'the task'}. Name their file with --folds FILE, or "
        "choose another --protocol."
    )


def check_speakers(task: Task, n: int, protocol: str) -> None:
    """Raise ProtocolError unless every clip has a speaker and there are at least n and 2 speakers."""
    speakers = set(task.speakers.tolist())
    if "" in speakers:
        raise ProtocolError(
            f"protocol '{protocol}' needs the speaker of every clip; {task.dataset} has clips without a speaker. Add "
            "the speakers, or use --protocol random, which is speaker-dependent."
        )
    n = max(n, 2)
    if len(speakers) < n:
        raise ProtocolError(
            f"protocol '{protocol}' with {n} folds needs {n} speakers; {task.dataset or 'the task'} has "
            f"{len(speakers)} ({', '.join(sorted(speakers))}). {_ways_out(task, len(speakers))}"
        )


def _ways_out(task: Task, n_speakers: int) -> str:
    """Return advice for a task of few speakers: protocols that keep speakers apart come first."""
    ways = ["--protocol official"] if official_folds(task.dataset) else []
    ways += ["--protocol loso", f"--folds {n_speakers}"] if n_speakers > 1 else []
    independent = f"Use {', '.join(ways)}, or record more speakers. " if ways else "Record more speakers. "
    return f"{independent}The last resort is --protocol random, which is speaker-dependent."


def check_labels(task: Task, n: int, protocol: str) -> None:
    """Raise ProtocolError unless a label has at least n clips."""
    if (most := int(np.unique(task.y, return_counts=True)[1].max())) < n:
        raise ProtocolError(
            f"protocol '{protocol}' with {n} folds needs a label with {n} clips; no label of "
            f"{task.dataset or 'the task'} has more than {most}. Use fewer --folds, or record more clips."
        )
