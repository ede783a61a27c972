"""Model folders: what goes in comes out, and what a stranger put in is refused."""

import json
import pickle
import zipfile
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from classifiers import ModelCard, compare, head, heads, load_model, save_model
from classifiers.adaptation.amounts import parse_amounts
from classifiers.checks import toy_task
from classifiers.heads._calibrated import Calibrated
from classifiers.heads._wrappers import wrapped
from classifiers.saved._safe_skops import TRUSTED
from classifiers.saved.card_text import MEANING, UNKNOWN_LICENCE, _encoder_licences, describe, fitting
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import _card, _Fitted, _Scored
from embedcache import EncoderInfo, ModelError

CARD = ModelCard("logreg", "mfcc", "", "f" * 64, {}, "pooled", ("left", "right"), "toy", 160, 8)


def saved(folder: Path, name: str = "logreg") -> Path:
    task = toy_task()
    return save_model(folder, head(name).fit(task.X, task.y), CARD)


@pytest.mark.parametrize("name", heads.names())
def test_a_head_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    task = toy_task()
    fitted = head(name).fit(task.X, task.y)
    again, card = load_model(save_model(tmp_path / "m", fitted, CARD))
    np.testing.assert_array_equal(again.predict_proba(task.X), fitted.predict_proba(task.X))
    assert again.classes_.tolist() == ["left", "right"]
    assert card.created
    assert card.labels == ("left", "right")
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"model.json", "head.skops"}


@pytest.mark.long
def test_a_head_needs_no_type_that_is_not_on_the_list(tmp_path: Path) -> None:
    needed = {
        t
        for name in heads.names()
        for t in skops.io.get_untrusted_types(file=saved(tmp_path / name, name) / "head.skops")
    }
    assert needed <= set(TRUSTED)


def test_no_file_of_a_model_is_a_pickle(tmp_path: Path) -> None:
    for path in saved(tmp_path / "m").iterdir():
        with pytest.raises(
            (pickle.UnpicklingError, KeyError, ValueError, EOFError, IndexError, UnicodeDecodeError, AttributeError)
        ):
            pickle.loads(path.read_bytes())


def test_a_model_is_never_overwritten(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    with pytest.raises(ModelError, match="exists already. Choose another folder with --out"):
        saved(tmp_path / "m")


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("/tmp/ser-was-here"),))


def test_a_pickle_in_skops_clothes_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    (folder / "head.skops").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(folder)
    assert not Path("/tmp/ser-was-here").exists()


def test_a_type_outside_the_list_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    with zipfile.ZipFile(folder / "head.skops") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(parts["schema.json"])
    schema["__module__"], schema["__class__"] = "subprocess", "Popen"
    with zipfile.ZipFile(folder / "head.skops", "w") as archive:
        for name, data in (parts | {"schema.json": json.dumps(schema).encode()}).items():
            archive.writestr(name, data)
    with pytest.raises(ModelError, match="is not loaded, because no head of ser contains the types subprocess.Popen"):
        load_model(folder)


def test_an_estimator_of_another_kind_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    skops.io.dump(LogisticRegression(), folder / "head.skops")
    with pytest.raises(ModelError, match="got an estimator of the type LogisticRegression; wanted a head of ser"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "has the format 'other'; wanted 'ser-model'"),
        ({"format_version": 2, "version": "9.9"}, "got the model format 2, written by ser 9.9"),
        ({"unheard": 1}, "cannot be read"),
    ],
)
def test_a_foreign_or_newer_card_is_refused(tmp_path: Path, change: dict, said: str) -> None:
    folder = saved(tmp_path / "m")
    facts = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**facts, **change}))
    with pytest.raises(ModelError, match=said):
        load_model(folder)


LATER = (
    "data",
    "protocol",
    "scores",
    "leaks",
    "intended_use",
    "limits",
    "about",
    "reads",
    "fitting",
    "encoder_licences",
)  # what the first cards had not


def test_a_card_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    facts = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({k: v for k, v in facts.items() if k not in LATER}))
    _, card = load_model(folder)
    assert (card.head, card.labels, card.data, card.limits) == ("logreg", ("left", "right"), {}, ())


@pytest.mark.parametrize("change", [{"limits": "none"}, {"limits": [1]}, {"scores": []}, {"data": None}])
def test_a_card_with_something_else_in_its_fields_is_refused(tmp_path: Path, change: dict) -> None:
    folder = saved(tmp_path / "m")
    facts = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**facts, **change}))
    with pytest.raises(ModelError, match=f"model.json cannot be read .wrong type of {next(iter(change))}"):
        load_model(folder)


