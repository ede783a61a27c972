"""Run folders: write, find, load and check the results of one comparison.

Every run folder holds two files, from which its other files follow:

- `predictions.csv`, with a row for each test clip, fold and seed of each head, and the columns
  `dataset, clip_id, speaker, fold, seed, head, encoder, label, predicted, p_<label>…`. Where each test partition has
  results of its own, its fold has the name of the partition. If a head is adapted to the test speakers, the columns
  `adapted, draw` follow: the amount, such as 10 or all, and the number of the draw; both are "" for unadapted rows
- `run.json`, with the configuration of the run, the SHA-256 of predictions.csv, the versions of libraries, and the
  values that do not vary by row, such as protocol, leaks, hash of the folds, fingerprint of the encoder, times and
  learning curves

A run folder may come from an untrusted source. `load_predictions` checks the types of all values, that the sizes allow
scores to be computed in memory, and that the rows can be predictions under their protocol (`run_checks.py`).
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from embedcache import Artifacts, DataError, UnknownName, __version__
from embedcache.encoder import Log, no_log
from embedcache.errors import complain
from embedcache.files.atomic import atomic_write
from embedcache.files.tables import read_rows
from embedcache.files.untrusted import read_json, wrong_types
from embedcache.text import count, examples

from ..data.labels import Labels
from ..data.task import Strings
from ..protocols.catalogue import adapted_by, partition_of
from .intervals import intervals_csv
from .leaderboard import chosen_csv, per_label_csv, tables, to_csv
from .paired_tests import paired_csv
from .predictions import Predictions
from .run_checks import faults

COLUMNS = ("dataset", "clip_id", "speaker", "fold", "seed", "head", "encoder", "label", "predicted")
ADAPTED_COLUMNS = ("adapted", "draw")  # last columns, if some predictions are adapted to the test speakers
HEAD_FIELDS = (  # fields of `Predictions` that run.json holds for each head
    "view",
    "protocol",
    "labels",
    "leaks",
    "fold_hash",
    "fingerprint",
    "fit_seconds",
    "predict_ms",
    "skipped",
    "params",
    "histories",
    "chosen",
    "layer_weights",
    "feature_shares",
    "label_view",
    "copies",
    "augment",
    "train_clips",
    "adapt_clips",
    "strengths",
)
TEXT_FIELDS = (  # fields of a head in run.json that are strings
    "dataset",
    "encoder",
    "head",
    "view",
    "protocol",
    "leaks",
    "fold_hash",
    "fingerprint",
    "label_view",
    "augment",
)
TUPLE_FIELDS = ("labels", "skipped", "histories", "chosen", "layer_weights", "strengths")  # lists in run.json
DEFAULTS: dict[str, Any] = {  # values of the fields that earlier versions did not write
    "label_view": "native",
    "copies": 0,
    "augment": "",
    "train_clips": 0.0,
    "chosen": [],
    "layer_weights": [],
    "feature_shares": {},
    "adapt_clips": 0,
    "strengths": [],
}

LIBRARIES = ("torch", "scikit-learn", "lightgbm", "numpy")  # libraries whose versions run.json names
ADVICE = "Remove the folder, or run the comparison again."
MAX_BYTES = 1 << 26  # largest run.json; the learning curves of a network take 5 MB for 91 folds and ten seeds
MAX_CHARACTERS = 1 << 28  # largest column: numpy stores every cell with the width of the widest
MAX_NUMBERS = 100_000_000  # 0.8 GB: largest array of confusion matrices by speaker or fold
MAX_SECONDS = 1e12  # longest valid time; it excludes infinity

Rows = list[dict[str, str]]


def new_run_folder(runs: Path, title: str) -> Path:
    """Return an unused path in `runs`, named by the time in UTC and the title. The folder is not created."""
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{title}"
    names = [stamp, *(f"{stamp}-{n}" for n in range(2, 1000))]
    return next(runs / name for name in names if not (runs / name).exists())


def write_run(
    folder: Path,
    predictions: Sequence[Predictions],
    config: dict[str, Any],
    labels: Labels | None,
    extra_files: Mapping[str, str] | None = None,
) -> None:
    """Write all files of a run folder.

    predictions.csv and run.json hold the results. From them follow leaderboard.csv, intervals.csv, paired.csv,
    per_label.csv and, if a head chose parameters, chosen.csv. labels.csv lists the mapping of the labels.

    `config` is the configuration of the run. `extra_files` are the texts of further files, by file name.
    """
    save_predictions(folder, predictions, config)
    ranked = tables(load_predictions(folder))
    texts = {
        "leaderboard.csv": to_csv([row for table in ranked for row in table.rows]),
        "intervals.csv": intervals_csv(interval for table in ranked for interval in table.intervals()),
        "paired.csv": paired_csv(table.paired for table in ranked),
        "per_label.csv": per_label_csv(predictions),
        **({"chosen.csv": chosen_csv(predictions)} if any(p.chosen for p in predictions) else {}),
        **({"labels.csv": labels.to_csv()} if labels else {}),
        **(extra_files or {}),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(text)


def save_predictions(folder: Path, predictions: Sequence[Predictions], config: dict[str, Any]) -> None:
    """Write predictions.csv and run.json.

    `config` is the configuration of the run. Raises DataError if two predictions have the same dataset, encoder, head,
    test partition and adaptation, because the files could not tell them apart.
    """
    owners = [(p.dataset, p.encoder, p.head, partition_of(p.protocol), adapted_by(p.protocol)) for p in predictions]
    if repeated := [owner for owner in dict.fromkeys(owners) if owners.count(owner) > 1]:
        raise DataError(
            f"got several predictions of {', '.join(filter(None, repeated[0]))} for one run; wanted one for each "
            "dataset, encoder, head, test partition and adaptation. Save them as separate runs."
        )
    labels = sorted({label for p in predictions for label in p.labels})
    adapted = ADAPTED_COLUMNS if any(p.draws is not None for p in predictions) else ()
    with atomic_write(folder / "predictions.csv") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *(f"p_{label}" for label in labels), *adapted])
        for p in predictions:
            writer.writerows(_csv_rows(p, labels, bool(adapted)))
    heads = [{**{n: getattr(p, n) for n in ("dataset", "encoder", "head")}, **_head_fields(p)} for p in predictions]
    created = datetime.now(UTC).isoformat(timespec="seconds")
    digest = _digest(folder / "predictions.csv")
    run = {"asked": config, "version": __version__, "created": created, "predictions_sha256": digest}
    run["libraries"] = {name: version(name) for name in LIBRARIES}
    with atomic_write(folder / "run.json") as file:
        json.dump({**run, "heads": heads}, file, indent=1)


def _csv_rows(p: Predictions, labels: list[str], adapted: bool) -> list[list[str]]:
    """Return the rows of predictions.csv; the probability is "" for labels that the task does not have."""
    columns = [p.labels.index(label) if label in p.labels else None for label in labels]
    draws = np.full(len(p.clip_ids), "") if p.draws is None else p.draws
    rows = zip(p.clip_ids, p.speakers, p.folds, p.seeds, p.truth, p.predicted, p.proba, draws, strict=True)
    return [
        [p.dataset, clip, speaker, fold, seed, p.head, p.encoder, truth, predicted]
        + ["" if column is None else str(proba[column]) for column in columns]
        + ([adapted_by(p.protocol), str(draw)] if adapted else [])
        for clip, speaker, fold, seed, truth, predicted, proba, draw in rows
    ]


def _head_fields(p: Predictions) -> dict[str, Any]:
    return {name: getattr(p, name) for name in HEAD_FIELDS}


def load_runs(artifacts: Artifacts, runs: Sequence[str] = (), log: Log = no_log) -> list[Predictions]:
    """Load the predictions of runs, given by name or path; by default those of all runs.

    If no runs are given, `log` receives a line for each run that cannot be loaded. Raises UnknownName or DataError.
    """
    predictions = []
    for folder in find_runs(artifacts, runs):
        try:
            predictions += load_predictions(folder)
        except DataError as error:
            if runs:
                raise
            log(f"note: left out: {error}")
    if not predictions:
        raise DataError(f"{artifacts.runs}: no run can be loaded; the notes above give the reasons. {ADVICE}")
    return predictions


def find_runs(artifacts: Artifacts, runs: Sequence[str] = ()) -> list[Path]:
    """Return the folders of runs, given by name or path; by default those of all runs, the latest last.

    Raises UnknownName if a run does not exist, DataError if there are no runs.
    """
    stored = sorted(path.parent for path in artifacts.runs.glob("*/run.json"))
    if not runs and not stored:
        raise DataError(f"{artifacts.runs}: no runs yet. Run `ser compare` first.")
    by_name = {folder.name: folder for folder in stored}
    folders = []
    for run in runs:
        folder = by_name.get(run, Path(run))
        if not (folder / "run.json").exists():
            raise UnknownName("run", run, by_name, f"Give the name of a folder in {artifacts.runs}, or a path")
        folders.append(folder)
    return folders or stored


def load_predictions(folder: str | Path) -> list[Predictions]:
    """Load the predictions that `save_predictions` wrote.

    Raises DataError if the folder is not a run folder, if its files hold invalid values, or if its rows cannot be
    predictions under their protocol.
    """
    folder = Path(folder)
    run = read_json(folder / "run.json", MAX_BYTES, DataError, f"{folder} cannot be read as a run. {ADVICE}")
    rows = read_rows(folder / "predictions.csv", COLUMNS)
    try:
        heads, facts = _rows_by_head(rows, run["heads"]), {"version": run["version"], "run": folder.name}
        if wrong := wrong_types(facts, get_type_hints(Predictions)):
            raise ValueError(f"run.json has invalid values: {', '.join(wrong)}")
        predictions = [replace(_from_rows(DEFAULTS | fields, heads), **facts) for fields in run["heads"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} cannot be read as a run ({error!r}). {ADVICE}") from error
    path = folder / "predictions.csv"
    complaints = [f"{p.head}: {fault}" for p in predictions for fault in faults(p)]
    if complaints := _changes(path, run.get("predictions_sha256")) + complaints:
        raise DataError(*complain(f"{path} has faults", complaints, ADVICE))
    return predictions


def _changes(path: Path, digest: Any) -> list[str]:
    """Return a sentence if predictions.csv is not the file that run.json names; earlier versions named no digest."""
    found = _digest(path)
    if digest in (None, found):
        return []
    return [f"changed since the run: the file has the SHA-256 {found[:12]}…, run.json names {str(digest)[:12]}…"]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rows_by_head(rows: Rows, described: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], Rows]:
    """Return the rows of predictions.csv by `_owner`; `described` are the heads in run.json.

    The rows of a test partition that a head names are those of the fold with that name.
    """
    owners = {_owner(fields) for fields in described}
    heads: dict[tuple[str, ...], Rows] = defaultdict(list)
    for row in rows:
        head = (row["dataset"], row["encoder"], row["head"], row.get("adapted", ""))
        heads[(*head, row["fold"]) if (*head, row["fold"]) in owners else (*head, "")].append(row)
    return heads


def _owner(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return dataset, encoder, head, adaptation and test partition of a head in run.json.

    The adaptation is "" if there is none, and the test partition if all folds are scored together.
    """
    protocol = str(fields["protocol"])
    head = (str(fields[name]) for name in ("dataset", "encoder", "head"))
    return (*head, adapted_by(protocol), partition_of(protocol))


