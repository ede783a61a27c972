"""Predictions as lines: a table for a terminal, CSV or JSON lines for other programs. Each line is said at once."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .predictor import Prediction

NOT_SURE = "not sure"
FIRST = ("path", "begin", "end", "label", "certainty")


@dataclass(frozen=True)
class OutputFormat:
    """A way to write predictions: what stands first, "" for nothing, and each one's line."""

    header: str
    line: Callable[[Prediction], str]


def json_lines() -> OutputFormat:
    """One JSON object a prediction; `label` is null where it is not sure."""
    return OutputFormat("", lambda p: json.dumps(to_dict(p)))


def csv_lines(labels: Sequence[str]) -> OutputFormat:
    """One row a prediction: FIRST, a column `p_<label>` each, `notes`; `label` is empty where it is not sure."""

    def row(p: Prediction) -> str:
        said = [p.path, f"{p.begin:.3f}", f"{p.end:.3f}", p.label or "", f"{p.certainty:.6f}"]
        return _csv([*said, *(f"{p.probabilities[label]:.6f}" for label in labels), " ".join(p.notes)])

    return OutputFormat(_csv([*FIRST, *(f"p_{label}" for label in labels), "notes"]), row)


def table_lines(labels: Sequence[str], paths: Sequence[str], timed: bool, width: int) -> OutputFormat:
    """Columns for people, in lines of `width`: the certainty as number and bar, then as many other labels as fit."""
    widest = max(map(len, (*labels, NOT_SURE)))
    first = min(max(map(len, ("path", *paths))), max(12, width - widest - 30 - 14 * timed))

    def line(p: Prediction) -> str:
        said = [_shortened(p.path, first).ljust(first)]
        said += [f"{p.begin:6.1f}–{p.end:<6.1f}"] if timed else []
        said += [(p.label or NOT_SURE).ljust(widest), f"{p.certainty:.3f}", _bar(p.certainty)]
        text = "  ".join([*said, ""])
        for label, value in sorted(p.probabilities.items(), key=lambda item: -item[1])[1:]:
            if len(text) + len(label) + 7 > width:
                break
            text += f"{label} {value:.3f}  "
        return "\n".join([text.rstrip(), *(f"  {note}" for note in p.notes)])

    head = ["path".ljust(first), *(["seconds".center(13)] if timed else []), "label".ljust(widest), "certainty"]
    return OutputFormat("  ".join(head), line)


def to_dict(p: Prediction) -> dict[str, Any]:
    """A prediction as JSON has it."""
    return {
        "path": p.path,
        "begin": round(p.begin, 3),
        "end": round(p.end, 3),
        "label": p.label,
        "certainty": p.certainty,
        "probabilities": p.probabilities,
        "notes": list(p.notes),
    }


def _csv(cells: Sequence[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue()


def _bar(share: float, width: int = 10) -> str:
    return "█" * round(share * width) + "·" * (width - round(share * width))


def _shortened(path: str, width: int) -> str:
    """The end of a path says more than its beginning; what would steer the terminal is not sent to it."""
    path = "".join(letter if letter.isprintable() else "?" for letter in path)
    return path if len(path) <= width else "…" + path[len(path) - width + 1 :]
