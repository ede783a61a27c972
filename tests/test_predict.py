"""Prediction: the vectors of a file on its own are those of the cache, and the encoder is the one of the model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import extracted, noise, save_checkpoint, write

from classifiers import Predictor, Task, load_model
from classifiers.run import Asked, fit_model
from embedcache import Artifacts, AudioError, ModelError


@pytest.fixture
def model(artifacts: Artifacts) -> Path:
    """logreg on mfcc vectors of the tree."""
    folder, _, _ = fit_model(artifacts, Asked(heads=("logreg",), folds=2), jobs=1)
    return folder


def test_a_file_is_predicted_as_its_cached_vector_is(model: Path, artifacts: Artifacts, tree: Path) -> None:
    task = Task.load(artifacts=artifacts)
    estimator, _ = load_model(model)
    paths = sorted(tree.rglob("*.wav"))[:5]
    predictions = Predictor.load(model).predict(paths)
    by_id = dict(zip(task.ids, estimator.predict_proba(task.X), strict=True))
    for path, prediction in zip(paths, predictions, strict=True):
        assert prediction.path == str(path)
        np.testing.assert_allclose(list(prediction.probabilities.values()), by_id[path.stem], atol=1e-6)
        assert prediction.label == max(prediction.probabilities, key=prediction.probabilities.get)
        assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_a_bad_file_is_named(model: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model)
    with pytest.raises(AudioError, match=r"short.wav: lasts 5 ms, mfcc needs 25 ms"):
        predictor.predict([write(tmp_path / "short.wav", noise(0.005))])
    with pytest.raises(AudioError, match=r"no.wav: cannot be read"):
        predictor.predict([tmp_path / "no.wav"])


def test_the_encoder_must_be_the_one_of_the_model(tree: Path, tmp_path: Path) -> None:
    place, folder = tmp_path / "a", save_checkpoint(tmp_path / "net")
    extracted(tree, place, str(folder))
    model, _, _ = fit_model(Artifacts(place), Asked(heads=("layer_weighted",), folds=2), jobs=1)
    wav = next(tree.rglob("*.wav"))
    assert len(Predictor.load(model).predict([wav])) == 1
    save_checkpoint(folder, layer_norm_eps=1e-3)
    with pytest.raises(
        ModelError, match=r"fitted on vectors of another net: weights_sha256: .* then, .* now. Fit it again"
    ):
        Predictor.load(model)


def test_another_library_version_is_a_warning(model: Path) -> None:
    facts = json.loads((model / "model.json").read_text())
    facts["encoder_info"]["preprocessing"] = "soxr 0.1"
    (model / "model.json").write_text(json.dumps(facts))
    with pytest.warns(UserWarning, match="made a little differently: preprocessing: soxr 0.1 then"):
        Predictor.load(model)


def test_the_card_says_how_well_it_may_do(model: Path) -> None:
    _, card = load_model(model)
    assert card.score["protocol"] == "speakers"
    assert 0 <= card.score["uar_low"] <= card.score["uar"] <= 1
    assert (card.n_clips, card.n_speakers, card.dataset, card.encoder) == (24, 4, "ravdess", "mfcc")
    assert replace(card).params["C"] == 0.01


def test_a_checkpoint_folder_is_found_from_anywhere(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given as a relative path to extract, it is named by the same words to compare, and known to the model."""
    save_checkpoint(tmp_path / "nets" / "net")
    monkeypatch.chdir(tmp_path)
    extracted(tree, tmp_path / "a", "nets/net")
    assert Task.load(encoder="nets/net", artifacts=tmp_path / "a").encoder == "net"
    asked = Asked(heads=("logreg",), encoders=("nets/net",), folds=2)
    model, _, _ = fit_model(Artifacts(tmp_path / "a"), asked, jobs=1)
    monkeypatch.chdir("/")
    assert len(Predictor.load(model).predict([next(tree.rglob("*.wav"))])) == 1
