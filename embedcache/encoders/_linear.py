"""Layers at the machine's limit: y = x W' + b, with the exact GELU in the same pass where there is one; layer norms.

On a CPU the product is oneDNN's own, the one that `torch.compile` emits: it keeps the weights in the layout that the
kernel wants, applies the bias and GELU while a tile is in registers, and reads rows that overlap without a copy.
`torch.nn.functional.linear` goes to MKL for float32, which on AMD's processors runs at half of oneDNN's rate.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Instructions by their names in torch.cpu.get_capabilities().
FAST = {"bf16": ("amx_bf16", "avx512_bf16", "arm_bf16", "bf16"), "fp16": ("amx_fp16", "avx512_fp16")}


@dataclass(frozen=True)
class Linear:
    """A layer whose weights lie ready."""

    weight: Tensor  # (out, in), possibly in oneDNN's own layout
    bias: Tensor | None  # (out,)
    gelu: bool

    @classmethod
    def prepare(cls, weight: Tensor, bias: Tensor | None, like: Tensor, gelu: bool = False) -> Linear:
        """Weights in the dtype and on the device of `like`, laid out for its processor."""
        ready = weight.detach().to(like).contiguous()
        if fused(like.device.type, like.dtype):
            ready = torch.ops.mkldnn._reorder_linear_weight(ready)
        return cls(ready, None if bias is None else bias.detach().to(like), gelu)

    def __call__(self, x: Tensor) -> Tensor:  # (rows, in) -> (rows, out)
        return product(x, self.weight, self.bias, self.gelu)


@dataclass(frozen=True)
class Norm:
    """A layer norm over the last axis, in float32 whatever comes in."""

    weight: Tensor
    bias: Tensor
    eps: float

    @classmethod
    def of(cls, norm: Any, device: torch.device) -> Norm:
        return cls(norm.weight.detach().float().to(device), norm.bias.detach().float().to(device), norm.eps)

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), self.weight.shape, self.weight, self.bias, self.eps)


def product(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    """(rows, in) x (out, in) -> (rows, out)."""
    if fused(x.device.type, x.dtype):
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu" if gelu else "none", [], "none")
        return y
    y = F.linear(x, weight, bias)
    return torch.ops.aten.gelu_(y) if gelu else y


@functools.cache
def fused(device: str, dtype: torch.dtype) -> bool:
    """Whether oneDNN's fused product is there for a dtype; asked of the library itself, by one small product."""
    if device != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    x: Any = torch.ones(16, 16, dtype=dtype)
    try:
        weight = torch.ops.mkldnn._reorder_linear_weight(x)
        return bool((torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "none") == 16).all())
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def is_fast(device: str, precision: str) -> bool:
    """Whether a processor has instructions for a precision; without them it is slower than float32."""
    if device != "cpu" or precision == "fp32":
        return True
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(has.get(name) for name in FAST[precision])
