"""What `ser cross` does: train heads on one dataset and test them on another, over the labels that both have.

The result is a matrix with a row for each training set and a column for each test set. On the diagonal, a dataset is
tested on itself in folds by speaker. Recordings that are in both datasets, byte for byte, and clips of people who are
in both under different names are left out of the test and counted. The run folder holds `cross.csv`, a heat map for
each head, and the files of every comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache import Artifacts, DataError, ProtocolError, SerError
from embedcache.encoder import Log, no_log
from embedcache.files.existing import check_writable
from embedcache.progress import Progress, silent

from ..data.csv_text import csv_text
from ..data.listed_clips import load_manifests
from ..data.task import Strings, Task
from ..evaluation.cross_table import CrossRow
from ..evaluation.cross_validation import run_folds
from ..evaluation.leaderboard import score
from ..evaluation.predictions import Predictions
from ..evaluation.run_folder import new_run_folder, write_run
from ..protocols.catalogue import make_folds, unknown_speakers_note
from ..protocols.fold import Fold
from ..protocols.sharing import are_unknown
from ..reporting.figures import save_cross_figure
from .comparison import OTHER_PLACE, load_tasks
from .configurations import ComparisonConfig, CrossConfig
from .copy_search import search_copies
from .head_choice import chosen_heads, quick_enough

CROSS = "cross"  # protocol of a pair of two different datasets


@dataclass(frozen=True)
class _Pair:
    """A training set and a test set: their clips, and the folds of each seed."""

    train: str
    test: str
    task: Task
    splits: Sequence[Sequence[Fold]]
    train_other: int = 0
    test_other: int = 0
    excluded: int = 0

    @property
    def protocol(self) -> str:
        return "speakers" if self.train == self.test else CROSS


def cross(
    artifacts: Artifacts,
    config: CrossConfig,
    jobs: int | None = None,
    progress: Progress = silent,
    log: Log = no_log,
    cluster: str | None = None,
) -> tuple[Path, list[CrossRow]]:
    """Score each head and encoder on every pair of a training set and a test set; the run folder and its rows.

    `log` receives a line for each pair that is left out, with the reason. Raises UnknownName, DataError or
    ProtocolError as `Task.load` and `make_folds` do, and SerError if the folder of runs cannot be written, before
    anything is fitted.
    """
    check_writable(artifacts.runs, SerError, OTHER_PLACE)
    train, test = _datasets(artifacts, config.train), _datasets(artifacts, config.test)
    specs = chosen_heads(config.heads)
    named = [*dict.fromkeys([*train, *test])]
    if len(named) < 2:
        raise DataError(f"got one dataset, {named[0]}; wanted two. Extract another, or use `ser compare`.")
    union = ComparisonConfig(
        tuple(named), config.encoders, config.heads, labels=config.labels, same_names=config.same_names
    )
    work = load_tasks(artifacts, union, specs, log)
    work = [(task, quick_enough(some, config.heads, len(task), log)) for task, some in work]
    copies = search_copies(artifacts, union, [task for task, _ in work], _folds_of(work[0][0], train, test), log)
    work = [(replace(task, near_copies=copies.pairs), some) for task, some in work]
    pairs = [(pair, some) for task, some in work for pair in _pairs(task, train, test, config, log)]
    made = [
        (pair, p)
        for pair, some in pairs
        for p in run_folds(pair.task, some, pair.splits, pair.protocol, jobs, progress, cluster)
    ]
    rows = [_row(pair, p) for pair, p in made]
    return _save(artifacts, config, [p for _, p in made], rows, work[0][0], copies.files()), rows


def _datasets(artifacts: Artifacts, names: Sequence[str]) -> list[str]:
    """The full names of extracted datasets, each once; all extracted datasets by default."""
    names = names or sorted(path.stem for path in artifacts.manifests.glob("*.csv"))
    return list(dict.fromkeys(load_manifests(artifacts, name)[0].dataset for name in names or (None,)))


def _owners(task: Task) -> Strings:
    """The dataset (n,) of each clip of a union."""
    return np.array([clip_id.partition(":")[0] for clip_id in task.ids])


def _folds_of(task: Task, train: Sequence[str], test: Sequence[str]) -> list[Fold]:
    """A fold for each pair of a training set and another test set, with all of their clips."""
    owner = _owners(task)
    pairs = ((a, b) for a, b in product(train, test) if a != b)
    return [Fold(f"{a}->{b}", np.flatnonzero(owner == a), np.flatnonzero(owner == b)) for a, b in pairs]


def _pairs(task: Task, train: Sequence[str], test: Sequence[str], config: CrossConfig, log: Log) -> list[_Pair]:
    """The pairs that can be scored; `log` receives the reason for each that cannot."""
    owner, pairs = _owners(task), []
    for a, b in product(train, test):
        try:
            pairs.append(_within(task, owner, a, config, log) if a == b else _between(task, owner, a, b, config.seeds))
        except ProtocolError as error:
            log(f"note: {a} and {b}: left out. {error}" if a != b else f"note: {a} tested on itself: left out. {error}")
    if not pairs:
        raise DataError("no pair of datasets can be compared; the notes above give the reasons.")
    return pairs


def _within(task: Task, owner: Strings, name: str, config: CrossConfig, log: Log) -> _Pair:
    """A dataset tested on itself in folds by speaker, as `ser compare` does; at most one fold a speaker."""
    own = task.take(np.flatnonzero(owner == name))
    texts, sessions = (None if column is None else _bare(column) for column in (own.texts, own.sessions))
    speakers = own.speakers if own.own_speakers is None else own.own_speakers  # as `ser compare` of this dataset alone
    own = replace(own, dataset=name, clip_ids=_bare(own.ids), speakers=_bare(speakers), own_speakers=None)
    own = replace(own, texts=texts, sessions=sessions)
    folds = min(config.folds, len(set(own.speakers[~are_unknown(own)].tolist())))
    if line := unknown_speakers_note(own, "speakers"):
        log(f"note: {name} tested on itself: {line}.")
    return _Pair(name, name, own, [make_folds(own, "speakers", folds, seed) for seed in range(config.seeds)])


def _bare(names: Strings) -> Strings:
    """Names without the dataset in front: `ravdess:01` becomes `01`."""
    return np.array([name.partition(":")[2] for name in names.tolist()])


def _between(task: Task, owner: Strings, a: str, b: str, seeds: int) -> _Pair:
    """Return the pair of `a` for training and the other clips of `b` for testing. Raises ProtocolError."""
    keys = task.keys if task.keys is not None else task.ids
    same_audio = np.isin(keys, keys[owner == a])
    in_training = same_audio | _under_other_names(task, owner == a)
    labels = sorted(set(task.y[owner == a].tolist()) & set(task.y[(owner == b) & ~in_training].tolist()))
    excluded = int(np.count_nonzero((owner == b) & in_training))
    if excluded == np.count_nonzero(owner == b):
        if same_audio[owner == b].all():
            raise ProtocolError(f"All {excluded} clips of {b} are also in {a}, byte for byte.")
        raise ProtocolError(f"The recordings or the speakers of all {excluded} clips of {b} are also in {a}.")
    if len(labels) < 2:
        same = f"; clips of {b} whose recording or speaker is also in {a}: {excluded}" if excluded else ""
        raise ProtocolError(f"The datasets share fewer than two labels ({', '.join(labels) or 'none'}{same}).")
    shared = np.isin(task.y, labels)
    training = np.flatnonzero(shared & (owner == a))
    testing = np.flatnonzero(shared & (owner == b) & ~in_training)
    part = replace(task.take(np.concatenate([training, testing])), dataset=f"{a}->{b}")
    fold = Fold("1", np.arange(len(training)), np.arange(len(training), len(part)))
    return _Pair(
        train=a,
        test=b,
        task=part,
        splits=[[fold]] * seeds,
        train_other=int(np.count_nonzero(~shared & (owner == a))),
        test_other=int(np.count_nonzero(~shared & (owner == b) & ~in_training)),
        excluded=excluded,
    )


def _under_other_names(task: Task, training: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which clips (n,) are of people who are among the training clips under another name.

    Speakers of one corpus have the same name in its datasets. They are tested, and the row has the leak `speaker`.
    """
    if task.own_speakers is None:
        return np.zeros(len(task), bool)
    known = np.isin(task.speakers, task.speakers[training])
    return known & ~np.isin(task.own_speakers, task.own_speakers[training])


