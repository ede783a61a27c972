"""Files of folds: the CSV files that `--folds` reads and `ser protocols --write` writes.

A row says in which fold a clip, or every clip of a speaker, is tested; the clips of all other rows are the training
clips of this fold. The columns are `clip_id` or `speaker`, `fold`, and `seed` if the folds of several seeds are listed.
Clips whose cell `fold` is empty are training clips in every fold; those with `dev` there are development clips. If
there are both columns, `clip_id` counts, and `speaker` must agree with the dataset. The order of the folds is that of
their names, and not that of the rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache import ConfigError, DataError, ProtocolError
from embedcache.errors import complain
from embedcache.files.tables import MISSING, Table, read_table
from embedcache.manifest import COMMON_PARTITIONS, SYNONYMS
from embedcache.text import count

from ..data.csv_text import csv_text
from ..data.task import Task
from .emobox_folds import read_emobox_folds
from .fold import Fold
from .fold_list import CLIP, DEV, SPEAKER, FoldList, ListedRow, common_names, in_order

COLUMNS = {  # other names of the columns
    "clip_id": (*SYNONYMS["clip_id"], "clip", "path", *SYNONYMS["path"]),
    "speaker": SYNONYMS["speaker"],
    "fold": ("testfold", "cvfold", "foldid"),
    "seed": (),
}
NEGATIVE = re.compile(r"-\d+([.,]0*)?")  # how scikit-learn's PredefinedSplit marks clips that are never tested


def read_folds(path: Path) -> FoldList:
    """Return the folds that a CSV file lists, or those in a folder in the layout of EmoBox.

    Raises ConfigError if there is no such file or folder, DataError if it lists no folds.
    """
    if path.is_dir():
        return read_emobox_folds(path)
    if not path.exists():
        raise ConfigError(
            f"got --folds {path}; wanted a number of folds, a CSV file with the columns clip_id,fold or speaker,fold, "
            "or a folder of EmoBox's folds. There is no such file or folder."
        )
    table = read_table(path, COLUMNS, ["fold"])
    kind, column = _kind_of(path, table)
    _check_cells(path, table, column)
    folds, seeds = (common_names(row.cells.get(name, "") for row in table.rows) for name in ("fold", "seed"))
    rows = [
        ListedRow(
            where=f"row {row.line}",
            name=row.cells[column],
            fold=DEV if _is_dev(row.cells["fold"]) else folds[row.cells["fold"]],
            seed=seeds[row.cells.get("seed", "")],
            speaker=row.cells.get("speaker", "") if kind == CLIP else "",
        )
        for row in table.rows
    ]
    return FoldList(str(path), kind, tuple(rows), table.notes)


def _kind_of(path: Path, table: Table) -> tuple[str, str]:
    """Return what the rows of a table name, and the column with the names. Raises DataError if there is none."""
    if not table.rows:
        raise DataError(
            f"{path}: lists no clips; wanted a row for each clip or speaker, with the columns clip_id,fold."
        )
    found = table.rows[0].cells
    if "clip_id" in found or "speaker" in found:
        return (CLIP, "clip_id") if "clip_id" in found else (SPEAKER, "speaker")
    raise DataError(
        f"{path}: no column clip_id or speaker; its first line holds {', '.join(found)}. Give the column of the clips "
        "the name clip_id, or that of the speakers the name speaker."
    )


def _check_cells(path: Path, table: Table, column: str) -> None:
    """Raise DataError if a row lacks its clip or seed, or if a fold is called as a part, such as `train`, or `-1`."""
    faults = [f"row {row.line}: no {column}" for row in table.rows if not row.cells[column]]
    if any(row.cells.get("seed") for row in table.rows):
        faults += [f"row {row.line}: no seed" for row in table.rows if not row.cells["seed"]]
    if faults:
        raise DataError(*complain(f"{path}: rows lack cells", faults, "Complete these rows, or remove them."))
    cells = {row.cells["fold"] for row in table.rows if row.cells["fold"] and not _is_dev(row.cells["fold"])}
    if parts := sorted(cell for cell in cells if cell.casefold() in COMMON_PARTITIONS):
        raise DataError(
            f"{path}: the column fold holds {', '.join(parts)}; wanted the name of the fold in which a clip is tested. "
            "If there is one test set, write 1 for its clips and dev for development clips, and leave the cells of "
            "training clips empty."
        )
    if negative := sorted(cell for cell in cells if NEGATIVE.fullmatch(cell)):
        raise DataError(
            f"{path}: the column fold holds {', '.join(negative)}; wanted the name of the fold in which a clip is "
            "tested. scikit-learn's PredefinedSplit writes -1 for clips that are trained on in every fold: leave the "
            "cells of these clips empty."
        )
    if not cells:
        raise DataError(f"{path}: no cell of the column fold names a fold; wanted that in which a clip is tested.")


def _is_dev(cell: str) -> bool:
    return COMMON_PARTITIONS.get(cell.casefold()) == DEV


def folds_csv(task: Task, splits: Sequence[Sequence[Fold]], protocol: str) -> str:
    """Return the folds of one or more seeds as the text of a CSV file that `read_folds` reads.

    Folds whose names would come in another order, or would be read as something else, are numbered. Raises
    ProtocolError if a fold leaves clips out, or if a clip is tested in two folds of a seed.
    """
    several = len(splits) > 1
    lines = []
    for seed, folds in enumerate(splits):
        names = [*_readable_names(folds), DEV, ""]  # the last for clips that are trained on in every fold
        tested_in = _tested_in(task, folds, protocol)
        for clip_id, speaker, number in zip(task.ids, task.speakers, tested_in, strict=True):
            lines.append((clip_id, speaker, names[number], *([seed] if several else [])))
    return csv_text([("clip_id", "speaker", "fold", *(["seed"] if several else [])), *lines])


def _readable_names(folds: Sequence[Fold]) -> list[str]:
    """Return the names of folds, or their numbers if `read_folds` would read other names or another order."""
    names = [fold.name for fold in folds]
    same = common_names(names) == {name: name for name in names} and in_order(names) == names
    return names if same and all(map(_is_readable, names)) else [str(number) for number in range(1, len(folds) + 1)]


def _is_readable(name: str) -> bool:
    """Whether `read_folds` reads a cell `fold` with this text as the name of a fold."""
    means_other = name in MISSING or name.casefold() in COMMON_PARTITIONS or NEGATIVE.fullmatch(name)
    return name == name.strip() and not means_other


def _tested_in(task: Task, folds: Sequence[Fold], protocol: str) -> NDArray[np.int64]:
    """Return the number (n,) of the fold in which each clip is tested, from 0; -1 for training clips of all folds.

    Development clips have -2. Raises ProtocolError if folds have no such numbers.
    """
    times, number = np.zeros(len(task), int), np.full(len(task), -1)
    number[folds[0].dev] = -2
    if any(set(fold.dev.tolist()) != set(folds[0].dev.tolist()) for fold in folds):
        raise ProtocolError(
            f"the folds of protocol '{protocol}' cannot be written: they have different development clips, and a list "
            "of folds has the same for all. Choose another --protocol."
        )
    for n, fold in enumerate(folds):
        times[fold.test] += 1
        number[fold.test] = n
        if left := len(task) - len(np.union1d(fold.fitted_on, fold.test)):
            raise ProtocolError(
                f"the folds of protocol '{protocol}' cannot be written: fold {fold.name} leaves out "
                f"{count(left, 'clip')}, and a list of folds names only the fold in which a clip is tested. Choose "
                "another --protocol."
            )
    if several := int((times > 1).sum()):
        raise ProtocolError(
            f"the folds of protocol '{protocol}' cannot be written: {count(several, 'clip')} would be tested in "
            "several folds, and a list of folds names one. Choose another --protocol."
        )
    return number
