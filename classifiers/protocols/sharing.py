"""What training and test clips share: speakers, recordings, sentences, sessions.

Development clips count as training clips here: heads choose by them. What training and development clips share is no
leak, since neither is tested.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from embedcache.manifest import is_unknown

from ..data.task import Strings, Task
from .fold import Fold, Indices


def shareable(task: Task) -> Mapping[str, Strings | None]:
    """Return the columns (n,) whose values training and test clips may share, by the name of the leak."""
    speakers = known_speakers(task)
    sessions = None if task.sessions is None else _of_several(task.sessions, speakers)
    return {"speaker": speakers, "audio": task.keys, "text": task.texts, "session": sessions}


def known_speakers(task: Task) -> Strings:
    """Return the speakers (n,) of a task, with "" for those that are unknown."""
    return np.where(are_unknown(task), "", task.speakers)


def are_unknown(task: Task) -> NDArray[np.bool_]:
    """Return for each clip (n,) of a task whether the name of its speaker says that the speaker is unknown."""
    names, numbers = np.unique(task.speakers, return_inverse=True)
    return np.array([is_unknown(name) for name in names.tolist()], bool)[numbers]


def _of_several(sessions: Strings, speakers: Strings) -> Strings:
    """Return sessions (n,), with "" for those of one known speaker: whoever shares one of these shares its speaker."""
    pairs = set(zip(sessions.tolist(), speakers.tolist(), strict=True))
    n_speakers = Counter(session for session, _ in pairs)
    unknown = {session for session, speaker in pairs if not speaker}
    several = [n_speakers[session] > 1 or session in unknown for session in sessions.tolist()]
    return np.where(several, sessions, "")


def crosses(column: Strings, folds: Sequence[Fold]) -> bool:
    """Whether training and test clips of any fold share a value of a column (n,); "" is an unknown value."""
    return any(shared_values(column, fold) for fold in folds)


def shared_values(column: Strings, fold: Fold) -> set[str]:
    """Return the values of a column (n,) that training and test clips share; "" is an unknown value."""
    return (set(column[fold.fitted_on].tolist()) & set(column[fold.test].tolist())) - {""}


def are_split(pairs: Indices, folds: Sequence[Fold]) -> NDArray[np.bool_]:
    """Return for each pair of rows (m, 2) whether a fold has one in the training and the other in the test clips."""
    split = np.zeros(len(pairs), bool)
    for fold in folds:
        train, test = np.isin(pairs, fold.fitted_on), np.isin(pairs, fold.test)
        split |= (train & test[:, ::-1]).any(axis=1)
    return split
