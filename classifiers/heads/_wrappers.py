"""Heads made of heads: one that tunes itself, one that calibrates itself. Both do so inside the training data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ._calibrated import Calibrated
from ._spec import Head
from ._tuned import Tuned


def wrapped(heads: Sequence[Head], tune: int, calibrate: bool) -> list[Head]:
    """The heads, each with itself tuned beside it where it has a space to choose from; all calibrated, or none."""
    made = []
    for head in heads:
        made.append(calibrated(head) if calibrate else head)
        if tune and head.space:
            made.append(tuned(head, tune, calibrate))
    return made


def tuned(head: Head, n_settings: int, calibrate: bool = False) -> Head:
    """`<name>-tuned`: chooses among so many settings of its `space` in inner folds by speaker."""

    def make(estimator: Any, random_state: int | None) -> Tuned:
        return Tuned(estimator, head.space, n_settings, calibrate, random_state)

    return _around(head, "tuned-calibrated" if calibrate else "tuned", make)


def calibrated(head: Head) -> Head:
    """`<name>-calibrated`: one temperature, fitted in inner folds by speaker."""
    return _around(head, "calibrated", Calibrated)


def innermost(estimator: Any) -> Any:
    """The fitted head inside of those that choose or scale for it."""
    return innermost(estimator.model_) if isinstance(estimator, Calibrated | Tuned) else estimator


def _around(head: Head, suffix: str, make: Callable[[Any, int | None], Any]) -> Head:
    def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> Any:
        return make(head.build(n_layers=n_layers, n_frames=n_frames, random_state=random_state), random_state)

    return replace(head, name=f"{head.name}-{suffix}", build=build, space={})
