"""The datasets. Each has a module with its facts and its parse function, as `embedcache.dataset.Dataset` defines them.

datasets.get("ravdess")    datasets.names()    datasets.all()
"""

from ..dataset import registry

get, find, all, names = registry.get, registry.find, registry.all, registry.names
