"""Tables: the CSV files that `ser` writes (`read_rows`), and those of other programs and of people (`read_table`).

A table from elsewhere may have any of the usual delimiters and encodings, and its columns may have other names than
here. Such a table is read if it is plain what is meant; `Table.notes` says what was assumed. Otherwise the error names
the line and says what to do: no cell is put into another column than its own.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..errors import DataError, complain
from ..text import count, examples
from .untrusted import check_file

# Size limits of a CSV file. A run of 7,000 clips, ten seeds, five heads and eight encoders has 3 million rows, 0.4 GB.
MAX_BYTES, MAX_ROWS = 1 << 29, 4_000_000
# Size limit of a cell, in characters. A path may have 4096, and the text of a minute of speech has about 1,000. The
# limit saves memory, since numpy makes all cells of a column as wide as the widest cell.
MAX_CELL = 8192
MAX_SHOWN = 200  # characters of a first line that a message shows
DELIMITERS = ",;\t|"
CORRECT_QUOTES = (
    "Correct this row: a cell with a quotation mark is written in quotation marks, and the mark twice; a cell has at "
    f"most {MAX_CELL:,} characters."
)
UNNAMED = re.compile(r"(Unnamed: \d+(\.\d+)*)?")  # the header that pandas or R writes above the numbers of rows
ROW_NAME = re.compile(r"\w*\d+")  # 1, or row1, as R names rows
INDEX = re.compile(r"\d+(\.0)?")
BYTE_ORDER_MARKS = (  # those of UTF-32 first, because they begin with those of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
OTHER_KINDS = (  # first bytes of files that are taken for tables
    (b"PK\x03\x04", "an Excel workbook or another ZIP archive"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x1f\x8b", "compressed"),
    (b"SQLite format 3", "a database"),
    (b"\x80", "a Python pickle"),
    (b"<", "HTML or XML"),
    (b"{", "JSON"),
    (b"[", "JSON"),
)
# How a missing value is spelt: the list of `pandas.read_csv` (pandas 2.3, `na_values`), what Excel writes for an error
# and SQL for NULL, and what people write.
MISSING = frozenset((
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null", "NAN", "NONE", "NaT", "\\N", "?", "-", "--",
    "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!",
))  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    line: int  # number of the line in the file on which the row begins; the first line is 1
    cells: Mapping[str, str]  # column -> cell, without blanks at the ends; a missing value is ""


@dataclass(frozen=True)
class Table:
    """The rows of a table that was written elsewhere."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]  # what was assumed, a sentence each


def read_table(path: Path, synonyms: Mapping[str, Sequence[str]], required: Sequence[str]) -> Table:
    """Return the rows of a table that has the columns `required`.

    `synonyms` holds further names of columns, by column. Names are compared by their letters and digits alone, so that
    `Speaker ID` is `speaker_id`. Other columns keep the names that the table gives them. Raises DataError if the file
    is not a table, if a required column is missing, if two columns may be meant, or if a row has more or fewer cells
    than there are columns.
    """
    synonyms = {**dict.fromkeys(required, ()), **synonyms}
    text, notes = _decode(path)
    stated, text = _without_stated_delimiter(text)
    delimiter = stated or _likely_delimiter(text, synonyms, required)
    records = _records(path, text, delimiter, first_line=2 if stated else 1)
    header = [name.strip() for name in records[0][1]] if records else []
    rows = _without_empty_ends(records[1:], len(header))
    _check_named(path, header)
    columns = _canonical(path, header, synonyms)
    if missing := [name for name in required if name not in columns]:
        raise DataError(_missing_message(path, header, missing, synonyms))
    _check_lengths(path, rows, header)
    columns |= _others(path, header, rows, set(columns.values()))
    notes += _synonym_notes(path, header, columns, synonyms)
    return Table(tuple(Row(line, _cells(columns, cells)) for line, cells in rows), tuple(notes))


