"""Protocols, which split a task into folds, and the leak check, which finds what training and test clips share.

A speaker-independent protocol guarantees that no speaker is in the training and the test clips of a fold; a fold that
breaks the guarantee is an error. Two protocols also keep sessions or sentences apart. A speaker-dependent protocol
guarantees nothing, and its leaderboard rows are marked with the leak `speaker`. Under every protocol, each label of the
test clips must also occur in the training clips.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold, train_test_split

from embedcache import ProtocolError, UnknownName, datasets
from embedcache.dataset import corpus_of
from embedcache.errors import complain
from embedcache.manifest import are_clips_as_speakers
from embedcache.text import count

from ..data.task import Strings, Task

Indices = NDArray[np.int64]
# What training and test clips of a fold can share, or may share as far as is known. `leaks` explains the words.
LEAKS = ("speaker", "speaker?", "session", "audio", "audio~", "text", "text?", "encoder", "encoder?")
UNION = "+"  # joins the names of datasets that are combined
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
    one_fold_per_speaker: bool = True  # whether all clips of a speaker are tested in one fold, if speaker-independent
    also_disjoint: str = ""  # what training and test clips do not share either: "session" or "text"

    @property
    def promise(self) -> str:
        """The kind of the protocol, in a word."""
        return "speaker-independent" if self.disjoint_speakers else "speaker-dependent"


def make_folds(task: Task, protocol: str = "speakers", n_folds: int = 5, seed: int = 0) -> list[Fold]:
    """Return the folds of a protocol, checked by `check_folds`.

    `n_folds` is used by the protocols `speakers`, `speakers+text`, `sessions` and `random`, `seed` by these and
    `holdout`. `speakers+text` makes a fold for each pair of a group of speakers and a group of sentences. Raises
    UnknownName if there is no such protocol, ProtocolError if it cannot be applied to the task.
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
    and, for a speaker-independent protocol, if training and test clips share no speaker. Two protocols keep sessions or
    sentences apart in the same way.
    """
    complaints = []
    apart = PROTOCOLS[protocol].also_disjoint
    column = _shareable(task)[apart] if apart else None
    for fold in folds:
        complaints += [
            f"fold {fold.name}: no {part} clips"
            for part, rows in (("training", fold.train), ("test", fold.test))
            if not len(rows)
        ]
        shared = set(task.speakers[fold.train]) & set(task.speakers[fold.test])
        if PROTOCOLS[protocol].disjoint_speakers and shared:
            complaints.append(f"fold {fold.name}: speakers {', '.join(sorted(shared))} are in training and test")
        if column is not None and (both := _shared(column, fold)):
            complaints.append(f"fold {fold.name}: {apart}s {', '.join(sorted(both))} are in training and test")
        for label in sorted(set(task.y[fold.test]) - set(task.y[fold.train])):
            speakers = sorted(set(task.speakers[task.y == label]))
            complaints.append(f"fold {fold.name}: '{label}' has no training clip (speakers: {', '.join(speakers)})")
    if complaints:
        other = "speakers" if apart else "random, which is speaker-dependent"
        advice = f"Leave such labels out, record more speakers, or use --protocol {other}."
        raise ProtocolError(*complain(f"protocol '{protocol}' cannot be used on {task.dataset}", complaints, advice))


def leaks(task: Task, folds: Sequence[Fold], protocol: str) -> str:
    """Return the leaks in any fold, as words of LEAKS joined by `+`; "" if everything is known and nothing is shared.

    speaker    training and test clips share a speaker. A speaker-dependent protocol always has this leak, even if it
               happens to share no speaker
    speaker?   nearly every clip has a speaker of its own, so the speakers may be unknown: names of clips, or sessions.
               Not checked if the leak `speaker` is there
    audio      training and test clips share audio with the same key, which is identical byte for byte
    audio~     some test clips are probably copies of training clips, see `near_copies.py`
    text       training and test clips share a sentence
    text?      the sentences of some clips are unknown, and the known ones are not shared
    session    training and test clips share a session of several speakers, such as a dialogue
    encoder    the encoder was trained on a test clip, or on another clip of a test speaker
    encoder?   not all emotional speech that the encoder was trained on is known, and none of what is known is tested on
    """
    found = {name for name, column in _shareable(task).items() if column is not None and _crosses(column, folds)}
    if protocol in PROTOCOLS and not PROTOCOLS[protocol].disjoint_speakers:
        found.add("speaker")
    if "speaker" not in found and _has_clips_as_speakers(task):
        found.add("speaker?")
    if task.near_copies is not None and are_split(task.near_copies, folds).any():
        found.add("audio~")
    if task.seen is not None and any(task.seen[fold.test].any() for fold in folds):
        found.add("encoder")
    unknown = {"text?": task.texts is None or bool((task.texts == "").any()), "encoder?": not task.training_known}
    found |= {word for word, is_unknown in unknown.items() if is_unknown and word.removesuffix("?") not in found}
    return "+".join(word for word in LEAKS if word in found)


def _has_clips_as_speakers(task: Task) -> bool:
    """Whether nearly every recording of a task, or of one dataset of a union, has a speaker of its own."""
    names = task.ids if task.keys is None else np.where(task.keys == "", task.ids, task.keys)
    several = UNION in task.dataset or "->" in task.dataset  # clip ids then start with the name of their dataset
    owners = np.array([clip_id.partition(":")[0] if several else "" for clip_id in task.ids.tolist()])
    return any(
        are_clips_as_speakers(np.unique(task.speakers[rows]).size, np.unique(names[rows]).size)
        for rows in (owners == owner for owner in np.unique(owners))
    )


def are_split(pairs: Indices, folds: Sequence[Fold]) -> NDArray[np.bool_]:
    """Return for each pair of rows (m, 2) whether a fold has one in the training and the other in the test clips."""
    split = np.zeros(len(pairs), bool)
    for fold in folds:
        train, test = np.isin(pairs, fold.train), np.isin(pairs, fold.test)
        split |= (train & test[:, ::-1]).any(axis=1)
    return split


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


def _shareable(task: Task) -> Mapping[str, Strings | None]:
    """Return the columns (n,) whose values training and test clips may share, by the name of the leak."""
    sessions = None if task.sessions is None else _of_several(task.sessions, task.speakers)
    return {"speaker": task.speakers, "audio": task.keys, "text": task.texts, "session": sessions}


def _of_several(sessions: Strings, speakers: Strings) -> Strings:
    """Return sessions (n,), with "" for those of one speaker: whoever shares such a session shares its speaker."""
    pairs = set(zip(sessions.tolist(), speakers.tolist(), strict=True))
    n_speakers = Counter(session for session, _ in pairs)
    return np.where([n_speakers[session] > 1 for session in sessions.tolist()], sessions, "")


def _crosses(column: Strings, folds: Sequence[Fold]) -> bool:
    """Whether training and test clips of any fold share a value of a column (n,); "" is an unknown value."""
    return any(_shared(column, fold) for fold in folds)


def _shared(column: Strings, fold: Fold) -> set[str]:
    return (set(column[fold.train].tolist()) & set(column[fold.test].tolist())) - {""}


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
        raise ProtocolError(
            f"protocol '{protocol}' with {n} folds needs {n} speakers; {task.dataset or 'the task'} has "
            f"{len(speakers)} ({', '.join(sorted(speakers))}). {_ways_out(task, len(speakers))}"
        )


def _ways_out(task: Task, n_speakers: int) -> str:
    """Return advice for a task of few speakers: protocols that keep speakers apart come first."""
    ways = ["--protocol official"] if _official_folds(task.dataset) else []
    ways += ["--protocol loso", f"--folds {n_speakers}"] if n_speakers > 1 else []
    independent = f"Use {', '.join(ways)}, or record more speakers. " if ways else "Record more speakers. "
    return f"{independent}The last resort is --protocol random, which is speaker-dependent."


def _check_labels(task: Task, n: int, protocol: str) -> None:
    """Raise ProtocolError unless a label has at least n clips."""
    if (most := int(np.unique(task.y, return_counts=True)[1].max())) < n:
        raise ProtocolError(
            f"protocol '{protocol}' with {n} folds needs a label with {n} clips; no label of "
            f"{task.dataset or 'the task'} has more than {most}. Use fewer --folds, or record more clips."
        )


def _split_groups(task: Task, groups: Strings, n: int, seed: int) -> list[tuple[Indices, Indices]]:
    """Split the clips n times, so that each group (n_clips,) is tested once and labels are spread evenly."""
    splitter = StratifiedGroupKFold(n, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about labels with few clips, which check_folds reports
        return list(splitter.split(task.y, task.y, groups))


def _speakers(task: Task, n_folds: int, seed: int) -> list[Fold]:
    _check_speakers(task, n_folds, "speakers")
    _check_labels(task, n_folds, "speakers")
    return _numbered(_split_groups(task, task.speakers, n_folds, seed))


def _speakers_and_texts(task: Task, n_folds: int, seed: int) -> list[Fold]:
    """Return a fold for each pair of a group of speakers and a group of sentences.

    The test clips are those of the speakers with the sentences. The training clips are those of other speakers with
    other sentences; clips of the speakers with other sentences, and of other speakers with the sentences, are left out.
    """
    _check_speakers(task, n_folds, "speakers+text")
    _check_labels(task, n_folds, "speakers+text")
    by_speaker = _split_groups(task, task.speakers, n_folds, seed)
    for n_groups in range(min(n_folds, _count_texts(task)), 1, -1):
        by_text = _split_groups(task, task.texts, n_groups, seed)  # type: ignore[arg-type]
        folds = list(_crossed(by_speaker, by_text))
        if n_groups == 2 or all(set(task.y[fold.test]) <= set(task.y[fold.train]) for fold in folds):
            break
    return folds


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


def _sessions(task: Task, n_folds: int, seed: int) -> list[Fold]:
    """Return folds in which neither a session nor a speaker is in both parts."""
    if task.sessions is None or not (task.sessions != "").any():
        raise ProtocolError(
            f"protocol 'sessions' needs sessions; {task.dataset or 'the task'} has none. Add a column session to the "
            "manifest, or use --protocol speakers."
        )
    _check_speakers(task, 2, "sessions")
    groups = _linked_groups(task.sessions, task.speakers)
    n_groups, wanted = len(set(groups.tolist())), max(n_folds, 2)
    if n_groups < wanted:
        advice = f"Use --folds {n_groups}" if n_groups > 1 else "Give sessions of different people different names"
        raise ProtocolError(
            f"protocol 'sessions' with {wanted} folds needs {wanted} groups of sessions that share no speaker; "
            f"{task.dataset or 'the task'} has {n_groups}. {advice}, or use --protocol speakers."
        )
    _check_labels(task, n_folds, "sessions")
    return _numbered(_split_groups(task, groups, n_folds, seed))


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


def _loso(task: Task, n_folds: int, seed: int) -> list[Fold]:
    _check_speakers(task, 2, "loso")
    splits = LeaveOneGroupOut().split(task.y, task.y, task.speakers)
    return [Fold(str(task.speakers[test[0]]), train, test) for train, test in splits]


def _official(task: Task, n_folds: int, seed: int) -> list[Fold]:
    """Return a fold for each official fold; in a union of datasets, a fold for each one of each dataset."""
    names = [d.name for d in datasets.all() if d.official_folds]
    tested = _official_folds(task.dataset)
    if not tested:
        raise ProtocolError(
            f"no official folds are known for '{task.dataset}', only for {', '.join(names)}, and for unions of these. "
            "Use --protocol speakers."
        )
    for name, speakers in tested.items():
        if absent := sorted(set(speakers) - set(task.speakers.tolist())):
            raise ProtocolError(
                f"official fold {name} of {task.dataset} tests the speakers {', '.join(absent)}, who have no clips "
                "in the task. Use --protocol speakers, or complete the dataset."
            )
    is_test = {name: np.isin(task.speakers, speakers) for name, speakers in tested.items()}
    return [Fold(name, np.flatnonzero(~rows), np.flatnonzero(rows)) for name, rows in is_test.items()]


def _official_folds(dataset: str) -> dict[str, tuple[str, ...]]:
    """Return the tested speakers of the official folds by name: `1`, or `emodb:1` in a union `cremad+emodb`.

    Datasets of one corpus share their speakers, and the folds of any of them. Returns no folds if those of a corpus are
    not known.
    """
    names = dataset.split(UNION)
    by_corpus: dict[str, Sequence[Sequence[str]]] = dict.fromkeys(map(corpus_of, names), ())
    by_corpus |= {
        corpus_of(n): spec.official_folds for n in names if (spec := datasets.find(n)) and spec.official_folds
    }
    if not all(by_corpus.values()):
        return {}
    prefixes = {corpus: f"{corpus}:" if len(names) > 1 else "" for corpus in by_corpus}
    return {
        f"{prefixes[corpus]}{number}": tuple(prefixes[corpus] + speaker for speaker in speakers)
        for corpus, folds in by_corpus.items()
        for number, speakers in enumerate(folds, start=1)
    }


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
    "speakers+text": Protocol(
        "folds by speaker and sentence: both are new to the head",
        True,
        _speakers_and_texts,
        one_fold_per_speaker=False,
        also_disjoint="text",
    ),
    "sessions": Protocol(
        "stratified folds by session: every test session and speaker is new to the head",
        True,
        _sessions,
        also_disjoint="session",
    ),
    "loso": Protocol("leave one speaker out: one fold per speaker", True, _loso),
    "official": Protocol("the dataset's folds by speaker: published, or defined by ser if none are", True, _official),
    "published": Protocol(
        "published folds by clip, for datasets without published folds by speaker; speaker-dependent", False, _published
    ),
    "random": Protocol("stratified folds by clip, as in most published scores; speaker-dependent", False, _random),
    "holdout": Protocol("one stratified 90/10 split by clip, seed 42; speaker-dependent", False, _holdout),
}
