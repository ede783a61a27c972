"""Your own recordings: a tree `<label>/<speaker>_<anything>.wav`, or a table with the columns `path, label, speaker`.

In a tree, the label is the name of a file's folder, and the speaker is the part of the file name before the first
underscore. In a table, paths are relative to the folder of the table and must stay inside this folder, so that an
untrusted table cannot name other files of this machine. Links inside the folder are followed, wherever they lead. The
columns `clip_id`, `gender` and `channel` are used if present, under any name in `SYNONYMS`. All other columns are
copied to the manifest, except those that are filled later (`dataset`, `key`, `seconds`, `skipped`, `copy_of`), and
except those that say which part of a recording, or which partition, a row stands for: these are an error, since they
are not used.

Labels that differ only in case or form are one label. The manifest is called `folder-<name of the folder or table>`, so
that two collections have two manifests.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..dataset import Dataset, Scanned, is_audio, parse_files, recognise_dataset, suffix_counts, visible_files
from ..errors import DataError, complain
from ..files.tables import Row, column_form, read_table
from ..manifest import CHANNEL, COLUMNS, COPY_OF, SKIPPED, SYNONYMS, Clip, channel_column, with_common_labels
from ..text import count, examples, without_unseen
from . import _paths

LAYOUT = "a tree <label>/<speaker>_<anything>.wav, or a CSV with the columns path, label, speaker"
REQUIRED = ("path", "label", "speaker")
FILLED_LATER = (*COLUMNS, SKIPPED, COPY_OF)
# Words in the names of columns that change what a row stands for, and are not used: spans of a recording, partitions.
SPANS = frozenset(
    {"start", "starttime", "begin", "onset", "end", "endtime", "stop", "offset"}
    | {"xmin", "xmax", "tmin", "tmax", "t0", "t1"}
)
PARTITIONS = frozenset({"split", "partition", "subset", "fold", "phase"})
# Cells of a column that divides clips into partitions, whatever its name.
TRAINING = frozenset({"train", "training"})
TESTING = frozenset({"test", "testing", "dev", "devel", "val", "valid", "validation", "eval"})
NUMBER = re.compile(r"[\d.,:]*")  # a time, or nothing
QUOTED = re.compile(r"""["'=].*|.*["']""")  # a text with a part of the quotation marks around it


def scan(root: Path) -> Scanned:
    """Return the clips of a tree or of a table."""
    name = "folder-" + re.sub(r"[^\w.-]+", "-", root.stem if root.is_file() else root.name)
    found = _read_table(root, name) if root.is_file() else Scanned(_read_tree(root, name), _other_files(root))
    clips, notes = with_common_labels(found.clips)
    return Scanned(clips, (*found.notes, *notes))


def _read_tree(root: Path, name: str) -> list[Clip]:
    def parse(path: Path) -> Clip:
        speaker, underscore, _ = path.stem.partition("_")
        if path.parent == root:
            raise ValueError("is not in the folder of a label")
        if not (speaker and underscore):
            raise ValueError("no speaker before an underscore in the file name")
        return Clip(name, path.relative_to(root).as_posix(), str(path), path.parent.name.strip(), speaker.strip())

    if recognise_dataset(root):
        raise DataError(f"{root}: holds another dataset.")  # `Dataset` replaces this message by one that names it
    tables = sorted(path.name for path in root.iterdir() if path.suffix.lower() in (".csv", ".tsv"))
    advice = f"Or name the table of the files, if it is one: --root {root / tables[0]}." if tables else ""
    clips = parse_files(root, LAYOUT, parse, videos=True, advice=f"Move or remove these files. {advice}".rstrip())
    _check_levels(root, clips)
    return clips


def _other_files(root: Path) -> tuple[str, ...]:
    """Return a note on the files of a tree that are not audio by their names; nothing if there are none."""
    others = [path for path in visible_files(root) if not is_audio(path, videos=True)]
    if not others:
        return ()
    suffixes = examples(suffix_counts(others), 5)
    return (f"passed over {count(len(others), 'file')} without the name of audio: {suffixes}.",)


def _check_levels(root: Path, clips: Sequence[Clip]) -> None:
    """Raise DataError if folders lie in folders, and it is not plain which are labels and which are speakers."""
    upper = {clip.clip_id: "/".join(clip.clip_id.split("/")[:-2]) for clip in clips}
    folders = set(upper.values())
    under = defaultdict(set)
    for clip in clips:
        under[clip.label].add(upper[clip.clip_id])
        under[f"/{clip.speaker}"].add(upper[clip.clip_id])
    speakers = {clip.speaker for clip in clips}
    labels = {clip.label for clip in clips}
    repeated = len(folders) > 1 and sum(len(under[label]) > 1 for label in labels) > 1
    takes = all(under[f"/{speaker}"] == folders for speaker in speakers)
    if clips and (speakers == labels or (repeated and (takes or len(speakers) == 1))):
        clip = clips[0]
        raise DataError(
            f"{root}: it is not plain what the folders are: is '{clip.label}' the label and '{clip.speaker}' the "
            f"speaker of {clip.clip_id}? Wanted {LAYOUT}. Arrange the files so, or write a table."
        )


def _read_table(path: Path, name: str) -> Scanned:
    table = read_table(path, SYNONYMS, REQUIRED)
    _refuse_unused(path, table.rows)
    base = path.parent.resolve()
    files, notes = _paths.locate([row.cells["path"] for row in table.rows], base)
    faults = [f"row {row.line}: {fault}" for row in table.rows for fault in _row_faults(row.cells, base, files)]
    places = _real_paths(table.rows, base, files)
    faults += _repeated_files(table.rows, places) + _wrong_channels(table.rows)
    if faults:
        advice = "Correct these rows and try again. The table must lie in the folder that holds its recordings."
        raise DataError(*complain(f"{path} has faults", faults, advice))
    clips = [_make_clip(row.cells, name, files, places) for row in table.rows]
    return Scanned(clips, (*table.notes, *(f"{path}: {note}." for note in notes)))


def _refuse_unused(path: Path, rows: Sequence[Row]) -> None:
    """Raise DataError if a table has columns that change what a row stands for."""
    names = [name for name in (rows[0].cells if rows else {}) if name not in SYNONYMS]
    cells = {name: {row.cells[name].lower() for row in rows} for name in names}
    spans = [name for name in names if _words(name) & SPANS and all(map(NUMBER.fullmatch, cells[name]))]
    partitions = [name for name in names if _words(name) & PARTITIONS or _divides(cells[name])]
    if spans:
        raise DataError(
            f"{path}: the column {' and '.join(spans)} would make a row a part of its recording; wanted whole "
            "recordings. Cut the recordings into one file for each row. If the column means something else, rename it."
        )
    if partitions:
        raise DataError(
            f"{path}: the column {' and '.join(partitions)} would divide the clips into partitions, which no protocol "
            "uses. Remove the column and choose a protocol with `ser compare --protocol`. If the column means "
            "something else, rename it."
        )


def _words(name: str) -> set[str]:
    """Return the words of a column's name in lower case: those of `Begin Time (s)`, `split_id` or `startTime`."""
    parts = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return {column_form(name), *re.split(r"[\W_]+", parts.lower())}


def _divides(cells: set[str]) -> bool:
    """Whether cells name partitions, such as train and test."""
    return bool(cells & TRAINING and cells & TESTING) and not cells - TRAINING - TESTING - {""}


def _real_paths(rows: Sequence[Row], base: Path, files: Mapping[str, str]) -> dict[str, str]:
    """Return path as written -> absolute path, with links resolved; a path with a NUL character, a fault, is absent."""
    written = {row.cells["path"] for row in rows if "\0" not in row.cells["path"]}
    # Not Path.resolve, which raises if links form a circle.
    return {path: os.path.realpath(base / files.get(path, path)) for path in written}


def _repeated_files(rows: Sequence[Row], places: Mapping[str, str]) -> list[str]:
    """Return a fault for each row whose file and channel stand in an earlier row."""
    first: dict[tuple[str, str], int] = {}
    faults = []
    for row in (row for row in rows if row.cells["path"] in places and row.cells["path"]):
        line = first.setdefault((places[row.cells["path"]], row.cells.get(CHANNEL, "")), row.line)
        if line != row.line:
            faults.append(f"row {row.line}: has the file of row {line}. List a file once; cut parts of it into files")
    return faults


def _wrong_channels(rows: Sequence[Row]) -> list[str]:
    """Return a fault if channels seem to be counted from 1."""
    names = {row.cells.get(CHANNEL, "") for row in rows} - {""}
    if names and all(map(str.isdecimal, names)) and "0" not in names:
        return [f"channels {examples(sorted(names))}: channels are counted from 0. Write left, right, or 0, 1, …"]
    return []


def _row_faults(row: Mapping[str, str], base: Path, files: Mapping[str, str]) -> Iterator[str]:
    yield from (f"no {column}" for column in REQUIRED if not without_unseen(row[column]))
    for column in ("label", "speaker"):
        if QUOTED.fullmatch(row[column]):
            yield f"the {column} is {row[column]}, with a part of quotation marks. Write it without them"
    try:
        channel_column(row.get(CHANNEL, ""))
    except DataError as error:
        yield f"{str(error).rstrip('.')}; or rename the column `channel` if it means something else"
    path = row["path"]
    if not path or path in files:
        return
    if "\0" in path:
        yield "the path contains a NUL character"
    elif _paths.FOREIGN.match(path):
        yield f"{path} is a path of another machine; wanted a path relative to {base}"
    elif not _is_inside(path, base):
        yield f"{path} is outside {base}"


def _is_inside(path: str, base: Path) -> bool:
    """Whether a path stays inside the folder `base`, by its text alone or after links are resolved.

    A path with `..` is always resolved: after a link, `..` is not the folder that the text suggests.
    """
    inside_by_text = ".." not in Path(path).parts and base in (base / path).parents
    return inside_by_text or base in Path(os.path.realpath(base / path)).parents


def _make_clip(row: Mapping[str, str], name: str, files: Mapping[str, str], places: Mapping[str, str]) -> Clip:
    extra = {column: value for column, value in row.items() if column not in FILLED_LATER and value}
    extra |= channel_column(row.get(CHANNEL, ""))
    relative = files.get(row["path"], row["path"])
    clip_id = row.get("clip_id") or (f"{relative}#{row[CHANNEL]}" if row.get(CHANNEL) else relative)
    return Clip(name, clip_id, places[row["path"]], row["label"], row["speaker"], row.get("gender", ""), extra)


dataset = Dataset(
    name="folder",
    title="Recordings of your own",
    licence="yours",
    citation="yours",
    source=LAYOUT,
    layout=LAYOUT,
    scan=scan,
)
