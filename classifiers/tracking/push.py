"""`ser push`: copy a run into a tracker."""

from __future__ import annotations

from collections.abc import Callable

from embedcache import Artifacts

from .pushed_run import Pushed, PushedRun, read_run
from .to_mlflow import push_to_mlflow
from .to_tensorboard import push_to_tensorboard
from .to_wandb import push_to_wandb

TRACKERS: dict[str, Callable[[PushedRun, str], Pushed]] = {
    "mlflow": push_to_mlflow,
    "wandb": push_to_wandb,
    "tensorboard": push_to_tensorboard,
}


def push(artifacts: Artifacts, run: str, tracker: str, place: str = "") -> Pushed:
    """Push a run, given by name or folder, "" for the latest, to `tracker`, one of TRACKERS.

    `place` is the tracking URI of MLflow, the project of Weights & Biases or the log folder of TensorBoard; "" for the
    one that the environment variables of the tracker name, or else its default. Raises UnknownName if there is no such
    run, and SerError if it cannot be read or pushed.
    """
    return TRACKERS[tracker](read_run(artifacts, run), place)
