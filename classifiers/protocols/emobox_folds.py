"""EmoBox's fold files, as https://github.com/emo-box/EmoBox has them in its folder `data/<dataset>`.

A folder `fold_1`, `fold_2`, … for each fold holds `<dataset>_train_fold_1.jsonl` and `<dataset>_test_fold_1.jsonl`,
with a JSON object in each line. Its `wav` is the path of the clip in EmoBox's download folder, its `key` the name of
the dataset, a hyphen and the name of the clip. Datasets that are published with partitions, such as MELD, have one fold
and also `<dataset>_valid_fold_1.jsonl`, whose clips are development clips. Files of the same names that end in `.json`
hold the same again, as those of EMO-DB do that end in `fold1.jsonl`; neither are read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedcache import DataError
from embedcache.errors import complain
from embedcache.files.untrusted import check_file
from embedcache.text import count, examples

from .fold_list import CLIP, DEV, FoldList, ListedRow

MAX_BYTES = 1 << 28  # largest file of a part; a line has about 300 bytes, so this is room for 900,000 clips
FOLDER = re.compile(r"fold_([0-9]+)")


@dataclass(frozen=True)
class _Split:
    """A fold as its files list it: the name of each clip, and its place."""

    fold: str
    train: dict[str, str]
    dev: dict[str, str]  # empty if there is no file of development clips
    test: dict[str, str]


def read_emobox_folds(folder: Path) -> FoldList:
    """Return the folds in a folder with `fold_1`, `fold_2`, …, or in one of these folders.

    Raises DataError if files are missing or cannot be read, if a clip is in several files of a fold or in none, or if
    folds have different development clips.
    """
    numbered = {match[1]: path for path in folder.glob("fold_*") if (match := FOLDER.fullmatch(path.name))}
    if not numbered:
        match = FOLDER.fullmatch(folder.resolve().name)
        numbered = {match[1] if match else "1": folder}
    splits = [
        _Split(number, _part(path, "train"), _part(path, "valid", needed=False), _part(path, "test"))
        for number, path in sorted(numbered.items())
    ]
    _check_parts(folder, splits)
    tested = {name for split in splits for name in split.test}
    rows = [ListedRow(where, name, split.fold) for split in splits for name, where in split.test.items()]
    rows += [ListedRow(where, name, DEV) for name, where in splits[0].dev.items()]
    rows += [ListedRow(where, name, "") for name, where in splits[0].train.items() if name not in tested]
    return FoldList(str(folder), CLIP, tuple(rows))


def _part(folder: Path, part: str, needed: bool = True) -> dict[str, str]:
    """Return name -> place for the clips of one part of a fold, or none if it has no file. Raises DataError."""
    files = sorted(folder.glob(f"*_{part}_fold_*.jsonl"))
    if not files and not needed:
        return {}
    if len(files) != 1:
        raise DataError(
            f"{folder}: has {count(len(files), 'file')} *_{part}_fold_*.jsonl; wanted one in each folder fold_1, "
            "fold_2, …, as in a folder data/<dataset> of EmoBox."
        )
    return _entries(files[0])


def _entries(path: Path) -> dict[str, str]:
    """Return name -> place for the clips of a file.

    Raises DataError if a line is no entry, if a clip is repeated, or if there are none.
    """
    check_file(path, MAX_BYTES, DataError)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}. Download the file again, or save it in UTF-8.") from error
    places: dict[str, str] = {}
    faults = []
    for number, line in enumerate(lines, start=1):
        name = _name(line) if line.strip() else None
        if name == "":
            faults.append(f"row {number}: no JSON object with a path wav: {line[:80]}")
        elif name in places:
            faults.append(f"row {number}: {name} is listed twice")
        elif name:
            places[name] = f"{path.parent.name}/{path.name}, row {number}"
    if faults:
        advice = "Correct these rows, or download the file again."
        raise DataError(*complain(f"{path}: rows are no entries of EmoBox", faults, advice))
    if not places:
        raise DataError(f"{path}: lists no clips; wanted a row for each clip. Download the file again.")
    return places


def _name(line: str) -> str:
    """Return the path of an entry's clip, or, without a path, its name; "" if the line is no entry."""
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(entry, dict):
        return ""
    path, key, dataset = (str(entry.get(field) or "") for field in ("wav", "key", "dataset"))
    return path or key.removeprefix(f"{dataset}-")


def _check_parts(folder: Path, splits: list[_Split]) -> None:
    """Raise DataError unless each fold has every clip in one of its parts, and all have the same development clips."""
    everything = {name for split in splits for name in (*split.train, *split.dev, *split.test)}
    faults = []
    for split in splits:
        times = Counter((*split.train, *split.dev, *split.test))
        if several := sorted(name for name, n in times.items() if n > 1):
            faults.append(f"fold {split.fold}: {count(len(several), 'clip')} in several parts: {examples(several)}")
        if neither := sorted(everything - times.keys()):
            faults.append(f"fold {split.fold}: {count(len(neither), 'clip')} in no part: {examples(neither)}")
        if split.dev.keys() != splits[0].dev.keys():
            faults.append(f"fold {split.fold}: other development clips than fold {splits[0].fold}")
    if faults:
        advice = "Each clip must be in one part of every fold. Download the folder again, or correct its files."
        raise DataError(*complain(f"{folder}: its parts do not divide the clips", faults, advice))
