"""All of RAVDESS, real recordings, where SER_RAVDESS_ROOT names them."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RAVDESS, REPOSITORY, needs_ravdess

from classifiers import Task, compare, leaderboard
from embedcache import Artifacts, EmbeddingStore, add_keys, datasets, extract, load_encoder, read
from embedcache.encoders._checkpoint import untrained

pytestmark = needs_ravdess


def test_the_whole_tree_parses() -> None:
    manifest = datasets.get("ravdess").manifest(RAVDESS).check()
    labels = [clip.label for clip in manifest.clips]
    assert (len(manifest), len(manifest.speakers)) == (1440, 24)
    assert {label: labels.count(label) for label in manifest.labels} == {
        **dict.fromkeys(["angry", "calm", "disgust", "fearful", "happy", "sad", "surprised"], 192),
        "neutral": 96,
    }
    assert sum(clip.gender == "female" for clip in manifest.clips) == 720


def test_layers_of_real_clips_are_transformers_own() -> None:
    encoder = load_encoder("wav2vec2-base-untrained")
    stems = ("03-01-01-01-01-01-01", "03-01-05-02-02-01-12", "03-01-08-01-01-02-24")
    waves = [read(Path(RAVDESS) / f"Actor_{stem[-2:]}" / f"{stem}.flac", 16_000) for stem in stems]
    layers = encoder.encode(waves, ["layers"])["layers"]
    oracle = untrained("fp32")
    for wave, ours in zip(waves, layers, strict=True):
        inputs = oracle.features(wave, sampling_rate=16_000, return_tensors="pt").input_values
        with torch.no_grad():
            states = oracle.model(inputs, output_hidden_states=True).hidden_states
        np.testing.assert_allclose(ours, np.stack([state[0].mean(0).numpy() for state in states]), atol=1e-5)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """All 1440 clips, mfcc."""
    place = Artifacts(tmp_path_factory.mktemp("ravdess"))
    encoder = load_encoder("mfcc")
    manifest = add_keys(datasets.get("ravdess").manifest(RAVDESS))
    manifest, report = extract(manifest, encoder, EmbeddingStore.of(place.cache, encoder.info))
    assert (report.clips, report.encoded) == (1440, 1439)  # two clips of actor 07 are one recording
    manifest.to_csv(place.manifest("ravdess"))
    return Task.load("ravdess", "mfcc", "pooled", place)


def test_logistic_regression_reaches_its_score_and_random_folds_flatter(task: Task) -> None:
    """0.48 on the official folds is what the issue asks; weight-free statistics reach 0.50 elsewhere."""
    rows = {
        protocol: leaderboard(compare(task, ["logreg"], protocol, jobs=2))[0] for protocol in ("official", "random")
    }
    assert rows["official"].uar >= 0.48
    assert (rows["official"].folds, rows["official"].leaks) == (6, "text")
    assert rows["random"].uar > rows["official"].uar + 0.1
    assert rows["random"].leaks == "speaker+audio+text"


@pytest.mark.long
def test_ten_kills_on_real_clips(tmp_path: Path) -> None:
    """kill -9 at ten random moments; each time the next run ends with 1440 rows, equal to those of a run in peace."""
    command = [sys.executable, str(REPOSITORY / "cli.py"), "extract", "--dataset", "ravdess", "--root", RAVDESS]
    command += ["--encoder", "mfcc", "--artifacts"]
    begin = time.monotonic()
    subprocess.run([*command, str(tmp_path / "clean")], check=True)
    whole = time.monotonic() - begin
    clean = Task.load("ravdess", "mfcc", "layers", tmp_path / "clean")
    assert clean.X.shape == (1440, 970)
    rng = random.Random(1)
    kept = []
    for trial in range(10):
        place = tmp_path / f"torn-{trial}"
        process = subprocess.Popen([*command, str(place)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.05, 0.9) * whole)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        kept.append(sum(len(EmbeddingStore(folder).keys) for folder in place.glob("cache/*")))
        subprocess.run([*command, str(place)], check=True)
        torn = Task.load("ravdess", "mfcc", "layers", place)
        np.testing.assert_array_equal(torn.ids, clean.ids)
        np.testing.assert_array_equal(torn.X, clean.X)
    print("rows kept by each kill:", kept)
    assert sum(n > 0 for n in kept) >= 3
