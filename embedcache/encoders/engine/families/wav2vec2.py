"""wav2vec 2.0, HuBERT, UniSpeech and UniSpeech-SAT: one network, trained in four ways.

XLS-R and MMS are wav2vec 2.0 trained on many languages, and DistilHuBERT is HuBERT with two blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..attention import attend
from ..network import Network
from ..positions import Positions
from ._family import Family


def _build(model: Any, like: Tensor) -> Network:
    positions = Positions.of([model.encoder.pos_conv_embed.conv], like)
    return Network.of(model, positions, [attend] * len(model.encoder.layers), like)


def _faults(config: Any) -> Mapping[str, bool]:
    return {
        "it has attention adapters": getattr(config, "adapter_attn_dim", None) is not None,
        "its positional convolution has a batch norm": bool(getattr(config, "conv_pos_batch_norm", False)),
    }


family = Family(("wav2vec2", "hubert", "unispeech", "unispeech-sat"), _build, _faults)
