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
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()


def _cell_text(value: Any, column: str) -> str:
    return number_text(float(value), column, unknown="") if isinstance(value, float | np.floating) else str(value)
