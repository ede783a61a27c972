"""CSV files with a column for each number of a vector, such as `clip_id, label, f0, f1, …`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..files.tables import Table, read_table
from .raw_arrays import RawFile, column_of, in_memory, vector_columns

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf|", re.IGNORECASE)  # or a missing one


def read_csv_vectors(path: Path) -> RawFile:
    """Return the numbered columns of a table as the array `pooled`, and every other column as a column.

    Raises DataError if the file is no table, ValueError if there are no numbered columns, or if they hold other things
    than numbers.
    """
    table = read_table(path, {}, ())
    names = list(table.rows[0].cells) if table.rows else []
    series = vector_columns([name for name in names if _are_numbers([row.cells[name] for row in table.rows])])
    if not series:
        raise ValueError(
            "no columns with one name and consecutive numbers, such as f0, f1, f2, …, which are the numbers of a "
            "vector. Rename its columns so"
        )
    others = {name: column_of(name, [row.cells[name] for row in table.rows]) for name in names if name not in series}
    return RawFile(path, {"pooled": in_memory("pooled", _numbers(table, series)), **others}, {}, table.notes)


def _are_numbers(cells: list[str]) -> bool:
    return any(cells) and all(map(NUMBER.fullmatch, cells))


def _numbers(table: Table, series: list[str]) -> np.ndarray:
    vectors = np.empty((len(table.rows), len(series)), np.float64)
    for number, row in enumerate(table.rows):
        try:
            vectors[number] = [float(row.cells[name] or "nan") for name in series]
        except ValueError as error:
            raise ValueError(f"row {row.line}: {error}") from error
    return vectors
