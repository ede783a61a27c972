"""Across datasets: heads trained on one and tested on another, over the emotions that both have.

A cell of the matrix is one training set and one test set. Where both are the same dataset, it is the score within it,
in folds by speaker. Recordings that stand in both, byte for byte, are left out of the test and counted. A run folder
holds `cross.csv`, a heat map for each head, and what every comparison holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from itertools import product
from pathlib import Path

import numpy as np

from embedcache import Artifacts, DataError, ProtocolError
from embedcache.progress import Progress, silent

from ..data.csv_text import csv_text
from ..data.listed_clips import load_manifests
from ..data.task import Strings, Task
from ..evaluation.cross_table import CrossRow
from ..evaluation.cross_validation import run_folds
from ..evaluation.leaderboard import score
from ..evaluation.predictions import Predictions
from ..evaluation.protocols import Fold, make_folds
from ..evaluation.run_folder import new_run_folder, write_run
from ..reporting.figures import save_cross_figure
from .comparison import ComparisonConfig, configured_heads, load_tasks

CROSS = "cross"  # the protocol of what is not within one dataset


@dataclass(frozen=True)
class CrossConfig:
    """What a matrix was asked; saved beside its results. No datasets: all that are extracted."""

    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    labels: str = "emotion"
    folds: int = 5
    seeds: int = 1


@dataclass(frozen=True)
class _Pair:
    """The clips of one cell, and the folds of each seed."""

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
    asked: CrossConfig,
    jobs: int | None = None,
    progress: Progress = silent,
    log: Callable[[str], None] = lambda line: None,
    cluster: str | None = None,
) -> tuple[Path, list[CrossRow]]:
    """The matrix of some training sets and some test sets, for each head and encoder; the run folder, and its cells.

    `log` receives pairs that are left out, and why. Raises UnknownName, DataError or
    ProtocolError as `Task.load` and `make_folds` do, before anything is fitted.
    """
    train, test = _datasets(artifacts, asked.train), _datasets(artifacts, asked.test)
    specs = configured_heads(asked.heads)
    named = [*dict.fromkeys([*train, *test])]
    if len(named) < 2:
        raise DataError(f"got one dataset, {named[0]}; wanted two. Extract another, or use `ser compare`.")
    work = load_tasks(artifacts, ComparisonConfig(tuple(named), asked.encoders, labels=asked.labels), specs, log)
    pairs = [(pair, some) for task, some in work for pair in _pairs(task, train, test, asked, log)]
    made = [
        (pair, p)
        for pair, some in pairs
        for p in run_folds(pair.task, some, pair.splits, pair.protocol, jobs, progress, cluster)
    ]
    cells = [_cell(pair, p) for pair, p in made]
    return _save(artifacts, asked, [p for _, p in made], cells, work[0][0]), cells


def _datasets(artifacts: Artifacts, asked: Sequence[str]) -> list[str]:
    """The names of extracted datasets, each once; all of them by default."""
    names = asked or sorted(path.stem for path in artifacts.manifests.glob("*.csv"))
    return list(dict.fromkeys(load_manifests(artifacts, name)[0].dataset for name in names or (None,)))


def _pairs(
    task: Task, train: Sequence[str], test: Sequence[str], asked: CrossConfig, log: Callable[[str], None]
) -> list[_Pair]:
    """The pairs that can be made; `log` receives why others cannot."""
    owner = np.array([clip_id.partition(":")[0] for clip_id in task.ids])
    pairs = []
    for a, b in product(train, test):
        try:
            pairs.append(_within(task, owner, a, asked) if a == b else _between(task, owner, a, b, asked.seeds))
        except ProtocolError as error:
            log(f"note: {a} and {b}: left out. {error}" if a != b else f"note: {a} alone: left out. {error}")
    if not pairs:
        raise DataError("no pair of datasets can be compared: the notes say why.")
    return pairs


def _within(task: Task, owner: Strings, name: str, asked: CrossConfig) -> _Pair:
    """A dataset alone, as `ser compare` has it, in folds by speaker; fewer of them where there are fewer speakers."""
    own = task.take(np.flatnonzero(owner == name))
    texts = None if own.texts is None else _bare(own.texts)
    own = replace(own, dataset=name, clip_ids=_bare(own.ids), speakers=_bare(own.speakers), texts=texts)
    folds = min(asked.folds, len(set(own.speakers.tolist())))
    return _Pair(name, name, own, [make_folds(own, "speakers", folds, seed) for seed in range(asked.seeds)])


def _bare(names: Strings) -> Strings:
    """Names without that of a dataset in front."""
    return np.array([name.partition(":")[2] for name in names.tolist()])


def _between(task: Task, owner: Strings, a: str, b: str, seeds: int) -> _Pair:
    """All of one dataset for training, and for testing what of the other is not in it. Raises ProtocolError."""
    keys = task.keys if task.keys is not None else task.ids
    known = np.isin(keys, keys[owner == a])
    labels = sorted(set(task.y[owner == a].tolist()) & set(task.y[(owner == b) & ~known].tolist()))
    excluded = int(np.count_nonzero((owner == b) & known))
    if excluded == np.count_nonzero(owner == b):
        raise ProtocolError(f"All {excluded} clips of {b} are, byte for byte, files of {a} too.")
    if len(labels) < 2:
        same = f"; files of {b} that stand in {a}: {excluded}" if excluded else ""
        raise ProtocolError(f"They share fewer than two labels ({', '.join(labels) or 'none'}{same}).")
    shared = np.isin(task.y, labels)
    training = np.flatnonzero(shared & (owner == a))
    testing = np.flatnonzero(shared & (owner == b) & ~known)
    part = replace(task.take(np.concatenate([training, testing])), dataset=f"{a}->{b}")
    fold = Fold("1", np.arange(len(training)), np.arange(len(training), len(part)))
    return _Pair(
        train=a,
        test=b,
        task=part,
        splits=[[fold]] * seeds,
        train_other=int(np.count_nonzero(~shared & (owner == a))),
        test_other=int(np.count_nonzero(~shared & (owner == b) & ~known)),
        excluded=excluded,
    )


def _cell(pair: _Pair, p: Predictions) -> CrossRow:
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
    asked: CrossConfig,
    predictions: Sequence[Predictions],
    cells: Sequence[CrossRow],
    task: Task,
) -> Path:
    folder = new_run_folder(artifacts.runs, f"{CROSS}-{Path(asked.labels).stem}")
    write_run(folder, predictions, asdict(asked), task.labels_from, {"cross.csv": cells_csv(cells)})
    for head, encoder in dict.fromkeys((cell.head, cell.encoder) for cell in cells):
        mine = [cell for cell in cells if (cell.head, cell.encoder) == (head, encoder)]
        save_cross_figure(folder, f"{head} on {encoder}", {(c.train, c.test): (c.uar, c.chance) for c in mine})
    return folder


def cells_csv(cells: Sequence[CrossRow]) -> str:
    """The text of cross.csv."""
    return csv_text([(field.name for field in fields(CrossRow)), *map(astuple, cells)])
