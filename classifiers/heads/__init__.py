"""One file a head: a scikit-learn classifier and its spec. `Head` says what they expose.

heads.get("mlp")    heads.names()    heads.usual()    heads.all()    heads.head("mlp")
"""

from typing import Any

from embedcache.registry import Registry

from ._base import fit_told, inner_folds
from ._calibrated import LEAST, Calibrated
from ._frames import FrameHead
from ._neural import NeuralHead
from ._scikit import ScoreHead
from ._spec import Head
from ._temperature import HOTTEST
from ._tuned import Tuned
from ._wrappers import innermost, wrapped

__all__ = [
    "HOTTEST",
    "LEAST",
    "Calibrated",
    "FrameHead",
    "Head",
    "NeuralHead",
    "ScoreHead",
    "Tuned",
    "all",
    "find",
    "fit_told",
    "get",
    "head",
    "inner_folds",
    "innermost",
    "names",
    "usual",
    "wrapped",
]

_registry: Registry[Head] = Registry("head", __name__)
get, find, all, names = _registry.get, _registry.find, _registry.all, _registry.names


def usual() -> list[str]:
    """The heads that are compared where none is named: those of one vector a clip, or a layer.

    The ones over frames read another view, and take minutes rather than seconds: they are asked for by name.
    """
    return [spec.name for spec in all() if not spec.view.startswith("frames")]


def head(name: str, n_layers: int = 1, n_frames: int = 1, random_state: int | None = 0) -> Any:
    """An unfitted classifier by name, for plain scikit-learn code. Raises UnknownName."""
    return get(name).build(n_layers=n_layers, n_frames=n_frames, random_state=random_state)
