"""Push a run to Weights & Biases: one run for each row, in a group with the name of the run folder.

The id of a row's run follows from its predictions, so that another push replaces the row, and does not add one. With
WANDB_MODE=offline the rows are written below the folder `wandb`, and `wandb sync` uploads them; rows that are complete
there are not written again.

The client collects much by itself; the command line, the code, the state of git and the load of the machine are not
sent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from embedcache import SerError
from embedcache.errors import first_line
from embedcache.text import install_hint

from ..reporting.svg import shorten
from .pushed_run import CONFUSION, Pushed, PushedRow, PushedRun, named, row_files, run_files

PROJECT = "ser"  # unless WANDB_PROJECT or --to names another
DEFAULTS = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}  # environment variables of the client
LONGEST_TAG = 64  # characters; the configuration has the whole
VALID = r"[\w. /-]"  # characters of the name of a metric
COMPLETE = "ser-complete"  # empty file in the folder of a row that is complete
SETTINGS: dict[str, Any] = {
    "init_timeout": 30,  # seconds until the server must have answered
    "finish_timeout": 120,  # seconds until all must be uploaded
    "finish_timeout_raises": True,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}


def push_to_wandb(run: PushedRun, place: str = "") -> Pushed:
    """Push a run to the project `place`, `PROJECT` or `ENTITY/PROJECT`, by default that of WANDB_PROJECT.

    Raises SerError if wandb is missing or has no key, or if the server cannot be reached or refuses a request.
    """
    if find_spec("wandb") is None:
        raise SerError(f"--wandb needs wandb. Install it with `{install_hint('wandb')}`.")
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    import wandb

    asked = wandb.setup().settings  # those of the environment variables and of wandb's files
    offline = asked.mode in ("offline", "dryrun")
    folder, address = Path(asked.wandb_dir), "W&B" if offline else asked.base_url
    entity, _, project = (place or os.environ.get("WANDB_PROJECT") or PROJECT).rpartition("/")
    new = [row for row in run.rows if not (offline and _is_written(folder, row))]
    with _errors_named(address):
        for row in new:
            _push_row(run, row, {"project": project, "entity": entity or None})
    where = f"{folder}, to upload with `wandb sync`" if offline else address
    return Pushed(f"{where}, project {project}, group {run.name}", len(new), len(run.rows) - len(new))


def _is_written(folder: Path, row: PushedRow) -> bool:
    """Whether a folder has a row that was written completely without the server."""
    return any(folder.glob(f"offline-run-*-{row.key}/{COMPLETE}"))


@contextmanager
def _errors_named(address: str) -> Iterator[None]:
    """Raise SerError, with the address, for the errors of wandb."""
    import wandb

    try:
        yield
    except (wandb.Error, OSError) as error:  # a TimeoutError is an OSError
        raise SerError(
            f"Weights & Biases at {address}: {first_line(error)[:500].rstrip('.')}.",
            "The row is not complete there. Check the connection and the key (`wandb login`) and push again, which "
            "replaces rows; or set WANDB_MODE=offline, and upload later with `wandb sync`.",
        ) from error


def _push_row(run: PushedRun, row: PushedRow, where: Mapping[str, Any]) -> None:
    import wandb

    tags = [shorten(f"{name}: {value}", LONGEST_TAG) for name, value in row.tags.items() if value]
    settings = wandb.Settings(**SETTINGS)
    config = {**row.params, **row.tags, "predictions_sha256": run.digest, "created": run.created}
    own = wandb.init(**where, settings=settings, id=row.key, name=row.name, group=run.name, tags=tags, config=config)
    try:
        with row_files(row) as some, run_files(run) as others:
            own.log({**named(row.metrics, VALID), "confusion": wandb.Image(str(some / CONFUSION))})
            files = wandb.Artifact(f"row-{row.key}", "row")
            for folder in (some, others):
                files.add_dir(str(folder))
            own.log_artifact(files)
    except BaseException:
        own.finish(exit_code=1)
        raise
    own.finish()
    (Path(own.dir).parent / COMPLETE).touch()