def _from_rows(fields: dict[str, Any], heads: dict[tuple[str, ...], Rows]) -> Predictions:
    """Return the predictions of one head. Its rows are removed from `heads`, so that a repeated head is an error."""
    if invalid := _invalid_fields(fields):
        raise ValueError(f"run.json has invalid values of a head: {', '.join(invalid)}")
    owner: dict[str, Any] = {name: fields[name] for name in ("dataset", "encoder", "head")}
    rows = heads.pop(_owner(fields), [])
    labels = tuple(fields["labels"])
    if not rows or not {row[c] for row in rows for c in ("label", "predicted")} <= set(labels):
        name = ", ".join(filter(None, _owner(fields)))
        raise ValueError(f"predictions.csv has no rows of {name}, or rows with other labels than run.json")
    _check_size(rows, labels)
    columns: dict[str, Any] = {
        name: _column(rows, column)
        for name, column in (
            ("clip_ids", "clip_id"),
            ("speakers", "speaker"),
            ("folds", "fold"),
            ("seeds", "seed"),
            ("truth", "label"),
            ("predicted", "predicted"),
        )
    }
    if any(row.get("draw", "") for row in rows):
        columns["draws"] = _column(rows, "draw")
    columns_of_labels = [f"p_{label}" for label in labels]
    if blank := [row["clip_id"] for row in rows if not all(row.get(column) for column in columns_of_labels)]:
        raise ValueError(
            f"{count(len(blank), 'row')} of {owner['head']} without a probability of each label: {examples(blank)}"
        )
    proba = np.array([[row[column] for column in columns_of_labels] for row in rows], dtype=np.float32)
    if not ((proba >= 0) & (proba <= 1)).all():  # also False for NaN
        raise ValueError("predictions.csv has probabilities that are not between 0 and 1")
    stored: dict[str, Any] = {name: fields[name] for name in HEAD_FIELDS}
    stored |= {name: tuple(fields[name]) for name in TUPLE_FIELDS}
    return Predictions(**owner, **columns, proba=proba, **stored)


