"""Predictions of heads on test clips. Every score is computed from these predictions alone.

A run folder holds two files:

- `predictions.csv`, with a row for each test clip, fold and seed of each head, and the columns
  `dataset, clip_id, speaker, fold, seed, head, encoder, label, predicted, p_<label>…`
- `run.json`, with the configuration of the run and the values that do not vary by row, such as protocol, leaks,
  hash of the folds, fingerprint of the encoder, times and learning curves

A run folder may come from an untrusted source. `load_predictions` checks the types of all values, and that the sizes
allow scores to be computed in memory.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from embedcache import DataError, __version__
from embedcache.files.atomic import atomic_write
from embedcache.files.untrusted import read_json, wrong_types
from embedcache.manifest import read_rows

from ..data.labels import NATIVE
from ..data.task import Strings, Task
from .metrics import confusion
from .protocols import Fold

COLUMNS = ("dataset", "clip_id", "speaker", "fold", "seed", "head", "encoder", "label", "predicted")
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
    "label_view",
    "copies",
    "augment",
    "train_clips",
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
DEFAULTS: dict[str, Any] = {  # values of the fields that earlier versions did not write
    "label_view": "native",
    "copies": 0,
    "augment": "",
    "train_clips": 0.0,
    "chosen": [],
    "layer_weights": [],
}

MAX_BYTES = 1 << 26  # largest run.json; the learning curves of a network take 5 MB for 91 folds and ten seeds
MAX_CHARACTERS = 1 << 28  # largest column: numpy stores every cell with the width of the widest
MAX_NUMBERS = 100_000_000  # 0.8 GB: largest array of confusion matrices by speaker or fold
MAX_SECONDS = 1e12  # longest valid time; it excludes infinity

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Predictions:
    """The predictions of one head on one task with one protocol.

    The arrays have n rows: one for each test clip in each fold and with each seed.
    """

    head: str
    encoder: str
    dataset: str
    view: str
    protocol: str
    labels: tuple[str, ...]
    clip_ids: Strings  # (n,)
    speakers: Strings  # (n,)
    folds: Strings  # (n,) names of folds
    seeds: Strings  # (n,) seeds as strings
    truth: Strings  # (n,) true labels
    predicted: Strings  # (n,) predicted labels
    proba: NDArray[np.float32]  # (n, C) probabilities, columns in the order of `labels`
    leaks: str = ""  # what training and test clips share, see `protocols.leaks`
    fold_hash: str = ""  # see `protocols.fold_hash`
    fingerprint: str = ""  # fingerprint of the encoder
    fit_seconds: float = 0.0  # mean time to fit a fold, in seconds
    predict_ms: float = 0.0  # mean time to predict a clip, in milliseconds
    skipped: tuple[str, ...] = ()  # ids of clips and copies without an embedding
    label_view: str = "native"
    copies: int = 0  # number of augmented copies of each training clip
    augment: str = ""  # how the copies were made
    train_clips: float = 0.0  # mean number of training clips of a fold; 0 if unknown
    params: dict[str, Any] = field(default_factory=dict)  # parameters of the head in the first fold
    histories: tuple[dict[str, list[float]], ...] = ()  # learning curves by fold, of heads that learn in epochs
    chosen: tuple[dict[str, Any], ...] = ()  # chosen parameters by fold, of heads that choose parameters
    layer_weights: tuple[list[float], ...] = ()  # weights (L,), sum 1, by fold, of heads that weight layers
    run: str = ""  # name of the run folder; "" if not saved
    version: str = __version__  # version of ser that made the predictions

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each prediction is correct (n,)."""
        correct: NDArray[np.bool_] = self.predicted == self.truth
        return correct

    @property
    def truth_columns(self) -> NDArray[np.int64]:
        """The column of `proba` that belongs to the true label of each row (n,)."""
        column = {label: number for number, label in enumerate(self.labels)}
        return np.array([column[label] for label in self.truth.tolist()])

    @property
    def splits(self) -> Strings:
        """The seed and fold of each row (n,), as `seed/fold`."""
        return np.char.add(np.char.add(self.seeds, "/"), self.folds)

    def matrix(self, rows: Any = slice(None)) -> NDArray[np.int64]:
        """Return the confusion matrix (C, C) of selected rows, by default of all."""
        return confusion(self.truth[rows], self.predicted[rows], self.labels)

    def matrices_by(self, column: Strings) -> NDArray[np.int64]:
        """Return a confusion matrix for each distinct value of a column (n,), in sorted order: (values, C, C)."""
        names, group = np.unique(column, return_inverse=True)
        column_of = {label: number for number, label in enumerate(self.labels)}
        predicted = np.array([column_of[label] for label in self.predicted.tolist()])
        n = len(self.labels)
        cells = (group * n + self.truth_columns) * n + predicted
        return np.bincount(cells, minlength=len(names) * n * n).reshape(len(names), n, n)


