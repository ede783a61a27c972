"""Tiny checkpoints of real architectures, as transformers writes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path


def tiny_config(family: str, **changes: object) -> object:
    """A config of two layers and 32 dimensions, otherwise as the family's base model."""
    import transformers

    small = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "conv_dim": (32,) * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    }
    return getattr(transformers, f"{family}Config")(**{**small, **changes})


def save_checkpoint(folder: Path, family: str = "Wav2Vec2", **changes: object) -> Path:
    """A seeded tiny checkpoint, as save_pretrained writes it."""
    import torch
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = getattr(transformers, f"{family}Model")(tiny_config(family, **changes))
    model.save_pretrained(folder)
    if family == "Wav2Vec2Bert":
        transformers.SeamlessM4TFeatureExtractor().save_pretrained(folder)
    else:
        transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    return folder


def save_whisper(folder: Path) -> Path:
    """A seeded tiny Whisper with its feature extractor."""
    import torch
    import transformers

    small = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4}
    small |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    with torch.random.fork_rng():
        torch.manual_seed(2)
        transformers.WhisperModel(transformers.WhisperConfig(**small)).save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def save_ast(folder: Path) -> Path:
    """A seeded tiny AST with its feature extractor."""
    import torch
    import transformers

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        transformers.ASTModel(transformers.ASTConfig(**small)).save_pretrained(folder)
    transformers.ASTFeatureExtractor().save_pretrained(folder)
    return folder


def save_with_processor(checkpoint: Path, folder: Path, **settings: object) -> Path:
    """A copy of a checkpoint as its processor saves it: the processor's file has the settings of the feature extractor.

    `settings` change the feature extractor.
    """
    import transformers

    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("preprocessor_config.json"))
    features = transformers.Wav2Vec2FeatureExtractor(**{"return_attention_mask": False, **settings})
    words = ["<pad>", "<s>", "</s>", "<unk>", "|", "a", "b"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(folder / "vocab.json")
    transformers.Wav2Vec2Processor(features, tokenizer).save_pretrained(folder)
    return folder
