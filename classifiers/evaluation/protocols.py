"""Protocols, which split a task into folds, and the leak check, which finds what training and test clips share.

A speaker-independent protocol guarantees that no speaker is in the training and the test clips of a fold; a fold that
breaks the guarantee is an error. A speaker-dependent protocol guarantees nothing, and its leaderboard rows are marked
with the leak `speaker`. Under every protocol, each label of the test clips must also occur in the training clips.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold, train_test_split

from embedcache import ProtocolError, UnknownName, datasets
from embedcache.errors import complain
from embedcache.manifest import are_clips_as_speakers
from embedcache.text import count

from ..data.task import Strings, Task

Indices = NDArray[np.int64]
LEAKS = ("speaker", "speaker?", "audio", "text", "encoder")  # in the order in which they are named
HOLDOUT_SHARE, HOLDOUT_SEED = 0.1, 42  # share of test clips, and random seed, of many published scores


@dataclass(frozen=True)
class Fold:
    """One split of a task into training and test clips."""

    name: str
    train: Indices  # row numbers of the training clips
    test: Indices  # row numbers of the test clips


@dataclass(frozen=True)
class Protocol:
    """A method of splitting a task into folds."""

    about: str  # description in one line
    disjoint_speakers: bool  # whether the protocol is speaker-independent
    make: Callable[[Task, int, int], list[Fold]]  # called with the task, the number of folds and the seed


def make_folds(task: Task, protocol: str = "speakers", n_folds: int = 5, seed: int = 0) -> list[Fold]:
    """Return the folds of a protocol, checked by `check_folds`.

    `n_folds` is used by the protocols `speakers` and `random`, `seed` by these two and `holdout`. Raises UnknownName if
    there is no such protocol, ProtocolError if it cannot be applied to the task.
    """
    if protocol not in PROTOCOLS:
        raise UnknownName("protocol", protocol, PROTOCOLS)
    if len(task.labels) < 2:
        raise ProtocolError(
            f"{task.dataset or 'the task'}: got {count(len(task.labels), 'label')} ({', '.join(task.labels)}); wanted "
            "at least two. Use another --labels view, or record clips with other labels."
        )
    folds = PROTOCOLS[protocol].make(task, n_folds, seed)
    check_folds(task, folds, protocol)
    return folds


def check_folds(task: Task, folds: Sequence[Fold], protocol: str) -> None:
    """Raise ProtocolError unless every fold is valid under the protocol.

    A fold is valid if it has training and test clips, if every label of the test clips occurs in the training clips,
    and, for a speaker-independent protocol, if training and test clips share no speaker.
    """
    complaints = []
    for fold in folds:
        complaints += [
            f"fold {fold.name}: no {part} clips"
            for part, rows in (("training", fold.train), ("test", fold.test))
            if not len(rows)
        ]
        shared = set(task.speakers[fold.train]) & set(task.speakers[fold.test])
        if PROTOCOLS[protocol].disjoint_speakers and shared:
            complaints.append(f"fold {fold.name}: speakers {', '.join(sorted(shared))} are in training and test")
        for label in sorted(set(task.y[fold.test]) - set(task.y[fold.train])):
            speakers = sorted(set(task.speakers[task.y == label]))
            complaints.append(f"fold {fold.name}: '{label}' has no training clip (speakers: {', '.join(speakers)})")
    if complaints:
        advice = "Leave such labels out, record more speakers, or use --protocol random, which is speaker-dependent."
        raise ProtocolError(complain(f"protocol '{protocol}' cannot be used on {task.dataset}", complaints, advice))


def leaks(task: Task, folds: Sequence[Fold], protocol: str) -> str:
    """Return the names of the leaks in any fold, joined by `+`; "" if no leak was found.

    speaker    training and test clips share a speaker. A speaker-dependent protocol always has this leak, even if it
               happens to share no speaker
    speaker?   nearly every clip has a speaker of its own, so the speakers may be unknown: names of clips, or sessions.
               Not checked if the leak `speaker` is there
    audio      training and test clips share audio with the same key, which is identical byte for byte
    text       training and test clips share a sentence
    encoder    the encoder was fine-tuned on a test clip, or on another clip of a test speaker
    """
    columns: Mapping[str, Strings | None] = {"speaker": task.speakers, "audio": task.keys, "text": task.texts}
    shared = {
        name
        for name, column in columns.items()
        if column is not None and any(_shared_values(column[fold.train], column[fold.test]) for fold in folds)
    }
    if protocol in PROTOCOLS and not PROTOCOLS[protocol].disjoint_speakers:
        shared.add("speaker")
    if "speaker" not in shared and _has_clips_as_speakers(task):
        shared.add("speaker?")
    if task.seen is not None and any(task.seen[fold.test].any() for fold in folds):
        shared.add("encoder")
    return "+".join(name for name in LEAKS if name in shared)


def _has_clips_as_speakers(task: Task) -> bool:
    """Whether nearly every recording of a task, or of one dataset of a union, has a speaker of its own."""
    names = task.ids if task.keys is None else np.where(task.keys == "", task.ids, task.keys)
    several = "+" in task.dataset or "->" in task.dataset  # clip ids then start with the name of their dataset
    owners = np.array([clip_id.partition(":")[0] if several else "" for clip_id in task.ids.tolist()])
    parts = [owners == owner for owner in np.unique(owners)]
    return any(are_clips_as_speakers(np.unique(task.speakers[p]).size, np.unique(names[p]).size) for p in parts)


def trained_on_test_speakers(leaks: str) -> bool:
    """Whether the `leaks` of a leaderboard row mean that its head or encoder was trained on test speakers."""
    return not {"speaker", "encoder"}.isdisjoint(leaks.split("+"))


def fold_hash(task: Task, folds: Sequence[Fold]) -> str:
    """Return a hash of the folds, as 12 hexadecimal digits.

    Equal hashes mean that the same recordings with the same labels and speakers were used for training and test in each
    fold. Folds by corrected speakers are other folds, even if they divide the clips alike: the intervals differ.
    """
    keys = np.full(len(task), "") if task.keys is None else task.keys
    columns = zip(task.ids.tolist(), task.y.tolist(), keys.tolist(), task.speakers.tolist(), strict=True)
    described = np.array(["\t".join(row) for row in columns])
    digest = hashlib.sha256()
    for fold in folds:
        for part in (fold.train, fold.test):
            digest.update("\n".join(sorted(described[part])).encode() + b"\0")
    return digest.hexdigest()[:12]


def _shared_values(a: Strings, b: Strings) -> set[str]:
    return (set(a.tolist()) & set(b.tolist())) - {""}  # "" is an unknown value


def _check_speakers(task: Task, n: int, protocol: str) -> None:
    """Raise ProtocolError unless every clip has a speaker and there are at least n and 2 speakers."""
    speakers = set(task.speakers.tolist())
    if "" in speakers:
        raise ProtocolError(
            f"protocol '{protocol}' needs the speaker of every clip; {task.dataset} has clips without a speaker. Add "
            "the speakers, or use --protocol random, which is speaker-dependent."
        )
    n = max(n, 2)
    if len(speakers) < n:
        fewer = f", use --folds {len(speakers)}" if len(speakers) > 1 and protocol == "speakers" else ""
        raise ProtocolError(
            f"protocol '{protocol}' with {n} folds needs {n} speakers; {task.dataset or 'the task'} has "
            f"{len(speakers)} ({', '.join(sorted(speakers))}). Record more speakers{fewer}, or use --protocol random, "
            "which is speaker-dependent."
        )


def _speakers(task: Task, n_folds: int, seed: int) -> list[Fold]:
    _check_speakers(task, n_folds, "speakers")
    if (most := int(np.unique(task.y, return_counts=True)[1].max())) < n_folds:
        raise ProtocolError(
            f"protocol 'speakers' with {n_folds} folds needs a label with {n_folds} clips; no label of "
            f"{task.dataset or 'the task'} has more than {most}. Use fewer --folds, or record more clips."
        )
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about labels with few clips, which check_folds reports
        return _numbered(splitter.split(task.y, task.y, task.speakers))


def _loso(task: Task, n_folds: int, seed: int) -> list[Fold]:
    _check_speakers(task, 2, "loso")
    splits = LeaveOneGroupOut().split(task.y, task.y, task.speakers)
    return [Fold(str(task.speakers[test[0]]), train, test) for train, test in splits]


def _official(task: Task, n_folds: int, seed: int) -> list[Fold]:
    spec = datasets.find(task.dataset)
    if spec is None or not spec.official_folds:
        names = [d.name for d in datasets.all() if d.official_folds]
        raise ProtocolError(
            f"no official folds are known for '{task.dataset}', only for {', '.join(names)}. Use --protocol speakers."
        )
    folds = []
    for number, speakers in enumerate(spec.official_folds, start=1):
        if absent := sorted(set(speakers) - set(task.speakers.tolist())):
            raise ProtocolError(
                f"official fold {number} of {task.dataset} tests the speakers {', '.join(absent)}, who have no clips "
                "in the task. Use --protocol speakers, or complete the dataset."
            )
        is_test = np.isin(task.speakers, speakers)
        folds.append(Fold(str(number), np.flatnonzero(~is_test), np.flatnonzero(is_test)))
    return folds


def _published(task: Task, n_folds: int, seed: int) -> list[Fold]:
    spec = datasets.find(task.dataset)
    if spec is None or spec.published_folds is None:
        names = [d.name for d in datasets.all() if d.published_folds]
        alternative = "official, with folds by speaker" if spec and spec.official_folds else "speakers"
        raise ProtocolError(
            f"no folds by clip are known for '{task.dataset}', only for {', '.join(names)}. Use --protocol "
            f"{alternative}."
        )
    folds = spec.published_folds()
    known_clips = {*task.ids.tolist(), *task.skipped, *task.dropped}
    if absent := sorted({clip for fold in folds for clip in fold} - known_clips):
        raise ProtocolError(
            f"the published folds of {task.dataset} test {count(len(absent), 'clip')} that the task lacks, such as "
            f"{absent[0]}. Use --protocol speakers, or complete the dataset."
        )
    is_test = [np.isin(task.ids, fold) for fold in folds]
    return _numbered((np.flatnonzero(~rows), np.flatnonzero(rows)) for rows in is_test)


def _random(task: Task, n_folds: int, seed: int) -> list[Fold]:
    _check_clips(task, n_folds, "random")
    first, clips = _recordings(task)
    splits = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(first, task.y[first])
    return _numbered((clips(train), clips(test)) for train, test in splits)


def _holdout(task: Task, n_folds: int, seed: int) -> list[Fold]:
    """Return one split; with seed 0, the split of many published scores."""
    _check_clips(task, 2, "holdout")
    first, clips = _recordings(task)
    train, test = train_test_split(
        np.arange(len(first)), test_size=HOLDOUT_SHARE, stratify=task.y[first], random_state=HOLDOUT_SEED + seed
    )
    return [Fold("1", clips(train), clips(test))]


def _recordings(task: Task) -> tuple[Indices, Callable[[Indices], Indices]]:
    """Group clips that are the same recording, so that they stay in the same part of a split.

    If clips 0 and 2 of four clips are the same recording, the recordings are [0, 2], [1] and [3]: their first clips are
    [0, 1, 3], and the clips of recordings 0 and 2 are [0, 2, 3].

    Returns
    -------
    first : row of the first clip of each recording, in the order of the rows.
    clips : function that maps numbers of recordings to the rows of all of their clips.
    """
    names = task.ids if task.keys is None else np.where(task.keys == "", task.ids, task.keys)
    rows_by_name: dict[str, list[int]] = {}
    for row, name in enumerate(names.tolist()):
        rows_by_name.setdefault(name, []).append(row)
    recordings = list(rows_by_name.values())
    return np.array([rows[0] for rows in recordings]), lambda chosen: np.concatenate([recordings[n] for n in chosen])


def _check_clips(task: Task, n: int, protocol: str) -> None:
    """Raise ProtocolError unless every label has at least n clips and, for `holdout`, can occur in the test clips."""
    labels, counts = np.unique(task.y, return_counts=True)
    if counts.min() < n:
        raise ProtocolError(
            f"protocol '{protocol}' needs {n} clips of each label; '{labels[counts.argmin()]}' has {counts.min()}. "
            "Leave the label out, or record more clips."
        )
    if protocol == "holdout" and len(task) * HOLDOUT_SHARE < len(labels):
        raise ProtocolError(
            f"protocol 'holdout' tests a tenth of {len(task)} clips, fewer than the {len(labels)} labels. Use "
            "--protocol random, or record more clips."
        )


def _numbered(splits: Iterable[tuple[Indices, Indices]]) -> list[Fold]:
    return [Fold(str(number), train, test) for number, (train, test) in enumerate(splits, start=1)]


PROTOCOLS: dict[str, Protocol] = {
    "speakers": Protocol("stratified folds by speaker: every test speaker is new to the head", True, _speakers),
    "loso": Protocol("leave one speaker out: one fold per speaker", True, _loso),
    "official": Protocol("the dataset's folds by speaker: published, or defined by ser if none are", True, _official),
    "published": Protocol(
        "published folds by clip, for datasets without published folds by speaker; speaker-dependent", False, _published
    ),
    "random": Protocol("stratified folds by clip, as in most published scores; speaker-dependent", False, _random),
    "holdout": Protocol("one stratified 90/10 split by clip, seed 42; speaker-dependent", False, _holdout),
}
