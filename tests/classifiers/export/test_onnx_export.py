"""ONNX files compute what the Python path does, or are not written."""

import io
import json
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
from helpers.checkpoints import save_checkpoint
from helpers.places import Ser
from helpers.sounds import noise, ravdess_tree, write
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from sklearn.base import BaseEstimator, ClassifierMixin

from classifiers import ModelCard, Predictor, head, heads, load_model, save_model
from classifiers.checks import toy_task
from classifiers.data.views import rows_of
from classifiers.export import onnx_export as portable
from classifiers.export.graph_builder import Graph
from classifiers.export.head_graphs import below, head_model, input_name
from classifiers.export.onnx_export import TOLERANCE, Exported, _test_rows, check_encoder, export_onnx
from classifiers.heads._calibrated import Calibrated
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import (
    Artifacts,
    EmbeddingStore,
    EncoderError,
    EncoderInfo,
    ModelError,
    SerError,
    datasets,
    encoders,
    extract,
    load_encoder,
)
from embedcache.cache.content_keys import add_keys
from embedcache.encoders.checkpoint import open_checkpoint, untrained
from embedcache.onnx.encoder_graph import save_encoder
from embedcache.onnx.runtime import check_exportable, need_onnx
from embedcache.text import install_hint

# Heads that have no graph, each with the reason. What stands here is refused with a clear message, by test.
NOT_EXPORTABLE: dict[str, str] = {}
EXPORTABLE = [name for name in heads.names() if name not in NOT_EXPORTABLE]
LABELS = ("Ärger", "calm", "怒り", "joie de vivre", "грусть", "x", "y", "z")


def session(model: object) -> onnxruntime.InferenceSession:
    data = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def fitted(name: str, classes: int, layers: int = 1, seed: int = 0) -> tuple[object, np.ndarray, np.ndarray]:
    """A head, rows like its training data, and rows ten deviations out; dimensions differ by orders of magnitude."""
    rng = np.random.default_rng(seed)
    n, d = 40 * classes, 8 * layers
    y = np.arange(n) % classes
    X = rng.standard_normal((n, d))
    X[:, :classes] += 1.5 * np.eye(classes)[y][:, :d]
    scale, shift = 10.0 ** rng.integers(-6, 6, d), rng.standard_normal(d)
    X = ((X + 100 * shift) * scale).astype(np.float32)
    near = X + (rng.standard_normal(X.shape) * X.std(axis=0)).astype(np.float32)
    far = (X.mean(axis=0) + 10 * X.std(axis=0) * rng.standard_normal(X.shape)).astype(np.float32)
    return brief(head(name, n_layers=layers)).fit(X, np.array(LABELS)[y]), near, far


def brief(estimator: object) -> object:
    """The head with two epochs, where it counts such: whether two computations agree does not depend on them."""
    return estimator.set_params(epochs=2) if "epochs" in estimator.get_params() else estimator


