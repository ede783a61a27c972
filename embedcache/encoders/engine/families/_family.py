"""What a family of networks provides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..network import Network


@dataclass(frozen=True)
class Family:
    """A family of networks of transformers that the packed engine computes."""

    types: tuple[str, ...]  # `model_type` in config.json
    build: Callable[[Any, Tensor], Network]  # takes the weights of a model, in the dtype and on the device of a tensor
    # Variants that `build` cannot take, as a clause such as "it has attention adapters", and whether a config has them.
    faults: Callable[[Any], Mapping[str, bool]] = lambda config: {}
