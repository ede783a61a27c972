"""Protocols that keep speakers apart: folds of speakers, of speakers and sentences, of sessions, of one speaker."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold

from embedcache import ProtocolError

from ..data.task import Strings, Task
from .fold import Fold, Indices, numbered
from .requirements import check_labels, check_speakers


def speakers_folds(task: Task, n_folds: int, seed: int) -> list[Fold]:
    """Return stratified folds in which each speaker is tested once."""
    check_speakers(task, n_folds, "speakers")
    check_labels(task, n_folds, "speakers")
    return numbered(_split_groups(task, task.speakers, n_folds, seed))


def speakers_and_texts_folds(task: Task, n_folds: int, seed: int) -> list[Fold]:
    """Return a fold for each pair of a group of speakers and a group of sentences.

    The test clips are those of the speakers with the sentences. The training clips are those of other speakers with
    other sentences; clips of the speakers with other sentences, and of other speakers with the sentences, are left out.
    """
    check_speakers(task, n_folds, "speakers+text")
    check_labels(task, n_folds, "speakers+text")
    by_speaker = _split_groups(task, task.speakers, n_folds, seed)
    for n_groups in range(min(n_folds, _count_texts(task)), 1, -1):
        by_text = _split_groups(task, task.texts, n_groups, seed)  # type: ignore[arg-type]
        folds = list(_crossed(by_speaker, by_text))
        if n_groups == 2 or all(set(task.y[fold.test]) <= set(task.y[fold.train]) for fold in folds):
            break
    return folds


def sessions_folds(task: Task, n_folds: int, seed: int) -> list[Fold]:
    """Return folds in which neither a session nor a speaker is in both parts."""
    if task.sessions is None or not (task.sessions != "").any():
        raise ProtocolError(
            f"protocol 'sessions' needs sessions; {task.dataset or 'the task'} has none. Add a column session to the "
            "manifest, or use --protocol speakers."
        )
    check_speakers(task, 2, "sessions")
    groups = _linked_groups(task.sessions, task.speakers)
    n_groups, wanted = len(set(groups.tolist())), max(n_folds, 2)
    if n_groups < wanted:
        advice = f"Use --folds {n_groups}" if n_groups > 1 else "Give sessions of different people different names"
        raise ProtocolError(
            f"protocol 'sessions' with {wanted} folds needs {wanted} groups of sessions that share no speaker; "
            f"{task.dataset or 'the task'} has {n_groups}. {advice}, or use --protocol speakers."
        )
    check_labels(task, n_folds, "sessions")
    return numbered(_split_groups(task, groups, n_folds, seed))


def loso_folds(task: Task, n_folds: int, seed: int) -> list[Fold]:
    """Return a fold for each speaker, named after the speaker."""
    check_speakers(task, 2, "loso")
    splits = LeaveOneGroupOut().split(task.y, task.y, task.speakers)
    return [Fold(str(task.speakers[test[0]]), train, test) for train, test in splits]


def _crossed(
    by_speaker: Sequence[tuple[Indices, Indices]], by_text: Sequence[tuple[Indices, Indices]]
) -> Iterator[Fold]:
    for i, (other_speakers, speakers) in enumerate(by_speaker, start=1):
        for j, (other_texts, texts) in enumerate(by_text, start=1):
            test = np.intersect1d(speakers, texts)
            if len(test):
                yield Fold(f"{i}.{j}", np.intersect1d(other_speakers, other_texts), test)


def _count_texts(task: Task) -> int:
    """Return the number of sentences. Raises ProtocolError unless every clip has one and there are at least two."""
    texts = np.full(len(task), "") if task.texts is None else task.texts
    if unknown := int(np.count_nonzero(texts == "")):
        raise ProtocolError(
            f"protocol 'speakers+text' needs the sentence of every clip; {unknown} of {len(task)} clips of "
            f"{task.dataset or 'the task'} have none. Add a column text to the manifest, or use --protocol speakers."
        )
    if len(found := set(texts.tolist())) < 2:
        raise ProtocolError(
            f"protocol 'speakers+text' needs at least 2 sentences; {task.dataset or 'the task'} has {len(found)} "
            f"({', '.join(found)}). Use --protocol speakers."
        )
    return len(found)


def _split_groups(task: Task, groups: Strings, n: int, seed: int) -> list[tuple[Indices, Indices]]:
    """Split the clips n times, so that each group (n_clips,) is tested once and labels are spread evenly."""
    splitter = StratifiedGroupKFold(n, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about labels with few clips, which check_folds reports
        return list(splitter.split(task.y, task.y, groups))


def _linked_groups(sessions: Strings, speakers: Strings) -> Strings:
    """Return a group (n,) for each clip, so that clips with the same session or the same speaker have the same group.

    Example: with the sessions 1, 1, 2, 3 and the speakers a, b, b, c, clips 0, 1 and 2 are one group: the first two
    share a session, the next two a speaker. The clips of an unknown session are linked by their speaker alone.
    """
    group = np.arange(len(sessions))
    while True:
        before = group.copy()
        for column in (sessions, speakers):
            _, number = np.unique(column, return_inverse=True)
            smallest = np.full(number.max() + 1, len(group))
            np.minimum.at(smallest, number, group)
            group = np.where(column == "", group, smallest[number])
        if (group == before).all():
            return group.astype(str)
