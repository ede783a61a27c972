"""Numbers as text, with as many decimals everywhere, and tables as CSV text."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

DECIMALS = 3  # of a score: one clip of 1,000 changes UAR and WAR by about 0.001
P_DECIMALS = 4  # of a p-value, in columns whose names begin with p_: permutations give multiples of about 0.0001


def number_text(value: float, column: str = "", unknown: str = "–") -> str:
    """Return a number with the decimals of its column, the same on the terminal, in CSV files, reports and cards.

    `unknown` is the text for NaN.
    """
    return unknown if math.isnan(value) else f"{value:.{decimals(column)}f}"


def decimals(column: str) -> int:
    """Return the number of decimals that the numbers of a column have."""
    return P_DECIMALS if column.startswith("p_") else DECIMALS


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as the text of a CSV file. The first row is the header. NaN becomes an empty cell."""
    header, *others = (list(row) for row in rows)
    lines = [header, *([_cell_text(*pair) for pair in zip(row, header, strict=True)] for row in others)]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()


def _cell_text(value: Any, column: str) -> str:
    return number_text(float(value), column, unknown="") if isinstance(value, float | np.floating) else str(value)
