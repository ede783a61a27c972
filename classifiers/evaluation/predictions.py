"""Predictions: what one head said about every test clip. They are the truth; every score is computed from them.

A run folder holds `predictions.csv`, one row a clip, fold and seed, `dataset, clip_id, speaker, fold, seed, head,
encoder, label, predicted, p_<label>…`, and `run.json`, which holds what does not fit into rows: the protocol, what
leaked, the folds' hash, the encoder's fingerprint, times, and learning curves. It may come from a stranger: what is
read is held to the types of a run, and to sizes that scores can be computed from.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import DataError, __version__
from embedcache.files.atomic import atomic_write
from embedcache.files.untrusted import read_json
from embedcache.manifest import read_rows

from ..data.labels import NATIVE
from ..data.task import Strings, Task
from .metrics import confusion
from .protocols import Fold
from .statistics import RESAMPLES

ROW = ("dataset", "clip_id", "speaker", "fold", "seed", "head", "encoder", "label", "predicted")
# What run.json says of each head, beside its rows.
FACTS = (
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
)
TEXTS = (  # of them, and of ROW
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
LATER = {
    "label_view": "native",
    "copies": 0,
    "augment": "",
    "chosen": [],
    "layer_weights": [],
}  # what earlier versions did not write

MOST_BYTES = 1 << 26  # of run.json: of a network, the learning curves of 91 folds and ten seeds take 5 MB
MOST_CHARACTERS = 1 << 28  # of a column: numpy makes every cell as wide as the widest
MOST_NUMBERS = 100_000_000  # 0.8 GB: a confusion matrix for each speaker and fold, or the speakers of all resamples
MOST_SECONDS = 1e12  # no time is longer, and none is infinite

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Predictions:
    """One head on one task under one protocol. Columns have one row a tested clip, fold and seed."""

    head: str
    encoder: str
    dataset: str
    view: str
    protocol: str
    labels: tuple[str, ...]
    clip_ids: Strings
    speakers: Strings
    folds: Strings
    seeds: Strings
    truth: Strings
    predicted: Strings
    proba: NDArray[np.float32]  # (n, C), columns in the order of `labels`
    leaks: str = ""
    fold_hash: str = ""
    fingerprint: str = ""
    fit_seconds: float = 0.0  # of one fold, the mean
    predict_ms: float = 0.0  # of one clip, the mean
    skipped: tuple[str, ...] = ()
    label_view: str = "native"
    copies: int = 0  # augmented ones of each clip, in training
    augment: str = ""  # how those were made
    params: dict[str, Any] = field(default_factory=dict)
    histories: tuple[dict[str, list[float]], ...] = ()  # one a fold, of heads that learn by epochs
    chosen: tuple[dict[str, Any], ...] = ()  # one a fold, of heads that choose parameters
    layer_weights: tuple[list[float], ...] = ()  # one a fold, of heads that weigh layers: (L,), sum 1
    run: str = ""

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(n,): whether each row's label is the predicted one."""
        right: NDArray[np.bool_] = self.predicted == self.truth
        return right

    @property
    def truth_columns(self) -> NDArray[np.int64]:
        """(n,): the column of `proba` that belongs to each row's label."""
        place = {label: number for number, label in enumerate(self.labels)}
        return np.array([place[label] for label in self.truth.tolist()])

    @property
    def splits(self) -> Strings:
        """(n,) `seed/fold`: what each row was tested in."""
        return np.char.add(np.char.add(self.seeds, "/"), self.folds)

    def matrix(self, rows: Any = slice(None)) -> NDArray[np.int64]:
        """The confusion matrix (C, C) of some rows, or of all."""
        return confusion(self.truth[rows], self.predicted[rows], self.labels)

    def matrices_by(self, column: Strings) -> NDArray[np.int64]:
        """One confusion matrix for each distinct value of a column, in its order: (values, C, C)."""
        return np.stack([self.matrix(column == value) for value in np.unique(column)])


