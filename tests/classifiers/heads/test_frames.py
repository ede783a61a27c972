"""Heads over frames: what stands behind a clip's end changes nothing, and only there may it stand."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tolerance import close_to

from classifiers import ModelCard, head, load_model, save_model
from classifiers.checks import toy_task_of
from classifiers.data import memmap as mapped
from classifiers.data.memmap import write_rows
from classifiers.heads import _torch_frames
from classifiers.heads._torch_frames import FrameNetwork, Normed, Shape, Trunk, _normalise
from classifiers.heads.attention import Attention
from classifiers.heads.cnn import CNN
from classifiers.heads.layer_cnn import LayerCNN
from embedcache import ModelError

NAMES = ("cnn", "attention", "layer_cnn")
LENGTHS = (1, 2, 3, 5, 6, 7, 9, 16)
CARD = ModelCard("cnn", "mfcc", "", "f" * 64, {}, "pooled", ("left", "right"), "toy", 160, 8)


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared is not rounded, and one draw a test."""
    monkeypatch.setattr(_torch_frames, "_bf16", lambda: False)
    torch.manual_seed(0)


def padded(lengths: tuple[int, ...], n_frames: int, dim: int = 6, n_layers: int = 1) -> torch.Tensor:
    """Clips of some lengths (n, L, n_frames, dim); the same numbers whatever stands behind."""
    rng = np.random.default_rng(0)
    X = np.full((len(lengths), n_layers, n_frames, dim), np.nan, np.float32)
    for row, length in enumerate(lengths):
        X[row, :, :length] = rng.standard_normal((n_layers, length, dim))
    return torch.from_numpy(X)


def network(kind: str, n_frames: int, dim: int = 6, n_layers: int = 1) -> FrameNetwork:
    torch.manual_seed(1)
    return FrameNetwork(Shape(kind, n_layers, n_frames, dim, 3), 0.0)


def unflattened(features: torch.Tensor, n_frames: int, dim: int) -> torch.Tensor:
    """(n, 32, T', D') features of the CNN."""
    for _ in range(4):
        n_frames, dim = max(1, n_frames // 2), max(1, dim // 2)
    return features.unflatten(1, (32, n_frames, dim))


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_padded_clip_has_the_features_of_the_clip_alone(length: int, learns: bool) -> None:
    """Alone it goes through torch's own batch norm, padded through ours: both agree, statistics included."""
    alone, beside = network("conv", 16), network("conv", 16)
    few = alone.train(learns).pooled(padded((length,), length))
    more = beside.train(learns).pooled(padded((length,), 16))
    few, more = unflattened(few, length, 6), unflattened(more, 16, 6)
    kept = few.shape[2]
    torch.testing.assert_close(more[:, :, :kept], few, rtol=1e-4, atol=1e-5)
    assert not more[:, :, kept:].any()
    for ours, theirs in zip(beside.body.state_dict().values(), alone.body.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["conv", "attention"])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_more_padding_changes_neither_features_nor_gradients(kind: str, n_layers: int) -> None:
    found = []
    for n_frames in (16, 29, 48):
        net = network(kind, 16, n_layers=n_layers).train()
        features = net.pooled(padded(LENGTHS, n_frames, n_layers=n_layers))
        if kind == "conv":
            features = unflattened(features, n_frames, 6)[:, :, :1]
        features.square().sum().backward()
        found.append([features, *(p.grad for p in net.body.parameters()), net.layer_scores.grad])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["conv", "attention"])
def test_training_is_the_same_with_more_padding(kind: str) -> None:
    """Three steps from the same weights; behind the CNN, those that read padding start at zero."""
    few, more = network(kind, 16), network(kind, 48)
    state = few.state_dict()
    if kind == "conv":
        wide = torch.zeros_like(more.tail[0].weight).unflatten(1, (32, 3, 1))
        wide[:, :, :1] = state["tail.0.weight"].unflatten(1, (32, 1, 1))
        state["tail.0.weight"] = wide.flatten(1)
    more.load_state_dict(copy.deepcopy(state))
    y, answers = torch.arange(len(LENGTHS)) % 3, []
    for net, n_frames in ((few, 16), (more, 48)):
        x = padded(LENGTHS, n_frames)
        optimizer = torch.optim.SGD(net.train().parameters(), 0.05)
        for _ in range(3):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        answers.append(net.eval()(x).softmax(1))
    torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-4)


