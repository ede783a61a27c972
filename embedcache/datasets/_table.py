"""Tables of recordings: the rows of a CSV as clips, and what is wrong with them."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..dataset import Scanned
from ..errors import DataError, complain
from ..files.equal_files import equal_files
from ..files.tables import Row, column_form, read_table
from ..manifest import (
    CHANNEL,
    CHANNELS,
    COLUMNS,
    COMMON_PARTITIONS,
    COPY_OF,
    END,
    PARTITION,
    SKIPPED,
    START,
    SYNONYMS,
    Clip,
    channel_column,
    common_partition,
)
from ..text import count, examples, without_unseen
from . import _paths, _spans

REQUIRED = ("path", "label", "speaker")
FILLED_LATER = (*COLUMNS, SKIPPED, COPY_OF)
# Words in the names of columns that change what a row stands for, and are not read: bounds in other units, folds.
SPANS = frozenset(
    {"start", "starttime", "begin", "onset", "end", "endtime", "stop", "offset"}
    | {"xmin", "xmax", "tmin", "tmax", "t0", "t1"}
)
BARE_SPANS = frozenset({"from", "to", "until", "till", "von", "bis"})  # such words, if they are the whole name
LENGTHS = frozenset({"duration", "dur", "length", "len"})  # words that mean bounds beside a column `start` without end
PARTITIONS = frozenset({"split", "partition", "subset", "fold", "phase"})
CHANNEL_WORDS, SIDES = frozenset({"channel", "channelid", "chan", "ch", "side", "track"}), frozenset({"", *CHANNELS})
NUMBER = re.compile(r"[+-]?[\d.,:]*(e[+-]?\d+)? *(ms|s|sec|seconds?)?")  # a time, or nothing
QUOTED = re.compile(r"""["'=].*|.*["']""")  # a text with a part of the quotation marks around it


def read_clips(path: Path, name: str) -> Scanned:
    """Return the clips of the table at `path`, which belong to the dataset `name`. Raises DataError for faulty rows."""
    table = read_table(path, SYNONYMS, REQUIRED)
    _refuse_unused(path, table.rows)
    base = path.parent.resolve()
    files, notes = _paths.locate([row.cells["path"] for row in table.rows], base)
    faults = [f"row {row.line}: {fault}" for row in table.rows for fault in _row_faults(row.cells, base, files)]
    places = _real_paths(table.rows, base, files)
    faults += _repeated_rows(table.rows, places) + _open_spans(table.rows, places)
    faults += _repeated_ids(table.rows) + _wrong_channels(table.rows) + _repeated_recordings(table.rows, base, files)
    if faults:
        advice = "Correct these rows and try again. The table must lie in the folder that holds its recordings."
        raise DataError(*complain(f"{path} has faults", faults, advice))
    clips = [_make_clip(row.cells, name, files, places) for row in table.rows]
    notes += _partition_notes(clips)
    return Scanned(clips, (*table.notes, *(f"{path}: {note}." for note in notes)))


def _refuse_unused(path: Path, rows: Sequence[Row]) -> None:
    """Raise DataError if a table has columns that change what a row stands for."""
    names = [name for name in (rows[0].cells if rows else {}) if name not in SYNONYMS]
    cells = {name: {row.cells[name].lower() for row in rows} for name in names}
    spans = [name for name in names if _may_be_bounds(name, rows) and all(map(NUMBER.fullmatch, cells[name]))]
    partitions = [name for name in names if _words(name) & PARTITIONS or _divides(cells[name])]
    channels = [name for name in names if _words(name) & CHANNEL_WORDS and {""} < cells[name] | {""} <= SIDES]
    if spans:
        raise DataError(
            f"{path}: the column {' and '.join(spans)} seems to give bounds of a row in its recording; wanted the "
            "columns start and end in seconds, or start and duration. Rename or convert the column. If it means "
            "something else, give it another name."
        )
    if channels and CHANNEL not in rows[0].cells:
        raise DataError(
            f"{path}: the column {' and '.join(channels)} seems to name the channel of a row in its recording; wanted "
            "the column channel. Rename the column. If it means something else, give it another name."
        )
    if partitions:
        raise DataError(
            f"{path}: the column {' and '.join(partitions)} seems to divide the clips. Partitions (train, dev, test) "
            "are read from a column partition. Folds are given to `ser compare --folds FILE.csv`, with the columns "
            "clip_id and fold. Rename or remove the column. If it means something else, give it another name."
        )


def _may_be_bounds(name: str, rows: Sequence[Row]) -> bool:
    """Whether a column that is not read has the name of bounds, or that of lengths if a column gives starts alone."""
    known = rows[0].cells
    has_starts = START in known and END not in known and not any(map(_spans.is_duration, known))
    return bool(_words(name) & (SPANS | LENGTHS if has_starts else SPANS) or column_form(name) in BARE_SPANS)


def _words(name: str) -> set[str]:
    """Return the words of a column's name in lower case: those of `Begin Time (s)`, `split_id` or `startTime`."""
    parts = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return {column_form(name), *re.split(r"[\W_]+", parts.lower())}


def _divides(cells: set[str]) -> bool:
    """Whether cells name partitions, such as train and test."""
    found = {common_partition(cell) for cell in cells} - {""}
    return len(found) > 1 and {"train"} <= found <= {*COMMON_PARTITIONS.values()}


def _real_paths(rows: Sequence[Row], base: Path, files: Mapping[str, str]) -> dict[str, str]:
    """Return path as written -> absolute path, with links resolved; a path with a NUL character, a fault, is absent."""
    written = {row.cells["path"] for row in rows if "\0" not in row.cells["path"]}
    # Not Path.resolve, which raises if links form a circle.
    return {path: os.path.realpath(base / files.get(path, path)) for path in written}


def _repeated_rows(rows: Sequence[Row], places: Mapping[str, str]) -> list[str]:
    """Return a fault for each row whose file, channel and span stand in an earlier row."""
    first: dict[tuple[str, ...], int] = {}
    faults = []
    for row in (row for row in rows if row.cells["path"] in places and row.cells["path"]):
        span = _spans.span_name(_spans.span_of(row.cells)[0])
        line = first.setdefault((places[row.cells["path"]], row.cells.get(CHANNEL, ""), span), row.line)
        if line != row.line:
            what = "the file and the span" if span else "the file"
            advice = "List a span once" if span else "List a file once; parts of it have a start and an end"
            faults.append(f"row {row.line}: has {what} of row {line}. {advice}")
    return faults


def _open_spans(rows: Sequence[Row], places: Mapping[str, str]) -> list[str]:
    """Return a fault for each row without an end, if another row begins later in the same recording.

    A cell is probably missing there: such a clip would contain the later ones.
    """
    latest: dict[tuple[str, str], tuple[float, int]] = {}  # recording and channel -> latest start, and its row
    opened = []
    for row in (row for row in rows if row.cells["path"] in places):
        span, fault = _spans.span_of(row.cells)
        recording = places[row.cells["path"]], row.cells.get(CHANNEL, "")
        begin = float(span[START]) if span else -math.inf  # of a whole recording, every span begins later
        latest[recording] = max(latest.get(recording, (begin, row.line)), (begin, row.line))
        if END not in span and not fault:
            opened.append((row.line, recording, begin))
    late = [(line, begin, latest[recording][1]) for line, recording, begin in opened if latest[recording][0] > begin]
    return [
        f"row {line}: no {'end' if math.isfinite(begin) else 'start and no end'}, but row {other} begins later in this "
        "recording. Write its bounds"
        for line, begin, other in late
    ]


def _repeated_recordings(rows: Sequence[Row], base: Path, files: Mapping[str, str]) -> list[str]:
    """Return a fault for each recording with spans that has two paths: its spans would be those of two sessions."""
    with_spans = [row for row in rows if row.cells["path"] in files and row.cells.get(START)]
    lines = {str(base / files[row.cells["path"]]): row.line for row in reversed(with_spans)}
    return [
        f"row {lines[path]}: {os.path.relpath(path, base)} is the recording {os.path.relpath(first, base)} of row "
        f"{lines[first]}, byte for byte. Give a recording with spans one path"
        for path, first in equal_files(sorted(lines, key=lambda path: lines[path]))
    ]


def _repeated_ids(rows: Sequence[Row]) -> list[str]:
    """Return a fault for each row whose clip id stands in an earlier row."""
    first: dict[str, int] = {}
    named = [(row, row.cells.get("clip_id", "")) for row in rows]
    return [
        f"row {row.line}: has the clip_id of row {line}, {name}. Give each row an id of its own"
        for row, name in named
        if name and (line := first.setdefault(name, row.line)) != row.line
    ]


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
    if fault := _spans.span_of(row)[1]:
        yield fault
    if row["path"] and row["path"] not in files:
        yield from _path_faults(row["path"], base)


def _path_faults(path: str, base: Path) -> Iterator[str]:
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


def _partition_notes(clips: Sequence[Clip]) -> list[str]:
    """Return a note on partitions that count as test partitions, but are not called so."""
    sizes = Counter(clip.extra.get(PARTITION, "") for clip in clips)
    odd = [f"{name} ({count(n, 'clip')})" for name, n in sizes.items() if not re.match("$|train$|dev$|test", name)]
    return [f"partitions other than train, dev and test are test partitions, too: {examples(odd)}"] if odd else []


def _make_clip(row: Mapping[str, str], name: str, files: Mapping[str, str], places: Mapping[str, str]) -> Clip:
    extra = {column: value for column, value in row.items() if column not in FILLED_LATER and value}
    span, relative = _spans.span_of(row)[0], files.get(row["path"], row["path"])
    extra = {column: value for column, value in extra.items() if column not in (START, END)} | span
    extra |= channel_column(row.get(CHANNEL, ""))
    extra |= {PARTITION: common_partition(extra[PARTITION])} if PARTITION in extra else {}
    extra |= {"session": relative} if span and not row.get("session") else {}
    channel = f"#{row[CHANNEL]}" if row.get(CHANNEL) else ""
    clip_id = row.get("clip_id") or f"{relative}{channel}{_spans.span_name(span)}"
    return Clip(name, clip_id, places[row["path"]], row["label"], row["speaker"], row.get("gender", ""), extra)
