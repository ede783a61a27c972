"""The sample and the whole job on it."""

import re
from pathlib import Path

import numpy as np
import pytest
from helpers.checkpoints import save_checkpoint
from helpers.places import Ser

from classifiers import Task, compare, leaderboard
from embedcache import Artifacts, EmbeddingStore, add_keys, datasets, extract, load_encoder
from embedcache.synthetic import MANNERS, voice, write_sample


def test_the_sample_is_ravdess_by_name_and_the_same_every_time(tmp_path: Path) -> None:
    first = add_keys(datasets.get("ravdess").manifest(write_sample(tmp_path / "a")))
    again = add_keys(datasets.get("ravdess").manifest(write_sample(tmp_path / "b")))
    assert first.keys == again.keys
    assert (len(first), len(first.speakers), len(first.labels), len(set(first.keys))) == (128, 8, 8, 128)
    assert 40 < sum(clip.seconds for clip in first.clips) < 90


def test_emotions_and_speakers_differ_in_the_voice() -> None:
    def loudness(emotion: str) -> float:
        return float(np.mean([np.sqrt(np.mean(voice(actor, emotion, "01", 1) ** 2)) for actor in range(1, 9)]))

    assert loudness("angry") > 2 * loudness("sad")
    assert set(MANNERS) == set(datasets.get("ravdess").labels)
    for actor in range(1, 9):
        assert np.abs(voice(actor, "neutral", "01", 1)).max() < 1


def test_a_blind_split_of_the_sample_flatters_visibly(tmp_path: Path) -> None:
    place, encoder = Artifacts(tmp_path), load_encoder("functionals")
    manifest = add_keys(datasets.get("ravdess").manifest(write_sample(tmp_path / "s")))
    manifest, _ = extract(manifest, encoder, EmbeddingStore.of(place.cache, encoder.info))
    manifest.to_csv(place.manifest("ravdess"))
    task = Task.load(artifacts=place)
    heads = ["logreg", "svm"]
    scores = {
        protocol: np.mean([row.uar for row in leaderboard(compare(task, heads, protocol, n_folds=4, jobs=1))])
        for protocol in ("speakers", "random")
    }
    assert scores["speakers"] > 1.5 / 8
    assert scores["random"] > scores["speakers"] + 0.1


def checked_job(ser: Ser, place: Path, **env: str) -> str:
    """Run the quickstart, check what it says of every job, and return its output."""
    result = ser("quickstart", env=env)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "These voices are synthetic: scores show that the pipeline works, but say nothing about emotion."
    for protocol in ("speakers", "random"):
        assert f"sample, protocol {protocol}: 4 folds, 128 clips, 8 speakers, 8 labels (chance 0.125)" in result.stdout
    boards = re.findall(r"leaderboard: (.*)", result.stdout)
    assert len(boards) == 2
    assert all((place / board).exists() for board in boards)
    (page,) = re.findall(r"report, for a browser: (.*)", result.stdout)
    assert (place / page).read_text().startswith("<!doctype html>")
    (fitted,) = re.findall(r"  ser (fit .*)", result.stdout)
    assert "download" not in fitted
    assert lines[-2:] == [
        "  ser extract --dataset ravdess --root DIR",
        "  ser compare --dataset ravdess --protocol official",
    ]
    return result.stdout


@pytest.mark.long
def test_quickstart_uses_real_weights_where_they_are(ser: Ser, tmp_path: Path) -> None:
    """A tiny checkpoint in the cache's place of facebook/wav2vec2-base: it is taken, and said to be."""
    place = tmp_path / "hf" / "hub" / "models--facebook--wav2vec2-base"
    save_checkpoint(place / "snapshots" / ("a" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("a" * 40)
    said = checked_job(ser, tmp_path, HF_HOME=str(tmp_path / "hf"), HF_ENDPOINT="http://127.0.0.1:9")
    assert "wav2vec2-base: the weights are in the local Hugging Face cache" in said
    assert "untrained" not in said


@pytest.mark.long
def test_quickstart_says_that_the_network_is_untrained(ser: Ser, tmp_path: Path) -> None:
    assert "wav2vec2-base-untrained (random weights) is used instead" in checked_job(ser, tmp_path)
