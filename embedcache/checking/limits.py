"""The limit of a machine, which is its fastest large matrix product, and the work of a network in the same unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ..encoders.engine.linear import DTYPES, Linear

SIDES = {"cpu": 4096, "cuda": 8192}  # rows and columns of the products: a second on a CPU, a millisecond on a GPU


def operations(config: Any, samples: int) -> float:
    """Return the additions and multiplications for one clip: the matrix products, attention included.

    `config` is that of wav2vec 2.0 or a relative, as transformers has it. wav2vec2-base takes 14 billion for a second.
    """
    total, length, width = 0.0, samples, 1
    for channels, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        length = (length - kernel) // stride + 1
        total += 2 * length * kernel * width * channels
        width = channels
    dim, inner = config.hidden_size, config.intermediate_size
    # data2vec-audio has a chain of `num_conv_pos_embeddings` convolutions with kernels of this size.
    chain = getattr(config, "conv_pos_kernel_size", 1)
    taps = config.num_conv_pos_embeddings * chain * dim // config.num_conv_pos_embedding_groups
    block = 4 * dim * dim + 2 * dim * inner + 2 * length * dim
    return float(total + 2 * length * (width * dim + dim * taps + config.num_hidden_layers * block))


def products_of(precision: str, device: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the name and the function of large square matrix products of a precision, by each library at hand."""
    side = _side(device)
    x = torch.randn(side, side, dtype=DTYPES[precision], device=device)
    linear = Linear.prepare(x, None, x)
    yield f"torch.mm, {precision}", lambda: finished(torch.mm(x, x), device)
    yield f"the engine's product, {precision}", lambda: finished(linear(x), device)


def product_operations(device: str) -> float:
    """Return the additions and multiplications of one product of `products_of`."""
    return float(2 * _side(device) ** 3)


def finished(result: object, device: str) -> object:
    """Return the result when a GPU has computed it; on a CPU it is there already."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return result


def _side(device: str) -> int:
    return SIDES[torch.device(device).type]
