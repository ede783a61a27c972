"""All protocols by name, and the check that folds keep the promise of their protocol.

A speaker-independent protocol guarantees that no speaker is in the training and the test clips of a fold; a fold that
breaks the guarantee is an error. Two protocols also keep sessions or sentences apart. A speaker-dependent protocol
guarantees nothing, and its leaderboard rows are marked with the leak `speaker`. Published partitions and folds of one's
own (`listed`) are taken as they are, and marked only if training and test clips share a speaker. Under every protocol,
each label of the test clips must also occur in the training clips.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from embedcache import ProtocolError, UnknownName
from embedcache.errors import complain
from embedcache.text import count

from ..data.task import Task
from .by_clip import holdout_folds, random_folds
from .by_speaker import loso_folds, sessions_folds, speakers_and_texts_folds, speakers_folds
from .fold import Fold, Indices
from .fold_list import LISTED
from .partitions import has_official_partitions, partition_folds
from .published import emo_superb_folds, folds_of_dataset, published_folds
from .requirements import check_two_labels, no_listed_folds
from .sharing import are_unknown, known_speakers, shareable, shared_values

INDEPENDENT, DEPENDENT, AS_GIVEN = "speaker-independent", "speaker-dependent", "depends on the folds"
ADAPTED = "/adapted-"  # joins the name of a protocol in a row and an amount of adaptation: official/adapted-10
PART = ":"  # joins the name of a protocol and that of a test partition in a row: partition:test1


@dataclass(frozen=True)
class Protocol:
    """A method of splitting a task into folds."""

    about: str  # description in one line
    promise: str  # what is known of the speakers before a fold is made: INDEPENDENT, DEPENDENT or AS_GIVEN
    make: Callable[[Task, int, int], list[Fold]]  # called with the task, the number of folds and the seed
    one_fold_per_speaker: bool = True  # whether all clips of a speaker are tested in one fold, if speaker-independent
    also_disjoint: str = ""  # what training and test clips do not share either: "session" or "text"
    needs_speakers: bool = False  # whether clips of unknown speakers are in no fold
    row_per_fold: bool = False  # whether each fold is scored by itself, in leaderboard rows of its own

    @property
    def disjoint_speakers(self) -> bool:
        """Whether the protocol is speaker-independent: a shared speaker is an error."""
        return self.promise == INDEPENDENT


def make_folds(task: Task, protocol: str = "speakers", n_folds: int = 5, seed: int = 0) -> list[Fold]:
    """Return the folds of a protocol, checked by `check_folds`.

    `n_folds` is used by the protocols `speakers`, `speakers+text`, `sessions` and `random`, `seed` by these and
    `holdout`. `speakers+text` makes a fold for each pair of a group of speakers and a group of sentences. Raises
    UnknownName if there is no such protocol, ProtocolError if it cannot be applied to the task. Folds of `partition`
    have development clips, as those of `official` have for a dataset that is published with partitions.
    """
    if protocol not in PROTOCOLS:
        raise UnknownName("protocol", protocol, PROTOCOLS)
    check_two_labels(task)
    folds = _make_of_usable(task, protocol, n_folds, seed)
    check_folds(task, folds, protocol)
    return folds


def unknown_speakers_note(task: Task, protocol: str) -> str:
    """Return a sentence on the clips that a protocol leaves out, since their speaker is unknown; "" for none."""
    left_out = len(task) - len(_usable(task, protocol))
    return f"protocol '{protocol}' leaves out {count(left_out, 'clip')} of unknown speakers" if left_out else ""


def _usable(task: Task, protocol: str) -> Indices:
    """Return the rows of the clips that a protocol can use: those of known speakers, if it needs speakers."""
    return np.flatnonzero(~are_unknown(task)) if PROTOCOLS[protocol].needs_speakers else np.arange(len(task))


def _make_of_usable(task: Task, protocol: str, n_folds: int, seed: int) -> list[Fold]:
    """Return the folds of a protocol, in which the clips that it cannot use have no part."""
    rows = _usable(task, protocol)
    if len(rows) < len(task):  # without the vectors, which no protocol reads and which may be large
        task = replace(task, X=np.zeros((len(task), 0), np.float32), copies=None, near_copies=None).take(rows)
    return [
        Fold(f.name, rows[f.train], rows[f.test], rows[f.dev]) for f in PROTOCOLS[protocol].make(task, n_folds, seed)
    ]


def check_folds(task: Task, folds: Sequence[Fold], protocol: str) -> None:
    """Raise ProtocolError unless every fold is valid under the protocol.

    A fold is valid if it has training and test clips, if every label of the others occurs in the training clips,
    and, for a speaker-independent protocol, if training and test clips share no speaker. Two protocols keep sessions or
    sentences apart in the same way.
    """
    complaints = []
    rules = protocol_of(protocol, task.dataset) or PROTOCOLS[protocol]
    apart = rules.also_disjoint
    column, speakers = shareable(task)[apart] if apart else None, known_speakers(task)
    for fold in folds:
        complaints += [
            f"fold {fold.name}: no {part} clips"
            for part, rows in (("training", fold.train), ("test", fold.test))
            if not len(rows)
        ]
        shared = shared_values(speakers, fold)
        if rules.disjoint_speakers and shared:
            complaints.append(f"fold {fold.name}: speakers {', '.join(sorted(shared))} are in training and test")
        if column is not None and (both := shared_values(column, fold)):
            complaints.append(f"fold {fold.name}: {apart}s {', '.join(sorted(both))} are in training and test")
        for label in sorted(set(task.y[fold.test]) - set(task.y[fold.train])):
            names = ", ".join(sorted(set(task.speakers[task.y == label])))
            complaints.append(f"fold {fold.name}: '{label}' has no training clip (speakers: {names})")
        for label in sorted(set(task.y[fold.dev]) - set(task.y[fold.train])):
            complaints.append(f"fold {fold.name}: '{label}' has development clips, but no training clip")
    if complaints:
        other = "speakers" if apart else "random, which is speaker-dependent"
        advice = f"Leave such labels out, record more speakers, or use --protocol {other}."
        if protocol == LISTED:
            advice = "Correct the list of folds, or choose a --protocol."
        raise ProtocolError(*complain(f"protocol '{protocol}' cannot be used on {task.dataset}", complaints, advice))


def protocol_of(name: str, dataset: str) -> Protocol | None:
    """Return the protocol that a row names, such as `speakers` or `partition:test1`; None if `ser` does not know it.

    `official` is the protocol of partitions for a dataset that is published with partitions.
    """
    base = base_name(name)
    return PROTOCOLS.get("partition" if base == "official" and has_official_partitions(dataset) else base)


def base_name(name: str) -> str:
    """Return the protocol that a row names, without partition and adaptation: `partition` for `partition:test1`."""
    return unadapted_name(name).partition(PART)[0]


def partition_of(name: str) -> str:
    """Return the test partition, which is also the fold, that a row names: `test1` for `partition:test1`, else ""."""
    return unadapted_name(name).partition(PART)[2]


def adapted_name(name: str, amount: str) -> str:
    """Return what a row names if vectors are adapted to speakers: `official/adapted-10`; the name itself for ""."""
    return f"{name}{ADAPTED}{amount}" if amount else name


def adapted_by(name: str) -> str:
    """Return by how many clips of each test speaker a row is adapted, by its protocol: "10", "all"; "" for none."""
    _, joint, amount = name.rpartition(ADAPTED)
    return amount if joint and re.fullmatch("all|[1-9][0-9]{0,6}", amount) else ""


def unadapted_name(name: str) -> str:
    """Return what a row names without its adaptation: `official` for `official/adapted-10`."""
    return name.removesuffix(f"{ADAPTED}{adapted_by(name)}") if adapted_by(name) else name


def rows_by_name(task: Task, splits: Sequence[Sequence[Fold]], protocol: str) -> Mapping[str, Sequence[Sequence[Fold]]]:
    """Return what a head gets a leaderboard row for: the protocol that the row names, and its folds for each seed.

    All folds make one row, except that each test partition of several has a row of its own. `splits` are the folds for
    seed 0, for seed 1, …
    """
    rules = protocol_of(protocol, task.dataset)
    if not (rules and rules.row_per_fold) or len(splits[0]) == 1:
        return {protocol: splits}
    return {f"{protocol}{PART}{folds[0].name}": [[fold] for fold in folds] for folds in zip(*splits, strict=True)}


PROTOCOLS: dict[str, Protocol] = {
    "speakers": Protocol(
        "stratified folds by speaker: every test speaker is new to the head",
        INDEPENDENT,
        speakers_folds,
        needs_speakers=True,
    ),
    "speakers+text": Protocol(
        "folds by speaker and sentence: both are new to the head",
        INDEPENDENT,
        speakers_and_texts_folds,
        one_fold_per_speaker=False,
        also_disjoint="text",
        needs_speakers=True,
    ),
    "sessions": Protocol(
        "stratified folds by session: every test session and speaker is new to the head",
        INDEPENDENT,
        sessions_folds,
        also_disjoint="session",
        needs_speakers=True,
    ),
    "loso": Protocol("leave one speaker out: one fold per speaker", INDEPENDENT, loso_folds, needs_speakers=True),
    "official": Protocol(
        "fixed folds by speaker: published ones, or those of ser if none are published; published partitions as in "
        "`partition`",
        INDEPENDENT,
        folds_of_dataset,
    ),
    "partition": Protocol(
        "the column partition: trained on train, chosen on dev, tested on each other partition in rows of its own",
        AS_GIVEN,
        partition_folds,
        row_per_fold=True,
    ),
    "emo-superb": Protocol(
        "the folds by speaker of EMO-SUPERB, for CREMA-D and IEMOCAP", INDEPENDENT, emo_superb_folds
    ),
    "published": Protocol(
        "published folds by clip, for datasets without published folds by speaker; speaker-dependent",
        DEPENDENT,
        published_folds,
    ),
    "random": Protocol(
        "stratified folds by clip, as in most published scores; speaker-dependent", DEPENDENT, random_folds
    ),
    "holdout": Protocol("one stratified 90/10 split by clip, seed 42; speaker-dependent", DEPENDENT, holdout_folds),
    LISTED: Protocol("folds of your own, from the file or folder that --folds names", AS_GIVEN, no_listed_folds),
}
