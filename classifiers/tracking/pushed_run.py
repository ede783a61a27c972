"""What is pushed to a tracker: a run as rows, each with parameters, metrics, tags and files.

Every tracker gets the same values. Each row of the leaderboard becomes one run of the tracker:

- parameters: what the row is (head, encoder, protocol, folds, …), the parameters of the head (`head.C`) and the
  configuration of the run (`configuration.tune`)
- metrics: the numbers of leaderboard.csv, and the other scores of intervals.csv; the ends of an interval are metrics of
  their own (`uar_low`, `uar_high`); the recall of each label (`recall/angry`). Unknown numbers are left out
- tags: leaks, dataset, version of ser, name of the run, notes
- files: the predictions of the row and its confusion matrix, and leaderboard.csv and run.json of the run

A row and a run are identified by the SHA-256 of predictions.csv, so that a run that is pushed twice is found again.
"""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from embedcache import Artifacts, DataError
from embedcache.files.untrusted import read_json
from embedcache.text import numbered

from ..evaluation.intervals import Interval
from ..evaluation.leaderboard import Row, Table, tables, to_csv
from ..evaluation.metrics import recalls
from ..evaluation.predictions import Predictions
from ..evaluation.run_folder import MAX_BYTES, find_runs, load_predictions, save_predictions
from ..reporting.figures import confusion_figure

Value = str | int | float | bool
Named = TypeVar("Named")
RUN, LEADERBOARD, PREDICTIONS, CONFUSION = "run.json", "leaderboard.csv", "predictions.csv", "confusion.png"
# Columns of leaderboard.csv that are results; the other columns that are numbers say what the row is.
RESULTS = (
    "rank",
    "uar",
    "uar_low",
    "uar_high",
    "uar_fold_mean",
    "uar_fold_sd",
    "uar_seed_sd",
    "war",
    "macro_f1",
    "ece",
    "brier",
    "fit_seconds",
    "predict_ms",
    "p_vs_best",
    "smallest_difference",
)
TAGS = ("run", "leaks", "dataset", "protocol", "version", "notes")  # columns of leaderboard.csv that are tags
NEITHER = (*RESULTS, "leaks", "version", "notes", "run", "chosen")  # fields of a row that are no parameters


@dataclass(frozen=True)
class PushedRow:
    """One row of a leaderboard, as a tracker gets it."""

    name: str  # head, encoder, dataset and protocol
    key: str  # 16 hexadecimal digits; equal for the same row of the same predictions
    params: Mapping[str, Value]
    metrics: Mapping[str, float]  # finite numbers
    tags: Mapping[str, str]
    predictions: Predictions


@dataclass(frozen=True)
class PushedRun:
    """A run, as a tracker gets it."""

    folder: Path
    digest: str  # SHA-256 of predictions.csv
    created: str  # time in UTC, ISO 8601
    leaderboard: str  # text of leaderboard.csv
    rows: tuple[PushedRow, ...]  # in the order of the leaderboard

    @property
    def name(self) -> str:
        """The name of the run folder."""
        return self.folder.resolve().name


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    place: str  # where the rows are, for people
    new: int  # number of rows that were pushed
    present: int  # number of rows that were there before, and were not pushed again


def read_run(artifacts: Artifacts, run: str) -> PushedRun:
    """Return a run, given by name or folder, "" for the latest, for a tracker.

    Raises UnknownName if there is no such run, DataError if it cannot be read.
    """
    folder = find_runs(artifacts, [run] if run else [])[-1]
    ranked = tables(load_predictions(folder))
    facts = read_json(folder / RUN, MAX_BYTES, DataError)
    with (folder / PREDICTIONS).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    configuration = facts.get("asked")
    asked = flat(configuration, "configuration") if isinstance(configuration, dict) else {}
    rows = tuple(row for table in ranked for row in _rows(table, digest, asked))
    text = to_csv([row for table in ranked for row in table.rows])
    return PushedRun(folder, digest, str(facts.get("created", "")), text, rows)


