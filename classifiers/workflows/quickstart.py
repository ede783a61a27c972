"""What `ser quickstart` does: extract a synthetic sample with two encoders, compare heads under two protocols.

The adapter, decoder, extraction, cache, heads and leaderboard are the real ones; only the voices are synthetic.
"""

from __future__ import annotations

import shlex
from dataclasses import replace

from embedcache import Artifacts, Manifest, datasets, keyed_manifest, load_encoder
from embedcache.cache.dataset_extraction import extract_manifest
from embedcache.encoder import Log, no_log
from embedcache.encoders import UNTRAINED, is_cached
from embedcache.progress import Progress, silent
from embedcache.synthetic import write_sample

from ..evaluation.leaderboard import Row, leaderboard
from .comparison import run_comparison
from .configurations import ComparisonConfig

NAME = "sample"
HEADS = ("logreg", "svm", "lgbm")
PROTOCOLS = ("speakers", "random")
FOLDS = 4


def quickstart(artifacts: Artifacts, progress: Progress = silent, log: Log = no_log) -> list[Row]:
    """Run everything below `artifacts` and return the rows of the leaderboard; `log` receives a line for each step."""
    manifest = sample(artifacts)
    log(f"{len(manifest)} clips, {len(manifest.speakers)} speakers, {len(manifest.labels)} labels")
    encoders = ("functionals", _wav2vec2(log))
    for name in encoders:
        report = extract_manifest(artifacts, manifest, load_encoder(name), progress=progress).report
        log(f"{name}: {report.encoded} clips encoded, {report.cached} were in the cache")
    rows = []
    for protocol in PROTOCOLS:
        config = ComparisonConfig(datasets=(NAME,), encoders=encoders, heads=HEADS, protocol=protocol, folds=FOLDS)
        folder, predictions = run_comparison(artifacts, config, progress=progress)
        rows += leaderboard([replace(p, run=folder.name) for p in predictions])
    return rows


def next_steps(artifacts: Artifacts) -> str:
    """Return the commands that may follow, in lines."""
    here = f"--artifacts {shlex.quote(str(artifacts.root))}"
    return f"""\
Next, without a download:
  ser fit --head logreg --dataset {NAME} --encoder functionals {here}
  ser extract --dataset folder --root DIR --encoder functionals   # yours: DIR/<label>/<speaker>_1.wav
Next, with RAVDESS on disk (see `ser datasets`):
  ser extract --dataset ravdess --root DIR
  ser compare --dataset ravdess --protocol official"""


def sample(artifacts: Artifacts) -> Manifest:
    """Return the keyed manifest of the synthetic sample, whose own name prevents confusion with RAVDESS."""
    scanned = datasets.get("ravdess").manifest(write_sample(artifacts.root / "sample"))
    clips = tuple(replace(clip, dataset=NAME) for clip in scanned.clips)
    return keyed_manifest(Manifest(NAME, clips), artifacts)


def _wav2vec2(log: Log) -> str:
    """wav2vec2-base if its weights are on this machine, else the same network with random weights."""
    if is_cached("facebook/wav2vec2-base"):
        log("wav2vec2-base: the weights are in the local Hugging Face cache")
        return "wav2vec2-base"
    log(f"wav2vec2-base: the weights are not on this machine; {UNTRAINED} (random weights) is used instead")
    return UNTRAINED
