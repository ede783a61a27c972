"""Write tables as CSV text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

import numpy as np


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as the text of a CSV file. Floats have four decimals; NaN becomes an empty cell."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(map(_format_cell, row) for row in rows)
    return out.getvalue()


def _format_cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.4f}"
    return str(value)
