"""The scratch folder of a training run, `<folder>.work` beside the checkpoint's folder. It lets a run be resumed.

asked.json            the configuration of the run: a resumed run must have the same
checkpoint-<step>/    Trainer's checkpoint after an epoch. A file `whole`, written last, marks it as complete
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..encoder import Log
from ..errors import DataError, SerError
from ..files.atomic import atomic_write
from ..files.existing import refuse_existing
from ..files.untrusted import read_json
from ..provenance import CARD
from .checkpoint import CheckpointCard
from .job import stored_settings
from .settings import WHOLE

WORK, CONFIGURATION, STATE = ".work", "asked.json", "trainer_state.json"
MAX_BYTES = 1 << 26  # of a JSON file


def scratch_of(folder: Path) -> Path:
    """Return the scratch folder of a checkpoint's folder."""
    return folder.with_name(f"{folder.name}{WORK}")


def claim(folder: Path, scratch: Path, configuration: dict[str, Any], resume: bool, log: Log) -> None:
    """Store the configuration of a new run, or compare it with that of the run to resume.

    Raises SerError if a run exists and `resume` is False, or if it had another configuration.
    """
    exists = folder.exists() or scratch.exists()
    if resume and not exists:
        log(f"note: no run to resume in {scratch}; training starts from the beginning.")
    if exists and not resume:
        taken = folder if folder.exists() else scratch
        refuse_existing(taken, SerError, "Continue it with --resume, choose another --out, or remove it.")
    if folder.exists():
        _compare_with_card(folder, configuration)
    elif (scratch / CONFIGURATION).exists():
        _compare(configuration, read_json(scratch / CONFIGURATION, MAX_BYTES, SerError), scratch)
    else:
        with atomic_write(scratch / CONFIGURATION) as file:
            json.dump(configuration, file)


def last_checkpoint(scratch: Path) -> Path | None:
    """Return the folder of the last complete checkpoint; None if there is none."""
    complete = [path.parent for path in scratch.glob(f"checkpoint-*/{WHOLE}")]
    return max(complete, key=completed_steps, default=None)


def best_checkpoint(scratch: Path) -> Path:
    """Return the folder of the best epoch, or of the last if no UAR was measured. Raises SerError if there is none."""
    last = last_checkpoint(scratch)
    if last is None:
        raise SerError(f"{scratch}: holds no complete checkpoint. Remove the folder, and start again.")
    best = _state(last).get("best_model_checkpoint")
    return scratch / Path(best).name if best else last


def completed_steps(checkpoint: Path) -> int:
    """Return the number of steps after which a checkpoint was saved."""
    return int(_state(checkpoint)["global_step"])


def trainer_log(scratch: Path) -> list[dict[str, float]]:
    """Return Trainer's log up to the last complete checkpoint."""
    last = last_checkpoint(scratch)
    return list(_state(last)["log_history"]) if last else []


def _state(checkpoint: Path) -> Any:
    return read_json(checkpoint / STATE, MAX_BYTES, DataError)


def _compare_with_card(folder: Path, configuration: dict[str, Any]) -> None:
    """Compare a configuration with the card of a finished run, which does not name the number of processes."""
    if not (folder / CARD).exists():
        raise SerError(
            f"{folder}: exists, but holds no fine-tuned checkpoint. Choose another --out, or remove the folder."
        )
    card = CheckpointCard.read(folder)
    stored = {"encoder": card.base_sha256, "clips": card.clips_sha256, **stored_settings(card.settings)}
    _compare({name: value for name, value in configuration.items() if name != "processes"}, stored, folder)


def _compare(configuration: dict[str, Any], stored: Any, folder: Path) -> None:
    if not isinstance(stored, dict):
        raise SerError(f"{folder}: is not the folder of a run that can be resumed. Remove it, or choose another --out.")
    different = [name for name, value in configuration.items() if stored.get(name) != value]
    if different:
        values = "; ".join(
            f"{name.replace('_', '-')}: {stored.get(name)} then, {configuration[name]} now" for name in different
        )
        raise SerError(
            f"{folder}: was started with another configuration ({values}). Use the same one, or choose another --out."
        )
