"""What the version before the rooms wrote is read by this one: a cache, a manifest, runs and models.

`tests/data/version-0.1.0` was written by commit 439f830: 12 clips of sound that the tests made, `mfcc`, two heads.
`expected.json` holds what that version predicted.
"""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.places import REPOSITORY, Ser
from helpers.tolerance import close_to

from classifiers import Task, leaderboard, load_model, load_predictions
from embedcache import Artifacts, EmbeddingStore, Manifest
from embedcache.cache.maintenance import verify

OLD = REPOSITORY / "tests" / "data" / "version-0.1.0"
EXPECTED = json.loads((OLD / "expected.json").read_text())
MODELS = ("ravdess-mfcc-logreg-calibrated", "ravdess-mfcc-lgbm")


@pytest.fixture
def place(tmp_path: Path) -> Artifacts:
    """A copy, so that nothing is written into the repository."""
    return Artifacts(shutil.copytree(OLD, tmp_path / "artifacts"))


def test_its_cache_and_manifest_are_read(place: Artifacts) -> None:
    (folder,) = place.cache.glob("mfcc-*")
    assert verify(folder) == []
    manifest = Manifest.from_csv(place.manifest("ravdess"))
    vectors = EmbeddingStore(folder).read([clip.key for clip in manifest.usable], "pooled")
    assert vectors.astype(float).sum(axis=1).tolist() == pytest.approx(EXPECTED["vectors_sum"], rel=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_its_models_predict_what_they_did(place: Artifacts, name: str) -> None:
    estimator, card = load_model(place.models / name)
    task = Task.load("ravdess", artifacts=place)
    assert task.ids.tolist() == EXPECTED["clip_ids"]
    assert card.fingerprint == task.fingerprint
    assert estimator.predict_proba(task.X).ravel().tolist() == close_to(np.ravel(EXPECTED[name]).tolist())


@pytest.mark.parametrize("head", ["logreg", "lgbm"])
def test_its_runs_have_the_scores_that_they_had(place: Artifacts, head: str) -> None:
    folder = place.runs / head
    written = list(csv.DictReader((folder / "leaderboard.csv").read_text().splitlines()))
    rows = leaderboard(load_predictions(folder))
    assert len(rows) == len(written)
    for row, old in zip(rows, written, strict=True):
        assert set(old) <= set(row.__dataclass_fields__), "a column has gone"
        for name in ("head", "encoder", "view", "dataset", "protocol", "leaks", "fold_hash", "fingerprint"):
            assert getattr(row, name) == old[name]
        for name in ("uar", "war", "macro_f1", "ece", "brier"):
            assert getattr(row, name) == pytest.approx(float(old[name]), abs=1e-4)


def test_its_folder_is_worked_on(place: Artifacts, ser: Ser) -> None:
    at = ("--artifacts", place.root)
    listed = ser("cache", "ls", *at)
    assert listed.returncode == 0
    assert "mfcc" in listed.stdout
    compared = ser("compare", "--head", "logreg", "--protocol", "loso", *at)
    assert compared.returncode == 0, compared.stderr
    shown = ser("leaderboard", *at)
    assert shown.returncode == 0
    assert len(shown.stdout.splitlines()) == 1 + 3  # logreg-calibrated and lgbm of then; logreg of now
    assert ser("report", "logreg", *at).returncode == 0
