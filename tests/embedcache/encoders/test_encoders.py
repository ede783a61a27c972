"""Encoders against their oracle, transformers' own forward; and what happens to checkpoints that are not whole."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from helpers.checkpoints import save_ast, save_checkpoint, save_whisper
from helpers.hub import running_hub
from helpers.sounds import noise

from embedcache import AudioError, EncoderError, UnknownName, load_encoder
from embedcache.cache.extract import too_short_or_long
from embedcache.checks import check_encoder
from embedcache.encoders import _fixed_input, mfcc
from embedcache.encoders.checkpoint import untrained
from embedcache.encoders.huggingface import HuggingFaceEncoder, load_checkpoint

SEW = {"conv_dim": (32,) * 13}
RELATIVE = {"position_embeddings_type": "relative"}
FAMILIES = {
    "wav2vec2": ("Wav2Vec2", {}),
    "wav2vec2-stable": (
        "Wav2Vec2",
        {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True},
    ),
    "hubert": ("Hubert", {}),
    "wavlm": ("WavLM", {}),
    "unispeech-sat": ("UniSpeechSat", {}),
    "sew": ("SEW", SEW),
    "sew-d": ("SEWD", SEW),
    "data2vec-audio": ("Data2VecAudio", {}),
    "distilhubert": ("Hubert", {"feat_proj_layer_norm": False}),
    "wav2vec2-conformer": ("Wav2Vec2Conformer", {**RELATIVE, "max_source_positions": 40}),
    "wav2vec2-conformer-rope": ("Wav2Vec2Conformer", {"position_embeddings_type": "rotary"}),
    "wav2vec2-bert": ("Wav2Vec2Bert", {}),
    "wav2vec2-bert-relative": ("Wav2Vec2Bert", RELATIVE),
}


def by_hand(folder: Path, wave: np.ndarray) -> np.ndarray:
    """(L, D): the time means of transformers' hidden states."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    features = transformers.AutoFeatureExtractor.from_pretrained(folder)
    with torch.no_grad():
        inputs = features(wave, sampling_rate=16_000, return_tensors="pt")
        states = model(**inputs, output_hidden_states=True).hidden_states
    return np.stack([state[0].mean(0).numpy() for state in states])


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_the_time_means_of_the_hidden_states(tmp_path: Path, family: str) -> None:
    name, changes = FAMILIES[family]
    folder = save_checkpoint(tmp_path / "c", name, **changes)
    encoder = load_encoder(str(folder))
    waves = [noise(s, seed=n).astype(np.float32) for n, s in enumerate((0.3, 0.5, 1.1))]
    batch = encoder.encode(waves, ["layers", "pooled"])
    for wave, layers, pooled in zip(waves, batch["layers"], batch["pooled"], strict=True):
        np.testing.assert_allclose(layers, by_hand(folder, wave), atol=1e-5)
        np.testing.assert_array_equal(pooled, layers[-1])


@pytest.mark.parametrize("family", ["wav2vec2", "wav2vec2-stable", "hubert", "wavlm"])
def test_encoders_keep_the_contract(tmp_path: Path, family: str) -> None:
    name, changes = FAMILIES[family]
    check_encoder(load_encoder(str(save_checkpoint(tmp_path / "c", name, **changes))))


SHORTEST = {"sew": 720, "sew-d": 720, "wav2vec2-bert": 560, "wav2vec2-bert-relative": 560}  # samples; the others, 400


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shortest_clip_has_the_samples_of_one_frame(tmp_path: Path, family: str) -> None:
    """A clip of these samples is encoded, and its vector is not that of another clip; one sample less is refused."""
    name, changes = FAMILIES[family]
    encoder = load_encoder(str(save_checkpoint(tmp_path / "c", name, **changes)))
    samples = SHORTEST.get(family, 400)
    assert encoder.shortest == samples / 16_000
    waves = [noise(1.0, seed=seed)[:samples].astype(np.float32) for seed in (1, 2)]
    first, second = encoder.encode(waves, ["layers"])["layers"]
    assert np.isfinite(first).all()
    assert not np.allclose(first, second)
    short = f"got a waveform of {samples - 1} samples .*; c needs at least {samples}. Leave it out"
    with pytest.raises(AudioError, match=short):
        encoder.encode([waves[0][:-1]], ["layers"])


def test_sew_of_another_squeeze_needs_other_samples(tmp_path: Path) -> None:
    for factor, samples in ((1, 400), (4, 1360)):
        folder = save_checkpoint(tmp_path / str(factor), "SEW", **SEW, squeeze_factor=factor)
        encoder = load_encoder(str(folder))
        assert encoder.shortest * 16_000 == samples
        assert np.isfinite(encoder.encode([noise(1.0)[:samples].astype(np.float32)], ["pooled"])["pooled"]).all()


