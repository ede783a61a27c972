"""Encoders as the cache sees them: fingerprints, ragged rows, names of views."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from embedcache import AudioError, EncoderError, EncoderInfo
from embedcache.encoder import (
    Frames,
    check_device,
    frame_layers,
    is_ragged,
    join,
    pick_device,
    refuse_short,
    resolve_views,
)

INFO = EncoderInfo("net", "hub/net", "a" * 64, 16_000, 3, 4, "fp32", "soxr 1", 2)


def encoder(n_layers: int = 3, views: tuple[str, ...] = ("pooled", "layers", "frames")) -> SimpleNamespace:
    return SimpleNamespace(info=replace(INFO, n_layers=n_layers), views=views, shortest=0.025)


def test_the_fingerprint_is_the_sha256_of_what_decides_the_numbers() -> None:
    """Written out by hand: another form of it would orphan every vector that is stored."""
    text = (
        '{"dim": 4, "n_layers": 3, "precision": "fp32", "preprocessing": "soxr 1", "recipe_version": 2, '
        f'"sample_rate": 16000, "weights_sha256": "{"a" * 64}"}}'
    )
    assert INFO.fingerprint == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("name", ["name", "checkpoint", "trained_on"])
def test_a_name_is_no_part_of_the_fingerprint(name: str) -> None:
    assert replace(INFO, **{name: "other"}).fingerprint == INFO.fingerprint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights_sha256", "b" * 64),
        ("sample_rate", 8_000),
        ("n_layers", 4),
        ("dim", 5),
        ("precision", "bf16"),
        ("preprocessing", "soxr 2"),
        ("recipe_version", 3),
    ],
)
def test_everything_else_is(name: str, value: object) -> None:
    assert replace(INFO, **{name: value}).fingerprint != INFO.fingerprint


def test_an_info_is_read_back_from_its_line() -> None:
    for info in (INFO, replace(INFO, trained_on="c" * 64)):
        assert EncoderInfo.from_json(info.to_json()) == info
        assert "\n" not in info.to_json()
    assert "trained_on" not in json.loads(INFO.to_json()), "as earlier versions wrote it"
    assert list(json.loads(INFO.to_json())) == sorted(json.loads(INFO.to_json()))


@pytest.mark.parametrize("change", [{"dim": "4"}, {"dim": 4.0}, {"name": None}, {"more": 1}])
def test_an_info_of_other_types_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        EncoderInfo.from_json(json.dumps({**json.loads(INFO.to_json()), **change}))


def frames(*lengths: int) -> Frames:
    values = np.arange(2 * sum(lengths), dtype=np.float16).reshape(-1, 2)
    return Frames.of(values, lengths)


def test_frames_are_cut_where_their_lengths_say() -> None:
    three = frames(3, 0, 2)
    assert three.offsets.tolist() == [0, 3, 3, 5]
    assert (len(three), three.nbytes) == (3, 5 * 2 * 2)
    assert [part.tolist() for part in three] == [[[0, 1], [2, 3], [4, 5]], [], [[6, 7], [8, 9]]]
    assert three[2].tolist() == [[6, 7], [8, 9]]


def test_frames_are_taken_in_any_order_and_joined() -> None:
    three = frames(3, 0, 2)
    taken = three.take([2, 0, 2, 1])
    assert [part.tolist() for part in taken] == [three[i].tolist() for i in (2, 0, 2, 1)]
    nothing = three.take([])
    assert (len(nothing), nothing.values.shape) == (0, (0, 2))
    both = Frames.join([three, frames(1)])
    assert [part.tolist() for part in both] == [*(part.tolist() for part in three), [[0, 1]]]
    assert join([three, frames(1)]).offsets.tolist() == both.offsets.tolist()
    assert join([np.ones((2, 3)), np.zeros((1, 3))]).tolist() == [[1] * 3, [1] * 3, [0] * 3]


def test_which_views_are_of_frames() -> None:
    assert [is_ragged(view) for view in ("frames", "frames:2", "frames:all", "pooled", "layers")] == [True] * 3 + [
        False
    ] * 2
    assert frame_layers(["pooled", "frames:2", "frames:0"]) == {"frames:2": 2, "frames:0": 0}


@pytest.mark.parametrize(
    ("requested", "stored"),
    [
        (["pooled", "frames"], ("pooled", "frames:2")),
        (["frames:all"], ("frames:0", "frames:1", "frames:2")),
        (["frames:1", "frames:all"], ("frames:1", "frames:0", "frames:2")),
        (["layers", "layers"], ("layers",)),
    ],
)
def test_views_have_names_of_their_own(requested: list[str], stored: tuple[str, ...]) -> None:
    assert resolve_views(requested, encoder()) == stored


@pytest.mark.parametrize(
    ("views", "n_layers", "requested", "message"),
    [
        (("pooled", "frames"), 3, "std", "has no view 'std'; have pooled, frames, frames:0 … frames:2, frames:all"),
        (("pooled", "frames"), 3, "frames:3", "has no view 'frames:3'"),
        (("pooled", "frames"), 1, "std", "have pooled, frames\\."),
        (("pooled", "frames"), 2, "std", "have pooled, frames, frames:0 … frames:1, frames:all\\."),
        (("pooled",), 3, "frames", "has no view 'frames'; have pooled\\."),
        (("pooled",), 3, "frames:0", "has no view 'frames:0'"),
    ],
)
def test_a_view_that_there_is_not(views: tuple[str, ...], n_layers: int, requested: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        resolve_views([requested], encoder(n_layers, views))


def test_a_waveform_of_one_sample_too_few() -> None:
    refuse_short(encoder(), [np.zeros(400, np.float32)])
    said = r"got a waveform of 399 samples at 16,000 Hz \(24.9 ms\); net needs at least 400. Leave it out"
    with pytest.raises(AudioError, match=said):
        refuse_short(encoder(), [np.zeros(500, np.float32), np.zeros(399, np.float32)])


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_devices_that_could_be(device: str) -> None:
    check_device(device)


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "CPU", "cuda:1:2", "cpu:0"])
def test_devices_that_could_not(device: str) -> None:
    with pytest.raises(EncoderError, match="wanted auto, cpu, cuda or cuda:N"):
        check_device(device)


def test_the_device_that_is_picked(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert str(pick_device("cpu")) == "cpu"
    assert torch.backends.cudnn.allow_tf32
    assert [str(pick_device(device)) for device in ("auto", "cuda:1")] == ["cuda", "cuda:1"]
    assert not torch.backends.cudnn.allow_tf32
    with pytest.raises(EncoderError, match="--device cuda:2: torch .* sees 2 CUDA devices"):
        pick_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert str(pick_device("cuda")) == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(pick_device("auto")) == "cpu"


TF32 = """
import torch

torch.cuda.device_count = lambda: 1
{change}
from embedcache.encoder import pick_device

pick_device("cuda")
cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
print(cuda.matmul.allow_tf32, cudnn.allow_tf32, {{o.fp32_precision for o in (cuda.matmul, cudnn.conv, cudnn.rnn)}})
"""


@pytest.mark.parametrize(
    "change",
    [
        "",  # the variable alone
        "torch.set_float32_matmul_precision('high')",
        "torch.backends.fp32_precision = 'tf32'",  # as transformers' Trainer sets it
        "torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = 'tf32'",
    ],
)
def test_float32_is_no_tf32_on_a_gpu(change: str) -> None:
    """However it was turned on before; in a process of its own, for these settings are of the whole process."""
    import torch

    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has one interface for TF32")
    done = subprocess.run(
        [sys.executable, "-c", TF32.format(change=change)],
        env={**os.environ, "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "False False {'ieee'}\n", done.stderr
