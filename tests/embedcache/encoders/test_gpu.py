"""The path of a GPU, on a pretended one: devices, streams, memory. The CPU is the oracle of every number."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.checkpoints import save_checkpoint, save_whisper
from helpers.pretended_cuda import PretendedGpu, pretended_gpu
from helpers.sounds import noise

from embedcache import EncoderError
from embedcache.encoder import Encoder
from embedcache.encoders.checkpoint import open_checkpoint
from embedcache.encoders.engine import attention, memory
from embedcache.encoders.engine.memory import Memory, is_out_of_memory
from embedcache.encoders.engine.packed import Packed
from embedcache.encoders.huggingface import HuggingFaceEncoder, build_encoder

CPU = torch.device("cpu")
STABLE = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
NETWORKS = {
    "base": ("Wav2Vec2", {}),
    "stable": ("Wav2Vec2", STABLE),
    "wavlm": ("WavLM", {}),
    "data2vec": ("Data2VecAudio", {"num_conv_pos_embeddings": 5}),
}
SECONDS = (0.3, 0.5, 0.5, 1.1, 0.025, 0.52, 0.9, 0.3)
VIEWS = ("pooled", "layers", "std", "frames:1")
# What torch raises where the memory of a GPU ends.
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    torch.OutOfMemoryError("HIP out of memory. Tried to allocate 20.00 MiB"),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: out of memory"),
]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGpu]:
    """A pretended GPU on which every thread may encode."""
    with pretended_gpu(monkeypatch) as machine:
        for kind in (Packed, HuggingFaceEncoder):
            monkeypatch.setattr(kind, "_encode", _on(machine, kind._encode))
        yield machine


def _on(gpu: PretendedGpu, encode: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        with gpu.mode():
            return encode(*arguments)

    return call


def on_gpu(gpu: PretendedGpu, folder: Path, precision: str = "fp32", log: Any = print) -> Encoder:
    checkpoint = open_checkpoint(str(folder), "", precision)
    with gpu.mode():
        return build_encoder(checkpoint, torch.device("cuda"), log)


def on_cpu(folder: Path) -> Encoder:
    return HuggingFaceEncoder.of(open_checkpoint(str(folder), "", "fp32"), CPU)


def waves(*seconds: float) -> list[np.ndarray]:
    return [noise(s, seed=n).astype(np.float32) for n, s in enumerate(seconds)]


def layers_of(encoder: Encoder, clips: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(encoder.encode(clips, ["layers"])["layers"])


@pytest.mark.parametrize("name", NETWORKS)
def test_float32_on_a_gpu_is_the_oracles_in_every_view(gpu: PretendedGpu, tmp_path: Path, name: str) -> None:
    folder = save_checkpoint(tmp_path / name, NETWORKS[name][0], **NETWORKS[name][1])
    encoder = on_gpu(gpu, folder)
    assert isinstance(encoder, Packed)
    live = gpu.live
    ours, theirs = (e.encode(waves(*SECONDS), VIEWS) for e in (encoder, on_cpu(folder)))
    for view in VIEWS:
        for one, other in zip(ours[view], theirs[view], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5 if one.dtype == np.float32 else 2e-3)
    assert gpu.faults == Counter()
    assert gpu.live == live > 0


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_the_precision_on_a_gpu_keeps_the_direction(
    gpu: PretendedGpu, tmp_path: Path, name: str, precision: str
) -> None:
    family, changes = NETWORKS[name]
    folder = save_checkpoint(tmp_path / name, family, **changes, hidden_size=64)
    encoder = on_gpu(gpu, folder, precision)
    live = gpu.live
    clips = waves(*(seconds for seconds in SECONDS if seconds > 0.1))  # in one frame, no rounding averages out
    fast, slow = (layers_of(e, clips).astype(np.float64) for e in (encoder, on_cpu(folder)))
    cosine = (fast * slow).sum(-1) / np.linalg.norm(fast, axis=-1) / np.linalg.norm(slow, axis=-1)
    assert cosine.min() >= 0.9999
    assert gpu.faults == Counter()
    assert gpu.live == live
    assert bool(gpu.operations["torch_attn._varlen_attn.default"]) == (name != "wavlm")


@pytest.mark.parametrize(
    ("refused", "calls"),
    [
        ((), [{"scale": 1.0, "num_splits": 1}]),
        (("num_splits",), [{"scale": 1.0}]),  # AMD's builds
        (("scale",), []),  # older versions
    ],
)
def test_attention_over_clips_of_any_lengths_is_what_this_machine_has(
    gpu: PretendedGpu, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...], calls: list
) -> None:
    """An option that is refused is left out, or clips are computed in groups; the vectors are the same."""
    from torch.nn.attention import varlen

    kernel, made = varlen.varlen_attn, []

    def picky(*arguments: Any, **options: Any) -> Any:
        if any(name in refused for name in options):
            raise RuntimeError("this build has no such option")
        made.append(options)
        return kernel(*arguments, **options)

    clips = waves(0.3, 0.5, 0.7)
    encoder = on_gpu(gpu, checkpoint, "bf16")
    wanted = layers_of(encoder, clips)
    monkeypatch.setattr(varlen, "varlen_attn", picky)
    attention._varlen.cache_clear()
    np.testing.assert_allclose(layers_of(encoder, clips), wanted, atol=0.05)
    assert made == calls * 3  # the question, and two blocks
    attention._varlen.cache_clear()


def test_whisper_encodes_clips_of_any_lengths_together(gpu: PretendedGpu, tmp_path: Path) -> None:
    folder = save_whisper(tmp_path / "whisper")
    clips = waves(0.3, 0.5, 0.3, 1.1)
    encoder = on_gpu(gpu, folder)
    live, before = gpu.live, gpu.operations["aten.conv1d.default"] + gpu.operations["aten.convolution.default"]
    ours, theirs = (e.encode(clips, VIEWS) for e in (encoder, on_cpu(folder)))
    after = gpu.operations["aten.conv1d.default"] + gpu.operations["aten.convolution.default"]
    assert after - before == 2  # one pass: its two convolutions
    for view in VIEWS:
        for one, other in zip(ours[view], theirs[view], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5 if one.dtype == np.float32 else 2e-3)
    assert (gpu.faults, gpu.live) == (Counter(), live)


@pytest.mark.parametrize(("count", "name", "said"), [(1, "cuda", 0), (4, "cuda", 1), (4, "cuda:2", 0)])
def test_one_gpu_of_several_is_said(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Path, count: int, name: str, said: int
) -> None:
    lines: list[str] = []
    with pretended_gpu(monkeypatch, count) as gpu:
        opened = open_checkpoint(str(checkpoint), "", "fp32")
        with gpu.mode():
            build_encoder(opened, torch.device(name), lines.append)
    wanted = "note: this machine has 4 GPUs, of which the first is used. --device cuda:1 uses another, and ser extract "
    assert lines == [f"{wanted}--cluster local uses all of them."] * said


def test_two_lanes_have_a_stream_each_and_share_nothing_unawaited(gpu: PretendedGpu, checkpoint: Path) -> None:
    encoder = on_gpu(gpu, checkpoint, "bf16")
    assert encoder.lanes == 2
    clips = [waves(0.3, 0.5, 0.7), waves(0.7, 0.5), waves(1.1, 0.3), waves(0.5)]
    wanted = [layers_of(encoder, clip) for clip in clips]
    both = threading.Barrier(2)

    def encode(number: int) -> np.ndarray:
        if number < 2:
            both.wait()
        return layers_of(encoder, clips[number])

    with ThreadPoolExecutor(2) as lanes:
        found = list(lanes.map(encode, range(4)))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    assert gpu.faults == Counter()


def test_an_encoder_of_another_gpu_has_another_stream(gpu: PretendedGpu, checkpoint: Path) -> None:
    from embedcache.encoders.engine.packed import _own_stream

    seen = []
    for name in ("cuda:0", "cuda:1", "cuda:0"):
        with _own_stream(torch.device(name)):
            seen.append(torch.cuda.current_stream())
    assert [str(stream.device) for stream in seen] == ["cuda:0", "cuda:1", "cuda:0"]
    assert seen[0] is seen[2]


@pytest.mark.parametrize("error", [OUT_OF_MEMORY[0], OUT_OF_MEMORY[3]], ids=str)
@pytest.mark.parametrize("family", ["Wav2Vec2", "Wav2Vec2Conformer"])
def test_a_full_gpu_halves_the_pack_and_keeps_nothing(
    gpu: PretendedGpu, tmp_path: Path, family: str, error: Exception
) -> None:
    """In the packed engine as in transformers' own forward pass, whatever the error is called."""
    folder = save_checkpoint(tmp_path / "c", family)
    clips = waves(*[0.5] * 8)
    wanted = layers_of(on_cpu(folder), clips)
    encoder = on_gpu(gpu, folder)
    live, gpu.peak, gpu.error = gpu.live, gpu.live, error
    layers_of(encoder, clips)
    gpu.limit = live + (gpu.peak - live) * 3 // 4
    np.testing.assert_allclose(layers_of(encoder, clips), wanted, atol=1e-5)
    assert (gpu.failed, gpu.live) == (1, live)
    np.testing.assert_allclose(layers_of(encoder, clips), wanted, atol=1e-5)
    assert gpu.failed == 1  # a pack of a size that did not fit is not tried again
    gpu.limit = live + 1000
    with pytest.raises(EncoderError, match=r"c: a clip of 0.5 s does not fit into the memory of cuda \(.*--device cpu"):
        layers_of(encoder, clips[:1])
    assert gpu.live == live


