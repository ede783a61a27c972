"""Recordings of one's own: a tree `<label>/<speaker>_<anything>.wav`, or a CSV with `path, label, speaker`.

The label is the name of the folder that a file lies in, the speaker what stands before the first underscore. In a CSV,
paths are relative to the CSV's own folder, and stay inside it: a table from a stranger names no other file of this
machine. Links that lie in the folder are followed, wherever they lead. A `clip_id` or `gender` column is used, others
go along in the manifest but for those that are filled later (`dataset`, `key`, `seconds`, `skipped`, `copy_of`).
The manifest is called `folder-<name of the folder or CSV>`, so that two collections stay apart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..dataset import Dataset, looks_like, parse_files
from ..errors import DataError, complain
from ..manifest import COLUMNS, COPY_OF, SKIPPED, Clip, read_rows

LAYOUT = "a tree <label>/<speaker>_<anything>.wav, or a CSV with the columns path, label, speaker"


def scan(root: Path) -> list[Clip]:
    """The clips of a tree or of a CSV file."""
    name = "folder-" + re.sub(r"[^\w.-]+", "-", root.stem if root.is_file() else root.name)
    if root.is_file():
        return _from_csv(root, name)

    def parse(path: Path) -> Clip:
        speaker, underscore, _ = path.stem.partition("_")
        if path.parent == root:
            raise ValueError("lies in no label's folder")
        if not (speaker and underscore):
            raise ValueError("no speaker before an underscore")
        return Clip(name, path.relative_to(root).as_posix(), str(path), path.parent.name.strip(), speaker.strip())

    if looks_like(root):
        raise DataError(f"{root}: is no tree of one's own.")  # of whose it is, `Dataset` tells
    return parse_files(root, LAYOUT, parse)


def _from_csv(table: Path, name: str) -> list[Clip]:
    rows = [
        {column: value.strip() for column, value in row.items()}
        for row in read_rows(table, ("path", "label", "speaker"))
    ]
    base = table.parent.resolve()
    complaints = [f"row {number}: {fault}" for number, row in enumerate(rows, start=2) for fault in _faults(row, base)]
    if complaints:
        advice = "Mend those rows and try again. The CSV belongs into the folder that holds its recordings."
        raise DataError(complain(f"{table} has faults", complaints, advice))
    return [_row(row, base, name) for row in rows]


def _faults(row: dict[str, str], base: Path) -> Iterator[str]:
    yield from (f"no {column}" for column in ("path", "label", "speaker") if not row[column])
    if "\0" in row["path"]:
        yield "the path holds a NUL character"
    elif row["path"] and not _is_inside(row["path"], base):
        yield f"{row['path']} lies outside {base}"


def _is_inside(path: str, base: Path) -> bool:
    """Whether a path stays in a folder, by its words alone or by where it really leads.

    A path with `..` counts by where it leads: behind a link, `..` is not the folder that the words say.
    """
    by_words = ".." not in Path(path).parts and base in (base / path).parents
    return by_words or base in Path(os.path.realpath(base / path)).parents


def _row(row: dict[str, str], base: Path, name: str) -> Clip:
    extra = {column: value for column, value in row.items() if column not in (*COLUMNS, SKIPPED, COPY_OF) and value}
    path = os.path.realpath(base / row["path"])  # of links in a circle, `Path.resolve` makes an error
    clip_id = row.get("clip_id") or row["path"]
    return Clip(name, clip_id, path, row["label"], row["speaker"], row.get("gender", ""), extra)


dataset = Dataset(
    name="folder",
    title="Recordings of your own",
    licence="yours",
    citation="yours",
    source=LAYOUT,
    layout=LAYOUT,
    scan=scan,
)
