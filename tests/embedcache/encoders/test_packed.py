"""The packed engine against transformers' own forward, on every architecture that it takes."""

import functools
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkpoints import save_checkpoint
from helpers.sounds import noise
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcache import AudioError, EncoderError, load_encoder
from embedcache.checks import check_encoder
from embedcache.encoder import Frames, resolve_views
from embedcache.encoders.checkpoint import open_checkpoint
from embedcache.encoders.engine import attention, linear
from embedcache.encoders.engine.convolutions import Layout
from embedcache.encoders.engine.families import FAMILIES, wavlm
from embedcache.encoders.engine.packed import Packed
from embedcache.encoders.engine.pooling import equal_spans, restore_order
from embedcache.encoders.huggingface import HuggingFaceEncoder

CPU = torch.device("cpu")
LAYER = {"feat_extract_norm": "layer", "conv_bias": True}
ARCHITECTURES = {
    "wav2vec2-base": ("Wav2Vec2", {}),
    "wav2vec2-large": ("Wav2Vec2", {**LAYER, "do_stable_layer_norm": True}),
    "stable, group norm": ("Wav2Vec2", {"do_stable_layer_norm": True}),
    "layer norm, no bias": ("Wav2Vec2", {"feat_extract_norm": "layer"}),
    "group norm, bias": ("Wav2Vec2", {"conv_bias": True}),
    "hubert-base": ("Hubert", {}),
    "hubert-large": ("Hubert", {**LAYER, "do_stable_layer_norm": True}),
    "hubert, no feature norm": ("Hubert", {"feat_proj_layer_norm": False}),
    "odd positions": ("Wav2Vec2", {"num_conv_pos_embeddings": 15}),
    "unispeech": ("UniSpeech", {}),
    "unispeech-sat-base": ("UniSpeechSat", {}),
    "unispeech-sat-large": ("UniSpeechSat", {**LAYER, "do_stable_layer_norm": True}),
    "wavlm-base": ("WavLM", {}),
    "wavlm-large": ("WavLM", {**LAYER, "do_stable_layer_norm": True}),
    "wavlm, few buckets": ("WavLM", {"num_buckets": 20, "max_bucket_distance": 30}),
    "data2vec-audio-base": ("Data2VecAudio", {"num_conv_pos_embeddings": 5}),
    "data2vec-audio, even positions": ("Data2VecAudio", {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 8}),
}


def waves(*seconds: float) -> list[np.ndarray]:
    return [noise(s, seed=n).astype(np.float32) for n, s in enumerate(seconds)]


def both(folder: Path, precision: str = "fp32") -> tuple[Packed, HuggingFaceEncoder]:
    """The engine and the oracle, of one checkpoint."""
    checkpoint = open_checkpoint(str(folder), "", "fp32")
    oracle = HuggingFaceEncoder.of(checkpoint, CPU)
    return Packed.of(open_checkpoint(str(folder), "", precision), CPU), oracle


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_layer_is_the_oracles(tmp_path: Path, name: str) -> None:
    family, changes = ARCHITECTURES[name]
    packed, oracle = both(save_checkpoint(tmp_path / "c", family, **changes))
    assert packed.info.fingerprint == oracle.info.fingerprint
    views = resolve_views(["pooled", "layers", "std", "frames:all"], packed)
    clips = waves(0.3, 1.1, 0.5, 1.1, 0.025, 2.7)
    fast, slow = packed.encode(clips, views), oracle.encode(clips, views)
    for view in views:
        for ours, theirs in zip(fast[view], slow[view], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5 if ours.dtype == np.float32 else 2e-3)


@pytest.mark.parametrize(
    "name", ["wav2vec2-base", "wav2vec2-large", "wavlm-base", "wavlm-large", "data2vec-audio-base"]
)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_the_precision_keeps_the_direction(tmp_path: Path, name: str, precision: str) -> None:
    """Also where the signal lies in a corner of the spectrum that the kernels' high-pass part all but removes.

    64 dimensions: of 32 in 4 groups, oneDNN 3.12 computes the positional convolution wrongly in bf16 on processors with
    AMX (cosine 0.03). It computes 64, and the 768 and 1024 of real networks, rightly.
    """
    family, changes = ARCHITECTURES[name]
    folder = save_checkpoint(tmp_path / "c", family, **changes, hidden_size=64)
    settings_of = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings_of, "do_normalize": False}))
    packed, oracle = both(folder, precision)
    assert packed.info.fingerprint != oracle.info.fingerprint
    t = np.arange(16_000) / 16_000
    hum = (0.5 * np.sin(2 * np.pi * 60 * t) + 1e-3 * noise(1.0)).astype(np.float32)
    offset = (0.3 + 0.01 * noise(1.0)).astype(np.float32)
    clips = [*waves(0.3, 1.1, 0.5), hum, offset]
    fast, slow = (e.encode(clips, ["layers"])["layers"].astype(np.float64) for e in (packed, oracle))
    cosine = (fast * slow).sum(-1) / np.linalg.norm(fast, axis=-1) / np.linalg.norm(slow, axis=-1)
    assert cosine.min() >= 0.9999


