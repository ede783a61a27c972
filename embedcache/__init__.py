"""Stage 1: audio to vectors, once. A frozen encoder, content keys, HDF5 shards.

What `ser extract` does, from Python:

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