@pytest.mark.long
def test_the_control_is_wav2vec2_base_with_seeded_weights() -> None:
    encoder = load_encoder("wav2vec2-base-untrained")
    assert (encoder.info.n_layers, encoder.info.dim, encoder.info.sample_rate) == (13, 768, 16_000)
    assert encoder.shortest == pytest.approx(400 / 16_000)
    state = torch.random.get_rng_state()
    again = load_encoder("wav2vec2-base-untrained")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert again.info == encoder.info
    wave = noise(0.3).astype(np.float32)
    first, second = (e.encode([wave], ["layers"])["layers"] for e in (encoder, again))
    np.testing.assert_array_equal(first, second)
    oracle = untrained("fp32")
    inputs = oracle.features(wave, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        states = oracle.model(**inputs, output_hidden_states=True).hidden_states
    np.testing.assert_allclose(first[0], np.stack([s[0].mean(0) for s in states]), atol=1e-5)


def test_whispers_encoder_goes_through_the_oracle_without_its_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its input always lasts 30 s: the frames beyond each clip are left out, alone and in a batch of other clips."""
    folder = save_whisper(tmp_path / "whisper")
    model = transformers.WhisperModel.from_pretrained(folder).eval()
    features = transformers.WhisperFeatureExtractor()
    encoder = load_encoder(str(folder), "cpu")
    assert (encoder.longest, encoder.info.n_layers, encoder.info.dim) == (30.0, 3, 32)
    assert encoder.shortest == 400 / 16_000
    clips = [noise(seconds, seed=n).astype(np.float32) for n, seconds in enumerate((0.5, 1.0, 0.25))]
    wanted = []
    for wave, frames in zip(clips, (25, 50, 13), strict=True):
        with torch.no_grad():
            inputs = features(wave, sampling_rate=16_000, return_tensors="pt")
            states = model.encoder(**inputs, output_hidden_states=True).hidden_states
        wanted.append(np.stack([state[0, :frames].mean(0).numpy() for state in states]))
    passes: list[int] = []
    encode = HuggingFaceEncoder._encode
    monkeypatch.setattr(HuggingFaceEncoder, "_encode", lambda self, *a: passes.append(len(a[0])) or encode(self, *a))
    for together, counts in ((1, [1, 1, 1]), (2, [2, 1])):
        monkeypatch.setitem(_fixed_input.TOGETHER, "cpu", together)
        np.testing.assert_allclose(encoder.encode(clips, ["layers"])["layers"], wanted, atol=1e-5)
        assert passes == counts
        passes.clear()


def test_the_frames_of_ast_are_means_over_bands_within_the_clip(tmp_path: Path) -> None:
    """Its input always lasts 10.24 s: 101 patches in each of 12 bands, after two tokens for all of it."""
    encoder = load_encoder(str(save_ast(tmp_path / "ast")), "cpu")
    assert (encoder.longest, encoder.shortest, encoder.info.n_layers, encoder.info.dim) == (10.24, 400 / 16_000, 3, 32)
    assert encoder.info.preprocessing.endswith("; frames of the clip")  # not those of a store of all tokens
    model = transformers.ASTModel.from_pretrained(tmp_path / "ast").eval()
    features = transformers.ASTFeatureExtractor.from_pretrained(tmp_path / "ast")
    clips = [noise(seconds, seed=n).astype(np.float32) for n, seconds in enumerate((0.5, 10.24, 0.025, 1.01))]
    got = encoder.encode(clips, ["layers", "frames:2"])
    for n, (wave, frames) in enumerate(zip(clips, (5, 101, 1, 11), strict=True)):
        with torch.no_grad():
            inputs = features(wave, sampling_rate=16_000, return_tensors="pt")
            states = model(**inputs, output_hidden_states=True).hidden_states
        wanted = [state[0, 2:].view(12, 101, 32).mean(0)[:frames] for state in states]
        np.testing.assert_allclose(got["layers"][n], np.stack([rows.mean(0) for rows in wanted]), atol=1e-5)
        np.testing.assert_allclose(got["frames:2"][n], wanted[2], atol=2e-3)
    check_encoder(encoder)


def test_a_clip_that_ast_would_cut_is_refused(tmp_path: Path) -> None:
    encoder = load_encoder(str(save_ast(tmp_path / "ast")), "cpu")
    limits = encoder.info.name, encoder.info.sample_rate, encoder.shortest, encoder.longest
    assert "takes clips of up to 10 s" in too_short_or_long("a.wav", 10.3, *limits)


def test_a_feature_extractor_that_cuts_clips_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of a family whose input `ser` does not know to be fixed."""
    folder = save_ast(tmp_path / "ast")
    monkeypatch.setattr(_fixed_input, "MAKERS", {})
    with pytest.raises(EncoderError, match="its feature extractor cuts or pads every clip to one length"):
        load_encoder(str(folder), "cpu")


def test_the_fingerprint_follows_weights_and_configs(checkpoint: Path, tmp_path: Path) -> None:
    reference = load_checkpoint(str(checkpoint)).info
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    assert load_checkpoint(str(copy)).info.fingerprint == reference.fingerprint
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps({**settings, "do_normalize": False}))
    assert load_checkpoint(str(copy)).info.fingerprint != reference.fingerprint
    other = save_checkpoint(tmp_path / "other", layer_norm_eps=1e-4)
    assert load_checkpoint(str(other)).info.fingerprint != reference.fingerprint


