"""Views: what a store holds, as one row of numbers a clip."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.checkpoints import save_checkpoint
from helpers.sounds import ravdess_tree
from hypothesis import given
from hypothesis import strategies as st

from classifiers import Task, compare, heads
from classifiers.data.views import about_view, check_view, crop_or_pad, layers_in, rows_of
from classifiers.heads.layer_cnn import LayerCNN
from classifiers.workflows.comparison import load_tasks, run_comparison
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from classifiers.workflows.head_choice import chosen_heads
from embedcache import Artifacts, ConfigError, DataError, EmbeddingStore, Manifest, datasets, extract, load_encoder
from embedcache.cache.content_keys import add_keys
from embedcache.encoder import Frames
from embedcache.encoders import mfcc


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """24 clips with every view of a tiny network: 3 layers of 32 dimensions, 9 frames; and of mfcc."""

    base = tmp_path_factory.mktemp("deep")
    root, place = ravdess_tree(base / "tree"), Artifacts(base / "artifacts")
    for encoder, views in (
        (str(save_checkpoint(base / "net")), ["pooled", "layers", "std", "frames:all"]),
        ("mfcc", ["pooled", "layers", "frames"]),
    ):
        loaded = load_encoder(encoder)
        manifest = add_keys(datasets.get("ravdess").manifest(root))
        manifest, _ = extract(manifest, loaded, EmbeddingStore.of(place.cache, loaded.info), views)
        manifest.to_csv(place.manifest(manifest.dataset))
    return place


@pytest.mark.parametrize(
    "view", ["pooled", "layers+std", "std", "frames", "frames:3", "frames:all", "frames:0+frames:2"]
)
def test_views_that_there_are(view: str) -> None:
    check_view(view)


@pytest.mark.parametrize(
    "view", ["", "layer", "pooled+frames", "frames:x", "frames:-1", "std+std", "layers+", "frames:"]
)
def test_views_that_there_are_not(view: str) -> None:
    with pytest.raises(DataError, match=r"got the view '.*'; wanted pooled, layers, std, joined by \+"):
        check_view(view)


def test_a_view_is_told_in_words() -> None:
    assert about_view("layers+std").startswith("the means over time of all layers, first to last, then the standard")
    said = about_view("frames:0+frames:2", 124)
    assert "the frames of layer 0, then the frames of layer 2" in said
    assert "A clip has 124 frames in each layer" in said
    assert about_view("frames", 9).startswith("the frames of the last layer, in order of time")
    assert about_view("frames:all").startswith("the frames of all layers, first to last")


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 12))
def test_clips_are_cut_at_both_ends_or_followed_by_nan(lengths: list[int], n_frames: int) -> None:
    values = np.arange(2 * sum(lengths), dtype=np.float16).reshape(-1, 2)
    X = crop_or_pad(Frames.of(values, lengths), n_frames)
    assert X.shape == (len(lengths), n_frames, 2)
    assert X.dtype == np.float32
    for row, clip in zip(X, Frames.of(values, lengths), strict=True):
        kept = min(len(clip), n_frames)
        begin = (len(clip) - kept) // 2
        np.testing.assert_array_equal(row[:kept], clip[begin : begin + kept])
        assert np.isnan(row[kept:]).all()


def test_views_lie_side_by_side_layers_outermost() -> None:
    rng = np.random.default_rng(0)
    layers, deviations = rng.random((4, 3, 5)), rng.random((4, 3, 5))
    X = rows_of({"layers": layers, "std": deviations}, ("layers", "std"), 1)
    np.testing.assert_array_equal(X.reshape(4, 6, 5), np.concatenate([layers, deviations], axis=1))
    assert layers_in(("layers", "std"), 3) == 6
    frames = [Frames.of(rng.random((10, 5)).astype(np.float16), [4, 6]) for _ in range(2)]
    X = rows_of({"frames:0": frames[0], "frames:2": frames[1]}, ("frames:0", "frames:2"), 7).reshape(2, 2, 7, 5)
    np.testing.assert_array_equal(X[1, 1, :6], frames[1][1])
    assert np.isnan(X[0, 1, 4:]).all()


def test_a_task_has_what_the_store_has(deep: Artifacts) -> None:
    def load(view: str, frames: int | None = None) -> Task:
        return Task.load("ravdess", "net", view, deep, frames=frames)

    layers, both, last = load("layers"), load("layers+std"), load("pooled+std")
    assert (both.n_layers, last.n_layers) == (6, 4)
    np.testing.assert_array_equal(both.X[:, : layers.X.shape[1]], layers.X)
    np.testing.assert_array_equal(last.X[:, :32], layers.X[:, -32:])
    every, one = load("frames:all", 9), load("frames", 9)
    assert (every.n_layers, every.n_frames, one.n_layers, one.n_frames) == (3, 9, 1, 9)
    np.testing.assert_array_equal(every.X.reshape(24, 3, 9, 32)[:, 2], one.X.reshape(24, 9, 32))
    # Frames are kept in 16 bits, means are made in 32.
    np.testing.assert_allclose(np.nanmean(every.X.reshape(24, 3, 9, 32), axis=2).reshape(24, -1), layers.X, atol=2e-3)
    assert load("frames").n_frames == 124
    assert Task.load("ravdess", "mfcc", "frames", deep).n_frames == 216


def test_frames_of_some_layers_are_those_that_are_stored(tree: Path, tmp_path: Path) -> None:
    loaded = load_encoder(str(save_checkpoint(tmp_path / "net")))
    place = Artifacts(tmp_path / "artifacts")
    manifest = add_keys(datasets.get("ravdess").manifest(tree))
    store = EmbeddingStore.of(place.cache, loaded.info)
    manifest, _ = extract(manifest, loaded, store, ["pooled", "frames:0", "frames:1"])
    manifest.to_csv(place.manifest("ravdess"))
    task = Task.load(view="frames:all", artifacts=place, frames=5)
    assert (task.n_layers, task.view) == (2, "frames:0+frames:1")
    assert task.to_view("frames:all") is task
    assert not task.has("frames")
    quick = replace(
        heads.get("layer_cnn"), build=lambda **given: LayerCNN(given["n_layers"], given["n_frames"], epochs=1)
    )
    (p,) = compare(task, [quick], n_folds=2, jobs=1)
    assert (p.view, {len(weights) for weights in p.layer_weights}) == ("frames:0+frames:1", {2})
    with pytest.raises(DataError, match="no encoder has frames of all 24 clips .*--views frames"):
        Task.load(view="frames", artifacts=place)


def test_frames_larger_than_memory_lie_in_a_file(deep: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Task.load("ravdess", "net", "frames:all", deep, frames=5)
    monkeypatch.setattr("classifiers.data.memmap.IN_MEMORY", 0)
    monkeypatch.setattr("classifiers.data.stored_vectors.BYTES_PER_READ", 5000)
    np.testing.assert_array_equal(np.asarray(Task.load("ravdess", "net", "frames:all", deep, frames=5).X), here.X)


def test_frames_of_mfcc_are_the_first_thirty_coefficients(tmp_path: Path) -> None:
    wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    batch = mfcc.load().encode([wave, wave[:5000]], ("pooled", "frames:0"))
    frames = batch["frames:0"]
    assert [clip.shape for clip in frames] == [(101, 30), (32, 30)]
    # The first fifth of the statistics are the contours' means, the coefficients in front.
    np.testing.assert_allclose(frames[0].astype(np.float32).mean(axis=0), batch["pooled"][0, :30], atol=0.05)
    assert mfcc.load().encode([], ("frames:0",))["frames:0"].values.shape == (0, 30)


def test_heads_read_the_view_that_is_asked_for(deep: Artifacts) -> None:
    specs = chosen_heads(("logreg", "layer_weighted"), ("layers+std",))
    assert [spec.view for spec in specs] == ["layers+std"] * 2
    ((task, some),) = load_tasks(deep, ComparisonConfig(encoders=("net",)), specs, print)
    assert [head.name for head in some] == ["logreg", "layer_weighted"]
    assert task.X.shape == (24, 6 * 32)
    with pytest.raises(
        ConfigError, match="got --view pooled, std; wanted one view for heads that read one vector a clip"
    ):
        chosen_heads((), ("pooled", "std"))


def test_by_default_heads_read_one_vector_a_clip() -> None:
    assert {head.view for head in chosen_heads(())} == {"pooled", "layers"}


def test_an_encoder_without_the_view_is_left_out_and_said_to_be(deep: Artifacts) -> None:
    said: list[str] = []
    asked = ComparisonConfig(heads=("logreg",), views=("layers+std",), folds=2)
    _, predictions = run_comparison(deep, asked, jobs=1, log=said.append)
    assert {(p.encoder, p.view) for p in predictions} == {("net", "layers+std")}
    assert any("has 0 of the 24 clips of ravdess with layers and std, and is left out" in line for line in said)


@pytest.mark.parametrize("view", ["layers+std", "pooled+std"])
def test_a_model_predicts_files_in_the_view_that_it_was_fitted_on(deep: Artifacts, tmp_path: Path, view: str) -> None:
    from classifiers import Predictor, load_model

    asked = ComparisonConfig(encoders=("net",), heads=("logreg",), folds=2, views=(view,))
    folder, card, _ = fit_model(deep, asked, tmp_path / "model", jobs=1)
    task = Task.load("ravdess", "net", view, deep)
    manifest = Manifest.from_csv(deep.manifest("ravdess"))
    said = Predictor.load(folder).predict([clip.path for clip in manifest.clips[:3]])
    wanted = load_model(folder)[0].predict_proba(task.X[:3])
    np.testing.assert_allclose([list(p.probabilities.values()) for p in said], wanted, atol=1e-4)
    assert card.view == view


@pytest.mark.parametrize(
    ("named", "views", "frames", "said"),
    [
        (("logreg",), ("frames:1",), None, "got --view frames:1, but none of the heads logreg reads frames"),
        (("cnn",), ("pooled",), None, "got --view pooled, but none of the heads cnn reads one vector a clip"),
        (("logreg", "svm"), (), 100, "got --frames 100, but none of the heads logreg, svm reads frames"),
        (("cnn",), ("frames:all",), None, "got --view frames:all, but cnn reads the frames of one layer"),
    ],
)
def test_what_no_head_reads_is_refused(named: tuple, views: tuple, frames: int | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        chosen_heads(named, views, frames)


def test_frames_that_no_memory_could_hold_are_refused(deep: Artifacts) -> None:
    with pytest.raises(DataError, match=r"got --frames 1000000000; wanted at most 65,536 frames of 32 values each"):
        Task.load("ravdess", "net", "frames", deep, frames=10**9)