def test_a_card_is_written_for_people(tmp_path: Path) -> None:
    """What is asked first comes first, in the letters of its language; a name that is no Unicode does no harm."""
    task = toy_task()
    card = replace(CARD, labels=("Ärger", "怒り"), checkpoint="/odd/\udcff", data={"datasets": {}})
    folder = save_model(tmp_path / "m", head("logreg").fit(task.X, np.where(task.y == "left", *card.labels)), card)
    text = (folder / "model.json").read_text(encoding="utf-8")
    assert '"怒り"' in text
    names = list(json.loads(text))
    first = ["format", "format_version", "head", "about", "labels", "intended_use", "limits", "predicting", "scores"]
    assert (names[: len(first)], names[-1]) == (first, "score")
    assert load_model(folder)[1] == replace(card, created=json.loads(text)["created"])


def test_a_card_says_what_was_measured_and_how() -> None:
    task = replace(toy_task(), dataset="ravdess")
    (p,) = compare(task, ["logreg"], protocol="speakers", n_folds=4, jobs=1)
    said = describe(task, p)
    assert said["data"]["datasets"]["ravdess"]["licence"] == "CC BY-NC-SA 4.0"
    assert said["data"]["clips_by_label"] == {"left": 80, "right": 80}
    assert (said["protocol"]["name"], said["protocol"]["speakers"], said["protocol"]["folds"]) == (
        "speakers",
        "disjoint",
        4,
    )
    for name in ("uar", "war", "macro_f1"):
        assert 0.5 < said["scores"][name]["low"] <= said["scores"][name]["value"] <= said["scores"][name]["high"] <= 1
    assert said["scores"]["chance"] == 0.5
    assert 0 <= said["scores"]["ece"]["value"] < 0.5
    assert said["leaks"] == {"none": MEANING["none"]}
    assert "acted" in said["limits"][0]
    assert "the 8 speakers of the training data, for their language (English)" in said["limits"][1]


def test_a_card_owns_up_to_leaks_and_to_what_it_does_not_know() -> None:
    task = toy_task()
    (p,) = compare(replace(task, speakers=np.where(task.speakers < "s4", "a", "b")), ["logreg"], "random", 2, jobs=1)
    said = describe(replace(task, dataset="ravdess+folder-mine"), p)
    assert said["leaks"] == {"speaker": MEANING["speaker"]}
    assert said["protocol"]["speakers"] == "may be shared"
    assert said["scores"]["uar"]["low"] is None
    assert "ask the author of the model" in said["data"]["datasets"]["folder-mine"]["title"]
    assert "not known here" in said["limits"][0]
    assert "English" not in said["limits"][1]


def info_of(name: str, checkpoint: str = "", sample_rate: int = 16_000) -> EncoderInfo:
    return EncoderInfo(name, checkpoint, "", sample_rate, 1, 6, "fp32", "", 1)


def test_a_card_has_the_licences_of_its_encoders() -> None:
    """Those of checkpoints under another name, of folders and of imported vectors are unknown, which is said."""
    known = {
        "egemaps": (info_of("egemaps"), "research only (audEERING), features and models included"),
        "wav2vec2-base": (info_of("wav2vec2-base", "facebook/wav2vec2-base"), "Apache-2.0"),
        "hubert-base": (info_of("hubert-base", "/folders/hubert-base"), UNKNOWN_LICENCE),
        "compare": (info_of("compare", sample_rate=0), UNKNOWN_LICENCE),
        "mine": (info_of("mine"), UNKNOWN_LICENCE),
        "mfcc": (info_of("mfcc"), None),
    }
    task = replace(toy_task(), encoder_infos=tuple(info for info, _ in known.values()))
    (p,) = compare(toy_task(), ["logreg"], protocol="speakers", n_folds=2, jobs=1)
    said = describe(task, p)
    assert said["encoder_licences"] == {name: licence for name, (_, licence) in known.items() if licence}
    assert "forbids commercial use" in said["limits"][0]
    assert said["limits"][1:] == describe(toy_task(), p)["limits"]


def test_a_plug_in_that_is_gone_has_an_unknown_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("mine", "no.such.module:encoder", "ser.encoders")]
    monkeypatch.setattr("embedcache.registry.entry_points", lambda group: points)
    assert _encoder_licences([info_of("mine")]) == {"mine": UNKNOWN_LICENCE}


def test_a_folder_without_a_model_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"no model found \(model.json is missing\). Give a folder that `ser fit` wrote"
    ):
        load_model(tmp_path)
    folder = saved(tmp_path / "m")
    (folder / "head.skops").unlink()
    with pytest.raises(ModelError, match="head.skops: cannot be read: No such file or directory. Fit the head again"):
        load_model(folder)


