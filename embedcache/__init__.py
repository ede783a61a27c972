"""Stage 1: turn audio into embeddings, once, with a frozen encoder, and cache them in HDF5 shards by content key.

This is what `ser extract` does, in Python:

    from embedcache import Artifacts, EmbeddingStore, add_keys, datasets, extract, load_encoder

    manifest = add_keys(datasets.get("ravdess").manifest("/data/ravdess"))
    encoder = load_encoder("wav2vec2-base", device="auto")
    store = EmbeddingStore.of(Artifacts.at().cache, encoder.info)
    manifest, report = extract(manifest, encoder, store)
    X = store.read(manifest.keys, "pooled")                                     # (1440, 768) float32
"""

import lazy_loader

from ._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