def _invalid_fields(fields: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields of a head in run.json whose values have a wrong type or are out of range."""
    if wrong := wrong_types({name: fields[name] for name in (*TEXT_FIELDS, *HEAD_FIELDS)}, get_type_hints(Predictions)):
        return wrong
    weights = [weight for fold in fields["layer_weights"] for weight in fold]
    right = {
        "fit_seconds": 0 <= fields["fit_seconds"] < MAX_SECONDS,
        "predict_ms": 0 <= fields["predict_ms"] < MAX_SECONDS,
        "labels": len(set(fields["labels"])) == len(fields["labels"]),
        "layer_weights": all(0 <= weight <= 1 for weight in weights),
        "feature_shares": all(
            0 <= share <= 1 for shares in fields["feature_shares"].values() for share in shares.values()
        ),
        "copies": fields["copies"] >= 0,
        "adapt_clips": fields["adapt_clips"] >= 0,
        "train_clips": 0 <= fields["train_clips"] < MAX_SECONDS,
    }
    return [name for name, is_right in right.items() if not is_right]


def _check_size(rows: Rows, labels: Sequence[str]) -> None:
    """Raise ValueError if confusion matrices by speaker or fold would have more than MAX_NUMBERS numbers."""
    speakers, folds = {row["speaker"] for row in rows}, {(row["fold"], row["seed"]) for row in rows}
    if max(len(speakers), len(folds)) * len(labels) ** 2 > MAX_NUMBERS:
        sizes = f"{len(speakers):,} speakers, {len(folds):,} folds and {len(labels):,} labels"
        raise ValueError(f"predictions.csv has {sizes}: too many for scores to be computed in memory")


def _column(rows: Rows, name: str) -> Strings:
    """Return a column as an array (n,). Raises ValueError if the array would have over MAX_CHARACTERS characters."""
    cells = [row[name] for row in rows]
    if len(cells) * max(map(len, cells)) > MAX_CHARACTERS:
        raise ValueError(f"predictions.csv has {len(cells):,} rows, and a {name} that is too long for this many rows")
    return np.array(cells)
