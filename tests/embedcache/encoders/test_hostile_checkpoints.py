"""Checkpoints from a stranger: no pickle is loaded, no file outside is read, nothing that is noted is believed."""

import functools
import io
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.hostile import GIB, NO_FILE, Attack, Evil, edit, sparse

from embedcache import EncoderError, load_encoder
from embedcache.encoders._lazy import LazyEncoder
from embedcache.files import stamps


def settings(**changes: object) -> Attack:
    return lambda folder, canary: edit(folder / "config.json", lambda config: config.update(changes))


def features(**changes: object) -> Attack:
    return lambda folder, canary: edit(folder / "preprocessor_config.json", lambda config: config.update(changes))


def pickled(make: Callable[[Path], bytes]) -> Attack:
    """Weights as a pickle, of the size of real ones."""

    def attack(folder: Path, canary: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(make(canary))

    return attack


def torch_saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save({"padding": torch.zeros(50_000), "payload": content}, file)
    return file.getvalue()


def tensors(header: object, length: int | None = None) -> Attack:
    """Weights whose safetensors header is another, before as many bytes as real ones have."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()

    def attack(folder: Path, canary: Path) -> None:
        start = struct.pack("<Q", len(text) if length is None else length)
        (folder / "model.safetensors").write_bytes(start + text + bytes(200_000))

    return attack


def one(**more: object) -> dict:
    return {"a": {"dtype": "F32", "shape": [50_000], "data_offsets": [0, 200_000], **more}}


def sharded(where: Callable[[Path], str]) -> Attack:
    """The weights lie elsewhere, and an index leads there."""

    def attack(folder: Path, canary: Path) -> None:
        from safetensors import safe_open

        other = shutil.move(folder / "model.safetensors", canary.parent / "other.safetensors")
        with safe_open(other, "pt") as file:
            index = {"metadata": {}, "weight_map": dict.fromkeys(file.keys(), where(canary.parent))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return attack


def remote(name: str, part: str) -> Attack:
    """A network of its own, in a file that would touch the canary."""

    def attack(folder: Path, canary: Path) -> None:
        (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
        edit(folder / name, lambda config: config.update(auto_map={part: "evil.Evil"}))

    return attack


def instead(name: str, make: Callable[[Path], object]) -> Attack:
    def attack(folder: Path, canary: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return attack


def into(name: str) -> Attack:
    """Move the files into a folder of the checkpoint."""

    def attack(folder: Path, canary: Path) -> None:
        files = list(folder.iterdir())
        (folder / name).mkdir()
        for path in files:
            path.rename(folder / name / path.name)

    return attack


LFS = b"\nversion https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
PICKLE = "its weights are a pickle that holds more than tensors, which ser never loads"
ELSEWHERE = "its 'weight_map' does not name files of the same folder"
CHECKPOINTS: dict[str, tuple[Attack, str]] = {
    "a pickle": (pickled(lambda c: pickle.dumps(Evil(c), protocol=2) + bytes(200_000)), PICKLE),
    "a pickle from torch.save": (pickled(lambda c: torch_saved(Evil(c))), PICKLE),
    "a partial in a pickle": (pickled(lambda c: torch_saved(functools.partial(os.system, f"touch {c}"))), PICKLE),
    "a broken pickle": (pickled(lambda c: b"\x80\x02" + bytes(200_000)), PICKLE),
    "a header of 2**60 bytes": (tensors(b"{}", 2**60), "header too large"),
    "tensors beyond the file": (tensors(one(shape=[5_000_000], data_offsets=[0, 20_000_000])), "not fully covered"),
    "tensors that overlap": (tensors({**one(), "b": one(data_offsets=[4, 200_004])["a"]}), "invalid offset"),
    "tensors that end before they begin": (tensors(one(data_offsets=[200_000, 0])), "invalid offset"),
    "more numbers than can be counted": (tensors(one(shape=[2**62, 2**62])), "overflow"),
    "numbers of no kind": (tensors(one(dtype="EVIL")), "unknown variant"),
    "a header in brackets": (tensors(b"[" * 90_000), "invalid type"),
    "weights that climb out": (sharded(lambda place: "../other.safetensors"), ELSEWHERE),
    "weights from the root": (sharded(lambda place: str(place / "other.safetensors")), ELSEWHERE),
    "weights from the settings": (settings(transformers_weights="../x.safetensors"), "sets 'transformers_weights'"),
    "an index that is a list": (
        instead("model.safetensors", lambda p: p.with_name("model.safetensors.index.json").write_text("[]")),
        ELSEWHERE,
    ),
    "remote code": (remote("config.json", "AutoModel"), "config.json: sets 'auto_map', which would use code"),
    "remote code for features": (remote("preprocessor_config.json", "AutoFeatureExtractor"), "sets 'auto_map'"),
    "kernels from the hub": (
        settings(attn_implementation="kernels-community/x"),
        "would run code from outside the checkpoint",
    ),
    "kernels below": (
        settings(text_config={"_attn_implementation": "a/b"}),
        "would run code from outside the checkpoint",
    ),
    "quantised weights": (settings(quantization_config={"quant_method": "x"}), "sets 'quantization_config'"),
    "an adapter": (instead("adapter_config.json", lambda p: p.write_text("{}")), "is an adapter"),
    "a billion layers": (settings(num_hidden_layers=10**9), "sets 'num_hidden_layers' to 1,000,000,000"),
    "a billion labels": (settings(num_labels=10**9), "sets 'num_labels' to 1,000,000,000"),
    "a wider network than its weights": (
        settings(hidden_size=64_000, intermediate_size=64_000),
        r"describes a network of 65,\d+,\d+,\d+ numbers, but its weight files have only \d+,\d+ bytes",
    ),
    "ten thousand convolutions": (settings(conv_dim=[1] * 10_000), "to a list of 10,000"),
    "steps of nothing": (settings(conv_stride=[0] * 7), "sets 'conv_stride' to 0; wanted 1 to"),
    "words for numbers": (settings(num_hidden_layers="many"), "cannot be loaded from"),
    "a byte order mark": (
        instead("config.json", lambda p: p.write_bytes(b"\xef\xbb\xbf{}")),
        "cannot be read as JSON: .* Copy or download it again; an editor must save it as UTF-8, without a byte order",
    ),
    "a pointer for settings": (instead("config.json", lambda p: p.write_bytes(LFS)), "is a git-LFS pointer, not JSON"),
    "a pointer for weights": (
        instead("model.safetensors", lambda p: p.write_bytes(LFS)),
        r"model.safetensors: is a git-LFS pointer, not weights. Run `git lfs pull`",
    ),
    "another size": (
        settings(intermediate_size=32),
        r"6 tensors have other sizes than its config.json describes \(first: 'encoder.layers.0.feed_forward."
        r"intermediate_dense.bias' is \(64,\), wanted \(32,\)\). Use the config.json",
    ),
    "no settings of features": (
        lambda folder, canary: (folder / "preprocessor_config.json").unlink(),
        "lacks preprocessor_config.json. Wanted the files .* Copy it from the checkpoint that this one was trained",
    ),
    "no weights": (
        lambda folder, canary: (folder / "model.safetensors").unlink(),
        "lacks model.safetensors. Wanted the files .* Copy or download them again",
    ),
    "the output of a Trainer": (
        into("checkpoint-500"),
        "lacks config.json, preprocessor_config.json, model.safetensors. .*are in folders of it: checkpoint-500. Use",
    ),
    "numbers without an end": (settings(hidden_size=float("inf")), "cannot be loaded from"),
    "a list for a name": (settings(model_type=["a"]), "cannot be loaded from"),
    "null for a config": (instead("config.json", lambda p: p.write_text("null")), "cannot be loaded from"),
    "a list for features": (instead("preprocessor_config.json", lambda p: p.write_text("[]")), "cannot be loaded from"),
    "a config in brackets": (instead("config.json", lambda p: p.write_text("[" * 100_000)), "cannot be read as JSON"),
    "a config of 1 GB": (instead("config.json", lambda p: sparse(p, GIB)), "has 1,073,741,824 bytes; wanted at most"),
    "features of 1 GB": (instead("preprocessor_config.json", lambda p: sparse(p, GIB)), "has 1,073,741,824 bytes"),
    "a pipe": (instead("config.json", os.mkfifo), NO_FILE),
    "a filter bank of 37 GB": (
        features(feature_extractor_type="WhisperFeatureExtractor", n_fft=100_000, feature_size=100_000),
        "wanted -4,096 to 4,096",
    ),
    "no samples a second": (
        features(sampling_rate=0),
        "its sampling_rate is 0; wanted a whole number of 1,000 to 192,000 Hz",
    ),
    "a word of samples a second": (features(sampling_rate="fast"), "its sampling_rate is 'fast'; wanted"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_that_lies_is_refused(checkpoint: Path, tmp_path: Path, canary: Path, name: str) -> None:
    attack, said = CHECKPOINTS[name]
    folder = shutil.copytree(checkpoint, tmp_path / "net")
    attack(folder, canary)
    with pytest.raises(EncoderError, match=f"(?s){said}") as error:
        load_encoder(str(folder))
    assert str(folder) in str(error.value)


def test_an_index_of_other_weights_than_are_taken_does_no_harm(checkpoint: Path, tmp_path: Path) -> None:
    """Hub repositories hold weights twice; of the pickles, only the index is downloaded."""
    folder = shutil.copytree(checkpoint, tmp_path / "net")
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}')
    assert load_encoder(str(folder)).info.fingerprint == load_encoder(str(checkpoint)).info.fingerprint


@pytest.mark.parametrize("family", ["Wav2Vec2", "Hubert", "WavLM", "Whisper", "Data2VecAudio", "SEWD", "Wav2Vec2Bert"])
def test_no_family_s_own_settings_are_refused(family: str) -> None:
    import transformers

    from embedcache.encoders.checkpoint import _find_fault, _walk_settings

    config = json.loads(getattr(transformers, f"{family}Config")().to_json_string(use_diff=False))
    assert [fault for name, value in _walk_settings(config) if (fault := _find_fault(name, value))] == []


def test_what_a_stranger_remembers_of_an_encoder_is_not_believed(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "GRAIN_NS", 0)
    folder, memory = shutil.copytree(checkpoint, tmp_path / "net"), tmp_path / "encoders.json"
    load_encoder(str(folder), memory=memory)
    (entry,) = json.loads(memory.read_text()).values()
    info = json.loads(entry["info"])
    assert isinstance(load_encoder(str(folder), memory=memory), LazyEncoder)
    lies = [
        {"info": json.dumps({**info, **change})}
        for change in ({"name": "../../x"}, {"name": ".."}, {"n_layers": 10**12}, {"n_layers": "3"}, {"dim": None})
    ]
    for lie in (*lies, {"info": "[" * 100_000}, {"shortest": float("nan")}, {"longest": float("inf")}, {"views": 3}):
        memory.write_text(json.dumps({f"{folder} fp32": {**entry, **lie}}))
        assert not isinstance(load_encoder(str(folder), memory=memory), LazyEncoder)
