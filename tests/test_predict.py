"""Prediction: the vectors of a file on its own are those of the cache, and the encoder is the one of the model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Ser, extracted, noise, save_checkpoint, write

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


def test_what_is_not_sure_enough_has_no_label(model: Path, tree: Path) -> None:
    """The probabilities stay; a certainty that equals the bound is enough."""
    predictor, paths = Predictor.load(model), sorted(tree.rglob("*.wav"))[:6]
    plain = predictor.predict(paths)
    bound = sorted(p.certainty for p in plain)[3]
    for before, after in zip(plain, predictor.predict(paths, abstain_below=bound), strict=True):
        assert before.probabilities == after.probabilities
        assert after.certainty == max(after.probabilities.values())
        assert after.label == (before.label if after.certainty >= bound else None)
    for wrong in (0, 1, -0.5, float("nan")):
        with pytest.raises(ValueError, match="got abstain_below=.*; wanted a probability between 0 and 1"):
            predictor.predict(paths, abstain_below=wrong)


def test_the_command_says_how_many_it_left_unlabelled(model: Path, tree: Path, ser: Ser) -> None:
    paths = sorted(tree.rglob("*.wav"))[:6]
    certainties = sorted(p.certainty for p in Predictor.load(model).predict(paths))
    bound = f"{(certainties[2] + certainties[3]) / 2:.6f}"
    said = ser("predict", model, *paths, "--abstain-below", bound)
    assert said.returncode == 0, said.stderr
    assert said.stdout.count(": not sure  (") == 3
    assert f"not sure: 3 of 6 files (50.0%), with a certainty below {float(bound):g}" in said.stderr
    lines = [
        json.loads(line)
        for line in ser("predict", model, *paths, "--abstain-below", bound, "--json").stdout.splitlines()
    ]
    assert [line["label"] is None for line in lines] == [line["certainty"] < float(bound) for line in lines]
    assert all(len(line["probabilities"]) == 3 for line in lines)
    for wrong in ("1", "nan"):
        refused = ser("predict", model, *paths, "--abstain-below", wrong)
        assert (refused.returncode, "--abstain-below" in refused.stderr) == (2, True)


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