def _rows(table: Table, digest: str, configuration: Mapping[str, Value]) -> Iterator[PushedRow]:
    bounds: dict[tuple[str, ...], dict[str, float]] = {}
    for one in table.intervals():
        bounds.setdefault((one.encoder, one.head, one.protocol), {}).update(_interval_metrics(one))
    for row, p in zip(table.rows, table.predictions, strict=True):
        name = f"{row.head} {row.encoder} {row.dataset} {row.protocol}"
        yield PushedRow(
            name=name,
            key=hashlib.sha256(f"{digest} {name}".encode("utf-8", "surrogateescape")).hexdigest()[:16],
            params={**_row_params(row), **flat(p.params, "head"), **configuration},
            metrics=finite({**bounds[row.encoder, row.head, row.protocol], **_row_metrics(row), **_recalls(p)}),
            tags={tag: text for tag in TAGS if (text := str(getattr(row, tag)))},
            predictions=p,
        )


def _interval_metrics(one: Interval) -> dict[str, float]:
    return {one.metric: one.value, f"{one.metric}_low": one.low, f"{one.metric}_high": one.high}


def _row_params(row: Row) -> dict[str, Value]:
    values = {field.name: getattr(row, field.name) for field in fields(Row) if field.name not in NEITHER}
    return {name: value for name, value in values.items() if value != ""}


def _row_metrics(row: Row) -> dict[str, float]:
    return {name: float(getattr(row, name)) for name in RESULTS}


def _recalls(p: Predictions) -> dict[str, float]:
    return {f"recall/{label}": float(recall) for label, recall in zip(p.labels, recalls(p.matrix()), strict=True)}


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that are known: neither NaN nor infinite."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def flat(values: Mapping[str, Any], prefix: str) -> dict[str, Value]:
    """Return values by name, such as `head.C`. None and "" are left out; lists and dictionaries become JSON."""
    kept = {f"{prefix}.{name}": value for name, value in values.items() if value not in (None, "", [], ())}
    return {
        name: value if isinstance(value, Value) else json.dumps(value, ensure_ascii=False, default=str)
        for name, value in kept.items()
    }


def unique_names(names: Iterable[str], valid: str, longest: int = 250) -> dict[str, str]:
    """Return name -> the name that a tracker takes: at most `longest` characters, `_` for those that are not `valid`.

    Names that become equal get numbers: with the pattern `valid=r"\\w"`, `a+b` and `a-b` become `a_b` and `a_b_2`.
    A slash makes groups, so a name is also a path without empty parts, `.` and `..`, which servers refuse.
    """
    own = list(names)
    plain = ("".join(char if re.fullmatch(valid, char) else "_" for char in name) for name in own)
    short = (posixpath.normpath(name.strip("/. ")[: longest - 5]).strip("/. ") or "_" for name in plain)
    return dict(zip(own, numbered(short, "_"), strict=True))


def named(values: Mapping[str, Named], valid: str) -> dict[str, Named]:
    """Return values under the names that a tracker takes: see `unique_names`."""
    return {name: values[own] for own, name in unique_names(values, valid).items()}


@contextmanager
def row_files(row: PushedRow) -> Iterator[Path]:
    """Write predictions.csv and confusion.png of a row, and give their folder, which is removed afterwards."""
    with TemporaryDirectory() as scratch:
        inner, folder = Path(scratch, "run"), Path(scratch, "files")
        folder.mkdir()
        save_predictions(inner, [row.predictions], {})
        (inner / PREDICTIONS).rename(folder / PREDICTIONS)
        confusion_figure(row.predictions).savefig(folder / CONFUSION, dpi=100)
        yield folder


@contextmanager
def run_files(run: PushedRun) -> Iterator[Path]:
    """Write leaderboard.csv and run.json of a run, and give their folder, which is removed afterwards."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / LEADERBOARD).write_text(run.leaderboard, encoding="utf-8", newline="")
        (folder / RUN).write_bytes((run.folder / RUN).read_bytes())
        yield folder
