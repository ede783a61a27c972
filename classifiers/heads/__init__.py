"""One file a head: a scikit-learn classifier and its spec. `classifiers.head` says what they expose.

heads.get("mlp")    heads.names()    heads.all()    heads.head("mlp")
"""

from typing import Any

from embedcache.registry import Registry

from ..head import Head

_registry: Registry[Head] = Registry("head", __name__)
get, find, all, names = _registry.get, _registry.find, _registry.all, _registry.names


def head(name: str, n_layers: int = 1, n_frames: int = 1, random_state: int | None = 0) -> Any:
    """An unfitted classifier by name, for plain scikit-learn code. Raises UnknownName."""
    return get(name).build(n_layers=n_layers, n_frames=n_frames, random_state=random_state)
