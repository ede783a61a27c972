"""Numbers as text, with as many decimals everywhere, and tables as CSV text."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

DECIMALS = 3  # of a score: one clip of 1,000 changes UAR and WAR by about 0.001
P_DECIMALS = 4  # of a p-value, in columns whose names begin with p_


def number_text(value: float, column: str = "", unknown: str = "–") -> str:
    """Return a number with the decimals of its column, the same on the terminal, in CSV files, reports and cards.

    A p-value is never 0, so one below 0.0001 is given as 0.0001. `unknown` is the text for NaN.
    """
    if math.isnan(value):
        return unknown
    if column.startswith("p_"):
        return f"{max(value, 10**-P_DECIMALS):.{P_DECIMALS}f}"
    return f"{value:.{DECIMALS}f}"


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as the text of a CSV file. The first row is the header. NaN becomes an empty cell."""
    header, *others = (list(row) for row in rows)
    lines = [header, *([_cell_text(*pair) for pair in zip(row, header, strict=True)] for row in others)]
    return "".join(f"{csv_row(line)}\n" for line in lines)


def csv_row(cells: Iterable[Any]) -> str:
    """Return one row of a CSV file, without the end of its line."""
    out = io.StringIO()
    csv.writer(out).writerow(cells)  # with another end of line, Python 3.11 does not quote a cell that holds \r
    return out.getvalue().removesuffix("\r\n")


def _cell_text(value: Any, column: str) -> str:
    return number_text(float(value), column, unknown="") if isinstance(value, float | np.floating) else str(value)
