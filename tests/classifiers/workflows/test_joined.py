"""Several encoders side by side: `a+b` is one task, whose rows are those of a, then those of b, clip by clip."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.checkpoints import save_checkpoint
from helpers.extraction import extracted
from helpers.sounds import ravdess_tree

from classifiers import Predictor, Task, Windows, load_model
from classifiers.checks import toy_task
from classifiers.data import memmap, stored_vectors
from classifiers.data.memmap import MappedRows
from classifiers.export.onnx_export import export_onnx
from classifiers.heads import all as all_heads
from classifiers.inference.model import EncodedWaveforms, load_models
from classifiers.inference.vector_predictions import VectorPredictor
from classifiers.protocols.catalogue import make_folds
from classifiers.protocols.leaks import leaks
from classifiers.reporting.hardest_clips import clip_facts, vector_map
from classifiers.workflows.comparison import run_comparison
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import (
    Artifacts,
    ConfigError,
    DataError,
    EmbeddingStore,
    Manifest,
    ModelError,
    UnknownName,
    find_stores,
)
from embedcache.exchange.import_vectors import import_vectors
from embedcache.provenance import TrainedOn, write_training_list

BOTH = ComparisonConfig(datasets=("ravdess",), encoders=("net+mfcc",), heads=("ridge",), folds=2)
MFCC, NET = 970, 32  # numbers in the pooled vectors of both encoders


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """24 clips with the vectors of mfcc and of a tiny network."""
    base = tmp_path_factory.mktemp("joined")
    root = ravdess_tree(base / "tree")
    for encoder in ("mfcc", str(save_checkpoint(base / "net"))):
        extracted(root, base / "artifacts", encoder, views=("pooled", "layers"))
    return Artifacts(base / "artifacts")


@pytest.fixture
def place(made: Artifacts, tmp_path: Path) -> Artifacts:
    """A copy of the vectors, to be changed."""
    return Artifacts(shutil.copytree(made.root, tmp_path / "artifacts"))


@pytest.fixture(scope="module")
def fitted(made: Artifacts) -> Path:
    """A model of both encoders."""
    return fit_model(made, BOTH, made.root / "model", jobs=1)[0]


def clips_of(place: Artifacts) -> Manifest:
    return Manifest.from_csv(place.manifest("ravdess"))


def import_some(place: Artifacts, clips: slice, encoder: str) -> None:
    """Import made-up vectors of some of the clips."""
    chosen = clips_of(place).clips[clips]
    vectors = np.random.default_rng(0).standard_normal((len(chosen), 5)).astype(np.float32)
    np.savez(place.root / "x.npz", clip_id=[clip.clip_id for clip in chosen], pooled=vectors)
    import_vectors(place.root / "x.npz", place, encoder, "ravdess")


def store_as(place: Artifacts, **changes: str) -> EmbeddingStore:
    """Store the vectors of mfcc once more, as those of an encoder with other facts."""
    (mfcc,) = find_stores(place.cache, "mfcc")
    keys = sorted(mfcc.keys)
    store = EmbeddingStore.of(place.cache, replace(mfcc.info, preprocessing="other", **changes))
    store.write(keys, {view: mfcc.rows(keys, view) for view in ("pooled", "layers")})
    return store


@pytest.mark.parametrize("name", ["mfcc+net", "net+mfcc"])
def test_a_joined_row_is_the_row_of_each_in_the_order_of_their_names(made: Artifacts, name: str) -> None:
    one, other = (Task.load("ravdess", part, "pooled", made) for part in ("mfcc", "net"))
    both = Task.load("ravdess", name, "pooled", made)
    np.testing.assert_array_equal(both.X, np.hstack([one.X, other.X]))
    np.testing.assert_array_equal(both.ids, one.ids)
    assert (both.encoder, both.view, both.n_layers, both.X.shape) == ("mfcc+net", "pooled", 1, (24, MFCC + NET))
    assert both.encoder_infos == one.encoder_infos + other.encoder_infos
    wanted = hashlib.sha256(f"{one.fingerprint}+{other.fingerprint}".encode()).hexdigest()
    assert both.fingerprint == wanted


def test_rows_follow_the_order_of_the_clips(place: Artifacts) -> None:
    before = Task.load("ravdess", "mfcc+net", "pooled", place)
    clips = clips_of(place).clips
    order = np.random.default_rng(0).permutation(len(clips))
    Manifest("ravdess", tuple(clips[n] for n in order)).to_csv(place.manifest("ravdess"))
    after = Task.load("ravdess", "mfcc+net", "pooled", place)
    np.testing.assert_array_equal(after.ids, before.ids[order])
    np.testing.assert_array_equal(after.X, before.X[order])


def test_views_of_several_parts_are_joined_encoder_by_encoder(made: Artifacts) -> None:
    both = Task.load("ravdess", "mfcc+net", "pooled+layers", made)
    parts = [Task.load("ravdess", part, "pooled+layers", made).X for part in ("mfcc", "net")]
    np.testing.assert_array_equal(both.X, np.hstack(parts))
    assert both.n_layers == 1


@pytest.mark.parametrize("view", ["layers", "frames", "frames:all"])
def test_layers_and_frames_are_not_joined(made: Artifacts, view: str) -> None:
    with pytest.raises(DataError, match=rf"got the view '{view}' of mfcc\+net; wanted pooled, std, or views joined by"):
        Task.load("ravdess", "mfcc+net", view, made)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("mfcc+mfcc", ConfigError, r"got --encoder mfcc\+mfcc, which names an encoder twice"),
        ("mfcc+", ConfigError, r"got --encoder mfcc\+; wanted the names of encoders joined by \+"),
        ("+", ConfigError, "wanted the names of encoders joined by"),
        ("mfcc+nett", UnknownName, "no extracted encoder.*'nett'.*net|'nett'"),
    ],
)
def test_what_cannot_be_joined_is_said(made: Artifacts, name: str, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        Task.load("ravdess", name, "pooled", made)


def test_an_encoder_with_two_names_is_joined_with_itself_by_neither(made: Artifacts) -> None:
    (store,) = find_stores(made.cache, "mfcc")
    with pytest.raises(ConfigError, match="names an encoder twice"):
        Task.load("ravdess", f"mfcc+{store.folder.name}", "pooled", made)


def test_an_encoder_stored_under_two_names_is_not_joined_with_itself(place: Artifacts) -> None:
    """As two folders of the same checkpoint: the fingerprint is that of what encodes, not of its name."""
    (net,) = find_stores(place.cache, "net")
    copy = EmbeddingStore.of(place.cache, replace(net.info, name="copy"))
    keys = sorted(net.keys)
    copy.write(keys, {"pooled": net.rows(keys, "pooled")})
    with pytest.raises(ConfigError, match=r"net\+copy, which names an encoder twice \(copy-\w+ and net-\w+\)"):
        Task.load("ravdess", "net+copy", "pooled", place)


def test_a_plus_in_one_of_several_names_is_told(place: Artifacts) -> None:
    store = store_as(place, name="a+b")
    with pytest.raises(ConfigError, match="If the \\+ is part of a name, use the name of the store"):
        Task.load("ravdess", "net+a+b", "pooled", place)
    assert Task.load("ravdess", f"net+{store.folder.name}", "pooled", place).encoder == "a+b+net"


def test_a_plus_may_be_part_of_a_name_if_that_is_clear(place: Artifacts) -> None:
    store = store_as(place, name="c++")
    assert Task.load("ravdess", "c++", "pooled", place).encoder_infos == (store.info,)
    assert Task.load("ravdess", f"{store.folder.name}+mfcc", "pooled", place).X.shape == (24, 2 * MFCC)
    both = store_as(place, name="mfcc+net")
    with pytest.raises(ConfigError, match="If the \\+ is part of a name, use the name of the store"):
        Task.load("ravdess", "mfcc+net", "pooled", place)
    assert Task.load("ravdess", both.folder.name, "pooled", place).encoder_infos == (both.info,)


def test_a_task_has_the_clips_that_all_encoders_have(place: Artifacts) -> None:
    import_some(place, slice(18), "theirs")
    import_some(place, slice(4, 24), "others")
    names = [clip.clip_id for clip in clips_of(place).clips]
    task = Task.load("ravdess", "mfcc+theirs+others", "pooled", place)
    assert task.encoder == "mfcc+others+theirs"
    assert (task.ids.tolist(), sorted(task.skipped)) == (names[4:18], sorted(names[:4] + names[18:]))
    parts = [Task.load("ravdess", part, "pooled", place) for part in ("mfcc", "others", "theirs")]
    rows = [part.X[[part.ids.tolist().index(name) for name in names[4:18]]] for part in parts]
    np.testing.assert_array_equal(task.X, np.hstack(rows))
    said: list[str] = []
    run_comparison(place, replace(BOTH, encoders=("mfcc+theirs+others",)), jobs=1, log=said.append)
    assert "note: 14 of 24 clips have all the vectors, some of which were imported; the others are left out." in said


def test_encoders_without_a_common_clip_are_not_joined(place: Artifacts) -> None:
    import_some(place, slice(12), "theirs")
    import_some(place, slice(12, 24), "others")
    with pytest.raises(DataError, match=r"ravdess: no clip has vectors of others\+theirs; they were imported"):
        Task.load("ravdess", "theirs+others", "pooled", place)


def test_what_either_encoder_was_trained_on_counts(place: Artifacts) -> None:
    clips = clips_of(place).clips
    trained = TrainedOn.of([clips[0]])
    store = store_as(place, name="tuned", trained_on=trained.sha256)
    write_training_list(trained, store.folder)
    import_some(place, slice(24), "theirs")
    seen = {name: Task.load("ravdess", name, "pooled", place) for name in ("mfcc", "net", "theirs", "tuned")}
    for name in ("mfcc+net", "mfcc+theirs", "mfcc+tuned", "theirs+tuned"):
        parts, both = [seen[part] for part in name.split("+")], Task.load("ravdess", name, "pooled", place)
        np.testing.assert_array_equal(both.seen, np.logical_or.reduce([part.seen for part in parts]))
        assert both.training_known == all(part.training_known for part in parts)
        folds = make_folds(both, "speakers", 2)
        words = {word for part in parts for word in leaks(part, folds, "speakers").split("+")}
        assert set(leaks(both, folds, "speakers").split("+")) == words - ({"encoder?"} if "encoder" in words else set())
    assert "encoder" in leaks(Task.load("ravdess", "theirs+tuned", "pooled", place), folds, "speakers").split("+")


def test_a_joined_task_that_is_large_is_written_block_by_block(
    made: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Task.load("ravdess", "mfcc+net", "pooled", made).X
    monkeypatch.setattr(memmap, "IN_MEMORY", plain.nbytes - 1)
    monkeypatch.setattr(stored_vectors, "BYTES_PER_READ", 5 * 4 * (MFCC + NET))
    asked: list[int] = []
    original = EmbeddingStore.rows
    monkeypatch.setattr(
        EmbeddingStore, "rows", lambda store, keys, view: asked.append(len(keys)) or original(store, keys, view)
    )
    large = Task.load("ravdess", "mfcc+net", "pooled", made)
    assert asked == [1, 1] + [5, 5] * 4 + [4, 4]  # the first tell how wide rows are
    assert isinstance(large.X, MappedRows)
    np.testing.assert_array_equal(np.asarray(large.X), plain)


def test_joined_and_single_encoders_are_rows_of_one_leaderboard(made: Artifacts) -> None:
    _, predictions = run_comparison(made, replace(BOTH, encoders=("net", "mfcc", "net+mfcc", "mfcc+net")), jobs=1)
    assert [p.encoder for p in predictions] == ["net", "mfcc", "mfcc+net"]
    assert len({p.fingerprint for p in predictions}) == 3
    assert len({p.fold_hash for p in predictions}) == 1
    drawn = vector_map(predictions[-1], clip_facts(made, "ravdess"), made)
    assert drawn.points.shape == (24, 2)
    assert vector_map(replace(predictions[-1], fingerprint="0" * 64), clip_facts(made, "ravdess"), made).reason


def test_by_default_no_encoders_are_joined(made: Artifacts) -> None:
    _, predictions = run_comparison(made, replace(BOTH, encoders=()), jobs=1)
    assert [p.encoder for p in predictions] == ["mfcc", "net"]


def test_heads_over_layers_are_left_out_and_said_to_be(made: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classifiers.heads.usual", lambda: ["best_layer", "ridge"])
    said: list[str] = []
    config = replace(BOTH, encoders=("net", "mfcc+net"), heads=())
    _, predictions = run_comparison(made, config, jobs=1, log=said.append)
    assert [(p.head, p.encoder) for p in predictions] == [
        ("best_layer", "net"),
        ("ridge", "net"),
        ("ridge", "mfcc+net"),
    ]
    wanted = "best_layer: left out for mfcc+net, because encoders that are joined have no common layers."
    assert f"note: {wanted}" in said


@pytest.mark.parametrize("name", ["best_layer", "layer_weighted", "attention"])
@pytest.mark.parametrize("views", [(), ("pooled+layers",)])
def test_heads_over_layers_or_frames_are_refused_if_named(made: Artifacts, name: str, views: tuple) -> None:
    config = replace(BOTH, heads=(name,), views=views if name != "attention" else ())
    for run in (run_comparison, fit_model):
        with pytest.raises(ConfigError, match=rf"got --encoder net\+mfcc and the heads {name}; wanted heads that read"):
            run(made, config, jobs=1)


@pytest.mark.parametrize("spec", [spec for spec in all_heads() if spec.view == "pooled"], ids=lambda spec: spec.name)
def test_the_scale_of_one_encoder_does_not_drown_the_other(spec) -> None:
    """Every head standardises, or does not depend on scales."""
    task = toy_task().to_view("pooled")
    scaled = np.array(task.X)
    scaled[:, : scaled.shape[1] // 2] *= 2.0**12
    train, test = np.split(np.random.default_rng(0).permutation(len(task)), [120])
    plain, large = (
        spec.build(random_state=0).fit(X[train], task.y[train]).predict_proba(X[test]) for X in (task.X, scaled)
    )
    np.testing.assert_allclose(large, plain, atol=1e-4)


def test_copies_are_joined_with_their_clips(tmp_path: Path) -> None:
    from embedcache import Augmentation
    from embedcache.cache.dataset_extraction import extract_dataset

    root, place = ravdess_tree(tmp_path / "tree"), Artifacts(tmp_path / "artifacts")
    for encoder in ("mfcc", str(save_checkpoint(tmp_path / "net"))):
        extract_dataset(place, "ravdess", root, encoder, "cpu", augmentation=Augmentation(("gain",), 2, 0))
    one, other, both = (Task.load("ravdess", name, artifacts=place, copies=2) for name in ("mfcc", "net", "mfcc+net"))
    np.testing.assert_array_equal(both.copies.X, np.hstack([one.copies.X, other.copies.X]))
    np.testing.assert_array_equal(both.copies.clip_rows, one.copies.clip_rows)


def test_a_model_runs_both_encoders_on_a_recording(made: Artifacts, fitted: Path) -> None:
    head, card = load_model(fitted)
    task = Task.load("ravdess", "mfcc+net", "pooled", made)
    assert (card.encoder, card.fingerprint, card.joined) == ("mfcc+net", task.fingerprint, task.encoder_infos)
    assert (card.checkpoint, card.encoder_info) == ("", {})
    assert card.reads.endswith("First those of mfcc, then those of net.")
    predictions = Predictor.load(fitted).predict([clip.path for clip in clips_of(made).clips])
    found = [list(p.probabilities.values()) for p in predictions]
    np.testing.assert_allclose(found, head.predict_proba(task.X), atol=1e-5)


def test_windows_of_a_file_and_of_live_sound_are_predicted_alike(made: Artifacts, fitted: Path) -> None:
    predictor = Predictor.load(fitted)
    (model,) = predictor.models
    assert model.shortest == max(encoder.shortest for encoder in model.encoders)
    assert model.longest == min(encoder.longest for encoder in model.encoders)
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 20_000).astype(np.float32)
    stream = predictor.stream(16_000, Windows(0.5, 0.25))
    live = [*stream.push(wave), *stream.close()]
    for p in live:
        part = wave[round(p.begin * 16_000) : round(p.end * 16_000)]
        assert predictor.predict_waves([part], 16_000)[0].probabilities == pytest.approx(p.probabilities, abs=1e-5)
    assert len(live) == 4


def test_an_encoder_runs_once_for_all_models_that_read_it(made: Artifacts, fitted: Path, tmp_path: Path) -> None:
    alone = fit_model(made, replace(BOTH, encoders=("mfcc",)), tmp_path / "alone", jobs=1)[0]
    models = load_models([fitted, alone])
    assert models[0].encoders[0] is models[1].encoders[0]
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)
    encoded = EncodedWaveforms.encode(models, [wave])
    assert len(encoded.batches) == 2
    for model, proba in zip(models, encoded.probabilities(), strict=True):
        np.testing.assert_array_equal(EncodedWaveforms.encode([model], [wave]).probabilities()[0], proba)


@pytest.mark.parametrize("row", [0, 1])
def test_each_encoder_must_be_the_one_of_the_fit(fitted: Path, tmp_path: Path, row: int) -> None:
    folder = shutil.copytree(fitted, tmp_path / "m")
    card = json.loads((folder / "model.json").read_text())
    card["joined"][row]["recipe_version"] += 1
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=f"vectors of a different '{('mfcc', 'net')[row]}': recipe_version was"):
        load_models([folder])


SPOILT = {
    "one encoder": (lambda card: card["joined"].pop(), "has 1 joined encoders; wanted two or more"),
    "an encoder beside": (lambda card: card.update(encoder_info={"dim": 1}), "and no encoder_info beside them"),
    "another rate": (lambda card: card["joined"][0].update(sample_rate=8000), "wanted two or more of one sample rate"),
    "a fact missing": (lambda card: card["joined"][0].pop("dim"), "cannot be read .*missing fields: dim"),
    "a word for a number": (lambda card: card["joined"][0].update(dim="x"), "cannot be read .*wrong type of dim"),
    "no object": (lambda card: card.update(joined=["mfcc", "net"]), "wrong type of joined"),
    "other dimensions": (lambda card: card["joined"][0].update(dim=1), "reads 1002 values per clip; model.json has 33"),
    "a checkpoint here": (lambda card: card["joined"][1].update(checkpoint="."), "wanted a hub id or the absolute"),
    "a name for a checkpoint": (
        lambda card: card["joined"][1].update(checkpoint="", name="net"),
        "'net', which is not",
    ),
    "frames": (lambda card: card.update(view="frames"), "has an invalid view: got the view 'frames' of mfcc"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_card_that_lies_about_its_encoders_is_refused(fitted: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(fitted, tmp_path / "m")
    card = json.loads((folder / "model.json").read_text())
    change, said = SPOILT[name]
    change(card)
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=said):
        load_models([folder])


def test_files_of_vectors_are_not_predicted(fitted: Path) -> None:
    with pytest.raises(ModelError, match=r"reads the vectors of mfcc\+net side by side; wanted a head of one encoder"):
        VectorPredictor.load(fitted)


def test_the_head_is_exported_alone(fitted: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(ModelError, match=r"reads the vectors of mfcc\+net side by side.*without --encoder"):
        export_onnx(fitted, with_encoder=True, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    done = export_onnx(fitted, out=tmp_path / "onnx")
    onnx = json.loads((done.folder / "model.json").read_text())["onnx"]
    assert "First those of mfcc, then those of net." in str(onnx["head"]["input"])
    assert onnx["sample_rate"] == 16_000


def test_a_model_is_only_fitted_on_encoders_that_can_predict(place: Artifacts) -> None:
    import_some(place, slice(24), "theirs")
    with pytest.raises(ConfigError, match=r"mfcc takes 16000 Hz, theirs was imported\); wanted encoders of this"):
        fit_model(place, replace(BOTH, encoders=("mfcc+theirs",)), jobs=1)
    store_as(place, name="slow", sample_rate=8000)
    with pytest.raises(ConfigError, match="mfcc takes 16000 Hz, slow takes 8000 Hz"):
        fit_model(place, replace(BOTH, encoders=("mfcc+slow",)), jobs=1)
    assert not list(place.models.glob("*"))
