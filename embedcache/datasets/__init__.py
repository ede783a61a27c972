"""One file a dataset: its facts and its parse function. `embedcache.dataset` says what they expose.

datasets.get("ravdess")    datasets.names()    datasets.all()
"""

from ..dataset import Dataset
from ..registry import Registry

_registry: Registry[Dataset] = Registry("dataset", __name__, "For recordings of your own: --dataset folder --root DIR")
get, find, all, names = _registry.get, _registry.find, _registry.all, _registry.names
