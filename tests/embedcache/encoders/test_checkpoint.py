"""What files of today's transformers hold: nested settings, names of attention, tables that are not saved."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkpoints import save_checkpoint, save_with_processor
from helpers.hostile import edit
from helpers.sounds import noise
from safetensors.torch import load_file, save_file

from embedcache import Encoder, EncoderError, load_encoder

WAVE = noise(0.5).astype(np.float32)
Weights = dict[str, torch.Tensor]


def layers(encoder: Encoder) -> np.ndarray:
    return np.asarray(encoder.encode([WAVE], ["layers"])["layers"][0])


def change_weights(folder: Path, change: Callable[[Weights], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("settings", [{"do_normalize": False}, {"sampling_rate": 8_000}, {}])
def test_settings_that_are_nested_in_the_processors_file_are_read(
    checkpoint: Path, tmp_path: Path, settings: dict
) -> None:
    """As transformers 5 saves a feature extractor together with a tokenizer: without preprocessor_config.json."""
    nested = save_with_processor(checkpoint, tmp_path / "nested", **settings)
    assert not (nested / "preprocessor_config.json").exists()
    plain = shutil.copytree(checkpoint, tmp_path / "plain")
    edit(plain / "preprocessor_config.json", lambda content: content.update(settings))
    encoder, wanted = load_encoder(str(nested)), load_encoder(str(plain))
    assert encoder.info.sample_rate == settings.get("sampling_rate", 16_000)
    assert ("as it is" in encoder.info.preprocessing) == ("do_normalize" in settings)
    assert encoder.info.fingerprint == wanted.info.fingerprint
    np.testing.assert_array_equal(layers(encoder), layers(wanted))


def test_settings_are_never_guessed(checkpoint: Path, tmp_path: Path) -> None:
    """A processor's file that holds no settings of the feature extractor does not stand for its file."""
    folder = save_with_processor(checkpoint, tmp_path / "folder")
    edit(folder / "processor_config.json", lambda content: content.pop("feature_extractor"))
    with pytest.raises(EncoderError, match=r"Wanted the files .*: config.json, preprocessor_config.json or processor_"):
        load_encoder(str(folder))


@pytest.mark.parametrize("family", ["Wav2Vec2", "WavLM", "Data2VecAudio"])
@pytest.mark.parametrize("setting", ["attn_implementation", "_attn_implementation"])
def test_the_attention_that_a_config_names_is_not_used(tmp_path: Path, family: str, setting: str) -> None:
    """Neither FlashAttention nor what rounds differently: fingerprint and vectors are those without the setting."""
    folder = save_checkpoint(tmp_path / "c", family)
    wanted = load_encoder(str(folder))
    for name in ("flash_attention_2", "flash_attention_3", "sdpa", "eager", "flex_attention", {"": "eager"}):
        edit(folder / "config.json", lambda config, name=name: config.update({setting: name}))
        encoder = load_encoder(str(folder))
        assert encoder.info.fingerprint == wanted.info.fingerprint, name
        np.testing.assert_array_equal(layers(encoder), layers(wanted), err_msg=str(name))


RELATIVE = ("Wav2Vec2Conformer", {"position_embeddings_type": "relative"}, "encoder.embed_positions.pe")
ROTARY = ("Wav2Vec2Conformer", {"position_embeddings_type": "rotary"}, "encoder.embed_positions.inv_freq")
BERT = ("Wav2Vec2Bert", {"position_embeddings_type": "rotary"}, "encoder.embed_positions.inv_freq")


@pytest.mark.parametrize(("family", "changes", "table"), [RELATIVE, ROTARY, BERT])
def test_a_table_that_is_computed_may_be_in_the_weight_file_or_not(
    tmp_path: Path, family: str, changes: dict, table: str
) -> None:
    """The table of relative positions alone has more numbers than this weight file has bytes."""
    with_table, without = (save_checkpoint(tmp_path / name, family, **changes) for name in ("with", "without"))
    change_weights(with_table, lambda weights: weights.setdefault(table, torch.zeros(4)))
    change_weights(without, lambda weights: weights.pop(table, None))
    first, second = load_encoder(str(with_table)), load_encoder(str(without))
    assert first.info.fingerprint == second.info.fingerprint
    np.testing.assert_array_equal(layers(first), layers(second))


def test_the_count_of_batches_may_be_missing_but_not_what_training_measured(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "c", "Wav2Vec2Conformer")
    wanted = layers(load_encoder(str(folder)))
    norm = "encoder.layers.1.conv_module.batch_norm"
    change_weights(folder, lambda weights: weights.pop(f"{norm}.num_batches_tracked"))
    np.testing.assert_array_equal(layers(load_encoder(str(folder))), wanted)
    for lost in (f"{norm}.running_mean", f"{norm}.running_var", "encoder.layers.0.self_attn.pos_bias_u"):
        copy = shutil.copytree(folder, tmp_path / lost)
        change_weights(copy, lambda weights, lost=lost: weights.pop(lost))
        with pytest.raises(EncoderError, match=rf"lacks 1 tensors of its network \(first: '{lost}'\)"):
            load_encoder(str(copy))


def test_a_table_without_an_end_is_never_computed(tmp_path: Path) -> None:
    """It is not in the weight file, so the size of the file does not bound it."""
    folder = save_checkpoint(tmp_path / "c", "Wav2Vec2Conformer")
    edit(folder / "config.json", lambda config: config.update(max_source_positions=3_900_000))
    with pytest.raises(EncoderError, match=r"describes tables of 249,599,968 numbers, .*; wanted at most 67,108,864"):
        load_encoder(str(folder))