def assemble(task: Task, tested: Sequence[tuple[Fold, int]], proba: NDArray[np.float32], **fields: Any) -> Predictions:
    """Return the predictions of one head, given its probabilities on the test clips of its folds.

    Parameters
    ----------
    task : the task that the folds index.
    tested : folds, each with its seed.
    proba : (n, C) probabilities of the test clips of the first fold, the second fold, …; columns in the order of
        `task.labels`.
    fields : fields of `Predictions` that the task does not determine (head, view, protocol, leaks, times), or that
        override those of the task.
    """
    rows = np.concatenate([fold.test for fold, _ in tested])
    sizes = [len(fold.test) for fold, _ in tested]
    columns = {
        "encoder": task.encoder,
        "dataset": task.dataset,
        "labels": task.labels,
        "clip_ids": task.ids[rows],
        "speakers": task.speakers[rows],
        "folds": np.repeat([fold.name for fold, _ in tested], sizes),
        "seeds": np.repeat([str(seed) for _, seed in tested], sizes),
        "truth": task.y[rows],
        "predicted": np.array(task.labels)[proba.argmax(axis=1)],
        "proba": proba,
        "fingerprint": task.fingerprint,
        "skipped": task.skipped,
        "train_clips": float(np.mean([len(fold.train) for fold, _ in tested])),
        "label_view": task.labels_from.view if task.labels_from else NATIVE,
        "copies": task.copies.per_clip if task.copies else 0,
        "augment": task.copies.recipe if task.copies else "",
    }
    return Predictions(**{**columns, **fields})


def save_predictions(folder: Path, predictions: Sequence[Predictions], config: dict[str, Any]) -> None:
    """Write predictions.csv and run.json.

    `config` is the configuration of the run. Raises DataError if two predictions have the same dataset, encoder and
    head, because the files could not tell them apart.
    """
    owners = [(p.dataset, p.encoder, p.head) for p in predictions]
    if repeated := [owner for owner in dict.fromkeys(owners) if owners.count(owner) > 1]:
        raise DataError(
            f"got several predictions of {', '.join(repeated[0])} for one run; wanted one for each dataset, encoder "
            "and head. Save them as separate runs."
        )
    labels = sorted({label for p in predictions for label in p.labels})
    with atomic_write(folder / "predictions.csv") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *(f"p_{label}" for label in labels)])
        for p in predictions:
            writer.writerows(_csv_rows(p, labels))
    heads = [{**{n: getattr(p, n) for n in ("dataset", "encoder", "head")}, **_head_fields(p)} for p in predictions]
    run = {"asked": config, "version": __version__, "created": datetime.now(UTC).isoformat(timespec="seconds")}
    with atomic_write(folder / "run.json") as file:
        json.dump({**run, "heads": heads}, file, indent=1)


def load_predictions(folder: str | Path) -> list[Predictions]:
    """Load the predictions that `save_predictions` wrote.

    Raises DataError if the folder is not a run folder or its files hold invalid values.
    """
    folder = Path(folder)
    rows = read_rows(folder / "predictions.csv", COLUMNS)
    advice = "Remove the folder, or run the comparison again."
    run = read_json(folder / "run.json", MAX_BYTES, DataError, f"{folder} cannot be read as a run. {advice}")
    try:
        heads = _rows_by_head(rows)
        version = run["version"]
        if not isinstance(version, str):
            raise ValueError(f"run.json has the version {version!r}; wanted text")
        return [replace(_from_rows(DEFAULTS | fields, heads, folder.name), version=version) for fields in run["heads"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} cannot be read as a run ({error!r}). {advice}") from error


def _csv_rows(p: Predictions, labels: list[str]) -> list[list[str]]:
    """Return the rows of predictions.csv; the probability is "" for labels that the task does not have."""
    columns = [p.labels.index(label) if label in p.labels else None for label in labels]
    rows = zip(p.clip_ids, p.speakers, p.folds, p.seeds, p.truth, p.predicted, p.proba, strict=True)
    return [
        [p.dataset, clip, speaker, fold, seed, p.head, p.encoder, truth, predicted]
        + ["" if column is None else str(proba[column]) for column in columns]
        for clip, speaker, fold, seed, truth, predicted, proba in rows
    ]


def _head_fields(p: Predictions) -> dict[str, Any]:
    return {name: getattr(p, name) for name in HEAD_FIELDS}


def _rows_by_head(rows: Rows) -> dict[tuple[str, ...], Rows]:
    """Return the rows of predictions.csv by dataset, encoder and head."""
    heads: dict[tuple[str, ...], Rows] = defaultdict(list)
    for row in rows:
        heads[row["dataset"], row["encoder"], row["head"]].append(row)
    return heads


def _from_rows(fields: dict[str, Any], heads: dict[tuple[str, ...], Rows], run: str) -> Predictions:
    """Return the predictions of one head. Its rows are removed from `heads`, so that a repeated head is an error."""
    if invalid := _invalid_fields(fields):
        raise ValueError(f"run.json has invalid values of a head: {', '.join(invalid)}")
    owner: dict[str, Any] = {name: fields[name] for name in ("dataset", "encoder", "head")}
    rows = heads.pop(tuple(owner.values()), [])
    labels = tuple(fields["labels"])
    if not rows or not {row[c] for row in rows for c in ("label", "predicted")} <= set(labels):
        raise ValueError(
            f"predictions.csv has no rows of {', '.join(owner.values())}, or rows with other labels than run.json"
        )
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
    proba = np.array([[row[f"p_{label}"] for label in labels] for row in rows], dtype=np.float32)
    if not ((proba >= 0) & (proba <= 1)).all():  # also False for NaN
        raise ValueError("predictions.csv has probabilities that are not between 0 and 1")
    stored: dict[str, Any] = {name: fields[name] for name in HEAD_FIELDS}
    stored |= {name: tuple(fields[name]) for name in ("labels", "skipped", "histories", "chosen", "layer_weights")}
    return Predictions(**owner, **columns, proba=proba, run=run, **stored)


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
        "copies": fields["copies"] >= 0,
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