def test_memory_may_end_anywhere(gpu: PretendedGpu, checkpoint: Path) -> None:
    clips = waves(0.3, 0.5, 0.7, 0.5)
    encoder = on_gpu(gpu, checkpoint, "bf16")
    wanted, live, before = layers_of(encoder, clips), gpu.live, gpu.operations.total()
    layers_of(encoder, clips)
    operations = gpu.operations.total() - before
    for number in range(1, operations, operations // 10):
        last, encoder.memory.limit = gpu.operations.total() + number, np.inf
        gpu.fails_at = lambda at, last=last: at == last
        np.testing.assert_allclose(layers_of(encoder, clips), wanted, atol=1e-2)
        assert gpu.live == live
    assert gpu.failed == len(range(1, operations, operations // 10))


@pytest.mark.parametrize("family", ["Wav2Vec2", "Wav2Vec2Conformer"])
def test_weights_that_do_not_fit_are_one_sentence(gpu: PretendedGpu, tmp_path: Path, family: str) -> None:
    folder = save_checkpoint(tmp_path / "c", family)
    gpu.limit = 2000
    with pytest.raises(EncoderError, match="^c: its weights do not fit into the memory of cuda .*or use --device cpu"):
        on_gpu(gpu, folder)


def test_other_errors_are_left_as_they_are() -> None:
    def fail(numbers: Sequence[int]) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    store = Memory("net", CPU)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        store.encode([0, 1], [1.0, 1.0], fail)
    assert not is_out_of_memory(ValueError("out of memory"))
    assert is_out_of_memory(MemoryError())
    assert all(map(is_out_of_memory, OUT_OF_MEMORY))
    store.encode([0], [1.0], lambda numbers: 0)  # and nothing is held


def test_a_clip_waits_for_the_memory_of_the_other_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first try fails because the other lane holds memory; the second waits until it holds none."""
    store, failed, events = Memory("net", CPU), threading.Event(), []
    monkeypatch.setattr(memory, "_free", failed.set)

    def long_pack(numbers: Sequence[int]) -> str:
        encoding.set()
        assert failed.wait(10)
        events.append("the pack is encoded")
        return "pack"

    def clip(numbers: Sequence[int]) -> str:
        if not events:
            raise torch.OutOfMemoryError("CUDA out of memory")
        events.append("the clip is encoded")
        return "clip"

    encoding = threading.Event()
    with ThreadPoolExecutor(2) as lanes:
        one = lanes.submit(store.encode, [0, 1], [300.0, 300.0], long_pack)
        assert encoding.wait(10)
        other = lanes.submit(store.encode, [0], [600.0], clip)
        assert (one.result(10), other.result(10)) == ([([0, 1], "pack")], [([0], "clip")])
    assert events == ["the pack is encoded", "the clip is encoded"]
    assert store.limit == 1200


def test_two_lanes_share_a_gpu_that_holds_one_clip(gpu: PretendedGpu, checkpoint: Path) -> None:
    """Each clip fits alone, so none is too long, whatever the other lane holds."""
    encoder = on_gpu(gpu, checkpoint, "bf16")
    clip = waves(1.1)
    wanted = layers_of(encoder, clip)
    live, gpu.peak = gpu.live, gpu.live
    layers_of(encoder, clip)
    gpu.limit = gpu.peak + (gpu.peak - live) // 4
    with ThreadPoolExecutor(2) as lanes:
        found = list(lanes.map(lambda _: layers_of(encoder, clip), range(8)))
    np.testing.assert_array_equal(found, [wanted] * 8)
    assert (gpu.faults, gpu.live) == (Counter(), live)


def test_lanes_that_run_out_of_memory_at_once_go_on_in_turns() -> None:
    """A device that holds one clip; both lanes fail at the same moment, again and again, and neither waits for ever."""
    store, lock, running, rng = Memory("net", CPU), threading.Lock(), [], np.random.default_rng(0)

    def encode(numbers: Sequence[int]) -> list[int]:
        with lock:
            running.extend(numbers)
            crowded = len(running) > 1
        threading.Event().wait(rng.random() / 1000)
        with lock:
            for number in numbers:
                running.remove(number)
        if crowded or len(numbers) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(numbers)

    with ThreadPoolExecutor(2) as lanes:
        packs = [lanes.submit(store.encode, [n, n + 1, n + 2], [1.0] * 200, encode) for n in range(0, 150, 3)]
        found = [pack.result(60) for pack in packs]
    assert [number for parts in found for _, numbers in parts for number in numbers] == list(range(150))
    assert store.limit <= 2
