"""Protocols: the ways to cut a task into folds; and the leak guard, which looks at what train and test share.

A protocol either promises disjoint speakers, and a fold that breaks the promise is an error, or it does not, and its
leaderboard rows say so. Every fold must show its head every label that it is tested on.
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

from ..data.task import Strings, Task

Indices = NDArray[np.int64]
HOLDOUT_SHARE, HOLDOUT_SEED = 0.1, 42


@dataclass(frozen=True)
class Fold:
    """One split: row numbers of a task."""

    name: str
    train: Indices
    test: Indices


@dataclass(frozen=True)
class Protocol:
    """A way to make folds: `make(task, n_folds, seed)`."""

    about: str
    disjoint_speakers: bool
    make: Callable[[Task, int, int], list[Fold]]


def make_folds(task: Task, protocol: str = "speakers", n_folds: int = 5, seed: int = 0) -> list[Fold]:
    """The folds of a protocol, checked. Raises UnknownName, or ProtocolError where its promise cannot be kept."""
    if protocol not in PROTOCOLS:
        raise UnknownName("protocol", protocol, PROTOCOLS)
    if len(task.labels) < 2:
        raise ProtocolError(f"{task.dataset or 'the task'}: one label only, {task.labels}; wanted at least two.")
    folds = PROTOCOLS[protocol].make(task, n_folds, seed)
    check_folds(task, folds, protocol)
    return folds


def check_folds(task: Task, folds: Sequence[Fold], protocol: str) -> None:
    """Raises ProtocolError for a shared speaker under a promise of none, or a label tested but never trained on."""
    complaints = []
    for fold in folds:
        complaints += [
            f"fold {fold.name}: nothing to {use}" for use in ("train", "test") if not len(getattr(fold, use))
        ]
        shared = set(task.speakers[fold.train]) & set(task.speakers[fold.test])
        if PROTOCOLS[protocol].disjoint_speakers and shared:
            complaints.append(f"fold {fold.name}: speakers {', '.join(sorted(shared))} in train and test")
        for label in sorted(set(task.y[fold.test]) - set(task.y[fold.train])):
            speakers = sorted(set(task.speakers[task.y == label]))
            complaints.append(f"fold {fold.name}: '{label}' has no clip to train on (speakers: {', '.join(speakers)})")
    if complaints:
        advice = "Leave such labels out, record more speakers, or say --protocol random and read its leaks."
        raise ProtocolError(complain(f"protocol '{protocol}' cannot be kept on {task.dataset}", complaints, advice))


def leaks(task: Task, folds: Sequence[Fold], protocol: str) -> str:
    """What train and test share in any fold: of `speaker`, `audio` (identical files) and `text`, joined by `+`.

    A protocol that does not look at speakers always carries `speaker`: where none is shared, that was luck. `encoder`
    says that the encoder was fine-tuned on clips, or on speakers, that some fold tests.
    """
    columns: Mapping[str, Strings | None] = {"speaker": task.speakers, "audio": task.keys, "text": task.texts}
    shared = {
        name
        for name, column in columns.items()
        if column is not None and any(_shared(column[fold.train], column[fold.test]) for fold in folds)
    }
    blind = {"speaker"} if protocol in PROTOCOLS and not PROTOCOLS[protocol].disjoint_speakers else set()
    known = task.seen is not None and any(task.seen[fold.test].any() for fold in folds)
    return "+".join([*(name for name in columns if name in shared | blind), *(["encoder"] if known else [])])


def knows_speakers(leaks: str) -> bool:
    """Whether a row's `leaks` say that its head, or its encoder, was trained on speakers that it is tested on."""
    return not {"speaker", "encoder"}.isdisjoint(leaks.split("+"))


def fold_hash(task: Task, folds: Sequence[Fold]) -> str:
    """12 digits that name the folds: rows with equal ones were trained and tested on the same recordings and labels."""
    keys = np.full(len(task), "") if task.keys is None else task.keys
    labelled = np.char.add(np.char.add(np.char.add(np.char.add(task.ids, "\t"), task.y), "\t"), keys)
    digest = hashlib.sha256()
    for fold in folds:
        for part in (fold.train, fold.test):
            digest.update("\n".join(sorted(labelled[part])).encode() + b"\0")
    return digest.hexdigest()[:12]


def _shared(a: Strings, b: Strings) -> set[str]:
    return (set(a.tolist()) & set(b.tolist())) - {""}


def _need_speakers(task: Task, n: int, protocol: str) -> None:
    speakers = set(task.speakers.tolist())
    if "" in speakers:
        raise ProtocolError(f"protocol '{protocol}' needs the speaker of every clip; {task.dataset} lacks some.")
    n = max(n, 2)
    if len(speakers) < n:
        fewer = f", --folds {len(speakers)}" if len(speakers) > 1 and protocol == "speakers" else ""
        raise ProtocolError(
            f"protocol '{protocol}' with {n} folds needs {n} speakers; {task.dataset or 'the task'} has "
            f"{len(speakers)} ({', '.join(sorted(speakers))}). Record more{fewer}, or use --protocol random, which "
            "leaks speakers and says so."
        )


