"""The specification of a head: its name, the view that it reads, and how to build its scikit-learn classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Head:
    """The specification of a head.

    `build(n_layers=…, n_frames=…, random_state=…)` returns an unfitted scikit-learn classifier with `predict_proba`.
    """

    name: str
    view: str  # "pooled", "layers", "frames" (of one layer) or "frames:all" (of every stored layer)
    about: str  # description in one line
    source: str  # paper or library
    build: Callable[..., Any]
    space: Mapping[str, Sequence[Any]] = field(default_factory=dict, hash=False)  # parameter values for `--tune`
    seeded: bool = False  # whether the probabilities of the fitted head depend on the random seed
    same_with_one_layer: str = ""  # name of the head that this one equals if X has one layer
    max_clips: int | None = None  # clips of a task beyond which the head is fitted only if it is named; None for any