def clips(n: int, layers: int, frames: int, dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """X (n, layers * frames * dim), NaN behind the end of clips of all lengths, and labels (n,) that it tells of."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    X = 100 + 3 * rng.standard_normal((n, layers, frames, dim)).astype(np.float32)
    X[..., 0] += 3 * y[:, None, None]
    for number, row in enumerate(X):
        row[:, 1 + number % frames :] = np.nan
    return X.reshape(n, -1), np.array(LABELS)[y]


def compared(model: object, estimator: object, X: np.ndarray) -> float:
    proba, labels = session(model).run(["probabilities", "label"], {input_name(estimator): X})
    assert (proba.dtype, proba.shape) == (np.float32, (len(X), len(estimator.classes_)))
    wanted = estimator.predict_proba(X)
    second, first = np.sort(wanted, axis=1)[:, -2:].T
    clear = first - second > 1e-6
    np.testing.assert_array_equal(labels[clear], estimator.classes_[wanted.argmax(axis=1)][clear])
    return float(np.abs(proba - wanted).max())


@pytest.mark.parametrize("name", EXPORTABLE)
@pytest.mark.parametrize(("classes", "layers"), [(2, 1), (3, 3), (8, 1)])
def test_a_head_computes_what_it_did(name: str, classes: int, layers: int) -> None:
    estimator, near, far = fitted(name, classes, layers)
    model = head_model(estimator)
    onnx.checker.check_model(model, full_check=True)
    assert compared(model, estimator, near) < 2e-6
    assert compared(model, estimator, near[:1]) < 2e-6
    assert compared(model, estimator, far) < 1e-5


SHAPES = [(1, 1, 1), (1, 2, 5), (1, 7, 4), (2, 16, 9), (3, 35, 3)]  # layers, frames, dims


@pytest.mark.parametrize("name", ["cnn", "attention", "layer_cnn"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_clips_of_any_length_go_through_side_by_side(name: str, shape: tuple[int, int, int]) -> None:
    layers, frames, dim = shape
    if name != "layer_cnn":
        layers = 1
    X, y = clips(3 * max(frames, 6), layers, frames, dim)
    estimator = brief(head(name, n_layers=layers, n_frames=frames)).fit(X, y)
    model = head_model(estimator)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in session(model).get_inputs()] == ["frames"]
    for rows in (X, X[:1], X[-1:], 100 + 10 * (X - 100)):
        assert compared(model, estimator, rows) < 2e-6


@pytest.mark.parametrize("kind", ["cnn", "attention"])
def test_what_a_clip_says_does_not_depend_on_the_clips_beside_it(kind: str) -> None:
    X, y = clips(48, 1, 16, 6)
    graph = session(head_model(brief(head(kind, n_frames=16)).fit(X, y)))
    together = graph.run(["probabilities"], {"frames": X})[0]
    alone = [graph.run(["probabilities"], {"frames": row[None]})[0][0] for row in X]
    np.testing.assert_allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize("name", ["logreg", "svm", "lda", "ridge", "knn", "lgbm", "layer_weighted"])
def test_a_calibrated_head_computes_what_it_did(name: str) -> None:
    estimator, near, far = fitted(name, 3, 3)
    layers = {"n_layers": 3} if "n_layers" in estimator.get_params() else {}
    y = np.array(LABELS)[np.arange(len(near)) % 3]
    around = Calibrated(brief(head(name)).set_params(**layers), 0).fit(near[:60], y[:60])
    assert around.temperature_ != 1
    assert compared(head_model(around), around, near) < 1e-5
    assert compared(head_model(around), around, far) < 1e-4


def test_a_calibrated_head_over_frames_reads_frames() -> None:
    X, y = clips(30, 1, 5, 4)
    estimator = Calibrated(brief(head("attention", n_frames=5)), 0).fit(X, y)
    assert input_name(estimator) == "frames"
    assert compared(head_model(estimator), estimator, X) < 1e-5


@pytest.mark.parametrize("classes", [2, 3])
def test_a_stack_that_regresses_on_its_members_computes_what_it_did(classes: int) -> None:
    _, near, far = fitted("logreg", classes)
    y = np.array(LABELS)[np.arange(len(near)) % classes]
    estimator = head("stack").set_params(final="logistic", members=("logreg", "knn", "lda")).fit(near, y)
    assert estimator.final_ is not None
    assert compared(head_model(estimator), estimator, near) < 2e-6
    assert compared(head_model(estimator), estimator, far) < 1e-5


@pytest.mark.parametrize(("n_neighbors", "weight"), [(1, None), (5, "balanced"), (10_000, "balanced")])
def test_neighbours_vote_as_scikit_learn_counts(n_neighbors: int, weight: str | None) -> None:
    """Those at distance 0 alone, where there are any; all, where there are fewer than asked for."""
    rng = np.random.default_rng(0)
    X = rng.integers(-2, 3, (40, 4)).astype(np.float32)
    X[-2:] = X[0]
    y = np.array(LABELS)[np.minimum(np.arange(40) % 5, 2)]
    y[[0, -2, -1]] = LABELS[:3]
    estimator = head("knn").set_params(n_neighbors=n_neighbors, class_weight=weight)
    estimator.fit(X, y)
    others = rng.standard_normal((50, 4)).astype(np.float32)
    model = head_model(estimator)
    assert compared(model, estimator, others) < 1e-5
    assert compared(model, estimator, estimator.model_[0].mean_[None].astype(np.float32)) < 1e-5  # no angle at all
    if n_neighbors == 5:
        assert compared(model, estimator, X) < 1e-5
        shared = estimator.predict_proba(X[:1])[0]
        assert (shared > 0).sum() == 3


def test_two_neighbours_at_nearly_one_distance_keep_their_order() -> None:
    """In 32 bits both would lie as near, and the graph might let the other one vote."""
    angles = np.array([0.3, 0.3 + 1e-6, 2.0, 4.0])
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    estimator = head("knn").set_params(n_neighbors=1).fit(np.repeat(circle, 2, 0).astype(np.float32), list("aabbccdd"))
    near = np.stack([np.cos(angles[:1] - 0.2), np.sin(angles[:1] - 0.2)], 1).astype(np.float32)
    assert session(head_model(estimator)).run(["label"], {"embedding": near})[0] == ["a"]


@pytest.mark.parametrize("name", [*heads.names(), "calibrated"])
def test_heads_are_tried_on_rows_like_their_training_data(name: str) -> None:
    """Around 0, a hundred deviations away from these, most heads say one thing of all rows."""
    layers, frames = (2, 5) if name == "layer_cnn" else (1, 5) if name in ("cnn", "attention") else (2, 1)
    X, y = clips(60, layers, frames, 4)
    if name == "calibrated":
        estimator = Calibrated(head("logreg"), 0).fit(X, y)
    else:
        estimator = brief(head(name, n_layers=layers, n_frames=frames)).fit(X, y)
    rows = _test_rows(estimator)
    assert rows.dtype == np.float32
    assert abs(np.nanmedian(rows) - 100) < 5
    assert 1 < np.nanstd(rows[:4]) < 8
    assert np.isnan(rows).any() == (frames > 1)
    assert frames > 1 or len(np.unique(estimator.predict(rows))) > 1


def test_a_head_that_is_listed_as_not_exportable_says_so() -> None:
    for name in NOT_EXPORTABLE:
        with pytest.raises(ModelError, match="cannot be exported"):
            head_model(fitted(name, 3)[0])


class Strange(ClassifierMixin, BaseEstimator):
    """A head of somebody else's."""

    classes_ = np.array(["a", "b"])
    n_features_in_ = 3


def test_a_head_of_a_third_party_is_refused_by_its_type() -> None:
    with pytest.raises(ModelError, match="of the type Strange cannot be exported; wanted a head of ser .attention"):
        head_model(Strange())


@given(st.floats(width=64, allow_nan=False, allow_infinity=False), st.floats(width=32, allow_nan=False))
def test_a_threshold_in_float32_parts_the_same_numbers(threshold: float, x: float) -> None:
    edge = below(threshold)
    with np.errstate(over="ignore"):
        values = (np.float32(x), edge, np.nextafter(edge, np.float32(np.inf)))
    for value in values:
        if np.isfinite(value):
            assert (float(value) <= threshold) == bool(value <= below(threshold))


def test_trees_part_rows_that_lie_upon_their_thresholds() -> None:
    """The nearest float32 of a threshold may lie above it: rows there would change sides."""
    estimator, near, _ = fitted("lgbm", 3)
    text = estimator.booster_.dump_model()
    edges = {
        node["threshold"] for tree in text["tree_info"] for node in [tree["tree_structure"]] if "threshold" in node
    }
    rows = np.repeat(near[:1], 3 * len(edges), axis=0)
    steps = [side for edge in edges for side in (np.float32(edge), below(edge), np.nextafter(below(edge), np.inf))]
    rows[:] = np.array(steps, dtype=np.float32)[:, None]
    assert compared(head_model(estimator), estimator, rows) < 2e-6


def test_a_head_over_frames_is_exported_alone_and_says_what_it_reads(tmp_path: Path) -> None:
    X, y = clips(30, 2, 7, 4)
    estimator = brief(head("layer_cnn", n_layers=2, n_frames=7)).fit(X, y)
    info = {"sample_rate": 16000, "dim": 4, "n_layers": 3}
    labels = tuple(estimator.classes_.tolist())
    card = replace(CARD, head="layer_cnn", encoder_info=info, view="frames:0+frames:2", n_frames=7, labels=labels)
    done = export_onnx(save_model(tmp_path / "m", estimator, card))
    said = json.loads((done.folder / "model.json").read_text(encoding="utf-8"))["onnx"]["head"]["input"]["frames"]
    assert said.startswith("float32 (n, 56), n clips of 2 layers x 7 frames x 4 numbers")
    assert "the frames of layer 0, then the frames of layer 2" in said
    assert "A clip has 7 frames in each layer" in said
    got = session(done.folder / "head.onnx").run(["probabilities"], {"frames": X})[0]
    np.testing.assert_allclose(got, estimator.predict_proba(X), atol=1e-5)


def test_frames_are_not_exported_with_the_encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    card = replace(CARD, head="cnn", view="frames", n_frames=7)
    whole = None, card, (SimpleNamespace(info=INFO),)
    monkeypatch.setattr(portable, "load_head_and_encoders", lambda folder, device: whole)
    with pytest.raises(ModelError, match="'cnn' reads the view 'frames'.*Export the head alone, without --encoder"):
        export_onnx(tmp_path, with_encoder=True)
    assert list(tmp_path.iterdir()) == []


CARD = ModelCard("logreg", "mfcc", "", "f" * 64, {"sample_rate": 16000}, "pooled", ("left", "right"), "toy", 160, 8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A saved logreg on six numbers."""
    task = toy_task()
    return save_model(tmp_path / "m", head("logreg").fit(task.X, task.y), CARD)


def test_the_folder_holds_the_head_and_its_card(model: Path) -> None:
    done = export_onnx(model)
    assert done == Exported(model / "onnx", ("head.onnx", "model.json"), done.difference)
    assert done.difference < 1e-6
    assert sorted(path.name for path in done.folder.iterdir()) == ["head.onnx", "model.json"]
    card = json.loads((done.folder / "model.json").read_text(encoding="utf-8"))
    assert card["labels"] == ["left", "right"]
    said = card["onnx"]["head"]["input"]["embedding"]
    assert said.startswith(
        "float32 (n, 6): the view 'pooled': one vector per clip, for a neural encoder the mean over time"
    )
    assert card["onnx"]["head"]["opset"] == {"ai.onnx": 17, "ai.onnx.ml": 3}
    assert card["onnx"]["checked"] == {
        "tolerance": TOLERANCE,
        "largest_difference_of_probabilities": done.difference,
    }
    assert card["onnx"]["versions"]["onnxruntime"] == onnxruntime.__version__
    assert load_model(model)[1].head == "logreg"
    with pytest.raises(ModelError, match="has the format 'ser-onnx'; wanted 'ser-model'"):
        load_model(done.folder)


def test_an_earlier_export_is_replaced_and_nothing_else(model: Path, tmp_path: Path) -> None:
    """In one step: nothing is left beside it."""
    lines: list[str] = []
    out = export_onnx(model, out=tmp_path / "a" / "b", log=lines.append).folder
    (out / "head.onnx").write_bytes(b"")
    export_onnx(model, out=out, log=lines.append)
    assert (out / "head.onnx").stat().st_size
    assert [path.name for path in out.parent.iterdir()] == ["b"]
    assert lines == [f"note: replaces {out}, which ser wrote."]
    (out / "notes.txt").write_text("somebody's")
    for taken in (out, model):
        before = sorted(path.name for path in taken.iterdir())
        with pytest.raises(ModelError, match="exists already. ser did not write it, so it stays. Choose another --out"):
            export_onnx(model, out=taken)
        assert sorted(path.name for path in taken.iterdir()) == before


def damage(monkeypatch: pytest.MonkeyPatch, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Every graph from now on has its largest constant changed."""
    true = Graph.constant

    def constant(self: Graph, values: object, dtype: object = np.float32) -> str:
        return true(self, change(np.array(values, dtype)) if np.size(values) == 12 else values, dtype)

    monkeypatch.setattr(Graph, "constant", constant)


def one_weight(values: np.ndarray) -> np.ndarray:
    values.flat[3] += 0.01
    return values


@pytest.mark.parametrize("change", [one_weight, lambda values: values * np.float32(np.nan), lambda values: -values])
def test_a_graph_that_computes_something_else_is_not_written(
    model: Path, monkeypatch: pytest.MonkeyPatch, change: Callable
) -> None:
    damage(monkeypatch, change)
    said = (
        "head.onnx does not compute what ser computes: a probability differs by .*; wanted at most 0.0001. Nothing was"
    )
    with pytest.raises(ModelError, match=said):
        export_onnx(model)
    assert sorted(path.name for path in model.iterdir()) == ["head.skops", "model.json"]


def test_labels_in_another_order_are_not_written(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = Graph.model
    monkeypatch.setattr(Graph, "model", lambda self, proba, labels, dim: true(self, proba, labels[::-1], dim))
    with pytest.raises(ModelError, match="labels differ; wanted"):
        export_onnx(model)
    assert not (model / "onnx").exists()


def test_a_graph_that_onnxruntime_refuses_is_not_written(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "softmax", lambda self, logits: self("NoSuchOperator", logits))
    with pytest.raises(SerError, match="head.onnx: onnxruntime .* cannot load it"):
        export_onnx(model)
    assert sorted(path.name for path in model.iterdir()) == ["head.skops", "model.json"]


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named_with_what_installs_it(
    model: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setattr("embedcache.onnx.runtime.find_spec", lambda name: None if name == package else sys)
    with pytest.raises(SerError, match=re.escape(f"`ser export` needs {package}. Install it: {install_hint('onnx')}")):
        export_onnx(model)
    with pytest.raises(SerError, match="`ser export` needs"):
        need_onnx()


def test_an_encoder_without_a_network_says_what_to_do(artifacts: Artifacts) -> None:
    folder, _, _ = fit_model(artifacts, ComparisonConfig(heads=("logreg",), folds=2), jobs=1)
    with pytest.raises(
        EncoderError, match="mfcc: cannot be exported as ONNX.*Export the head alone, without --encoder"
    ):
        export_onnx(folder, with_encoder=True)
    assert not (folder / "onnx").exists()


INFO = EncoderInfo("net", "/checkpoints/net", "f" * 64, 16000, 3, 32, "fp32", "", 1)


def test_a_head_on_rounded_vectors_is_refused_its_encoder() -> None:
    check_exportable(INFO)
    with pytest.raises(EncoderError, match="fitted on vectors in bf16.*Extract with --precision fp32"):
        check_exportable(replace(INFO, precision="bf16"))


@dataclass(frozen=True)
class Net:
    """A tuned and calibrated head on the joined views of a tiny network, exported with it."""

    checkpoint: Path
    model: Path
    done: Exported
    printed: str


@pytest.fixture(scope="session")
def net(tmp_path_factory: pytest.TempPathFactory) -> Net:
    root = tmp_path_factory.mktemp("net")
    folder = save_checkpoint(root / "net")
    place, loaded = Artifacts(root / "artifacts"), load_encoder(str(folder))
    manifest = add_keys(datasets.get("ravdess").manifest(ravdess_tree(root / "tree")))
    manifest, _ = extract(manifest, loaded, EmbeddingStore.of(place.cache, loaded.info), ["layers", "std"])
    manifest.to_csv(place.manifest("ravdess"))
    asked = ComparisonConfig(heads=("logreg",), folds=2, views=("layers+std",), tune=2, calibrate=True)
    model, _, _ = fit_model(place, asked, jobs=1)
    with redirect_stdout(io.StringIO()) as printed:
        done = export_onnx(model, with_encoder=True)
    return Net(folder, model, done, printed.getvalue())


@pytest.mark.xdist_group("portable")
def test_from_audio_to_labels_as_ser_predict(net: Net, tmp_path: Path) -> None:
    """The whole way, through three files in onnxruntime. Nothing is audible in the clips below 0.1 s."""
    first, second, third = (session(net.done.folder / name) for name in ("encoder.onnx", "head.onnx", "distance.onnx"))
    lengths = (0.025, 0.0313, 0.04, 0.5, 1.23456, 4.0)
    paths = [write(tmp_path / f"{seconds}.wav", 0.1 + noise(seconds), subtype="FLOAT") for seconds in lengths]
    for path, prediction in zip(paths, Predictor.load(net.model).predict(paths), strict=True):
        sound = {"waveform": soundfile.read(path, dtype="float32")[0][None]}
        (vector,), ((distance,),) = first.run(None, sound), third.run(None, sound)
        proba, label = second.run(None, {"embedding": vector})
        weight = min(1, distance**-2) if prediction.audible else 0
        mixed = weight * proba[0] + (1 - weight) / len(proba[0])
        np.testing.assert_allclose(mixed, list(prediction.probabilities.values()), atol=TOLERANCE)
        assert prediction.label == (label.tolist()[0] if prediction.audible else None)
        assert prediction.audible == (prediction.end > 0.1)


@pytest.mark.xdist_group("portable")
def test_the_card_says_how_an_encoder_file_is_used(net: Net) -> None:
    assert net.done.files == ("head.onnx", "encoder.onnx", "distance.onnx", "model.json")
    assert net.printed == ""
    assert 0 < net.done.difference < 1e-5
    card = json.loads((net.done.folder / "model.json").read_text(encoding="utf-8"))["onnx"]
    assert (card["encoder"]["sample_rate"], card["encoder"]["shortest_samples"]) == (16000, 400)
    assert card["encoder"]["input"]["waveform"].startswith(
        "float32 (1, samples): one clip, mono, 16000 samples a second"
    )
    assert card["checked"]["largest_difference_of_vectors"] == net.done.vector_difference
    (value,) = session(net.done.folder / "encoder.onnx").get_inputs()
    assert (value.name, value.shape) == ("waveform", [1, "samples"])


@pytest.mark.xdist_group("portable")
def test_an_encoder_file_tells_nothing_of_the_machine(net: Net) -> None:
    """torch's exporter writes the paths and lines of all code that it went through."""
    written = (net.done.folder / "encoder.onnx").read_bytes()
    for word in (str(net.checkpoint), "site-packages", ".py", str(Path.home())):
        assert word.encode() not in written


@pytest.mark.xdist_group("portable")
def test_an_encoder_that_computes_something_else_is_not_written(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_damaged(info: EncoderInfo, view: str, path: Path, texts: Mapping[str, str]) -> int:
        model = onnx.load(net.done.folder / "encoder.onnx")
        tensor = next(tensor for tensor in model.graph.initializer if len(tensor.raw_data) > 4000)
        values = numpy_helper.to_array(tensor).copy()
        values.flat[7] += 0.5
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        onnx.save(model, path)
        return 20

    monkeypatch.setattr("classifiers.export.onnx_export.save_encoder", save_damaged)
    with pytest.raises(
        ModelError, match="encoder.onnx does not compute what ser computes: on .* s of noise, its vector differs by"
    ):
        export_onnx(net.model, with_encoder=True, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.xdist_group("portable")
def test_what_cannot_be_exported_is_one_message(net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_checkpoint(str(net.checkpoint), "net", "fp32")
    with pytest.raises(EncoderError, match="its object prepares the audio outside of the network. Export the head"):
        save_encoder(replace(opened, features=object()), "pooled", tmp_path / "e.onnx")
    with pytest.raises(
        EncoderError,
        match="view 'frames:1' cannot be exported; wanted pooled, layers, std, or several joined by .* Export the head",
    ):
        save_encoder(opened, "frames:1", tmp_path / "e.onnx")
    monkeypatch.setattr(
        torch.onnx, "export", lambda *a, **b: (_ for _ in ()).throw(RuntimeError("no such operator\nx"))
    )
    with pytest.raises(
        EncoderError, match=r"net: cannot be exported by torch .* \(no such operator\). Export the head"
    ):
        save_encoder(opened, "pooled", tmp_path / "e.onnx")
    monkeypatch.setattr("embedcache.onnx.encoder_graph.MOST_BYTES", 1000)
    with pytest.raises(EncoderError, match="GB of weights; one ONNX file holds"):
        save_encoder(opened, "pooled", tmp_path / "e.onnx")


def test_a_vector_of_zeros_is_compared_too() -> None:
    """One frame has no deviation: the view `std` of the shortest clip is zero, on both sides."""
    task = toy_task()
    estimator, zeros = head("logreg").fit(task.X, task.y), np.zeros((1, 6), np.float32)
    same = SimpleNamespace(
        info=SimpleNamespace(sample_rate=16000), shortest=0.025, longest=2.0, encode=lambda waves, views: {"std": zeros}
    )
    graph = session(head_model(estimator))
    run = lambda X: graph.run(None, {"embedding": X})  # noqa: E731
    vectors, worst = check_encoder(estimator, replace(CARD, view="std"), same, lambda wave: [zeros], run)
    assert (vectors, worst < 1e-6) == (0.0, True)
    with pytest.raises(ModelError, match="its vector differs by inf"):
        check_encoder(estimator, replace(CARD, view="std"), same, lambda wave: [zeros[:, :5]], run)


STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
NETWORKS = [
    ("Wav2Vec2", {}, "pooled"),
    ("Wav2Vec2", STABLE, "layers"),
    ("Hubert", {}, "std"),
    ("WavLM", {}, "layers"),
    ("Data2VecAudio", {}, "pooled"),
    ("Hubert", {}, "pooled+std"),
]


@pytest.mark.long
@pytest.mark.parametrize(("family", "changes", "view"), NETWORKS)
def test_an_encoder_computes_what_it_did_for_any_length(tmp_path: Path, family: str, changes: dict, view: str) -> None:
    folder = str(save_checkpoint(tmp_path / "net", family, **changes))
    encoder = load_encoder(folder)
    save_encoder(open_checkpoint(folder, "net", "fp32"), view, tmp_path / "encoder.onnx")
    graph = session(tmp_path / "encoder.onnx")
    for samples in (400, 401, 479, 480, 719, 720, 721, 1039, 1040, 16_000, 21_921, 40_001):
        wave = (0.3 + noise(samples / 16_000, seed=samples))[:samples].astype(np.float32)
        parts = view.split("+")
        wanted = rows_of(encoder.encode([wave], parts), parts, 1)
        (got,) = graph.run(None, {"waveform": wave[None]})
        np.testing.assert_allclose(got, wanted, atol=2e-5)


def test_the_command(ser: Ser, model: Path) -> None:
    told = ser("export", model)
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(
        f"{model}/onnx: head.onnx, model.json\nlargest difference of a probability from `ser predict`: "
    )


@pytest.mark.long
def test_a_network_of_full_size_fits_one_file(tmp_path: Path, record_property: Callable) -> None:
    encoder = load_encoder(encoders.UNTRAINED)
    save_encoder(untrained("fp32"), "layers", tmp_path / "encoder.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.onnx"]
    record_property("bytes", (tmp_path / "encoder.onnx").stat().st_size)
    graph, worst = session(tmp_path / "encoder.onnx"), 0.0
    for seconds in (0.025, 0.51, 3.3, 10.0):
        wave = noise(seconds).astype(np.float32)
        wanted = encoder.encode([wave], ["layers"])["layers"].reshape(1, -1)
        worst = max(worst, float(np.abs(graph.run(None, {"waveform": wave[None]})[0] - wanted).max()))
    record_property("largest difference", f"{worst:.1e}")
    assert worst < 1e-4