def test_a_card_says_what_a_tuned_and_calibrated_head_became() -> None:
    """Not what the search began with: `params` and `fitting` are of the head that is saved."""
    task = toy_task()
    spec = replace(heads.get("logreg"), build=lambda **_: head("logreg").set_params(C=0.01), space={"C": (1e-9, 0.5)})
    specs = wrapped([spec], 3, True)
    (*_, p) = compare(task, specs, n_folds=2, jobs=1)
    estimator = specs[-1].build(random_state=0).fit(task.X, task.y, groups=task.speakers)
    setting = estimator.chosen_["setting"]
    scored = _Scored(ComparisonConfig((task.dataset,)), task, specs[-1], [p], Path("run"))
    card = _card(scored, _Fitted(estimator, None, parse_amounts([])[0]), "", None, ())
    assert setting in ({}, {"C": 0.5}, {"C": 1e-9})
    assert card.params == {"C": setting.get("C", 0.01), "class_weight": None}
    assert card.fitting["tuned"]["setting"] == setting
    assert card.fitting["tuned"]["settings_tried"] == estimator.chosen_["tried"] == 3
    assert (card.fitting["tuned"]["folds"], card.fitting["tuned"]["folds_without_a_choice"]) == (2, 0)
    assert card.fitting["calibrated"]["temperature"] == estimator.model_.temperature_
    assert card.about.startswith("logistic regression")
    assert card.reads == "one vector per clip, for a neural encoder the mean over time of its last layer."
    assert not {"rank", "p_vs_best"} & set(card.score)
    json.dumps(card.fitting, allow_nan=False)


def test_a_card_says_which_layer_was_kept() -> None:
    task = toy_task()
    fitted = head("best_layer", n_layers=2).fit(task.X, task.y, groups=task.speakers)
    (p,) = compare(task, ["logreg"], n_folds=2, jobs=1)
    said = fitting(fitted, p)["layer"]
    assert (said["kept"], len(said["uar"])) == (fitted.layer_, 2)
    alone = fitting(Calibrated(head("best_layer"), 0).fit(task.X, task.y, groups=task.speakers), p)
    assert (alone["layer"]["uar"], list(alone)) == ([None], ["calibrated", "strength", "layer"])
    assert fitting(head("knn").fit(task.X, task.y), p) == {}


def test_a_head_of_another_number_of_frames_than_its_card_says_is_refused(tmp_path: Path) -> None:
    task = toy_task()
    fitted = head("attention", n_frames=2).set_params(epochs=1).fit(task.X, task.y)
    card = replace(CARD, head="attention", view="frames", n_frames=2)
    assert load_model(save_model(tmp_path / "good", fitted, card))[1].n_frames == 2
    folder = save_model(tmp_path / "bad", fitted, replace(card, n_frames=3))
    with pytest.raises(ModelError, match="the head reads 2 frames per clip; model.json has 3"):
        load_model(folder)


@pytest.mark.parametrize("name", ["ridge", "lda", "svm", "logreg", "best_layer", "stack"])
def test_a_card_says_which_strength_was_chosen(name: str) -> None:
    """`params` has what was asked for, which is to choose."""
    task = toy_task(1, "layers") if name == "best_layer" else toy_task(1)
    (p,) = compare(task, [name], n_folds=2, jobs=1)
    fitted = heads.head(name, n_layers=task.n_layers).fit(task.X, task.y)
    said = fitting(fitted, p)["strength"]
    assert "lowest log-loss in inner folds" in said["about"]
    chosen = [said] if name != "stack" else [said[member] for member in ("ridge", "lda", "svm", "logreg")]
    assert all(len(one["setting"]) == 1 for one in chosen)
    assert all(one["tried"] > 1 for one in chosen if name != "best_layer")
    json.dumps(said, allow_nan=False)
    given = heads.head("ridge").set_params(alpha=3.0).fit(toy_task(1).X, toy_task(1).y)
    assert "strength" not in fitting(given, p)


def test_a_path_that_is_no_model_is_answered_with_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "artifacts" / "models" / "mine")
    (tmp_path / "clip.wav").write_bytes(b"RIFF")
    for path, advice in (
        ("mine", "Give its path: artifacts/models/mine"),
        ("artifacts/models", "Give one of the models in it: mine"),
        ("clip.wav", "It is a file: give the model folder first, then recordings"),
        ("other", "Give a folder that `ser fit` wrote"),
    ):
        with pytest.raises(ModelError, match=rf"no model found \(model.json is missing\). {advice}"):
            load_model(path)
