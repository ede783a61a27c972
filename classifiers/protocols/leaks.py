"""The leak check, which finds what training and test clips share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedcache.manifest import are_clips_as_speakers

from ..data.task import Task
from .catalogue import DEPENDENT, protocol_of
from .fold import UNION, Fold
from .sharing import are_split, are_unknown, crosses, shareable

# What training and test clips of a fold can share, or may share as far as is known. `leaks` explains the words.
LEAKS = ("speaker", "speaker?", "session", "audio", "audio~", "text", "text?", "encoder", "encoder?")


def leaks(task: Task, folds: Sequence[Fold], protocol: str) -> str:
    """Return the leaks in any fold, as words of LEAKS joined by `+`; "" if everything is known and nothing is shared.

    speaker    training and test clips share a speaker. A speaker-dependent protocol always has this leak, even if it
               happens to share no speaker; published partitions and listed folds have it only if they share one
    speaker?   the speaker of some training or test clips is unknown; or nearly every clip has a speaker of its own, so
               the speakers may be unknown: names of clips, or sessions. Not checked if the leak `speaker` is there
    audio      training and test clips share audio: recordings that are identical byte for byte, or spans that overlap
    audio~     some test clips are probably copies of training clips, see `near_copies.py`
    text       training and test clips share a sentence
    text?      the sentences of some clips are unknown, and the known ones are not shared
    session    training and test clips share a session of several speakers, such as a dialogue
    encoder    the encoder was trained on a test clip, or on another clip of a test speaker
    encoder?   not all emotional speech that the encoder was trained on is known, and none of what is known is tested on

    Development clips count as training clips, because heads choose by them.
    """
    found = {name for name, column in shareable(task).items() if column is not None and crosses(column, folds)}
    if (rules := protocol_of(protocol, task.dataset)) and rules.promise == DEPENDENT:
        found.add("speaker")
    if "speaker" not in found and (_has_unknown_speakers(task, folds) or _has_clips_as_speakers(task)):
        found.add("speaker?")
    if task.overlaps is not None and are_split(task.overlaps, folds).any():
        found.add("audio")
    if task.near_copies is not None and are_split(task.near_copies, folds).any():
        found.add("audio~")
    if task.seen is not None and any(task.seen[fold.test].any() for fold in folds):
        found.add("encoder")
    unknown = {"text?": task.texts is None or bool((task.texts == "").any()), "encoder?": not task.training_known}
    found |= {word for word, is_unknown in unknown.items() if is_unknown and word.removesuffix("?") not in found}
    return "+".join(word for word in LEAKS if word in found)


def _has_unknown_speakers(task: Task, folds: Sequence[Fold]) -> bool:
    """Whether the speaker of any training, development or test clip is said to be unknown."""
    unknown = are_unknown(task)
    return any(unknown[part].any() for fold in folds for part in (fold.fitted_on, fold.test))


def _has_clips_as_speakers(task: Task) -> bool:
    """Whether nearly every recording of a task, or of one dataset of a union, has a speaker of its own."""
    names = task.ids if task.keys is None else np.where(task.keys == "", task.ids, task.keys)
    several = UNION in task.dataset or "->" in task.dataset  # clip ids then start with the name of their dataset
    owners = np.array([clip_id.partition(":")[0] if several else "" for clip_id in task.ids.tolist()])
    return any(
        are_clips_as_speakers(np.unique(task.speakers[rows]).size, np.unique(names[rows]).size)
        for rows in (owners == owner for owner in np.unique(owners))
    )


def trained_on_test_speakers(leaks: str) -> bool:
    """Whether the `leaks` of a leaderboard row mean that its head or encoder was trained on test speakers."""
    return not {"speaker", "encoder"}.isdisjoint(leaks.split("+"))
