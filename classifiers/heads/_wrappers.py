"""Tuned and calibrated variants of heads. Tuning and calibration use only the training data of a fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ._calibrated import Calibrated
from ._spec import Head
from ._tuned import Tuned


def wrapped(heads: Sequence[Head], tune: int, calibrate: bool) -> list[Head]:
    """Return the heads with their variants.

    If `tune`, the number of settings to try, is not 0, each head with a `space` is followed by its tuned variant. With
    `calibrate`, all returned heads are calibrated.
    """
    spaces = {head.name: head.space for head in heads}
    variants = []
    for head in heads:
        variants.append(calibrated(head) if calibrate else head)
        if tune and head.space:
            variant = tuned(head, tune, calibrate)
            # A head that equals another one with one layer may still be tuned over other settings.
            twin = variant.same_with_one_layer if spaces.get(head.same_with_one_layer) == head.space else ""
            variants.append(replace(variant, same_with_one_layer=twin))
    return variants


def tuned(head: Head, n_settings: int, calibrate: bool = False) -> Head:
    """Return `<name>-tuned`, which tries `n_settings` settings of its `space` on inner folds split by speaker."""

    def wrap(estimator: Any, random_state: int | None) -> Tuned:
        return Tuned(estimator, head.space, n_settings, calibrate, random_state)

    return _variant(head, "tuned-calibrated" if calibrate else "tuned", wrap)


def calibrated(head: Head) -> Head:
    """Return `<name>-calibrated`, whose temperature is fitted on inner folds split by speaker."""
    return _variant(head, "calibrated", Calibrated)


def innermost(estimator: Any) -> Any:
    """Return the fitted head inside the wrappers `Tuned` and `Calibrated`; any other estimator is returned itself."""
    return innermost(estimator.model_) if isinstance(estimator, Calibrated | Tuned) else estimator


def _variant(head: Head, suffix: str, wrap: Callable[[Any, int | None], Any]) -> Head:
    def build(n_layers: int = 1, n_frames: int = 1, random_state: int | None = None) -> Any:
        return wrap(head.build(n_layers=n_layers, n_frames=n_frames, random_state=random_state), random_state)

    same = head.same_with_one_layer and f"{head.same_with_one_layer}-{suffix}"
    return replace(head, name=f"{head.name}-{suffix}", build=build, space={}, seeded=True, same_with_one_layer=same)
