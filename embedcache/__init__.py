"""Stage 1: audio to vectors, once. A frozen encoder, content keys, HDF5 shards.

What `ser extract` does, from Python:

    from embedcache import Artifacts, EmbeddingStore, add_keys, datasets, extract, load_encoder

    manifest = add_keys(datasets.get("ravdess").manifest("/data/ravdess"))
    encoder = load_encoder("wav2vec2-base", device="auto")
    store = EmbeddingStore.of(Artifacts.at().cache, encoder.info)
    manifest, report = extract(manifest, encoder, store)
    X = store.read(manifest.keys, "pooled")                                     # (1440, 768) float32
"""

__version__ = "0.1.0"  # first: the modules below write it into what they store

from . import datasets, encoders
from .audio import Recording, read
from .audit import Audit, Finding, audit
from .augment import Recipe, copies_of
from .dataset import Dataset
from .encoder import Encoder, EncoderInfo, EncoderSpec
from .encoders import load_encoder
from .errors import (
    AudioError,
    DataError,
    EncoderError,
    ModelError,
    ProtocolError,
    SerError,
    StoreError,
    UnknownName,
)
from .extract import Report, extract
from .keys import KeyMemo, add_keys, stocked, take_stock
from .layout import Artifacts
from .manifest import Clip, Manifest
from .store import EmbeddingStore, find_stores

__all__ = [
    "Artifacts",
    "AudioError",
    "Audit",
    "Clip",
    "DataError",
    "Dataset",
    "EmbeddingStore",
    "Encoder",
    "EncoderError",
    "EncoderInfo",
    "EncoderSpec",
    "Finding",
    "KeyMemo",
    "Manifest",
    "ModelError",
    "ProtocolError",
    "Recipe",
    "Recording",
    "Report",
    "SerError",
    "StoreError",
    "UnknownName",
    "add_keys",
    "audit",
    "copies_of",
    "datasets",
    "encoders",
    "extract",
    "find_stores",
    "load_encoder",
    "read",
    "stocked",
    "take_stock",
]