def column_form(name: str) -> str:
    """Return the form in which names of columns are compared: `Speaker ID` and `speaker_id` are `speakerid`."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _decode(path: Path) -> tuple[str, list[str]]:
    """Return the text of a file, and a note if its encoding is a guess. Raises DataError if the file is no text."""
    check_file(path, MAX_BYTES, DataError)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if kind := next((kind for start, kind in OTHER_KINDS if data.startswith(start)), ""):
        raise DataError(f"{path}: is {kind}; wanted a table as CSV. Save the table as CSV in UTF-8.")
    try:
        return data.decode(_encoding(data)), []
    except UnicodeDecodeError as error:
        if data.startswith(tuple(mark for mark, _ in BYTE_ORDER_MARKS)):
            raise DataError(f"{path}: cannot be read as CSV: {error}. Save the table as CSV in UTF-8.") from error
        return _decode_as_windows(path, data)


def _encoding(data: bytes) -> str:
    """Return the encoding of a table: as its byte order mark says, or UTF-16 if a byte of the first character is 0."""
    marked = next((encoding for mark, encoding in BYTE_ORDER_MARKS if data.startswith(mark)), "")
    if marked:
        return marked
    return "utf-16-be" if data[:1] == b"\0" else "utf-16-le" if data[1:2] == b"\0" else "utf-8"


def _decode_as_windows(path: Path, data: bytes) -> tuple[str, list[str]]:
    if mixed := _mixed_row(data):
        raise DataError(
            f"{path}: rows are in UTF-8 and in another encoding, such as row {mixed}. Save the table as CSV in UTF-8."
        )
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is neither UTF-8 nor Windows-1252 ({error}). Save the table as CSV in UTF-8."
        ) from error
    word = next(word for word in re.split(r"[\s,;|]+", text) if not word.isascii())
    return text, [f"{path}: is not UTF-8. It is read as Windows-1252, for example '{word[:40]}'."]


def _mixed_row(data: bytes) -> int:
    """Return the first row that is not UTF-8, if another row has letters in UTF-8 beyond ASCII; else 0."""
    lines = data.splitlines()
    others = [number for number, line in enumerate(lines, start=1) if not _is_utf8(line)]
    has_utf8 = any(not line.isascii() and _is_utf8(line) for line in lines)
    return others[0] if has_utf8 else 0


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _without_stated_delimiter(text: str) -> tuple[str, str]:
    """Return the delimiter that a first line such as `sep=;` states, which Excel writes, and the text after that line.

    The delimiter is "" if there is no such line.
    """
    stated = re.match(r'"?sep=(.)"?[,;\t|]*(\r\n|\r|\n)', text, re.IGNORECASE)
    return (stated[1], text[stated.end() :]) if stated else ("", text)


def _likely_delimiter(text: str, synonyms: Mapping[str, Sequence[str]], required: Sequence[str]) -> str:
    """Return the delimiter with which the first line has the most required columns; then, the most columns."""
    first_line = next((line for line in text.splitlines() if line.strip()), "")
    wanted = [{column_form(name), *map(column_form, synonyms.get(name, ()))} for name in required]

    def columns_found(delimiter: str) -> tuple[int, int]:
        header = first_line.split(delimiter)
        found = {column_form(name) for name in header}
        return sum(not found.isdisjoint(names) for names in wanted), len(header)

    return max(DELIMITERS, key=columns_found)


def _records(path: Path, text: str, delimiter: str, first_line: int) -> list[tuple[int, list[str]]]:
    """Return the cells of all rows that are not blank, each with the number of its first line. Raises DataError."""
    file = io.StringIO(text, newline="")
    reader = csv.reader(file, delimiter=delimiter, strict=True, skipinitialspace=delimiter != "\t")
    records: list[tuple[int, list[str]]] = []
    begin = first_line
    try:
        for cells in islice(reader, MAX_ROWS + 2):
            if any(cell.strip() for cell in cells):
                records.append((begin, _check_cells(cells, len(records[0][1]) if records else 0, delimiter)))
            begin = reader.line_num + first_line
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error} (row {begin}). {CORRECT_QUOTES}") from error
    if len(records) > MAX_ROWS + 1:
        raise DataError(f"{path}: has more than {MAX_ROWS:,} rows. Split the file.")
    return records


def _check_cells(cells: list[str], width: int = 0, delimiter: str = "") -> list[str]:
    """Return the cells. Raises ValueError if one is longer than MAX_CELL, or may hold rows of `width` cells."""
    if (longest := max(map(len, cells))) > MAX_CELL:
        raise ValueError(f"a cell has {longest:,} characters; wanted at most {MAX_CELL:,}")
    broken = [cell for cell in cells if {"\n", "\r"} & set(cell.rstrip("\r\n"))]  # rows end at no other break of a line
    if width > 1 and any(cell.count(delimiter) >= width - 1 for cell in broken):
        raise ValueError("a cell that begins with a quotation mark holds line breaks and what may be the rows after it")
    return cells


def _without_empty_ends(rows: list[tuple[int, list[str]]], width: int) -> list[tuple[int, list[str]]]:
    """Return rows without the empty cells after the last column, which spreadsheets write into every row.

    If only some rows have more cells than columns, their cells may be misplaced, and they stay as they are.
    """
    ends = [cells[width:] for _, cells in rows]
    if not all(ends) or any(cell.strip() for end in ends for cell in end):
        return rows
    return [(line, cells[:width]) for line, cells in rows]


def _check_named(path: Path, header: Sequence[str]) -> None:
    """Raise DataError if two columns have the same name."""
    times = Counter(column_form(name) for name in header if name)
    if twice := [name for name in header if name and times[column_form(name)] > 1]:
        raise DataError(
            f"{path}: has {len(twice)} columns of one name ({examples(twice)}); wanted one. Rename or remove the "
            "others."
        )


def _canonical(path: Path, header: Sequence[str], synonyms: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the place of each column that `synonyms` knows. Raises DataError if two columns may be meant."""
    places = {column_form(name): place for place, name in enumerate(header) if name}
    found: dict[str, int] = {}
    for name, others in synonyms.items():
        exact = [places[column_form(name)]] if column_form(name) in places else []
        candidates = exact or [places[column_form(other)] for other in others if column_form(other) in places]
        if len(candidates) > 1:
            both = " and ".join(f"'{header[place]}'" for place in candidates)
            raise DataError(
                f"{path}: {both} may be the column {name}. Give the name '{name}' to the one that is meant."
            )
        if candidates:
            found[name] = candidates[0]
    return found


