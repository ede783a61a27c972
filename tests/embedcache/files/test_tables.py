"""Tables that other programs and people wrote: each cell comes from its own column, or there is an error."""

import codecs
import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcache import DataError
from embedcache.files.tables import MISSING, read_table

SYNONYMS = {"path": ("file", "filename"), "label": ("emotion", "class")}
REQUIRED = ("path", "label")


def read(path: Path, content: str | bytes) -> list[dict[str, str]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [dict(row.cells) for row in read_table(path, SYNONYMS, REQUIRED).rows]


HAPPY = [{"path": "a.wav", "label": "happy"}]
SAME = {
    "blanks after commas": "path, label\n a.wav , happy\n",
    "names in upper case": "Path,LABEL\na.wav,happy\n",
    "semicolons": "path;label\na.wav;happy\n",
    "tabs": "path\tlabel\na.wav\thappy\n",
    "bars": "path|label\na.wav|happy\n",
    "other names": "File Name,Emotion\na.wav,happy\n",
    "quoted cells": '"path","label"\r\n"a.wav","happy"\r\n',
    "the line by which Excel states a delimiter": "sep=;\r\npath;label\r\na.wav;happy\r\n",
    "a byte order mark": codecs.BOM_UTF8 + b"path,label\na.wav,happy\n",
    "UTF-16": "path,label\na.wav,happy\n".encode("utf-16"),
    "UTF-16 without a mark": "path,label\na.wav,happy\n".encode("utf-16-le"),
    "UTF-16, big-endian, without a mark": "path,label\na.wav,happy\n".encode("utf-16-be"),
    "UTF-32": "path,label\na.wav,happy\n".encode("utf-32"),
    "the index of pandas": ",path,label\n0,a.wav,happy\n",
    "the index of pandas, read and written again": "Unnamed: 0,path,label\n17,a.wav,happy\n",
    "empty cells at the end": "path,label,,\na.wav,happy,,,\n,,,\n",
    "quotation marks behind blanks": 'path, label\n"a.wav", "happy"\n',
    "a stated delimiter in capitals, with carriage returns": "SEP=;\rpath;label\ra.wav;happy\r",
    "two indexes of pandas": "Unnamed: 0.1,Unnamed: 0,path,label\n0,0,a.wav,happy\n",
    "an index of floats at the end": "path,label,\na.wav,happy,1.0\n",
    "blank lines": "\n\npath,label\n\na.wav,happy\n\n",
    "lines that end in a carriage return": "path,label\ra.wav,happy\r",
}


@pytest.mark.parametrize("name", SAME)
def test_a_table_is_read_whatever_wrote_it(tmp_path: Path, name: str) -> None:
    assert read(tmp_path / "t.csv", SAME[name]) == HAPPY


REFUSED = {
    "an unquoted comma": (
        "path,text,label\na.wav,Kids are talking, loudly,happy\n",
        "(?s)wanted 3 cells.*row 2: 4 cells: a.wav, Kids are talking, loudly, happy\nA cell that contains",
    ),
    "too few cells": ("path,label\na.wav\nb.wav,sad\n", "row 2: 1 cell: a.wav"),
    "two columns of one name": ("path,label,Label\na.wav,x,y\n", r"2 columns of one name \(label, Label\)"),
    "two columns that may be meant": ("path,emotion,class\na.wav,x,y\n", "'emotion' and 'class' may be the column"),
    "no names of columns": ("a.wav,happy\n", "(?s)no column path, label; its first line holds a.wav, happy.*file"),
    "a column without a name": ("path,label,\na.wav,happy,x\n", "column 3 has cells, but no name"),
    "a workbook": (b"PK\x03\x04....", "is an Excel workbook or another ZIP archive; wanted a table as CSV"),
    "JSON": ('{"path": "a.wav"}', "is JSON; wanted a table as CSV"),
    "a quotation mark inside a quoted cell": ('path,label\na.wav,"so "sad" he"\n', r"expected after.*"),
    "a quotation mark without its end": ('path,label\na.wav,"sad\nb.wav,sad\n', r"unexpected end of data"),
    "no encoding": (b"path,label\na.wav,\x81\x8d\n", "is neither UTF-8 nor Windows-1252"),
    "a shifted row that ends in an empty cell": (
        "path,text,label,notes\na.wav,hi,sad,\nb.wav,Kids are talking, loudly,sad,\n",
        "row 3: 5 cells: b.wav, Kids are talking, loudly, sad",
    ),
    "a quotation mark that closes in a later row": (
        'path\ttext\tlabel\na.wav\t"Kids\tsad\nb.wav\tare talking"\thappy\n',
        r"a cell that begins with a quotation mark holds line breaks and what may be the rows after it \(row 2\)",
    ),
    "names of rows, as R writes them": ("path,label\n1,a.wav,x\n2,b.wav,y\n", "row.names=FALSE"),
    "two encodings": (
        b"path,label\na.wav,\xc3\xa9\nb.wav,\xe9\n",
        "rows are in UTF-8 and in another encoding, such as row 3",
    ),
    "a compressed file": (b"\x1f\x8b....", "is compressed; wanted a table as CSV"),
    "an empty file": ("", "no column path, label; its first line holds nothing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_may_be_misread_is_refused(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    with pytest.raises(DataError, match=message):
        read(tmp_path / "t.csv", content)


def test_rows_are_numbered_by_their_first_line_in_the_file(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text('sep=,\npath,label\na.wav,"two\nlines"\n\nb.wav,sad\n')
    assert [row.line for row in read_table(table, SYNONYMS, REQUIRED).rows] == [3, 6]


def test_notes_say_what_was_assumed(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes("file,label,emotion\nJürgen.wav,1,sad\n".encode("cp1252"))
    assert [note.removeprefix(f"{table}: ") for note in read_table(table, SYNONYMS, REQUIRED).notes] == [
        "is not UTF-8. It is read as Windows-1252, for example 'Jürgen.wav'.",
        "reads 'file' as path.",
        "'emotion' is not read as label, since there is a column 'label'.",
    ]
    table.write_text("path,label\na.wav,x\n")
    assert read_table(table, SYNONYMS, REQUIRED).notes == ()


@pytest.mark.parametrize("spelling", sorted(MISSING))
def test_a_missing_value_is_missing_however_pandas_spells_it(tmp_path: Path, spelling: str) -> None:
    assert read(tmp_path / "t.csv", f"path,label\na.wav,{spelling}\n") == [{"path": "a.wav", "label": ""}]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=5),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_every_cell_comes_back_from_its_column(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    delimiter: str,
    encoding: str,
    quoting: int,
) -> None:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, quoting=quoting).writerows([("path", "label", "note"), *rows])
    table = tmp_path_factory.mktemp("t") / "t.csv"
    table.write_bytes(file.getvalue().encode(encoding))
    kept = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    wanted = [["" if cell in MISSING else cell for cell in row] for row in kept]
    assert [list(row.cells.values()) for row in read_table(table, {}, ("path", "label")).rows] == wanted
