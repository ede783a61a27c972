"""Tables as CSV text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

import numpy as np


def csv_text(lines: Iterable[Iterable[Any]]) -> str:
    """The text of a CSV file; numbers with four digits, unknown ones empty."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(map(_cell, line) for line in lines)
    return out.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.4f}"
    return str(value)
