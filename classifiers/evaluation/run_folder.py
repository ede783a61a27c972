"""Run folders: write, find and load the results of one comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from embedcache import Artifacts, DataError, UnknownName
from embedcache.files.atomic import atomic_write

from ..data.labels import Labels
from .intervals import intervals_csv
from .leaderboard import chosen_csv, per_label_csv, tables, to_csv
from .paired_tests import paired_csv
from .predictions import Predictions, load_predictions, save_predictions


def new_run_folder(runs: Path, title: str) -> Path:
    """Return an unused path in `runs`, named by the time in UTC and the title. The folder is not created."""
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{title}"
    names = [stamp, *(f"{stamp}-{n}" for n in range(2, 1000))]
    return next(runs / name for name in names if not (runs / name).exists())


def write_run(
    folder: Path,
    predictions: Sequence[Predictions],
    config: dict[str, Any],
    labels: Labels | None,
    extra_files: Mapping[str, str] | None = None,
) -> None:
    """Write all files of a run folder.

    predictions.csv and run.json hold the results. From them follow leaderboard.csv, intervals.csv, paired.csv,
    per_label.csv and, if a head chose parameters, chosen.csv. labels.csv lists the mapping of the labels.

    `config` is the configuration of the run. `extra_files` are the texts of further files, by file name.
    """
    save_predictions(folder, predictions, config)
    ranked = tables(load_predictions(folder))
    texts = {
        "leaderboard.csv": to_csv([row for table in ranked for row in table.rows]),
        "intervals.csv": intervals_csv(interval for table in ranked for interval in table.intervals()),
        "paired.csv": paired_csv(table.paired for table in ranked),
        "per_label.csv": per_label_csv(predictions),
        **({"chosen.csv": chosen_csv(predictions)} if any(p.chosen for p in predictions) else {}),
        **({"labels.csv": labels.to_csv()} if labels else {}),
        **(extra_files or {}),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(text)


def load_runs(artifacts: Artifacts, runs: Sequence[str] = ()) -> list[Predictions]:
    """Load the predictions of runs, given by name or path; all runs by default. Raises UnknownName or DataError."""
    return [p for folder in find_runs(artifacts, runs) for p in load_predictions(folder)]


def find_runs(artifacts: Artifacts, runs: Sequence[str] = ()) -> list[Path]:
    """Return the folders of runs, given by name or path; by default those of all runs, the latest last.

    Raises UnknownName if a run does not exist, DataError if there are no runs.
    """
    stored = sorted(path.parent for path in artifacts.runs.glob("*/run.json"))
    if not runs and not stored:
        raise DataError(f"{artifacts.runs}: no runs yet. Run `ser compare` first.")
    by_name = {folder.name: folder for folder in stored}
    folders = []
    for run in runs:
        folder = by_name.get(run, Path(run))
        if not (folder / "run.json").exists():
            raise UnknownName("run", run, by_name, f"Give the name of a folder in {artifacts.runs}, or a path")
        folders.append(folder)
    return folders or stored
