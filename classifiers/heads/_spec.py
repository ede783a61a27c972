"""What a head is: a name, the view it reads, and how to build its scikit-learn classifier. Heads lie in `heads/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Head:
    """How to build an estimator.

    `build(n_layers=…, n_frames=…, random_state=…)` gives an unfitted scikit-learn classifier with `predict_proba`.
    """

    name: str
    view: str  # "pooled", "layers"; "frames" of one layer, "frames:all" of every stored layer
    about: str
    source: str  # paper or library
    build: Callable[..., Any]
    space: Mapping[str, Sequence[Any]] = field(default_factory=dict, hash=False)  # for `--tune`
