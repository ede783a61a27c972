"""Tiny checkpoints of real architectures, as transformers writes them."""

from __future__ import annotations

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
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    return folder
