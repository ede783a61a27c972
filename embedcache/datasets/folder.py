"""Recordings of one's own: a tree `<label>/<speaker>_<anything>.wav`, or a CSV with `path, label, speaker`.

The label is the name of the folder that a file lies in, the speaker what stands before the first underscore. In a CSV,
paths are relative to the CSV's own folder; a `clip_id` or `gender` column is used, others go along in the manifest but
for those that the manifest fills itself (`dataset`, `key`, `seconds`, `skipped`).
The manifest is called `folder-<name of the folder or CSV>`, so that two collections stay apart.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..dataset import Dataset, parse_files
from ..errors import DataError, complain
from ..manifest import COLUMNS, SKIPPED, Clip, read_rows

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
        return Clip(name, path.relative_to(root).as_posix(), str(path), path.parent.name, speaker)

    return parse_files(root, LAYOUT, parse)


def _from_csv(table: Path, name: str) -> list[Clip]:
    rows = [
        {column: value.strip() for column, value in row.items()}
        for row in read_rows(table, ("path", "label", "speaker"))
    ]
    complaints = [
        f"row {number}: no {column}"
        for number, row in enumerate(rows, start=2)
        for column in ("path", "label", "speaker")
        if not row[column]
    ]
    if complaints:
        raise DataError(complain(f"{table} has faults", complaints, "Mend those rows and try again."))
    return [_row(row, table.parent, name) for row in rows]


def _row(row: dict[str, str], base: Path, name: str) -> Clip:
    extra = {column: value for column, value in row.items() if column not in (*COLUMNS, SKIPPED) and value}
    path = (base / row["path"]).resolve()
    clip_id = row.get("clip_id") or row["path"]
    return Clip(name, clip_id, str(path), row["label"], row["speaker"], row.get("gender", ""), extra)


dataset = Dataset(
    name="folder",
    title="Recordings of your own",
    licence="yours",
    citation="yours",
    source=LAYOUT,
    layout=LAYOUT,
    scan=scan,
)
