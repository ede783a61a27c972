"""All of RAVDESS, real recordings, where SER_RAVDESS_ROOT names them."""

import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.places import RAVDESS, REPOSITORY, needs_ravdess

from classifiers import Task, compare, leaderboard
from embedcache import Artifacts, EmbeddingStore, Recording, add_keys, datasets, extract, load_encoder, read
from embedcache.encoders.checkpoint import untrained

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


@pytest.mark.long
def test_the_originals_are_the_copies_but_for_their_rounding(record_property: object) -> None:
    """Nine files as published, five of them stereo, lie beside the copies, which are 16 kHz, mono and 16 bits.

    A waveform differs by half of the last bit, where the copy was rounded, and by no more. Vectors differ by as much as
    that does to them: by up to 4 % of their length where a clip has silence, whose logarithm a rounding decides.
    """
    originals = Path(RAVDESS).parent / "ravdess-original"
    if not originals.is_dir():
        pytest.skip("no originals beside SER_RAVDESS_ROOT")
    spec = datasets.get("ravdess")
    copies = {clip.clip_id: clip for clip in spec.manifest(RAVDESS).clips}
    last_bit, moved = 2.0**-15, dict.fromkeys(("mfcc", "wav2vec2-base-untrained"), 0.0)
    encoders = {name: load_encoder(name) for name in moved}
    clips = spec.manifest(originals).clips
    assert (len(clips), sum(Recording.load(clip.path).sound()[0].shape[1] == 2 for clip in clips)) == (9, 5)
    for clip in clips:
        copy = copies[clip.clip_id]
        assert replace(clip, path=copy.path) == copy
        ours, theirs = (read(path, 16_000) for path in (clip.path, copy.path))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.501 * last_bit)
        assert np.count_nonzero(np.round(ours / last_bit) != theirs / last_bit) <= 1  # a half, rounded the other way
        for name in moved:
            a, b = (encoders[name].encode([wave], ["layers"])["layers"][0] for wave in (ours, theirs))
            moved[name] = max(moved[name], float((np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)).max()))
    for name, share in moved.items():
        record_property(f"vectors of originals and copies differ by, of their length, {name}", f"{share:.4f}")
        assert share < 0.04


@pytest.mark.long
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


@pytest.mark.long
def test_logistic_regression_reaches_its_score_and_random_folds_flatter(task: Task) -> None:
    """0.48 on the official folds is what the issue asks; weight-free statistics reach 0.50 elsewhere."""
    rows = {
        protocol: leaderboard(compare(task, ["logreg"], protocol, jobs=2))[0] for protocol in ("official", "random")
    }
    assert rows["official"].uar >= 0.48
    assert (rows["official"].folds, rows["official"].leaks) == (6, "text")
    assert rows["random"].uar > rows["official"].uar + 0.1
    assert rows["random"].leaks == "speaker+text"  # the two clips that are one recording stay together


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
