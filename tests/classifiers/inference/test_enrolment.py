"""Enrolled speakers: numbers beside a model, read with suspicion, and predictions that are adapted to them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.extraction import extracted
from helpers.sounds import ravdess_tree
from helpers.tolerance import close_to

from classifiers import Predictor, Task, enrol, load_model
from classifiers.adaptation.choice import CLOSED_FORM
from classifiers.adaptation.speaker_statistics import NONE, SpeakerStatistics
from classifiers.demo.choose_models import models_for
from classifiers.export.onnx_export import export_onnx
from classifiers.saved.speaker_files import ADAPTATION, load_adaptation, load_speaker, speaker_path
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts, ConfigError, ModelError


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Artifacts]:
    """A model that is adapted to 3 clips, its recordings and their vectors."""
    root = tmp_path_factory.mktemp("adapted")
    extracted(ravdess_tree(root / "tree"), root / "artifacts")
    place = Artifacts(root / "artifacts")
    config = ComparisonConfig(heads=("logreg",), folds=2, adapt=("3",))
    with pytest.MonkeyPatch.context() as patch:  # on made-up voices, no adaptation may score highest
        patch.setattr("classifiers.adaptation.choice.CANDIDATES", (CLOSED_FORM,))
        model, card, _ = fit_model(place, config, jobs=1)
    assert card.adapted == "3"
    return model, root / "tree", place


@pytest.fixture
def model(fitted: tuple[Path, Path, Artifacts], tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted[0], tmp_path / fitted[0].name))


@pytest.fixture
def clips(fitted: tuple[Path, Path, Artifacts]) -> list[Path]:
    """The clips of one speaker."""
    return sorted(next(iter(sorted(fitted[1].rglob("Actor_*")))).glob("*.wav"))


def test_predictions_are_those_of_the_adapted_vectors(
    model: Path, clips: list[Path], fitted: tuple[Path, Path, Artifacts]
) -> None:
    path, count = enrol(model, "anna", clips[:4])
    assert (path, count) == (model / "speakers" / "anna.json", 4)
    task = Task.load(artifacts=fitted[2])
    estimator, card = load_model(model)
    row = {name: n for n, name in enumerate(task.ids.tolist())}
    X = task.X[[row[clip.stem] for clip in clips]]
    adaptation = load_adaptation(model, X.shape[1])
    for speaker, statistics in (("anna", SpeakerStatistics.of(X[:4])), ("", None)):
        predictor = Predictor.load(model, speaker=speaker)
        wanted = estimator.predict_proba(adaptation.vectors(X, statistics))
        for prediction, probabilities in zip(predictor.predict(clips), wanted, strict=True):
            assert list(prediction.probabilities.values()) == close_to(probabilities.tolist())
    known = load_speaker(model, "anna", X.shape[1], card.fingerprint)
    np.testing.assert_allclose(known.mean, X[:4].mean(axis=0, dtype=np.float64), rtol=1e-4, atol=1e-4)


def test_the_file_of_a_speaker_holds_numbers_alone(model: Path, clips: list[Path]) -> None:
    path, _ = enrol(model, "anna", clips[:2])
    values = json.loads(path.read_text())
    assert set(values) == {"clips", "fingerprint", "mean", "variance"}
    assert len(values["mean"]) == len(values["variance"]) == 970
    assert not any(clip.stem in path.read_text() for clip in clips)


def test_every_place_says_to_whom_a_model_is_adapted(model: Path, clips: list[Path], artifacts: Artifacts) -> None:
    nobody = f"{model.name}: adapted to no speaker, so expect more errors than with a model"
    (said,) = Predictor.load(model).notes()
    assert said.startswith(nobody)
    banner = models_for([model], artifacts, "cpu", print)[1]  # with the model's name in words
    assert banner.partition(": ")[2] == f"{said.partition(': ')[2]}."
    enrol(model, "anna", clips[:2])
    somebody = f"{model.name}: adapted to the enrolled speaker anna"
    assert Predictor.load(model, speaker="anna").notes() == [somebody]
    assert models_for([model], artifacts, "cpu", print, "anna")[1].endswith(": adapted to the enrolled speaker anna.")
    card = json.loads((model / "model.json").read_text())
    assert card["adapted"] == "3"
    assert "3 clips of each test speaker, without labels" in card["limits"][0]
    assert card["protocol"]["name"] == "speakers/adapted-3"


def test_speakers_that_cannot_be_are_told(model: Path, clips: list[Path]) -> None:
    enrol(model, "anna", clips[:1])
    with pytest.raises(ModelError, match=r"The speaker anna is enrolled\. Choose another name, or remove the file"):
        enrol(model, "anna", clips[:1])
    with pytest.raises(ModelError, match="the speaker bob is not enrolled; have anna"):
        Predictor.load(model, speaker="bob")
    with pytest.raises(ConfigError, match="got no clip"):
        enrol(model, "bob", [])


@pytest.mark.parametrize("name", ["", "..", "../anna", "a/b", "a\\b", ".hidden", "ä", "a b", "x" * 65, "a\n"])
def test_a_name_is_that_of_a_file_in_the_folder(model: Path, clips: list[Path], name: str) -> None:
    with pytest.raises(ConfigError, match="wanted letters, digits"):
        enrol(model, name, clips[:1])
    with pytest.raises(ConfigError):
        speaker_path(model, name)


def test_a_model_that_is_not_adapted_takes_no_speaker(
    fitted: tuple[Path, Path, Artifacts], clips: list[Path], tmp_path: Path
) -> None:
    config = ComparisonConfig(heads=("logreg",), folds=2)
    plain, card, _ = fit_model(fitted[2], config, tmp_path / "plain", jobs=1)
    assert card.adapted == ""
    assert not (plain / ADAPTATION).exists()
    for call in (lambda: Predictor.load(plain, speaker="anna"), lambda: enrol(plain, "anna", clips[:1])):
        with pytest.raises(ConfigError, match="plain is not adapted to speakers; wanted a model that was fitted with"):
            call()
    assert Predictor.load(plain).notes() == []


def test_a_model_has_one_amount(fitted: tuple[Path, Path, Artifacts]) -> None:
    with pytest.raises(ConfigError, match="got --adapt 0,5; a model has one number of clips to adapt to"):
        fit_model(fitted[2], ComparisonConfig(heads=("logreg",), adapt=("5", "0")))


def test_an_adaptation_that_harms_is_noted_and_left_out(
    fitted: tuple[Path, Path, Artifacts], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classifiers.adaptation.choice.CANDIDATES", (NONE,))
    notes: list[str] = []
    config = ComparisonConfig(heads=("logreg",), folds=2, adapt=("3",))
    model, card, _ = fit_model(fitted[2], config, tmp_path / "m", jobs=1, log=notes.append)
    assert card.adapted == ""
    assert any("the model is not adapted to speakers" in line for line in notes)
    assert not (model / ADAPTATION).exists()


def test_an_adapted_model_is_not_exported(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(ModelError, match=r"is adapted to speakers \(--adapt 3\), which an ONNX file cannot be"):
        export_onnx(model, out=tmp_path / "onnx")


def spoilt(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mean": [0.0]}, "has 1 numbers of mean; the head reads 970"),
        ({"mean": "0"}, "has no list of numbers called mean"),
        ({"mean": [True] * 970}, "has no list of numbers called mean"),
        ({"mean": [float("nan")] * 970}, "not finite, too large, or negative"),
        ({"mean": [float("inf")] * 970}, "not finite, too large, or negative"),
        ({"mean": [10**400] * 970}, "numbers of mean"),
        ({"mean": [1e13] * 970}, "not finite, too large, or negative"),
        ({"variance": [-1.0] * 970}, "not finite, too large, or negative"),
        ({"variance": None}, "has no list of numbers called variance"),
    ],
)
def test_spoilt_numbers_are_refused(model: Path, clips: list[Path], values: dict, words: str) -> None:
    path, _ = enrol(model, "anna", clips[:2])
    spoilt(path, **values)
    with pytest.raises(ModelError, match=words):
        Predictor.load(model, speaker="anna")
    spoilt(model / ADAPTATION, **values)
    with pytest.raises(ModelError, match=words):
        Predictor.load(model)


@pytest.mark.parametrize("clips_said", [0, -1, 1.5, True, "2", None, 10**12])
def test_a_spoilt_number_of_clips_is_refused(model: Path, clips: list[Path], clips_said: object) -> None:
    path, _ = enrol(model, "anna", clips[:2])
    spoilt(path, clips=clips_said)
    with pytest.raises(ModelError, match="wanted a whole number from 1"):
        Predictor.load(model, speaker="anna")


@pytest.mark.parametrize("strength", [None, {}, {"mean": -1, "variance": 1}, {"mean": "1", "variance": 1}])
def test_a_spoilt_strength_is_refused(model: Path, strength: object) -> None:
    spoilt(model / ADAPTATION, strength=strength)
    with pytest.raises(ModelError, match="has no valid strength"):
        Predictor.load(model)


def test_files_of_other_models_and_no_files_are_refused(model: Path, clips: list[Path]) -> None:
    path, _ = enrol(model, "anna", clips[:2])
    spoilt(path, fingerprint="f" * 64)
    with pytest.raises(ModelError, match="is of vectors of another encoder than that of the model"):
        Predictor.load(model, speaker="anna")
    path.write_text("[]")
    with pytest.raises(ModelError, match="wanted an object of numbers"):
        Predictor.load(model, speaker="anna")
    path.write_text("[" * 100_000)
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        Predictor.load(model, speaker="anna")
    (model / ADAPTATION).unlink()
    with pytest.raises(ModelError, match=ADAPTATION):
        Predictor.load(model)