def _missing_message(
    path: Path, header: Sequence[str], missing: Sequence[str], synonyms: Mapping[str, Sequence[str]]
) -> str:
    first_line = ", ".join(header)[:MAX_SHOWN] or "nothing"
    known = "; ".join(f"{name}: {examples(synonyms[name], 5)}" for name in missing if synonyms.get(name))
    return (
        f"{path}: no column {', '.join(missing)}; its first line holds {first_line}. The first line must name the "
        f"columns.{f' Other names of columns: {known}.' if known else ''}"
    )


def _check_lengths(path: Path, rows: Sequence[tuple[int, list[str]]], header: Sequence[str]) -> None:
    """Raise DataError if a row has more or fewer cells than there are columns."""
    faults = [
        f"row {line}: {count(len(cells), 'cell')}: {examples(cells, 6)[:200]}"
        for line, cells in rows
        if len(cells) != len(header)
    ]
    if faults:
        advice = "A cell that contains the delimiter is written in quotation marks. Correct these rows and try again."
        if all(len(cells) == len(header) + 1 and ROW_NAME.fullmatch(cells[0]) for _, cells in rows):
            advice = "Each row has one cell more than there are names. If the first cells are names of rows, as R "
            advice += "writes them, leave them out (row.names=FALSE)."
        wanted = f"wanted {count(len(header), 'cell')} in each row, as in the first line"
        raise DataError(*complain(f"{path}: {wanted}", faults, advice))


def _others(
    path: Path, header: Sequence[str], rows: Sequence[tuple[int, list[str]]], taken: set[int]
) -> dict[str, int]:
    """Return the place of each further column. Columns of row numbers without a name, as pandas writes, are left out.

    Raises DataError if a column has cells, but no name.
    """
    others: dict[str, int] = {}
    for place in [place for place in range(len(header)) if place not in taken]:
        name = "" if UNNAMED.fullmatch(header[place]) else header[place]
        cells = [cells[place].strip() for _, cells in rows] if not name else []
        if not name and any(cells) and not all(map(INDEX.fullmatch, cells)):
            raise DataError(f"{path}: column {place + 1} has cells, but no name. Name this column in the first line.")
        if name:
            others[name] = place
    return others


def _synonym_notes(
    path: Path, header: Sequence[str], columns: Mapping[str, int], synonyms: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return notes on the columns that have other names here, and on columns whose name is not used for that reason."""
    renamed = [f"'{header[p]}' as {name}" for name, p in columns.items() if column_form(header[p]) != column_form(name)]
    unread = [
        f"'{header[place]}' is not read as {name}, since there is a column '{header[columns[name]]}'"
        for name, others in synonyms.items()
        if name in columns
        for other in others
        for place in range(len(header))
        if column_form(header[place]) == column_form(other) and place != columns[name]
    ]
    return [f"{path}: {'; '.join(part)}." for part in ([f"reads {', '.join(renamed)}"] * bool(renamed), unread) if part]


def _cells(columns: Mapping[str, int], cells: Sequence[str]) -> dict[str, str]:
    values = {name: cells[place].strip() for name, place in columns.items()}
    return {name: "" if value in MISSING else value for name, value in values.items()}


def read_rows(path: Path, required: Iterable[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV file that `ser` wrote, each as a mapping from column to cell.

    The first line holds the columns. In a row with fewer cells, missing cells of `required` columns are "", and other
    missing columns are absent. Empty lines are ignored. Raises DataError if the file cannot be read, lacks a required
    column, or is larger than MAX_BYTES, MAX_ROWS or MAX_CELL allow.
    """
    required = tuple(required)
    check_file(path, MAX_BYTES, DataError)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if missing := [column for column in required if column not in header]:
                first_line = ", ".join(header)[:MAX_CELL] or "nothing"
                raise DataError(f"{path}: no column {', '.join(missing)}; its first line holds {first_line}.")
            rows = [_make_row(header, required, cells) for cells in islice(reader, MAX_ROWS + 1) if cells]
    except (OSError, ValueError, csv.Error) as error:  # ValueError: the file is not UTF-8, or a cell is too long
        raise DataError(f"{path}: cannot be read as CSV: {error}.") from error
    if len(rows) > MAX_ROWS:
        raise DataError(f"{path}: has more than {MAX_ROWS:,} rows. Split the file.")
    return rows


def _make_row(header: Sequence[str], required: Sequence[str], cells: list[str]) -> dict[str, str]:
    row = {name: cell for name, cell in zip(header, _check_cells(cells), strict=False) if name}
    return dict.fromkeys(required, "") | row
