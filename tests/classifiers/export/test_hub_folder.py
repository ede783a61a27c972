"""A model as a repository of the Hugging Face Hub: its card, its files, its upload, and loading it by its hub id."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.hub import HUB_ID, put_into_cache, running_hub
from helpers.hub_uploads import UploadHub, running_upload_hub
from helpers.places import Ser
from helpers.sounds import noise, write
from huggingface_hub import ModelCard as HubCard
from huggingface_hub import constants
from huggingface_hub.repocard_data import model_index_to_eval_results
from safetensors.numpy import load_file

from classifiers import Predictor, head, load_model, save_model
from classifiers.checks import toy_task
from classifiers.export.hub_card import hub_card
from classifiers.export.hub_folder import upload, write_hub_folder
from classifiers.export.onnx_export import export_onnx
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts, ConfigError, ModelError, SerError

COMMIT = "c" * 40


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of `ser fit`, with its scores."""
    from helpers.extraction import extracted
    from helpers.sounds import ravdess_tree

    place = tmp_path_factory.mktemp("fitted")
    extracted(ravdess_tree(place / "tree"), place / "artifacts")
    config = ComparisonConfig(("ravdess",), ("mfcc",), ("logreg",), folds=2)
    return fit_model(Artifacts(place / "artifacts"), config, place / "model", jobs=1)[0]


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, online."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "hub"


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    with running_upload_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("no_proxy", "*")
        yield hub


def test_the_card_is_one_of_the_hub(fitted: Path, tmp_path: Path) -> None:
    written = write_hub_folder(fitted, "me/emotions", tmp_path / "out")
    card, own = HubCard.load(written.folder / "README.md"), load_model(fitted)[1]
    assert (card.data.library_name, card.data.pipeline_tag) == ("ser-toolkit", "audio-classification")
    assert card.data.license == "unknown"
    assert card.data.language == ["en"]
    assert {"speech-emotion-recognition", "logreg"} <= set(card.data.tags)
    name, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert name == "emotions"
    found = {(one.metric_type, one.metric_config): one for one in results}
    for key, score in ((("recall", "macro"), "uar"), (("accuracy", None), "war"), (("f1", "macro"), "macro_f1")):
        assert found[key].metric_value == own.scores[score]["value"]
        assert found[key].dataset_type == "ravdess"
        assert found[key].task_type == "audio-classification"
        if own.scores[score]["low"] is not None:
            assert found[key].metric_args["low"] == own.scores[score]["low"]
    for text in (*own.intended_use, *own.limits, "CC BY-NC-SA 4.0", "Predictor.load", "me/emotions"):
        assert text in card.text
    assert "Livingstone" in card.text, "the citation of RAVDESS"


def test_the_folder_predicts_as_the_model_and_holds_no_more(fitted: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(fitted, tmp_path / "model"))
    (model / "speakers").mkdir()
    (model / "speakers" / "ann.json").write_text("{}")
    written = write_hub_folder(model, "me/emotions")
    names = {str(path.relative_to(written.folder)) for path in written.folder.rglob("*") if path.is_file()}
    assert names == {"README.md", "model.json", "head.skops", "head.safetensors", "onnx/head.onnx", "onnx/model.json"}
    clip = tmp_path / "clip.wav"
    write(clip, noise(0.5))
    predictions = [Predictor.load(place)(clip) for place in (model, written.folder)]
    assert predictions[0].probabilities == predictions[1].probabilities
    assert predictions[0].label in predictions[0].probabilities
    estimator, _ = load_model(written.folder)
    weights = load_file(written.folder / "head.safetensors")
    coefficients = [value for name, value in weights.items() if name.endswith("coef_")]
    assert coefficients[0].shape == (len(estimator.classes_), estimator.n_features_in_)


@pytest.mark.parametrize("name", ["lgbm", "stack", "knn", "svm"])
def test_other_heads_have_their_files(name: str, models: dict[str, Path], tmp_path: Path) -> None:
    model = models.get(name)
    if model is None:
        task = toy_task()
        card = replace(load_model(models["logreg"])[1], head=name)
        model = save_model(tmp_path / "m", head(name).fit(task.X, task.y), card)
    written = write_hub_folder(model, "me/emotions", tmp_path / "out")
    assert {"README.md", "model.json", "head.skops", "onnx/head.onnx"} <= set(written.files)
    X = toy_task().X[:3]
    assert np.array_equal(load_model(written.folder)[0].predict_proba(X), load_model(model)[0].predict_proba(X))


def test_without_onnx_the_rest_is_written(models: dict[str, Path], tmp_path: Path, monkeypatch) -> None:
    def missing() -> None:
        raise SerError("needs onnx")

    monkeypatch.setattr("classifiers.export.onnx_export.need_onnx", missing)
    written = write_hub_folder(models["logreg"], "me/emotions", tmp_path / "out")
    assert written.notes == ("no ONNX file: needs onnx",)
    assert "onnx/head.onnx" not in written.files


