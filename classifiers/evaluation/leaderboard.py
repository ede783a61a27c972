"""Predictions -> rows -> CSV. A pure function: the same predictions give the same leaderboard.

Rows are ranked by UAR among their peers: the rows of one dataset and protocol with the same folds of the same labelled
clips. Rows whose head or encoder was trained on test speakers come last.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby
from typing import Any

import numpy as np

from embedcache import __version__

from ..data.csv_text import csv_text
from .intervals import speaker_bootstrap
from .metrics import brier, ece, f1s, macro_f1, precisions, recalls, uar, war
from .paired_tests import Paired, against_best
from .predictions import Predictions
from .protocols import knows_speakers


@dataclass(frozen=True)
class Row:
    """One head under one protocol. The fields, in order, are the columns of leaderboard.csv; "" or NaN is unknown."""

    rank: int
    head: str
    encoder: str
    view: str
    dataset: str
    classes: int
    protocol: str
    folds: int
    seeds: int
    uar: float  # over all test predictions together
    uar_low: float  # 95 % bootstrap over speakers
    uar_high: float
    uar_fold_mean: float
    uar_fold_sd: float
    war: float
    macro_f1: float
    ece: float  # 15 bins
    fit_seconds: float  # of one fold, the mean
    predict_ms: float  # of one clip, the mean
    p_vs_best: float  # that the best row of its table is no better on other speakers; see `paired.py`
    leaks: str
    n_clips: int
    n_speakers: int
    fold_hash: str
    fingerprint: str
    version: str
    run: str
    labels: str  # the view of the labels
    copies: int  # augmented ones of each clip, in training
    augment: str  # how those were made
    brier: float  # of all labels, in [0, 2]


CHOSEN = ("uar", "untuned", "tried", "temperature")  # of chosen.csv, beside the setting
COLUMNS = tuple(f.name for f in fields(Row))


@dataclass(frozen=True)
class Table:
    """Rows that can be compared with each other, ranked; and every row but the best against the best."""

    rows: Sequence[Row]
    paired: Sequence[Paired]


def leaderboard(predictions: Iterable[Predictions]) -> list[Row]:
    """The rows of leaderboard.csv, ranked; `p_vs_best` is corrected for the number of rows that are compared."""
    return [row for table in tables(predictions) for row in table.rows]


def tables(predictions: Iterable[Predictions]) -> list[Table]:
    """The tables that a leaderboard consists of."""
    scored = [(score(p), p) for p in predictions]
    scored.sort(key=lambda pair: (*peers(pair[0]), -pair[0].uar, pair[0].head, pair[0].encoder))
    return [_table(*zip(*group, strict=True)) for _, group in groupby(scored, key=lambda pair: peers(pair[0]))]


def _table(rows: Sequence[Row], predictions: Sequence[Predictions]) -> Table:
    paired = against_best(predictions)
    p_values = [float("nan"), *(one.p_speakers_holm for one in paired)]
    numbered = enumerate(zip(rows, p_values, strict=True), start=1)
    return Table([replace(row, rank=rank, p_vs_best=p_value) for rank, (row, p_value) in numbered], paired)


def score(p: Predictions) -> Row:
    """One row, unranked."""
    matrix = p.matrix()
    low, high = speaker_bootstrap(p.matrices_by(p.speakers), uar)
    by_fold = uar(p.matrices_by(p.splits))
    return Row(
        rank=0,
        head=p.head,
        encoder=p.encoder,
        view=p.view,
        dataset=p.dataset,
        classes=len(p.labels),
        protocol=p.protocol,
        folds=len(np.unique(p.folds)),
        seeds=len(np.unique(p.seeds)),
        uar=float(uar(matrix)),
        uar_low=low,
        uar_high=high,
        uar_fold_mean=float(by_fold.mean()),
        uar_fold_sd=float(by_fold.std(ddof=1)) if len(by_fold) > 1 else float("nan"),
        war=float(war(matrix)),
        macro_f1=float(macro_f1(matrix)),
        ece=ece(p.proba, p.correct),
        fit_seconds=p.fit_seconds,
        predict_ms=p.predict_ms,
        p_vs_best=float("nan"),
        leaks=p.leaks,
        n_clips=len(np.unique(p.clip_ids)),
        n_speakers=len(np.unique(p.speakers)),
        fold_hash=p.fold_hash,
        fingerprint=p.fingerprint[:12],
        version=__version__,
        run=p.run,
        labels=p.label_view,
        copies=p.copies,
        augment=p.augment,
        brier=brier(p.proba, p.truth_columns),
    )


def latest(predictions: Iterable[Predictions]) -> list[Predictions]:
    """Without repeats: of runs with the same head, vectors, folds and parameters, the one whose run's name is last.

    Vectors are the same where encoder, fingerprint and view are.
    """
    newest: dict[Any, Predictions] = {}
    for p in sorted(predictions, key=lambda p: p.run):
        settings = tuple(sorted((name, str(value)) for name, value in p.params.items()))
        vectors = (p.encoder, p.fingerprint, p.view)
        newest[(p.head, *vectors, p.dataset, p.protocol, p.fold_hash, p.copies, p.augment, settings)] = p
    return list(newest.values())


def to_csv(rows: Sequence[Row]) -> str:
    """The text of leaderboard.csv; numbers with four digits, unknown ones empty."""
    return csv_text([COLUMNS, *(asdict(row).values() for row in rows)])


def per_label_csv(predictions: Iterable[Predictions]) -> str:
    """The text of per_label.csv: precision, recall and F1 of each label, for each head."""
    lines: list[Sequence[Any]] = [
        ("head", "encoder", "dataset", "protocol", "label", "precision", "recall", "f1", "clips")
    ]
    for p in predictions:
        matrix = p.matrix()
        scores = zip(p.labels, precisions(matrix), recalls(matrix), f1s(matrix), matrix.sum(axis=1), strict=True)
        for label, *values in scores:
            lines.append([p.head, p.encoder, p.dataset, p.protocol, label, *values])
    return csv_text(lines)


def chosen_csv(predictions: Iterable[Predictions]) -> str:
    """The text of chosen.csv: what heads that choose parameters, or a temperature, chose in each fold, and why.

    `uar` and `untuned` are of the inner folds: of what was chosen, and of the head as it is.
    """
    lines: list[Sequence[Any]] = [("dataset", "encoder", "head", "seed", "fold", "setting", *CHOSEN)]
    for p in predictions:
        splits = dict.fromkeys(zip(p.seeds.tolist(), p.folds.tolist(), strict=True))
        for split, chosen in zip(splits, p.chosen, strict=False):
            facts = ["" if chosen.get(name) is None else chosen[name] for name in CHOSEN]
            lines.append([p.dataset, p.encoder, p.head, *split, json.dumps(chosen.get("setting")), *facts])
    return csv_text(lines)


def peers(row: Row) -> tuple[Any, ...]:
    """What must be equal for two rows to be ranked against each other; those that know their test speakers come last.

    So a row whose encoder was fine-tuned on test speakers is never the best that honest rows are compared with.
    """
    return knows_speakers(row.leaks), row.dataset, row.protocol, -row.n_clips, row.fold_hash
