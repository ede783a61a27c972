"""One file a dataset: its facts and its parse function. `embedcache.dataset` says what they expose.

datasets.get("ravdess")    datasets.names()    datasets.all()
"""

from ..dataset import registry

get, find, all, names = registry.get, registry.find, registry.all, registry.names