def assemble(task: Task, tested: Sequence[tuple[Fold, int]], proba: NDArray[np.float32], **facts: Any) -> Predictions:
    """The predictions of one head from its probabilities on the test clips of some folds.

    tested: folds, each with the seed that it was run with; proba (n, C): a row for each of their test clips, in that
    order, columns in the order of `task.labels`. `facts` are the fields of `Predictions` that the task does not tell
    (head, view, protocol, leaks, times), or tells otherwise.
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
        "label_view": task.labels_from.view if task.labels_from else NATIVE,
        "copies": task.copies.each if task.copies else 0,
        "augment": task.copies.recipe if task.copies else "",
    }
    return Predictions(**{**columns, **facts})


def save_predictions(folder: Path, predictions: Sequence[Predictions], asked: dict[str, Any]) -> None:
    """Write predictions.csv and run.json. Raises DataError where two of them could not be told apart in the file."""
    whose = [(p.dataset, p.encoder, p.head) for p in predictions]
    if twice := [who for who in dict.fromkeys(whose) if whose.count(who) > 1]:
        raise DataError(f"predictions of {', '.join(twice[0])} stand twice in one run; wanted one of each.")
    labels = sorted({label for p in predictions for label in p.labels})
    with atomic_write(folder / "predictions.csv") as file:
        writer = csv.writer(file)
        writer.writerow([*ROW, *(f"p_{label}" for label in labels)])
        for p in predictions:
            writer.writerows(_rows(p, labels))
    heads = [{**{n: getattr(p, n) for n in ("dataset", "encoder", "head")}, **_facts(p)} for p in predictions]
    run = {"asked": asked, "version": __version__, "created": datetime.now(UTC).isoformat(timespec="seconds")}
    with atomic_write(folder / "run.json") as file:
        json.dump({**run, "heads": heads}, file, indent=1)


def load_predictions(folder: str | Path) -> list[Predictions]:
    """What `save_predictions` wrote. Raises DataError for a folder that is no run, or holds what no run does."""
    folder = Path(folder)
    rows = read_rows(folder / "predictions.csv", ROW)
    advice = f"{folder} is no run that can be read. Remove it, or run again."
    run = read_json(folder / "run.json", MOST_BYTES, DataError, advice)
    try:
        heads = _by_head(rows)
        return [_from_rows(LATER | facts, heads, folder.name) for facts in run["heads"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: is no run that can be read ({error!r}). Remove it, or run again.") from error


def _rows(p: Predictions, labels: list[str]) -> list[list[str]]:
    places = [p.labels.index(label) if label in p.labels else None for label in labels]
    named = zip(p.clip_ids, p.speakers, p.folds, p.seeds, p.truth, p.predicted, p.proba, strict=True)
    return [
        [p.dataset, clip, speaker, fold, seed, p.head, p.encoder, truth, predicted]
        + ["" if place is None else str(proba[place]) for place in places]
        for clip, speaker, fold, seed, truth, predicted, proba in named
    ]


def _facts(p: Predictions) -> dict[str, Any]:
    return {name: getattr(p, name) for name in FACTS}


def _by_head(rows: Rows) -> dict[tuple[str, ...], Rows]:
    heads: dict[tuple[str, ...], Rows] = defaultdict(list)
    for row in rows:
        heads[row["dataset"], row["encoder"], row["head"]].append(row)
    return heads


def _from_rows(facts: dict[str, Any], heads: dict[tuple[str, ...], Rows], run: str) -> Predictions:
    """One head's predictions; its rows are taken out of `heads`, so that no head is listed twice."""
    if wrong := _wrong(facts):
        raise ValueError(f"run.json says {', '.join(wrong)} of a head as no run does")
    who: dict[str, Any] = {name: facts[name] for name in ("dataset", "encoder", "head")}
    mine = heads.pop(tuple(who.values()), [])
    labels = tuple(facts["labels"])
    if not mine or not {row[c] for row in mine for c in ("label", "predicted")} <= set(labels):
        raise ValueError(f"predictions.csv has no rows of {', '.join(who.values())}, or other labels than run.json")
    _refuse_many(mine, labels)
    columns: dict[str, Any] = {
        name: _column(mine, column)
        for name, column in (
            ("clip_ids", "clip_id"),
            ("speakers", "speaker"),
            ("folds", "fold"),
            ("seeds", "seed"),
            ("truth", "label"),
            ("predicted", "predicted"),
        )
    }
    proba = np.array([[row[f"p_{label}"] for label in labels] for row in mine], dtype=np.float32)
    if not ((proba >= 0) & (proba <= 1)).all():  # NaN is neither
        raise ValueError("predictions.csv has probabilities that are not between 0 and 1")
    given: dict[str, Any] = {name: facts[name] for name in FACTS}
    given |= {name: tuple(facts[name]) for name in ("labels", "skipped", "histories", "chosen", "layer_weights")}
    return Predictions(**who, **columns, proba=proba, run=run, **given)


def _wrong(facts: Mapping[str, Any]) -> list[str]:
    """The names of what is not as `save_predictions` writes it."""
    right = {name: isinstance(facts[name], str) for name in TEXTS}
    for name in ("fit_seconds", "predict_ms"):
        right[name] = isinstance(facts[name], int | float) and 0 <= facts[name] < MOST_SECONDS
    kinds = {"labels": str, "skipped": str, "histories": dict, "chosen": dict, "layer_weights": list}
    for name, kind in kinds.items():
        right[name] = isinstance(facts[name], list) and all(isinstance(item, kind) for item in facts[name])
    right["labels"] = right["labels"] and len(set(facts["labels"])) == len(facts["labels"])
    weights = [w for fold in facts["layer_weights"] for w in fold] if right["layer_weights"] else []
    right["layer_weights"] &= all(isinstance(w, int | float) and 0 <= w <= 1 for w in weights)
    right["params"] = isinstance(facts["params"], dict)
    right["copies"] = type(facts["copies"]) is int and facts["copies"] >= 0
    return [name for name, is_right in right.items() if not is_right]


def _refuse_many(rows: Rows, labels: Sequence[str]) -> None:
    speakers, folds = {row["speaker"] for row in rows}, {(row["fold"], row["seed"]) for row in rows}
    if max(len(speakers), len(folds)) * max(len(labels) ** 2, RESAMPLES) > MOST_NUMBERS:
        many = f"{len(speakers):,} speakers, {len(folds):,} folds and {len(labels):,} labels"
        raise ValueError(f"predictions.csv has {many}: too many to be scored in memory")


def _column(rows: Rows, name: str) -> Strings:
    cells = [row[name] for row in rows]
    if len(cells) * max(map(len, cells)) > MOST_CHARACTERS:
        raise ValueError(f"predictions.csv has {len(cells):,} rows, and one whose {name} is too long for so many")
    return np.array(cells)
