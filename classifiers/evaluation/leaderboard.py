"""Leaderboards: the scores of predictions as ranked rows, and their CSV files.

A leaderboard is a pure function of the predictions: the same predictions give the same leaderboard. Rows are ranked by
UAR, or by another metric, within a table, which holds the rows of one dataset and protocol with the same folds of the
same labelled clips. Tables of heads that are adapted to the test speakers come after those of unadapted heads, and
tables of heads or encoders that were trained on test speakers come last.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Any

import numpy as np

from embedcache import UnknownName
from embedcache.progress import Progress, silent

from ..data.csv_text import csv_text
from ..metrics import UAR, Metric, choose
from ..protocols.catalogue import adapted_by, unadapted_name
from ..protocols.leaks import trained_on_test_speakers
from .intervals import Interval, ends, errors_of_the_first, intervals, uar_interval
from .metric_estimates import MetricEstimate, estimate_all
from .metrics import Floats, brier, ece, f1s, macro_f1, precisions, recalls, uar, war
from .paired_tests import UNTESTED, Paired, against_best, tests_over_speakers
from .predictions import Predictions
from .row_texts import row_notes, vectors_name


@dataclass(frozen=True)
class RankedBy:
    """The score by which a row is ranked. A greater score is better."""

    metric: str  # name of the metric
    value: float
    low: float  # lower end of the 95 % interval over speakers
    high: float  # upper end of the 95 % interval over speakers
    about: str = ""  # description of the metric
    width: float = 1.0  # largest possible difference of two scores; may be infinite


@dataclass(frozen=True)
class Row:
    """The scores of one head with one protocol.

    The fields, in order, are the columns of leaderboard.csv, except `chosen`, which becomes the four columns of
    METRIC_COLUMNS at the end if there is one. Unknown values are "" or NaN. Scores are computed once over all test
    predictions, unless stated otherwise. `rank`, `p_vs_best` and `smallest_difference` are about the chosen metric.
    """

    rank: int  # rank within the table, from 1
    head: str
    encoder: str
    view: str
    dataset: str
    classes: int  # number of labels
    protocol: str
    folds: int
    seeds: int
    uar: float
    uar_low: float  # lower end of the 95 % interval over speakers, see `intervals.py`
    uar_high: float  # upper end of the 95 % interval over speakers
    uar_fold_mean: float  # mean UAR of the folds
    uar_fold_sd: float  # standard deviation of the UAR of the folds
    war: float
    macro_f1: float
    ece: float  # with 15 bins
    fit_seconds: float  # mean time to fit a fold, in seconds
    predict_ms: float  # mean time to predict a clip, in milliseconds
    p_vs_best: float  # p-value of the permutation test against the best row, adjusted for all pairs of the table
    leaks: str  # see `protocols.leaks`
    n_clips: int
    n_speakers: int
    fold_hash: str  # see `protocols.fold_hash`
    fingerprint: str  # first 12 digits of the fingerprint of the encoder
    version: str  # version of ser that made the predictions
    run: str  # name of the run folder
    labels: str  # label view
    copies: int  # number of augmented copies of each training clip
    augment: str  # how the copies were made
    brier: float  # Brier score over all labels, in [0, 2]
    uar_seed_sd: float  # standard deviation of the UAR over the seeds; NaN with one seed
    smallest_difference: float  # UAR below the best row from which p_vs_best would be 0.05; infinite if never
    notes: str  # what limits the row, see `row_texts.py`; sentences joined by "; "
    adapted: str = ""  # clips of each test speaker, such as "10" or "all", that vectors are adapted by; "" for none
    adapt_clips: int = 0  # number of test clips that vectors are adapted by in one draw
    draws: int = 1  # number of draws of these clips; the scores are over all draws
    chosen: RankedBy | None = None  # score of the metric that ranks the rows in place of the UAR

    @property
    def ranked_by(self) -> RankedBy:
        """The score by which the row is ranked: that of the chosen metric, otherwise the UAR."""
        return self.chosen or RankedBy("UAR", self.uar, self.uar_low, self.uar_high)


CHOSEN = ("uar", "untuned", "tried", "temperature")  # columns of chosen.csv after the setting
COLUMNS = tuple(f.name for f in fields(Row) if f.name != "chosen")
METRIC_COLUMNS = ("metric", "score", "score_low", "score_high")  # further columns, if a metric was chosen
# Columns that are computed from others. Without a chosen metric, those of METRIC_COLUMNS are about the UAR.
COMPUTED: Mapping[str, Callable[[Row], Any]] = {
    "vectors": lambda row: vectors_name(row.head, row.encoder, row.view),
    "chance": lambda row: 1 / row.classes,
    "metric": lambda row: row.ranked_by.metric,
    "score": lambda row: row.ranked_by.value,
    "score_low": lambda row: row.ranked_by.low,
    "score_high": lambda row: row.ranked_by.high,
}
NAMES = (*COLUMNS, *COMPUTED)  # all columns that can be chosen


@dataclass(frozen=True)
class Table:
    """Comparable rows, ranked, their predictions, and the paired test of every row but the best against the best."""

    rows: Sequence[Row]
    predictions: Sequence[Predictions]
    paired: Sequence[Paired]

    def intervals(self) -> list[Interval]:
        """Return the intervals of all scores of all rows. The best row was selected, so its rivals are considered."""
        first, *others = self.predictions
        return [*intervals(first, others), *(interval for p in others for interval in intervals(p))]


def leaderboard(
    predictions: Iterable[Predictions], metric: str | Metric = UAR, progress: Progress = silent
) -> list[Row]:
    """Return the rows of leaderboard.csv, ranked within their tables.

    `p_vs_best` is adjusted for all pairs of rows of the table, and the interval of the first row for its selection.
    `metric` ranks the rows: "uar", the name of a scorer of scikit-learn or of another package's metric, or a `Metric`.
    `progress` receives the progress of a metric other than "uar", in rows.

    Raises UnknownName or ConfigError if there is no such metric, DataError if it cannot score a row.
    """
    chosen = choose(metric)
    if chosen is None:
        return [row for table in tables(predictions) for row in table.rows]
    found = list(predictions)
    with progress(chosen.name, total=len(found), unit="rows") as advance:
        estimates = estimate_all(chosen, found, advance)
    return _rows_by_metric(found, chosen, estimates)


def tables(predictions: Iterable[Predictions]) -> list[Table]:
    """Return the tables of a leaderboard that is ranked by UAR."""
    scored = [(score(p), p) for p in predictions]
    scored.sort(key=lambda pair: (*table_key(pair[0]), -pair[0].uar, pair[0].head, pair[0].encoder))
    return [_table(*zip(*group, strict=True)) for _, group in groupby(scored, key=lambda pair: table_key(pair[0]))]


def _table(rows: Sequence[Row], predictions: Sequence[Predictions]) -> Table:
    paired = against_best(predictions)
    low, high = uar_interval(predictions[0], predictions[1:])
    others = [
        replace(row, rank=rank, p_vs_best=test.p_speakers_adjusted, smallest_difference=test.smallest_difference)
        for rank, (row, test) in enumerate(zip(rows[1:], paired, strict=True), start=2)
    ]
    return Table([replace(rows[0], rank=1, uar_low=low, uar_high=high), *others], predictions, paired)


def _rows_by_metric(
    predictions: Sequence[Predictions], metric: Metric, estimates: Sequence[MetricEstimate]
) -> list[Row]:
    """Return the rows, ranked by a metric within their tables."""
    scored = [(score(p), p, estimate) for p, estimate in zip(predictions, estimates, strict=True)]
    scored.sort(key=lambda one: (*table_key(one[0]), -one[2].estimate.value, one[0].head, one[0].encoder))
    grouped = groupby(scored, key=lambda one: table_key(one[0]))
    return [row for _, group in grouped for row in _table_by_metric(metric, *zip(*group, strict=True))]


def _table_by_metric(
    metric: Metric, rows: Sequence[Row], predictions: Sequence[Predictions], found: Sequence[MetricEstimate]
) -> Iterator[Row]:
    """Yield the rows of a table with their ranks, intervals and tests, as `_table` does for the UAR."""
    first, *others = (one.estimate for one in found)
    errors = errors_of_the_first(first, others)
    tests = [UNTESTED, *tests_over_speakers(predictions, [one.shares for one in found])]
    for rank, (row, one, test) in enumerate(zip(rows, found, tests, strict=True), start=1):
        best = errors if rank == 1 else None
        low, high = ends(one.estimate, first, best)
        uar_low, uar_high = (row.uar_low, row.uar_high) if best is None else ends(one.uar, first, best)
        yield replace(
            row,
            rank=rank,
            uar_low=uar_low,
            uar_high=uar_high,
            p_vs_best=test[1],
            smallest_difference=test[2],
            notes="; ".join(filter(None, [row.notes, one.note])),
            chosen=RankedBy(metric.name, one.estimate.value, low, high, metric.about, metric.highest - metric.lowest),
        )


def score(p: Predictions) -> Row:
    """Return the row of one head, with rank 0 and without a paired test."""
    matrix = p.matrix()
    low, high = uar_interval(p)
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
        uar_fold_sd=_deviation(by_fold),
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
        version=p.version,
        run=p.run,
        labels=p.label_view,
        copies=p.copies,
        augment=p.augment,
        brier=brier(p.proba, p.truth_columns),
        uar_seed_sd=_deviation(uar(p.matrices_by(p.seeds))),
        smallest_difference=float("nan"),
        notes="; ".join(row_notes(p)),
        adapted=adapted_by(p.protocol),
        adapt_clips=p.adapt_clips,
        draws=p.n_draws,
    )


def _deviation(scores: Floats) -> float:
    """Return the standard deviation of scores (n,); NaN for fewer than two."""
    return float(scores.std(ddof=1)) if len(scores) > 1 else float("nan")


def latest(predictions: Iterable[Predictions]) -> list[Predictions]:
    """Return the predictions without repeats: of equal configurations, those of the latest run, by the run's name.

    Configurations are equal if head, parameters, encoder, fingerprint, view, dataset, protocol, folds and copies are.
    """
    newest: dict[Any, Predictions] = {}
    for p in sorted(predictions, key=lambda p: p.run):
        settings = tuple(sorted((name, str(value)) for name, value in p.params.items()))
        vectors = (p.encoder, p.fingerprint, p.view)
        newest[(p.head, *vectors, p.dataset, p.protocol, p.fold_hash, p.copies, p.augment, settings)] = p
    return list(newest.values())


def to_csv(rows: Sequence[Row], columns: Sequence[str] = ()) -> str:
    """Return rows as CSV, by default the text of leaderboard.csv. Unknown numbers are empty."""
    names = columns or all_columns(rows)
    return csv_text([names, *([value_of(row, name) for name in names] for row in rows)])


def all_columns(rows: Sequence[Row]) -> list[str]:
    """Return the columns of leaderboard.csv. A chosen metric adds METRIC_COLUMNS."""
    return [*COLUMNS, *(METRIC_COLUMNS if any(row.chosen for row in rows) else ())]


def chosen_columns(names: Sequence[str]) -> list[str]:
    """Return names of columns without repeats, in lower case. Raises UnknownName for a name that is not in NAMES."""
    chosen = list(dict.fromkeys(name.lower() for name in names))
    for name in chosen:
        if name not in NAMES:
            raise UnknownName("column", name, NAMES)
    return chosen


def value_of(row: Row, name: str) -> Any:
    """Return the value of a column for a row: a number, or a text. Unknown numbers are NaN."""
    return COMPUTED[name](row) if name in COMPUTED else getattr(row, name)


def per_label_csv(predictions: Iterable[Predictions]) -> str:
    """Return the text of per_label.csv: precision, recall and F1 of each label, for each head."""
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
    """Return the text of chosen.csv: the parameters and temperatures that heads chose in each fold.

    The columns `uar` and `untuned` are UARs in inner folds, of the chosen setting and of the default setting. If some
    heads are adapted to the test speakers, the last column is `adapted`.
    """
    found = list(predictions)
    adapted = any(p.draws is not None for p in found)
    header = ("dataset", "encoder", "head", "seed", "fold", "setting", *CHOSEN)
    lines: list[Sequence[Any]] = [(*header, "adapted") if adapted else header]
    for p in found:
        splits = dict.fromkeys(zip(p.seeds.tolist(), p.folds.tolist(), strict=True))
        for split, chosen in zip(splits, p.chosen, strict=False):
            values = ["" if chosen.get(name) is None else chosen[name] for name in CHOSEN]
            values += [adapted_by(p.protocol)] if adapted else []
            lines.append([p.dataset, p.encoder, p.head, *split, json.dumps(chosen.get("setting")), *values])
    return csv_text(lines)


def table_key(row: Row) -> tuple[Any, ...]:
    """Return a key that is equal for rows of one table, and that sorts tables in the order of the leaderboard.

    Rows trained on test speakers have tables of their own, which come last. So a row whose encoder was fine-tuned on
    test speakers is never the best row with which speaker-independent rows are compared. Rows adapted to the test
    speakers have tables of their own, too, which come after those of unadapted rows, in ascending order of clips.
    """
    kind = trained_on_test_speakers(row.leaks), bool(row.adapted)
    return *kind, row.dataset, unadapted_name(row.protocol), amount_of(row), -row.n_clips, row.fold_hash


def amount_of(row: Row) -> float:
    """Return the clips of each test speaker that the vectors of a row are adapted to: 0 for none, infinity for all."""
    return math.inf if row.adapted == "all" else int(row.adapted or 0)
