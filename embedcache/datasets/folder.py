"""Your own recordings: a tree `<label>/<speaker>_<anything>.wav`, or a CSV with the columns `path, label, speaker`.

In a tree, the label is the name of a file's folder, and the speaker is the part of the file name before the first
underscore. In a CSV, paths are relative to the folder of the CSV and must stay inside this folder, so that an untrusted
CSV cannot name other files of this machine. Links inside the folder are followed, wherever they lead. The columns
`clip_id` and `gender` are used if present. All other columns are copied to the manifest, except those that are filled
later (`dataset`, `key`, `seconds`, `skipped`, `copy_of`). The manifest is called `folder-<name of the folder or CSV>`,
so that two collections have two manifests.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..dataset import Dataset, parse_files, recognise_dataset
from ..errors import DataError, complain
from ..manifest import COLUMNS, COPY_OF, SKIPPED, Clip, read_rows

LAYOUT = "a tree <label>/<speaker>_<anything>.wav, or a CSV with the columns path, label, speaker"


def scan(root: Path) -> list[Clip]:
    """Return the clips of a tree or of a CSV file."""
    name = "folder-" + re.sub(r"[^\w.-]+", "-", root.stem if root.is_file() else root.name)
    if root.is_file():
        return _read_csv(root, name)

    def parse(path: Path) -> Clip:
        speaker, underscore, _ = path.stem.partition("_")
        if path.parent == root:
            raise ValueError("is not in the folder of a label")
        if not (speaker and underscore):
            raise ValueError("no speaker before an underscore in the file name")
        return Clip(name, path.relative_to(root).as_posix(), str(path), path.parent.name.strip(), speaker.strip())

    if recognise_dataset(root):
        raise DataError(f"{root}: holds another dataset.")  # `Dataset` replaces this message by one that names it
    return parse_files(root, LAYOUT, parse, videos=True)


def _read_csv(table: Path, name: str) -> list[Clip]:
    rows = [
        {column: value.strip() for column, value in row.items()}
        for row in read_rows(table, ("path", "label", "speaker"))
    ]
    base = table.parent.resolve()
    faults = [f"row {number}: {fault}" for number, row in enumerate(rows, start=2) for fault in _row_faults(row, base)]
    if faults:
        advice = "Correct these rows and try again. The CSV must be in the folder that holds its recordings."
        raise DataError(*complain(f"{table} has faults", faults, advice))
    return [_make_clip(row, base, name) for row in rows]


def _row_faults(row: dict[str, str], base: Path) -> Iterator[str]:
    yield from (f"no {column}" for column in ("path", "label", "speaker") if not row[column])
    if "\0" in row["path"]:
        yield "the path contains a NUL character"
    elif row["path"] and not _is_inside(row["path"], base):
        yield f"{row['path']} is outside {base}"


def _is_inside(path: str, base: Path) -> bool:
    """Whether a path stays inside the folder `base`, by its text alone or after links are resolved.

    A path with `..` is always resolved: after a link, `..` is not the folder that the text suggests.
    """
    inside_by_text = ".." not in Path(path).parts and base in (base / path).parents
    return inside_by_text or base in Path(os.path.realpath(base / path)).parents


def _make_clip(row: dict[str, str], base: Path, name: str) -> Clip:
    extra = {column: value for column, value in row.items() if column not in (*COLUMNS, SKIPPED, COPY_OF) and value}
    path = os.path.realpath(base / row["path"])  # not Path.resolve, which raises if links form a circle
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
