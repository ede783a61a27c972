"""Push a run to TensorBoard: a folder with the name of the run, and in it one folder of event files for each row.

A row has its metrics as scalars, its parameters and metrics in the tab HPARAMS, its confusion matrix as an image, and
its tags as text. TensorBoard has no place for files, so predictions.csv, leaderboard.csv and run.json stay in the run
folder. The folder appears when it is complete.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from embedcache import SerError
from embedcache.files.untrusted import read_json
from embedcache.text import install_hint

from ..reporting.figures import confusion_figure
from .pushed_run import Pushed, PushedRow, PushedRun, named, unique_names

FOLDER = "tensorboard"  # default log folder
PUSHED = "pushed.json"  # file in the folder of a run that says which predictions were pushed
VALID = r"[\w./-]"  # characters of the name of a scalar
FOLDER_VALID = r"[\w.+@-]"  # characters of the name of a row's folder
STEP = 0  # the scores of a row have no course over time


def push_to_tensorboard(run: PushedRun, place: str = "") -> Pushed:
    """Push a run to the log folder `place`, by default `tensorboard` in the current folder.

    A run that was pushed before is not pushed again. Raises SerError if tensorboardX is missing, if the folder cannot
    be written, or if it has a run of the same name with other predictions.
    """
    if find_spec("tensorboardX") is None:
        raise SerError(f"--tensorboard needs tensorboardX. Install it with `{install_hint('tensorboard')}`.")
    folder = Path(place or FOLDER) / run.name
    done = f"{folder.parent}, folder {run.name}"
    if folder.exists():
        _refuse_other(folder, run)
        return Pushed(done, 0, len(run.rows))
    part = folder.with_name(f".{run.name}.part")
    try:
        _write(part, run)
        part.rename(folder)
    except OSError as error:
        raise SerError(f"cannot write {folder}: {error.strerror or error}. Choose another folder with --to.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Pushed(done, len(run.rows), 0)


def _refuse_other(folder: Path, run: PushedRun) -> None:
    """Raise SerError unless a folder has the same run."""
    facts = read_json(folder / PUSHED, 1 << 16, SerError) if (folder / PUSHED).is_file() else {}
    if not (isinstance(facts, dict) and facts.get("predictions_sha256") == run.digest):
        raise SerError(
            f"{folder}: exists already, with other contents than the run {run.name}. Remove it, or choose another "
            "folder with --to."
        )


def _write(folder: Path, run: PushedRun) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    names = unique_names((row.name for row in run.rows), FOLDER_VALID, 200)
    for row in run.rows:
        _write_row(folder / names[row.name], row)
    facts = {"predictions_sha256": run.digest, "created": run.created}
    (folder / PUSHED).write_text(json.dumps(facts), encoding="utf-8")


def _write_row(folder: Path, row: PushedRow) -> None:
    from tensorboardX import SummaryWriter
    from tensorboardX.summary import hparams

    metrics = named(row.metrics, VALID)
    with SummaryWriter(str(folder)) as writer:
        for summary in hparams(dict(row.params), metrics):
            writer.file_writer.add_summary(summary)
        for name, value in metrics.items():
            writer.add_scalar(name, value, STEP)
        writer.add_text("tags", _table(row.tags), STEP)
        writer.add_image("confusion", _pixels(row), STEP, dataformats="HWC")


def _table(tags: Mapping[str, str]) -> str:
    """Return tags as a table in Markdown."""
    cells = [f"| {name} | {value.replace('|', '/')} |" for name, value in tags.items() if value]
    return "\n".join(["| tag | value |", "|---|---|", *cells])


def _pixels(row: PushedRow) -> Any:
    """Return the picture of the confusion matrix: uint8 (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(confusion_figure(row.predictions))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