def _row(pair: _Pair, p: Predictions) -> CrossRow:
    row, task = score(p), pair.task
    folds = [fold for split in pair.splits for fold in split]
    majority = [task.y[fold.test] == _most(task.y[fold.train]) for fold in folds]
    return CrossRow(
        train=pair.train,
        test=pair.test,
        head=p.head,
        encoder=p.encoder,
        protocol=p.protocol,
        labels="+".join(p.labels),
        classes=len(p.labels),
        uar=row.uar,
        uar_low=row.uar_low,
        uar_high=row.uar_high,
        war=row.war,
        macro_f1=row.macro_f1,
        chance=1 / len(p.labels),
        majority_war=float(np.concatenate(majority).mean()),
        train_clips=round(np.mean([len(fold.train) for fold in folds])),
        test_clips=row.n_clips,
        train_speakers=round(np.mean([len(np.unique(task.speakers[fold.train])) for fold in folds])),
        test_speakers=row.n_speakers,
        train_other=pair.train_other,
        test_other=pair.test_other,
        excluded=pair.excluded,
        leaks=p.leaks,
    )


def _most(labels: Strings) -> str:
    names, counts = np.unique(labels, return_counts=True)
    return str(names[counts.argmax()])


def _save(
    artifacts: Artifacts,
    config: CrossConfig,
    predictions: Sequence[Predictions],
    rows: Sequence[CrossRow],
    task: Task,
    extra_files: Mapping[str, str],
) -> Path:
    folder = new_run_folder(artifacts.runs, f"{CROSS}-{Path(config.labels).stem}")
    write_run(folder, predictions, asdict(config), task.labels_from, {"cross.csv": rows_csv(rows), **extra_files})
    for head, encoder in dict.fromkeys((row.head, row.encoder) for row in rows):
        mine = [row for row in rows if (row.head, row.encoder) == (head, encoder)]
        save_cross_figure(folder, f"{head} on {encoder}", {(c.train, c.test): (c.uar, c.chance) for c in mine})
    return folder


def rows_csv(rows: Sequence[CrossRow]) -> str:
    """The text of cross.csv."""
    return csv_text([(field.name for field in fields(CrossRow)), *map(astuple, rows)])
