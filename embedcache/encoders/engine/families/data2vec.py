"""data2vec-audio: wav2vec 2.0 with a chain of positional convolutions in place of one, and layer norms in the front."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..attention import attend
from ..network import Network
from ..positions import Positions
from ._family import Family


def _build(model: Any, like: Tensor) -> Network:
    chain = list(model.encoder.pos_conv_embed.layers)
    positions = Positions.of([layer.conv for layer in chain], like, chain[0].layer_norm.eps)
    return Network.of(model, positions, [attend] * len(model.encoder.layers), like)


family = Family(("data2vec-audio",), _build)