def test_our_batch_norm_is_torchs_where_nothing_is_padded() -> None:
    x = torch.randn(4, 32, 10, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    found = []
    for lengths in (None, torch.full((4,), 10)):
        norm = Normed(32).train()
        out = _normalise(x, lengths, norm)
        (grad,) = torch.autograd.grad(out.square().mul(torch.arange(6)).sum(), x)
        found.append((out, grad, norm.mean, norm.var))
    for native, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, native, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("n_frames", "dim", "kernel", "features"), [(216, 30, (10, 4), 416), (124, 768, (4, 10), 10752)]
)
def test_the_cnn_is_the_kaggle_one_on_both_inputs(n_frames: int, dim: int, kernel: tuple, features: int) -> None:
    """Keras's shapes: "same" convolutions, pooling that drops an odd one, 13 x 1 and 7 x 48 at the end."""
    with torch.device("meta"):
        net = FrameNetwork(Shape("conv", 1, n_frames, dim, 8), 0.2)
    assert [block.conv.kernel_size for block in net.body.blocks] == [kernel] * 4
    assert net.tail[0].in_features == features


def test_convolution_pads_as_keras_does() -> None:
    """Of an odd number of zeros one more stands behind."""
    block = Trunk(Shape("conv", 1, 12, 20, 2), 0.0).blocks[0].eval()
    x = torch.randn(1, 1, 12, 20)
    same = torch.nn.functional.pad(x, (4, 5, 1, 2))
    wanted = torch.nn.functional.max_pool2d(torch.nn.functional.conv2d(same, block.conv.weight).relu(), 2)
    torch.testing.assert_close(block(x, None)[0], wanted, rtol=1e-3, atol=1e-4)


def test_one_clip_that_is_left_over_is_learned_from() -> None:
    task = toy_task_of("frames")
    fitted = CNN(n_frames=9, epochs=1, batch_size=4, random_state=0).fit(task.X[:9], task.y[:9])
    assert np.isfinite(fitted.predict_proba(task.X)).all()


@pytest.mark.parametrize("name", NAMES)
def test_predictions_do_not_depend_on_padding_or_company(name: str) -> None:
    task = toy_task_of("frames:all" if name == "layer_cnn" else "frames")
    fitted = head(name, task.n_layers, task.n_frames).fit(task.X, task.y, groups=task.speakers)
    proba = fitted.predict_proba(task.X)
    alone = np.concatenate([fitted.predict_proba(row[None]) for row in task.X[:30]])
    np.testing.assert_allclose(alone, proba[:30], atol=1e-5)
    assert fitted.score(task.X, task.y) > 0.95


def test_attention_reads_any_number_of_frames() -> None:
    """The same network with more NaN behind: the same probabilities."""
    task = toy_task_of("frames")
    fitted = Attention(n_frames=9, random_state=0).fit(task.X, task.y)
    wider = copy.deepcopy(fitted)
    wider.n_frames, wider.n_features_in_ = 20, 20 * 6
    X = np.full((160, 20, 6), np.nan, np.float32)
    X[:, :9] = task.X.reshape(160, 9, 6)
    np.testing.assert_allclose(wider.predict_proba(X.reshape(160, -1)), fitted.predict_proba(task.X), atol=1e-5)


