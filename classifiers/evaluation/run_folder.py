"""Run folders: what writes, finds and loads them. A run folder is what one comparison leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from embedcache import Artifacts, DataError, UnknownName
from embedcache.files.atomic import atomic_write

from ..data.labels import Labels
from .intervals import intervals, intervals_csv
from .leaderboard import chosen_csv, per_label_csv, tables, to_csv
from .paired_tests import paired_csv
from .predictions import Predictions, load_predictions, save_predictions


def new_run_folder(runs: Path, title: str) -> Path:
    """A folder for one run, named by time and title; it does not exist yet."""
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{title}"
    names = [stamp, *(f"{stamp}-{n}" for n in range(2, 1000))]
    return next(runs / name for name in names if not (runs / name).exists())


def write_run(
    folder: Path,
    predictions: Sequence[Predictions],
    asked: dict[str, Any],
    labels: Labels | None,
    more: Mapping[str, str] | None = None,
) -> None:
    """Write what every run folder holds, and `more` texts by name.

    That is predictions.csv and run.json; and what follows from them: leaderboard.csv, intervals.csv, paired.csv,
    per_label.csv; and labels.csv, what became of the labels.
    """
    save_predictions(folder, predictions, asked)
    saved = load_predictions(folder)
    made = tables(saved)
    texts = {
        "leaderboard.csv": to_csv([row for table in made for row in table.rows]),
        "intervals.csv": intervals_csv(one for p in saved for one in intervals(p)),
        "paired.csv": paired_csv(table.paired for table in made),
        "per_label.csv": per_label_csv(predictions),
        **({"chosen.csv": chosen_csv(predictions)} if any(p.chosen for p in predictions) else {}),
        **({"labels.csv": labels.to_csv()} if labels else {}),
        **(more or {}),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(text)


def load_runs(artifacts: Artifacts, runs: Sequence[str] = ()) -> list[Predictions]:
    """The predictions of some runs, by name or path, or of all. Raises UnknownName or DataError."""
    return [p for folder in find_runs(artifacts, runs) for p in load_predictions(folder)]


def find_runs(artifacts: Artifacts, runs: Sequence[str] = ()) -> list[Path]:
    """The folders of some runs, by name or path, or of all, the latest last. Raises UnknownName or DataError."""
    have = sorted(path.parent for path in artifacts.runs.glob("*/run.json"))
    if not runs and not have:
        raise DataError(f"{artifacts.runs}: no runs yet. `ser compare` makes one.")
    named = {folder.name: folder for folder in have}
    folders = []
    for run in runs:
        folder = named.get(run, Path(run))
        if not (folder / "run.json").exists():
            raise UnknownName("run", run, named, f"A run folder below {artifacts.runs} is meant")
        folders.append(folder)
    return folders or have