def test_what_cannot_be_published_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    for name in ("emotions", "a/b/c", "me/emotions@main", ""):
        with pytest.raises(ConfigError, match="such as user/model"):
            write_hub_folder(models["logreg"], name, tmp_path / "out")
    local = shutil.copytree(models["logreg"], tmp_path / "local")
    facts = json.loads((local / "model.json").read_text())
    (local / "model.json").write_text(json.dumps({**facts, "checkpoint": "/data/own-network"}))
    with pytest.raises(ModelError, match="/data/own-network, a checkpoint on this machine"):
        write_hub_folder(local, "me/emotions")
    for export in (export_onnx, lambda model: write_hub_folder(model, "me/emotions")):
        with pytest.raises(ModelError, match="no such"):
            export("some/model")
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match="exists already"):
        write_hub_folder(models["logreg"], "me/emotions", tmp_path / "out")


def test_odd_names_break_no_card(models: dict[str, Path]) -> None:
    card = replace(
        load_model(models["logreg"])[1],
        labels=("---\nlicense: mit", "a|b", "<script>"),
        dataset="my: 'set'\n---",
        data={"datasets": {"x": {"title": "t\n---\nlicense: mit", "licence": "l"}}},
        scores={"uar": {"value": 0.5, "low": None, "high": None}},
        protocol={"name": "p: [", "folds": 2},
    )
    found = HubCard(hub_card(card, "me/emotions", {}))
    assert found.data.license == "unknown"
    assert "<script>" not in found.text
    (result,) = found.data.eval_results
    assert (result.dataset_type, result.metric_value, result.metric_args) == ("my: 'set'\n---", 0.5, None)


def test_an_upload_is_one_commit_of_a_private_repository(
    fitted: Path, tmp_path: Path, uploads: UploadHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    written = write_hub_folder(fitted, "me/emotions", tmp_path / "out")
    assert upload(written) == f"{uploads.url}/me/emotions/commit/{'1' * 40}"
    assert uploads.token == "hf_secret"
    assert uploads.created["name"] == "emotions"
    assert uploads.created.get("visibility") == "private" or uploads.created.get("private") is True
    names = {str(path.relative_to(written.folder)) for path in written.folder.rglob("*") if path.is_file()}
    assert set(uploads.files) == names
    assert uploads.files["head.skops"] == (fitted / "head.skops").read_bytes()


def test_without_a_token_or_a_hub_the_folder_stays(
    fitted: Path, tmp_path: Path, uploads: UploadHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write_hub_folder(fitted, "me/emotions", tmp_path / "out")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(SerError, match="no token (?s:.*)hf upload me/emotions "):
        upload(written)
    assert uploads.created == {}
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    uploads.refuses = 403
    with pytest.raises(SerError, match="cannot be uploaded (?s:.*)hf upload me/emotions "):
        upload(written)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SerError, match="cannot be uploaded"):
        upload(written)
    assert (written.folder / "README.md").exists()


def test_a_model_is_loaded_by_its_hub_id_without_what_ser_does_not_read(
    fitted: Path, tmp_path: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write_hub_folder(fitted, HUB_ID, tmp_path / "out")
    shutil.rmtree(written.folder / "onnx")  # the hub of the tests has no folders
    (written.folder / "evil.pkl").write_bytes(b"\x80\x04.")
    clip = tmp_path / "clip.wav"
    write(clip, noise(0.5))
    with running_hub({COMMIT: written.folder}, {"main": COMMIT, "v1": COMMIT}) as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        predictor = Predictor.load(HUB_ID)
    assert predictor(clip) == Predictor.load(fitted)(clip)
    assert [model.name for model in predictor.models] == [HUB_ID]
    names = {path.name for path in hub_cache.glob("models--*/snapshots/*/*")}
    assert names == {"model.json", "head.skops"}
    estimator, card = load_model(HUB_ID)  # from the cache: the hub is gone
    assert estimator.predict(np.zeros((1, estimator.n_features_in_))).shape == (1,)
    assert card.head == "logreg"


def test_a_model_that_is_nowhere(hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="some/model: no such model folder here, and the hub cannot be reached"):
        load_model("some/model")
    with pytest.raises(ModelError, match="no model found"):
        load_model(tmp_path / "nothing")
    with running_hub({COMMIT: tmp_path}, {"main": COMMIT}) as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        for name in ("other/model", f"{HUB_ID}@v9"):
            with pytest.raises(ModelError, match="no such model on the hub"):
                load_model(name)


def test_a_folder_is_preferred_to_the_hub(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub_cache: Path
) -> None:
    put_into_cache(hub_cache, models["svm"], COMMIT, "main")
    monkeypatch.chdir(tmp_path)
    assert load_model(HUB_ID)[1].head == "svm"
    shutil.copytree(models["logreg"], tmp_path / HUB_ID)
    assert load_model(HUB_ID)[1].head == "logreg"


def test_the_command_says_how_to_upload(models: dict[str, Path], ser: Ser, tmp_path: Path) -> None:
    model = shutil.copytree(models["logreg"], tmp_path / "a model")
    done = ser("export", model, "--hub", "me/emotions")
    assert done.returncode == 0, done.stderr
    assert "README.md" in done.stdout
    assert "Next: hf upload me/emotions '" in done.stderr
    assert ser("export", model, "--upload").returncode == 2
    done = ser("export", model, "--hub", "me/x", "--upload", "--out", "o", env={"HF_TOKEN": ""})
    assert (done.returncode, "no token" in done.stderr) == (1, True)
