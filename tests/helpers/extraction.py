"""A tree of clips, extracted in one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embedcache import Artifacts, EmbeddingStore, Manifest, add_keys, datasets, extract, load_encoder


def extracted(
    root: Path,
    place: Path,
    encoder: str = "mfcc",
    dataset: str = "ravdess",
    views: Sequence[str] = ("pooled", "layers"),
) -> Manifest:
    """The clips below `root`, extracted into the artifacts folder `place`."""
    artifacts = Artifacts(place)
    loaded = load_encoder(encoder)
    manifest = add_keys(datasets.get(dataset).manifest(root))
    manifest, _ = extract(manifest, loaded, EmbeddingStore.of(artifacts.cache, loaded.info), views)
    manifest.to_csv(artifacts.manifest(manifest.dataset))
    return manifest