def test_scaling_is_by_the_frames_that_training_clips_have() -> None:
    task = toy_task_of("frames:all")
    fitted = LayerCNN(3, 9, epochs=1, validation=0, random_state=0).fit(task.X, task.y)
    frames = task.X.reshape(160, 3, 9, 6).swapaxes(1, 2).reshape(160 * 9, -1)
    np.testing.assert_allclose(fitted.scaler_.mean_, np.nanmean(frames, axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fitted.scaler_.scale_, np.nanstd(frames, axis=0), rtol=1e-4)


def test_layer_weights_find_the_layer_that_knows() -> None:
    rng = np.random.default_rng(0)
    y = np.tile(["a", "b"], 150)
    X = rng.standard_normal((300, 3, 6, 5)).astype(np.float32)
    X[:, 2, :, :2] += np.where(y == "b", 1.0, -1.0)[:, None, None]
    fitted = LayerCNN(3, 6, layer_lr=5e-2, epochs=6, random_state=0).fit(X.reshape(300, -1), y)
    assert fitted.layer_weights_.shape == (3,)
    assert fitted.layer_weights_.sum() == close_to(1)
    assert fitted.layer_weights_.argmax() == 2


def spoilt(X: np.ndarray, where: str) -> np.ndarray:
    X = X.reshape(160, 3, 9, 6).copy()
    if where == "no frame":
        X[4] = np.nan
    elif where == "between frames":
        X[4] = 1
        X[4, :, 2] = np.nan
    elif where == "part of a frame":
        X[4] = 1
        X[4, :, 8, 3:] = np.nan
    else:
        X[4] = 1
        X[4, 1, 8] = np.nan
    return X.reshape(160, -1)


@pytest.mark.parametrize("where", ["no frame", "between frames", "part of a frame", "one layer"])
def test_nan_is_the_end_of_a_clip_and_nothing_else(tmp_path: Path, where: str) -> None:
    task = toy_task_of("frames:all")
    X, fitted = spoilt(task.X, where), LayerCNN(3, 9, epochs=1).fit(task.X, task.y)
    for given in (X, write_rows(tmp_path, X.shape, [X])):
        for call in (lambda X: LayerCNN(3, 9).fit(X, task.y), fitted.predict):
            with pytest.raises(ValueError, match="1 of 160 rows of X have NaN elsewhere than in whole frames"):
                call(given)


def test_infinity_and_widths_that_make_no_frames_are_refused() -> None:
    task = toy_task_of("frames")
    X = task.X.copy()
    X[3, 0] = np.inf
    with pytest.raises(ValueError, match="Input X contains infinity"):
        CNN(n_frames=9).fit(X, task.y)
    with pytest.raises(ValueError, match="n_layers=1 times n_frames=7 does not divide the 54 features"):
        CNN(n_frames=7).fit(task.X, task.y)
    with pytest.raises(
        ValueError, match="n_frames=1 gives 2,097,153 values per clip and layer; wanted at most 2,097,152"
    ):
        CNN().fit(np.zeros((2, 2**21 + 1), np.float32), ["a", "b"])
    with pytest.raises(ValueError, match="Input X contains NaN"):
        CNN().fit(task.X, task.y)


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_on_a_file_is_the_fit_on_the_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(mapped, "BLOCK", 2**12)
    task = toy_task_of("frames:all" if name == "layer_cnn" else "frames")
    rows = write_rows(tmp_path, task.X.shape, [task.X])
    first, second = (
        head(name, task.n_layers, 9, random_state=3).set_params(epochs=2).fit(X, task.y, groups=task.speakers)
        for X in (task.X, rows)
    )
    assert first.history_ == second.history_
    assert all(np.array_equal(first.weights_[key], second.weights_[key]) for key in first.weights_)
    np.testing.assert_array_equal(first.predict_proba(task.X), second.predict_proba(rows))


@pytest.mark.parametrize("name", NAMES)
def test_fitting_and_predicting_leave_torch_as_it_was(name: str) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    state, task = torch.random.get_rng_state(), toy_task_of("frames")
    CNN(n_frames=9, epochs=1).fit(task.X, task.y).predict(task.X)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def drop(fitted: CNN) -> None:
    del fitted.weights_["tail.0.weight"]


SPOILT = {
    "a filter less": lambda f: f.weights_.update({"body.blocks.1.conv.weight": np.zeros((31, 32, 10, 4), np.float32)}),
    "a missing array": drop,
    "an array more": lambda f: f.weights_.update({"more": np.zeros(3, np.float32)}),
    "another number of frames": lambda f: setattr(f, "n_frames", 54),
    "no frames": lambda f: setattr(f, "n_frames", 0),
    "frames less than none": lambda f: setattr(f, "n_frames", -9),
    "a word for frames": lambda f: setattr(f, "n_frames", "9"),
    "weights that are no numbers": lambda f: f.weights_.update({"tail.5.bias": np.full(2, np.nan, np.float32)}),
    "other weights of a layer": lambda f: f.weights_.update({"layer_scores": np.zeros(5, np.float32)}),
    "a scaler of another width": lambda f: setattr(f.scaler_, "mean_", np.zeros(5)),
    "a list": lambda f: setattr(f, "weights_", [1.0]),
    "millions of features": lambda f: setattr(f, "n_features_in_", 9_999_999),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_saved_head_whose_arrays_do_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    task = toy_task_of("frames")
    fitted = CNN(n_frames=9, epochs=1, random_state=0).fit(task.X, task.y)
    sound, _ = load_model(save_model(tmp_path / "sound", fitted, CARD))
    np.testing.assert_array_equal(sound.predict_proba(task.X), fitted.predict_proba(task.X))
    SPOILT[name](fitted)
    with pytest.raises(ModelError, match="the head (cannot predict|does not return a finite)"):
        load_model(save_model(tmp_path / "spoilt", fitted, CARD))
