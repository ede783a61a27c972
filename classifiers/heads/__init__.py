"""Heads: each module defines one scikit-learn classifier and exposes its specification, a `Head`, as `head`.

heads.get("mlp")    heads.names()    heads.usual()    heads.all()    heads.head("mlp")
"""

from typing import Any

from embedcache.registry import Registry

from ._base import fit_with_context, inner_folds
from ._calibrated import MIN_PROBABILITY, Calibrated
from ._frames import FrameHead
from ._neural import NeuralHead
from ._scikit import ScoreHead
from ._spec import Head
from ._temperature import MAX_TEMPERATURE
from ._tuned import Tuned
from ._wrappers import innermost, wrapped

__all__ = [
    "MAX_TEMPERATURE",
    "MIN_PROBABILITY",
    "Calibrated",
    "FrameHead",
    "Head",
    "NeuralHead",
    "ScoreHead",
    "Tuned",
    "all",
    "find",
    "fit_with_context",
    "get",
    "head",
    "inner_folds",
    "innermost",
    "names",
    "usual",
    "wrapped",
]

_registry: Registry[Head] = Registry("head", __name__, spec_class=Head)
get, find, all, names = _registry.get, _registry.find, _registry.all, _registry.names


def usual() -> list[str]:
    """Return the names of the heads that are compared by default: all except the heads over frames.

    Heads over frames need another view and take minutes instead of seconds, so they are used only if named.
    """
    return [spec.name for spec in all() if not spec.view.startswith("frames")]


def head(name: str, n_layers: int = 1, n_frames: int = 1, random_state: int | None = 0) -> Any:
    """Return an unfitted classifier by name, for plain scikit-learn code.

    Raises UnknownName if there is no head of this name.
    """
    return get(name).build(n_layers=n_layers, n_frames=n_frames, random_state=random_state)