def change_weights(folder: Path, change: object) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_checkpoint_that_is_not_whole_is_refused_by_name(checkpoint: Path, tmp_path: Path) -> None:
    key = "encoder.layers.0.attention.q_proj.weight"
    lacking = shutil.copytree(checkpoint, tmp_path / "lacking")
    change_weights(lacking, lambda weights: weights.pop(key))
    with pytest.raises(
        EncoderError, match=rf"lacks 1 tensors of its network \(first: '{key}'\), which would be random"
    ):
        load_encoder(str(lacking))
    poisoned = shutil.copytree(checkpoint, tmp_path / "poisoned")
    change_weights(poisoned, lambda weights: weights[key].fill_(float("nan")))
    with pytest.raises(EncoderError, match=f"tensor '{key}' holds NaN or infinite weights"):
        load_encoder(str(poisoned))
    extra = shutil.copytree(checkpoint, tmp_path / "extra")
    change_weights(extra, lambda weights: weights.update({"encoder.layers.2.final_layer_norm.bias": torch.zeros(32)}))
    with pytest.raises(EncoderError, match=r"extra: holds 1 tensors .*first: 'encoder.layers.2.final_layer_norm.bias'"):
        load_encoder(str(extra))
    head = shutil.copytree(checkpoint, tmp_path / "head")
    change_weights(head, lambda weights: weights.update({"classifier.weight": torch.zeros(8, 32)}))
    assert load_encoder(str(head)).info.fingerprint == load_encoder(str(checkpoint)).info.fingerprint
    torn = shutil.copytree(checkpoint, tmp_path / "torn")
    data = (torn / "model.safetensors").read_bytes()
    (torn / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(EncoderError, match="cannot be loaded from"):
        load_encoder(str(torn))
    (lacking / "preprocessor_config.json").unlink()
    with pytest.raises(EncoderError, match="Wanted the files that save_pretrained writes"):
        load_encoder(str(lacking))


def whisper(folder: Path) -> None:
    sizes = {f"{part}_{name}": 2 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    tokens = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)
    config = transformers.WhisperConfig(
        d_model=32, encoder_ffn_dim=64, decoder_ffn_dim=64, vocab_size=100, **sizes, **tokens
    )
    transformers.WhisperModel(config).save_pretrained(folder)


def bert(folder: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    transformers.BertModel(transformers.BertConfig(vocab_size=100, **sizes)).save_pretrained(folder)


def spectrograms(folder: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    transformers.ASTModel(transformers.ASTConfig(**sizes)).save_pretrained(folder)


def codec(folder: Path) -> None:
    sizes = {"num_filters": 4, "hidden_size": 32, "codebook_size": 16, "codebook_dim": 32}
    transformers.EncodecModel(transformers.EncodecConfig(**sizes)).save_pretrained(folder)


def wavlm(folder: Path) -> None:
    save_checkpoint(folder, "WavLM")


# network, feature extractor, what is said
MISFITS = {
    "text": (bert, "Wav2Vec2", r"its network takes input_ids, its feature extractor gives input_values\)"),
    "wavlm": (wavlm, "Whisper", r"its network takes input_values, its feature extractor gives input_features\)"),
    "whisper": (whisper, "Wav2Vec2", r"its network takes input_features, its feature extractor gives input_values\)"),
    "spectrograms": (spectrograms, "Wav2Vec2", r"cannot encode sound \(Dimension out of range .*\)"),
    "codec": (codec, "Encodec", "its config.json has no num_hidden_layers"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_checkpoint_that_encodes_no_speech_is_refused_when_it_is_loaded(tmp_path: Path, name: str) -> None:
    save, features, said = MISFITS[name]
    save(tmp_path / "net")
    getattr(transformers, f"{features}FeatureExtractor")().save_pretrained(tmp_path / "net")
    wanted = rf"{tmp_path}/net: .*{said}; wanted a speech encoder. Use a speech encoder with its own feature extractor"
    with pytest.raises(EncoderError, match=wanted):
        load_encoder(str(tmp_path / "net"))


@pytest.mark.parametrize("name", ["mfcc", "packed", "wavlm"])
def test_arrays_that_are_no_sound_are_refused(checkpoint: Path, tmp_path: Path, name: str) -> None:
    source = {"mfcc": "mfcc", "packed": str(checkpoint), "wavlm": str(tmp_path / "wavlm")}[name]
    if name == "wavlm":
        wavlm(tmp_path / "wavlm")
    encoder, sound = load_encoder(source, "cpu"), noise(0.5).astype(np.float32)
    spoilt = {
        r"got int16 \(8000,\); wanted floats \(samples,\) in \[-1, 1\]": (32_767 * sound).astype(np.int16),
        r"got float32 \(8000, 1\)": sound[:, None],
        "got list; wanted": sound.tolist(),
        "got MaskedArray; wanted": np.ma.masked_array(sound),
        r"a sample is \d.\de\+04, where 1 is full scale. Pass floats in \[-1, 1\]": 32_768 * sound,
        "all samples are whole numbers": np.rint(32_768 * sound),
        "1 of 8000 samples are NaN or infinite": np.where(sound == sound.max(), np.nan, sound),
    }
    for said, wave in spoilt.items():
        with pytest.raises(AudioError, match=said):
            encoder.encode([sound, wave], ["pooled"])
    encoder.encode([sound, 30 * sound, sound.astype(np.float64)], ["pooled"])


@pytest.mark.parametrize("name", [None, "", Path("mfcc")])
def test_an_encoder_is_named_by_a_text(name: object) -> None:
    with pytest.raises(EncoderError, match=r"got the encoder .*; wanted its name, or a checkpoint's folder or hub id"):
        load_encoder(name)


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_checkpoints_as_the_hub_has_them_are_the_same_encoder(checkpoint: Path, tmp_path: Path, ending: str) -> None:
    """Older names of the weight norm, a prefix, and the heads of pretraining beside the network."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(checkpoint, tmp_path / "hub")
    names = {".weight.original0": ".weight_g", ".weight.original1": ".weight_v"}
    weights = {"quantizer.codevectors": torch.zeros(1, 4, 4), "project_q.weight": torch.zeros(3, 3)}
    for key, tensor in load_file(folder / "model.safetensors").items():
        stem, _, last = key.rpartition(".parametrizations")
        weights[f"wav2vec2.{stem}{names[last]}" if stem else f"wav2vec2.{key}"] = tensor.clone()
    (folder / "model.safetensors").unlink()
    if ending == "bin":
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_encoder(str(folder)).info.fingerprint == load_encoder(str(checkpoint)).info.fingerprint


def test_remote_code_is_never_run(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "remote")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.EvilModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(EncoderError):
        load_encoder(str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def hub(checkpoint: Path) -> Iterator[str]:
    """A hub on this machine that has `some/tiny`."""
    with running_hub({"a" * 40: checkpoint}, {"main": "a" * 40}) as url:
        yield url


@pytest.mark.long
def test_a_hub_checkpoint_is_downloaded_once_and_then_used_offline(hub: str, ser, tmp_path: Path, tree: Path) -> None:
    world = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    command = ("extract", "--dataset", "ravdess", "--root", tree, "--encoder", "some/tiny")
    first = ser(*command, env=world)
    assert first.returncode == 0, first.stderr
    assert "encoded now: 24" in first.stdout
    offline = {**world, "HF_ENDPOINT": "http://127.0.0.1:9"}
    again = ser(*command, env=offline)
    assert "encoded now: 0;" in again.stdout, again.stderr
    absent = ser(*command[:-1], "some/other", env=world)
    assert absent.returncode == 1
    assert "error: some/other: no such checkpoint on the hub" in absent.stderr


def test_an_unreachable_hub_names_the_checkpoint_the_cache_and_both_ways_out(ser, tree: Path, tmp_path: Path) -> None:
    world = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}
    result = ser("extract", "--dataset", "ravdess", "--root", tree, env=world)
    assert (result.returncode, result.stdout) == (1, "")
    for said in (
        "facebook/wav2vec2-base: ",
        str(tmp_path / "hf" / "hub"),
        "--encoder FOLDER",
        "wav2vec2-base-untrained",
    ):
        assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_device_that_is_not_there_is_an_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(EncoderError, match=r"--device cuda: torch .* sees 0 CUDA devices. Use --device cpu"):
        load_encoder("wav2vec2-base-untrained", "cuda")
    with pytest.raises(EncoderError, match="got the device 'gpu'; wanted auto, cpu, cuda or cuda:N"):
        load_encoder("wav2vec2-base-untrained", "gpu")
    with pytest.raises(EncoderError, match="got the device 'meta'; wanted auto, cpu, cuda or cuda:N"):
        load_encoder("wav2vec2-base-untrained", "meta")
    with pytest.raises(EncoderError, match="mfcc has no weights and runs on the CPU only"):
        load_encoder("mfcc", "cuda")


def test_a_name_that_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'hubert-base'"):
        load_encoder("hubrt")


def test_mfcc_keeps_the_contract() -> None:
    check_encoder(load_encoder("mfcc"))


def test_mfcc_agrees_with_librosa() -> None:
    import librosa

    wave = noise(1.0).astype(np.float32)
    contours, _ = mfcc._contours(wave)
    power = librosa.stft(wave, n_fft=512, hop_length=160, win_length=400, window="hann", pad_mode="constant")
    log_mel = librosa.power_to_db(
        librosa.feature.melspectrogram(S=np.abs(power) ** 2, sr=16_000, n_mels=64), amin=1e-10, top_db=None
    )
    ours = contours[120:184]
    # librosa centres its 400-sample window in 512 samples: the same samples, the same frames
    np.testing.assert_allclose(ours, log_mel, atol=0.05)
    theirs = librosa.feature.mfcc(S=log_mel, n_mfcc=40)
    np.testing.assert_allclose(contours[:40], theirs, atol=0.1)
    np.testing.assert_allclose(contours[40:80, 4:-4], librosa.feature.delta(theirs, width=9)[:, 4:-4], atol=0.05)


@pytest.mark.parametrize("hertz", [80, 120, 220, 400])
def test_mfcc_hears_pitch_and_voicing(hertz: int) -> None:
    t = np.arange(16_000) / 16_000
    voice = sum(np.sin(2 * np.pi * hertz * k * t) / k for k in range(1, 8)).astype(np.float32) * 0.2
    silence_then_voice = np.concatenate([1e-4 * noise(0.5).astype(np.float32), voice])
    contours, voiced = mfcc._contours(silence_then_voice)
    assert not voiced[:40].any()
    assert voiced[60:-10].all()
    assert 2 ** np.median(contours[191][60:-10]) == pytest.approx(hertz, rel=0.03)


def test_mfcc_of_silence_is_finite() -> None:
    assert np.isfinite(mfcc.statistics(np.zeros(16_000, np.float32))).all()


def test_mfcc_gives_the_numbers_of_its_recipe() -> None:
    """Measured with version 1 of the recipe. Where this fails on purpose, raise `recipe_version` with it."""
    t = np.arange(16_000) / 16_000
    wave = (0.3 * np.sin(2 * np.pi * (150 + 50 * t) * t) + 0.05 * np.sin(2 * np.pi * 2500 * t)).astype(np.float32)
    rows = mfcc.statistics(wave).reshape(5, 194)
    assert mfcc.load().info.recipe_version == 1
    np.testing.assert_allclose(
        rows[0, [0, 1, 39, 40, 120, 150, 183, 184, 190, 191, 192, 193]],
        [-552.605, 161.19, 0.622, 0.198, -31.175, -88.761, -98.393, 56.394, 0.034, 7.571, 8.336, 0.985],
        atol=2e-2,
    )
    np.testing.assert_allclose(rows[:, 191], [7.5707, 0.2846, 7.2793, 7.9434, 7.5707], atol=1e-3)


@pytest.mark.parametrize("name", ["mfcc+net", "facebook/wav2vec2-base+mfcc", "mfcc+mfcc", "user/a@v1+user/b"])
def test_joined_encoders_are_extracted_one_by_one(name: str) -> None:
    with pytest.raises(EncoderError) as error:
        load_encoder(name)
    assert f"got the encoder {name}, which is several joined by +; wanted one. Extract each one" in str(error.value)
    assert f"(--encoder {name.partition('+')[0]}" in str(error.value)


@pytest.mark.parametrize("name", ["mfcc+", "nope+neither"])
def test_other_names_with_a_plus_are_unknown(name: str) -> None:
    with pytest.raises(UnknownName, match=re.escape(f"no encoder '{name}'")):
        load_encoder(name)
