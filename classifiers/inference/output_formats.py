"""Output formats of predictions: a table for a terminal, CSV or JSON lines for other programs, one line at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from embedcache.text import one_line

from ..data.csv_text import csv_row
from .predictor import Prediction

NOT_SURE = "not sure"
# A prediction's confidence is called "certainty" in the CSV column, the JSON key and the table, as programs that read
# the output of `ser predict` and of the HTTP API expect.
CONFIDENCE = "certainty"
DISTANCE = "training_distance"
FIRST_COLUMNS = ("path", "begin", "end", "label", CONFIDENCE)


@dataclass(frozen=True)
class OutputFormat:
    """A format of predictions: a header line, "" for none, and a function that returns the line of a prediction."""

    header: str
    line: Callable[[Prediction], str]


def json_lines() -> OutputFormat:
    """Return the format of one JSON object per prediction. `label` is null where the model abstains."""
    return OutputFormat("", lambda p: json.dumps(to_dict(p)))


def csv_lines(labels: Sequence[str]) -> OutputFormat:
    """Return the format of one CSV row per prediction. `label` is empty where the model abstains.

    The columns are `FIRST_COLUMNS`, a column `p_<label>` for each label, `notes` and `training_distance`, which is
    empty if it is not known.
    """

    def row(p: Prediction) -> str:
        first = [p.path, f"{p.begin:.3f}", f"{p.end:.3f}", p.label or "", f"{p.confidence:.6f}"]
        far = "" if p.training_distance is None else f"{p.training_distance:.3f}"
        return csv_row([*first, *(f"{p.probabilities[label]:.6f}" for label in labels), " ".join(p.notes), far])

    return OutputFormat(csv_row([*FIRST_COLUMNS, *(f"p_{label}" for label in labels), "notes", DISTANCE]), row)


def table_lines(labels: Sequence[str], paths: Sequence[str], timed: bool, width: int) -> OutputFormat:
    """Return the format of a table for a terminal of `width` columns.

    It shows the confidence as a number and a bar, then the other labels that fit, the likeliest first. `paths` are all
    paths of the table; `timed` adds the times of the windows.
    """
    label_width = max(map(len, (*labels, NOT_SURE)))
    path_width = min(
        max(len(one_line(path)) for path in ("path", *paths)), max(12, width - label_width - 30 - 14 * timed)
    )

    def line(p: Prediction) -> str:
        cells = [_shorten_path(p.path, path_width).ljust(path_width)]
        cells += [f"{p.begin:6.1f}–{p.end:<6.1f}"] if timed else []
        cells += [(p.label or NOT_SURE).ljust(label_width), f"{p.confidence:.3f}", _bar(p.confidence)]
        text = "  ".join([*cells, ""])
        for label, value in sorted(p.probabilities.items(), key=lambda item: -item[1])[1:]:
            if len(text) + len(label) + 7 > width:
                break
            text += f"{label} {value:.3f}  "
        return "\n".join([text.rstrip(), *(f"  {note}" for note in p.notes)])

    times = ["seconds".center(13)] if timed else []
    return OutputFormat("  ".join(["path".ljust(path_width), *times, "label".ljust(label_width), CONFIDENCE]), line)


def to_dict(p: Prediction) -> dict[str, Any]:
    """Return a prediction as the JSON object of `ser predict --json` and of the HTTP API."""
    return {
        "path": p.path,
        "begin": round(p.begin, 3),
        "end": round(p.end, 3),
        "label": p.label,
        CONFIDENCE: p.confidence,
        "probabilities": p.probabilities,
        "notes": list(p.notes),
        DISTANCE: None if p.training_distance is None else round(p.training_distance, 3),
    }


def _bar(share: float, width: int = 10) -> str:
    return "█" * round(share * width) + "·" * (width - round(share * width))


def _shorten_path(path: str, width: int) -> str:
    """Return the end of a path, which says more than the beginning, with escapes for what could steer the terminal."""
    path = one_line(path)
    return path if len(path) <= width else "…" + path[len(path) - width + 1 :]