@pytest.mark.parametrize("name", ["wav2vec2-base", "wavlm-base", "data2vec-audio-base"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_vector_depends_on_its_batch(tmp_path: Path, name: str, precision: str) -> None:
    """Alone, in pairs, shuffled, beside 30 s, beside silence."""
    family, changes = ARCHITECTURES[name]
    check_encoder(both(save_checkpoint(tmp_path / "c", family, **changes), precision)[0])


def test_the_position_bias_of_wavlm_is_the_oracles_where_it_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With large biases and gates, over distances beyond the last bucket, and with queries in blocks."""
    folder = save_checkpoint(tmp_path / "c", "WavLM", num_buckets=40, max_bucket_distance=60)
    model = open_checkpoint(str(folder), "", "fp32").model
    with torch.random.fork_rng():
        torch.manual_seed(2)
        for name, weight in model.named_parameters():
            if "rel_attn_embed" in name or "gru_rel_pos" in name:
                torch.nn.init.normal_(weight, std=2.0)
    model.save_pretrained(folder)
    packed, oracle = both(folder)
    clips = waves(3.0, 0.3, 0.3, 6.0)
    wanted = oracle.encode(clips, ["layers"])["layers"]
    np.testing.assert_allclose(packed.encode(clips, ["layers"])["layers"], wanted, atol=1e-5)
    monkeypatch.setitem(wavlm.CELLS, "cpu", 1)
    np.testing.assert_allclose(packed.encode(clips, ["layers"])["layers"], wanted, atol=1e-5)


def test_the_path_of_a_gpu_gives_the_same_numbers(tmp_path: Path) -> None:
    """Whole packs instead of tiles and blocks of rows, clips of nearly one length padded and masked in attention."""
    for name in ("wav2vec2-base", "wav2vec2-large", "wavlm-base"):
        family, changes = ARCHITECTURES[name]
        packed, oracle = both(save_checkpoint(tmp_path / name, family, **changes))
        front = replace(packed.network.front, tile=None)
        whole = replace(packed, network=replace(packed.network, front=front, rows=None))
        clips = waves(0.5, 0.5, 0.3, 1.1, 0.52, 3.0, 0.54, 3.2, 1.1)
        for layers in (e.encode(clips, ["layers"])["layers"] for e in (packed, whole)):
            np.testing.assert_allclose(layers, oracle.encode(clips, ["layers"])["layers"], atol=1e-5)


def test_attention_over_clips_of_any_lengths_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU's kernel is stood in for by its definition: what is given to it, and what is made of its answer."""
    pack = attention.Pack.of(Layout.of([3, 5, 1]), CPU, grouped=True)
    qkv = torch.randn(9, 3, 4, 8)

    def kernel(q, k, v, starts, ends, longest, other):
        assert (starts.tolist(), longest) == ([0, 3, 8, 9], 5)
        parts = zip(*(x.split([3, 5, 1]) for x in (q, k, v)), strict=True)
        return torch.cat(
            [torch.einsum("hij,jhd->ihd", torch.einsum("ihd,jhd->hij", a, b).softmax(-1), c) for a, b, c in parts]
        )

    wanted = attention.attend(qkv[:, 0], qkv, pack)
    monkeypatch.setattr(attention, "_varlen", lambda device, dtype, dim: kernel)
    torch.testing.assert_close(attention.attend(qkv[:, 0], qkv, pack), wanted)


@pytest.mark.parametrize("faster_mkl", [True, False])
@pytest.mark.parametrize("name", ["wav2vec2-base", "wav2vec2-large"])
def test_each_product_of_a_cpu_gives_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, faster_mkl: bool
) -> None:
    """oneDNN's, and torch's own, whichever this processor would get."""
    monkeypatch.setattr(linear, "_has_faster_mkl", lambda: faster_mkl)
    monkeypatch.setattr(linear, "fused", functools.cache(linear.fused.__wrapped__))
    assert not (faster_mkl and linear.fused("cpu", torch.float32))
    family, changes = ARCHITECTURES[name]
    packed, oracle = both(save_checkpoint(tmp_path / "c", family, **changes))
    clips = waves(0.5, 0.3, 1.1)
    for layers in (e.encode(clips, ["layers"])["layers"] for e in (packed, oracle)):
        np.testing.assert_allclose(layers, oracle.encode(clips, ["layers"])["layers"], atol=1e-5)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx2": True, "avx512_f": True}, False), ({"avx2": True, "avx512_f": False}, True), ({"neon": True}, False)],
)
def test_mkl_computes_float32_where_the_processor_has_no_avx512(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert linear._has_faster_mkl() == expected


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_the_product_of_overlapping_rows_is_that_of_their_copy(rows: int, step: int, width: int) -> None:
    memory, weight = torch.randn(rows * step + width), torch.randn(3, width)
    x = memory.as_strided((rows, width), (step, 1))
    wanted = x.contiguous() @ weight.t() + 1
    torch.testing.assert_close(linear.product(x, weight, torch.ones(3), gelu=False), wanted)


def test_a_clip_longer_than_a_pack_is_the_oracles(checkpoint: Path) -> None:
    packed, oracle = both(checkpoint)
    clips = waves(75.0, 0.4)
    assert packed.pack < 75 < packed.longest
    fast, slow = (e.encode(clips, ["layers"])["layers"] for e in (packed, oracle))
    np.testing.assert_allclose(fast, slow, atol=1e-5)


@pytest.mark.long
def test_ten_minutes_are_the_oracles(checkpoint: Path) -> None:
    packed, oracle = both(checkpoint)
    clips = waves(600.0)
    fast, slow = (e.encode(clips, ["layers", "std"]) for e in (packed, oracle))
    for view in ("layers", "std"):
        np.testing.assert_allclose(fast[view], slow[view], atol=1e-5)


def test_what_makes_one_clip_nan_leaves_the_others(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a waveform is refused; here it stands for a clip that becomes NaN within the network."""
    monkeypatch.setattr("embedcache.encoders.engine.packed.check_waveforms", lambda encoder, waveforms: None)
    packed, _ = both(checkpoint)
    clips = waves(0.5, 0.7, 0.5)
    clean = packed.encode(clips, ["layers"])["layers"]
    broken = packed.encode([clips[0], clips[1] * np.float32("nan"), clips[2]], ["layers"])["layers"]
    assert np.isnan(broken[1]).all()
    np.testing.assert_allclose(broken[[0, 2]], clean[[0, 2]], atol=1e-5)


def test_a_full_gpu_halves_the_pack_and_goes_on(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, oracle = both(checkpoint)
    encode, sizes = Packed._encode, []

    def crowded(self, waveforms, views):
        sizes.append(len(waveforms))
        if sum(map(len, waveforms)) > 16_000:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, waveforms, views)

    monkeypatch.setattr(Packed, "_encode", crowded)
    clips = waves(0.5, 0.3, 0.9, 0.4, 0.8)
    layers = packed.encode(clips, ["layers"])["layers"]
    assert sizes[0] == 5
    assert max(sizes[1:]) < 5
    np.testing.assert_allclose(layers, oracle.encode(clips, ["layers"])["layers"], atol=1e-5)
    with pytest.raises(EncoderError, match="a clip of 2 s does not fit into memory .*Cut it, end other"):
        packed.encode(waves(2.0), ["pooled"])


def test_one_frame_is_the_shortest_clip(checkpoint: Path) -> None:
    packed, _ = both(checkpoint)
    assert packed.shortest == 400 / 16_000
    assert np.isfinite(packed.encode([noise(0.025).astype(np.float32)], ["std"])["std"]).all()
    with pytest.raises(AudioError, match=r"399 samples at 16,000 Hz \(24.9 ms\); tiny-wav2vec2 needs at least 400\."):
        packed.encode([np.zeros(399, np.float32)], ["pooled"])
    empty = packed.encode([], ["pooled", "layers", "frames:1"])
    assert (empty["pooled"].shape, empty["layers"].shape, len(empty["frames:1"])) == ((0, 32), (0, 3, 32), 0)


@pytest.mark.parametrize(
    ("family", "changes", "reason"),
    [
        ("Wav2Vec2Conformer", {}, f"wav2vec2-conformer is not one of {', '.join(FAMILIES)}"),
        ("Wav2Vec2", {"hidden_act": "relu"}, "its activation is not the exact GELU"),
        ("Wav2Vec2", {"do_stable_layer_norm": True, "adapter_attn_dim": 8}, "it has attention adapters"),
        ("Hubert", {"conv_pos_batch_norm": True}, "its positional convolution has a batch norm"),
        ("Wav2Vec2", {"tie_last_hidden_states": True}, "its last hidden state is normalised"),
        ("Wav2Vec2", {"conv_stride": (5, 2, 2, 2, 2, 2, 1)}, "one of its frames sees more than two hops of samples"),
    ],
)
def test_other_architectures_go_to_the_oracle_with_a_line_that_says_so(
    tmp_path: Path, family: str, changes: dict, reason: str
) -> None:
    heard: list[str] = []
    encoder = load_encoder(str(save_checkpoint(tmp_path / "odd", family, **changes)), log=heard.append)
    assert isinstance(encoder, HuggingFaceEncoder)
    assert heard == [
        f"note: odd: {reason}, so the packed engine cannot run it; transformers' own forward pass is used instead, "
        "which is slower."
    ]
    assert encoder.encode(waves(0.4), ["layers"])["layers"].shape == (1, 3, 32)


def test_the_engine_is_the_default_and_keeps_no_second_copy_of_the_weights(checkpoint: Path) -> None:
    heard: list[str] = []
    encoder = load_encoder(str(checkpoint), log=heard.append)
    assert isinstance(encoder, Packed)
    assert heard == []
    assert not hasattr(encoder, "model")


def test_a_processor_without_fast_bf16_says_so(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False}, raising=False)
    heard: list[str] = []
    load_encoder(str(checkpoint), "cpu", "bf16", log=heard.append)
    assert heard == ["note: this processor has no bf16 instructions; --precision fp32 is faster here, and exact."]
    with pytest.raises(EncoderError, match="got the precision 'fp8'; wanted one of fp32, bf16, fp16"):
        load_encoder(str(checkpoint), precision="fp8")


@given(st.lists(st.integers(1, 300), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_clips_lie_in_slots_that_no_frame_shares(frames: list[int]) -> None:
    layout = Layout.of(frames)
    assert layout.slots == sum(frames) + len(frames)
    assert len(set(layout.valid().tolist())) == sum(frames)
    assert set(range(layout.slots)) - set(layout.valid().tolist()) == {
        start + n for start, n in zip(layout.starts, frames, strict=True)
    }


@given(st.lists(st.integers(0, 2), max_size=20))
def test_spans_are_stretches_of_equal_values(values: list[int]) -> None:
    stretches = equal_spans(values) if values else []
    assert [value for a, b in stretches for value in values[a:b]] == values
    assert all(len(set(values[a:b])) == 1 for a, b in stretches)
    assert all(values[b - 1] != values[b] for _, b in stretches[:-1])


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30).map(sorted))
def test_groups_pad_at_most_an_eighth_and_lose_no_frame(frames: list[int]) -> None:
    pack = attention.Pack.of(Layout.of(frames), CPU, grouped=True)
    spans = attention.near_spans(frames)
    assert [number for begin, end in spans for number in range(begin, end)] == list(range(len(frames)))
    assert all(frames[end - 1] <= 1.125 * frames[begin] for begin, end in spans)
    assert all(frames[begin] > 1.125 * frames[before] for (before, _), (begin, _) in pairwise(spans))
    x = torch.arange(2 * sum(frames)).view(-1, 2)
    parts = pack.split(x)
    assert torch.equal(pack.join([part.flatten(0, 1) for part in parts]), x)
    for part, group, (begin, end) in zip(parts, pack.groups, spans, strict=True):
        assert part.shape == (end - begin, frames[end - 1], 2)
        shown = torch.zeros(end - begin, frames[end - 1]) if group.mask is None else group.mask[:, 0, 0]
        assert (shown == 0).sum(1).tolist() == frames[begin:end]


def test_views_are_put_back_in_order(checkpoint: Path) -> None:
    info = load_encoder(str(checkpoint)).info
    rows = np.arange(4, dtype=np.float32)[:, None].repeat(32, 1)
    ragged = Frames.of(np.arange(10, dtype=np.float16)[:, None].repeat(32, 1), [1, 2, 3, 4])
    first = {"pooled": rows[:2], "frames:0": ragged.take([0, 1])}
    second = {"pooled": rows[2:], "frames:0": ragged.take([2, 3])}
    batch = restore_order(info, ["pooled", "frames:0"], [([2, 0], first), ([3, 1], second)])
    assert batch["pooled"][:, 0].tolist() == [1, 3, 0, 2]
    assert [len(frames) for frames in batch["frames:0"]] == [2, 4, 1, 3]


def test_frames_are_resolved_by_layer(checkpoint: Path) -> None:
    encoder = load_encoder(str(checkpoint))
    assert resolve_views(["pooled", "frames"], encoder) == ("pooled", "frames:2")
    assert resolve_views(["frames:all", "frames:1"], encoder) == ("frames:0", "frames:1", "frames:2")
    with pytest.raises(EncoderError, match=r"has no view 'frames:3'; have pooled, layers, std, frames"):
        resolve_views(["frames:3"], encoder)
    with pytest.raises(EncoderError, match=r"mfcc: has no view 'std'; have pooled, layers, frames\."):
        resolve_views(["std"], load_encoder("mfcc"))