def _speakers(task: Task, n_folds: int, seed: int) -> list[Fold]:
    _need_speakers(task, n_folds, "speakers")
    if (most := int(np.unique(task.y, return_counts=True)[1].max())) < n_folds:
        raise ProtocolError(
            f"protocol 'speakers' with {n_folds} folds needs a label with {n_folds} clips; the most that one of "
            f"{task.dataset or 'the task'} has is {most}. Ask for fewer --folds, or record more."
        )
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label with few clips: check_folds says what is wrong with it
        return _numbered(splitter.split(task.y, task.y, task.speakers))


def _loso(task: Task, n_folds: int, seed: int) -> list[Fold]:
    _need_speakers(task, 2, "loso")
    splits = LeaveOneGroupOut().split(task.y, task.y, task.speakers)
    return [Fold(str(task.speakers[test[0]]), train, test) for train, test in splits]


def _official(task: Task, n_folds: int, seed: int) -> list[Fold]:
    spec = datasets.find(task.dataset)
    if spec is None or not spec.official_folds:
        have = [d.name for d in datasets.all() if d.official_folds]
        raise ProtocolError(
            f"no published folds are known for '{task.dataset}', only for {', '.join(have)}. Use --protocol speakers."
        )
    folds = []
    for number, speakers in enumerate(spec.official_folds, start=1):
        if absent := sorted(set(speakers) - set(task.speakers.tolist())):
            raise ProtocolError(
                f"published fold {number} of {task.dataset} tests speakers {', '.join(absent)}, whose clips are not "
                "here. Use --protocol speakers, or complete the dataset."
            )
        here = np.isin(task.speakers, speakers)
        folds.append(Fold(str(number), np.flatnonzero(~here), np.flatnonzero(here)))
    return folds


def _published(task: Task, n_folds: int, seed: int) -> list[Fold]:
    spec = datasets.find(task.dataset)
    if spec is None or spec.published_folds is None:
        have = [d.name for d in datasets.all() if d.published_folds]
        better = "official, by speaker" if spec and spec.official_folds else "speakers"
        raise ProtocolError(
            f"no folds by clip are published for '{task.dataset}', only for {', '.join(have)}. Use --protocol {better}."
        )
    folds = spec.published_folds()
    known = {*task.ids.tolist(), *task.skipped, *task.dropped}
    if absent := sorted({clip for fold in folds for clip in fold} - known):
        raise ProtocolError(
            f"the published folds of {task.dataset} test {len(absent)} clips that are not here, such as {absent[0]}. "
            "Use --protocol speakers, or complete the dataset."
        )
    tested = [np.isin(task.ids, fold) for fold in folds]
    return _numbered((np.flatnonzero(~rows), np.flatnonzero(rows)) for rows in tested)


def _random(task: Task, n_folds: int, seed: int) -> list[Fold]:
    _need_clips(task, n_folds, "random")
    first, clips = _recordings(task)
    splits = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(first, task.y[first])
    return _numbered((clips(train), clips(test)) for train, test in splits)


def _holdout(task: Task, n_folds: int, seed: int) -> list[Fold]:
    """The split of many published scores; further seeds give further splits."""
    _need_clips(task, 2, "holdout")
    first, clips = _recordings(task)
    train, test = train_test_split(
        np.arange(len(first)), test_size=HOLDOUT_SHARE, stratify=task.y[first], random_state=HOLDOUT_SEED + seed
    )
    return [Fold("1", clips(train), clips(test))]


def _recordings(task: Task) -> tuple[Indices, Callable[[Indices], Indices]]:
    """The first clip of each recording; and the clips of some recordings, in order: copies of one stay together."""
    names = task.ids if task.keys is None else np.where(task.keys == "", task.ids, task.keys)
    same: dict[str, list[int]] = {}
    for row, name in enumerate(names.tolist()):
        same.setdefault(name, []).append(row)
    copies = list(same.values())
    return np.array([rows[0] for rows in copies]), lambda chosen: np.concatenate([copies[n] for n in chosen])


def _need_clips(task: Task, n: int, protocol: str) -> None:
    labels, counts = np.unique(task.y, return_counts=True)
    if counts.min() < n:
        raise ProtocolError(
            f"protocol '{protocol}' needs {n} clips a label; '{labels[counts.argmin()]}' has {counts.min()}. "
            "Leave the label out, or record more."
        )
    if protocol == "holdout" and len(task) * HOLDOUT_SHARE < len(labels):
        raise ProtocolError(
            f"protocol 'holdout' tests a tenth of {len(task)} clips, fewer than the {len(labels)} labels. Use 'random'."
        )


def _numbered(splits: Iterable[tuple[Indices, Indices]]) -> list[Fold]:
    return [Fold(str(number), train, test) for number, (train, test) in enumerate(splits, start=1)]


PROTOCOLS: dict[str, Protocol] = {
    "speakers": Protocol("stratified folds by speaker: every test speaker is new to the head", True, _speakers),
    "loso": Protocol("leave one speaker out: a fold a speaker", True, _loso),
    "official": Protocol("the dataset's own folds by speaker: published ones, or ours where none are", True, _official),
    "published": Protocol(
        "published folds by clip, of datasets that have no other; blind to speakers: leaks", False, _published
    ),
    "random": Protocol("stratified folds, blind to speakers: what most published scores use; leaks", False, _random),
    "holdout": Protocol("stratified 90/10, seed 42, blind to speakers: leaks", False, _holdout),
}
