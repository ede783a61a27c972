"""What a model's card says of its predictions is what `Predictor` does."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.extraction import extracted
from helpers.junk import JUNK, RATE
from helpers.sounds import noise, ravdess_tree, write

from classifiers import Predictor, Windows, load_model
from classifiers.data.csv_text import DECIMALS
from classifiers.evaluation.leaderboard import score
from classifiers.evaluation.run_folder import load_predictions
from classifiers.inference.input_checks import MIN_AUDIBLE
from classifiers.saved.model_folder import ModelCard
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts, ModelError, Recording


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    root = tmp_path_factory.mktemp("promises")
    extracted(ravdess_tree(root / "tree"), root / "artifacts")
    return Artifacts(root / "artifacts")


@pytest.fixture(scope="module", params=[False, True], ids=["as it is", "calibrated"])
def fitted(request: pytest.FixtureRequest, place: Artifacts) -> tuple[Path, ModelCard, Predictor]:
    folder, _, _ = fit_model(place, ComparisonConfig(heads=("lda",), folds=2, calibrate=request.param), jobs=1)
    return folder, load_model(folder)[1], Predictor.load(folder)


def test_the_scores_are_of_the_procedure_that_predicts(
    place: Artifacts, fitted: tuple[Path, ModelCard, Predictor]
) -> None:
    """Of the same head with or without calibration, under the protocol that the card names."""
    _, card, _ = fitted
    (p,) = [p for p in load_predictions(place.runs / card.score["run"]) if p.head == card.head]
    row = score(p)
    assert (card.score["uar"], card.protocol["name"]) == (row.uar, row.protocol)
    assert card.scores["uar"]["value"] == round(row.uar, DECIMALS)
    assert card.scores["ece"]["value"] == round(row.ece, DECIMALS)
    assert ("calibrated" in card.fitting) == card.head.endswith("-calibrated")
    assert ("temperature" in p.chosen[0]) == ("calibrated" in card.fitting)
    says = card.predicting["confidence"]
    assert ("not calibrated" in says, "are calibrated" in says) == (
        "calibrated" not in card.fitting,
        "calibrated" in card.fitting,
    )


def test_the_confidence_is_the_largest_probability(place: Artifacts, fitted: tuple[Path, ModelCard, Predictor]) -> None:
    folder, _, predictor = fitted
    head, _ = load_model(folder)
    (path,) = sorted(place.root.parent.glob("tree/*/*.wav"))[:1]
    (p,) = predictor.predict([path])
    (model,) = predictor.models
    (encoder,) = model.encoders
    wave = predictor.clips(Recording.load(path))[0].wave
    row = head.predict_proba(encoder.encode([wave], ("pooled",))["pooled"])[0]
    assert list(p.probabilities.values()) == pytest.approx(row.tolist(), abs=1e-6)
    assert p.confidence == max(p.probabilities.values())
    assert p.label == max(p.probabilities, key=p.probabilities.__getitem__)


def test_silence_has_no_label_and_all_else_has(fitted: tuple[Path, ModelCard, Predictor]) -> None:
    _, card, predictor = fitted
    assert (
        f"less than {MIN_AUDIBLE} s is audible gets no label and equal probabilities"
        in (card.predicting["without_a_label"])
    )
    unheard = {"digital silence", "an offset", "noise at -80 dB", "a click"}
    for kind, make in JUNK.items():
        (p,) = predictor.predict_waves([make(2, 3).astype(np.float32)], RATE)
        assert (p.label is None) == (not p.audible) == (kind in unheard)
        assert p.audible or len(set(p.probabilities.values())) == 1
        (p,) = predictor.predict_waves([make(2, 3).astype(np.float32)], RATE, abstain_below=0.99)
        assert (p.label is None) == (p.confidence < 0.99)


def test_what_is_unlike_the_training_clips_is_said(fitted: tuple[Path, ModelCard, Predictor]) -> None:
    _, card, predictor = fitted
    assert "a note and a lower confidence" in card.predicting["unlike_training"]
    assert f"of {card.training_sound['clips']} training clips" in card.predicting["unlike_training"]
    assert "`scores` were measured without this" in card.predicting["unlike_training"]
    (p,) = predictor.predict_waves([JUNK["clicks"](2, 3).astype(np.float32)], RATE)
    assert p.training_distance > 1
    assert p.notes[0].startswith("Unlike the training clips")


def test_recordings_are_predicted_whole_unless_windows_are_asked_for(
    fitted: tuple[Path, ModelCard, Predictor], tmp_path: Path
) -> None:
    _, card, predictor = fitted
    path = write(tmp_path / "a.wav", noise(2.0))
    assert "as a whole; with --window" in card.predicting["whole_recordings"]
    assert [(p.begin, p.end) for p in predictor.predict([path])] == [(0, 2)]
    assert len(predictor.timeline(path, Windows(1.0, 0.5))) == 3
    assert (predictor.channel, card.channel) == ("", "")
    assert card.predicting["channel"].startswith("The mean of all channels is predicted")
    assert (card.predicting["adaptation"], card.adapted) == ("The vectors are not adapted.", "")
    assert predictor.models[0].views == (card.view,)


def test_a_card_without_the_new_fields_is_that_of_an_earlier_version(
    fitted: tuple[Path, ModelCard, Predictor], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(fitted[0], tmp_path / "old"))
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(
        json.dumps({name: value for name, value in card.items() if name not in ("training_sound", "predicting")})
    )
    predictor = Predictor.load(folder)
    (p,) = predictor.predict_waves([noise(1.0).astype(np.float32)], RATE)
    assert (p.notes, p.training_distance) == ((), None)
    assert predictor.notes() == [
        "old: how its training clips sound is not known, so a sound unlike them gets no note",
    ]
    assert fitted[2].notes() == []
    (folder / "model.json").write_text(json.dumps(card | {"training_sound": {**card["training_sound"], "limit": 0.0}}))
    with pytest.raises(ModelError, match="old: model.json cannot be read: training_sound has"):
        load_model(folder)
