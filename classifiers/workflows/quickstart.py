"""The whole main job on a synthetic sample: write it, extract it with two encoders, compare heads under two protocols.

The real adapter, decoder, extractor, store, heads and leaderboard run; only the voices are made up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from embedcache import Artifacts, EmbeddingStore, Manifest, datasets, extract, keyed_manifest, load_encoder
from embedcache.encoders import UNTRAINED, is_cached
from embedcache.progress import Progress, silent
from embedcache.synthetic import write_sample

from ..evaluation.leaderboard import Row, leaderboard
from .comparison import ComparisonConfig, run_comparison

NAME = "sample"
HEADS = ("logreg", "svm", "lgbm")
PROTOCOLS = ("speakers", "random")
FOLDS = 4


def quickstart(
    artifacts: Artifacts, progress: Progress = silent, log: Callable[[str], None] = lambda line: None
) -> list[Row]:
    """Run it below `artifacts`, and give the leaderboard; `log` receives each step in a line."""
    manifest = sample(artifacts)
    log(f"{len(manifest)} clips, {len(manifest.speakers)} speakers, {len(manifest.labels)} labels")
    encoders = ("mfcc", _wav2vec2(log))
    for name in encoders:
        encoder = load_encoder(name)
        manifest, report = extract(
            manifest, encoder, EmbeddingStore.of(artifacts.cache, encoder.info), progress=progress
        )
        log(f"{name}: {report.encoded} clips encoded, {report.cached} were in the cache")
    manifest.to_csv(artifacts.manifest(NAME))
    rows = []
    for protocol in PROTOCOLS:
        asked = ComparisonConfig((NAME,), encoders, HEADS, protocol, FOLDS)
        folder, predictions = run_comparison(artifacts, asked, progress=progress)
        rows += leaderboard([replace(p, run=folder.name) for p in predictions])
    return rows


def sample(artifacts: Artifacts) -> Manifest:
    """The sample, read by RAVDESS's adapter under a name of its own, so that nobody takes it for RAVDESS."""
    root = write_sample(artifacts.root / "sample")
    found = datasets.get("ravdess").manifest(root)
    renamed = tuple(replace(clip, dataset=NAME) for clip in found.clips)
    return keyed_manifest(Manifest(NAME, renamed), artifacts)


def _wav2vec2(log: Callable[[str], None]) -> str:
    """wav2vec2-base where its weights are on this machine, else the control."""
    if is_cached("facebook/wav2vec2-base"):
        log("wav2vec2-base: its weights are in the local Hugging Face cache")
        return "wav2vec2-base"
    log(f"wav2vec2-base: its weights are not on this machine; {UNTRAINED} (random weights) stands in")
    return UNTRAINED
