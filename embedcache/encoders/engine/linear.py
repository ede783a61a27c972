"""Linear layers and layer norms, at the speed of the hardware.

A linear layer computes y = x W' + b, followed by the exact GELU in the same pass if the network has one there.

On a CPU there are two products. oneDNN's own, which `torch.compile` also emits, keeps the weights in the memory layout
of its kernel, applies bias and GELU while a tile of the result is in registers, and reads overlapping rows without a
copy. `torch.nn.functional.linear` uses MKL for float32. On an AMD EPYC with AVX-512, oneDNN has twice the speed of MKL;
on one with AVX2 alone, MKL has 1.1 to 1.6 times the speed of oneDNN. So float32 uses MKL on x86 processors without
AVX-512. The instructions decide, not a measurement at the start, which other programs on the machine would disturb: the
same processor always computes the same values.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# The instruction sets that make a precision fast, as torch.cpu.get_capabilities() names them.
FAST_INSTRUCTIONS = {"bf16": ("amx_bf16", "avx512_bf16", "arm_bf16", "bf16"), "fp16": ("amx_fp16", "avx512_fp16")}


@dataclass(frozen=True)
class Linear:
    """A linear layer whose weights are in the layout that the processor reads fastest."""

    weight: Tensor  # (out, in), possibly in oneDNN's own layout
    bias: Tensor | None  # (out,)
    gelu: bool  # whether a GELU follows

    @classmethod
    def prepare(cls, weight: Tensor, bias: Tensor | None, like: Tensor, gelu: bool = False) -> Linear:
        """Return the layer in the dtype and on the device of `like`."""
        prepared = weight.detach().to(like).contiguous()
        if fused(like.device.type, like.dtype):
            prepared = torch.ops.mkldnn._reorder_linear_weight(prepared)
        return cls(prepared, None if bias is None else bias.detach().to(like), gelu)

    def __call__(self, x: Tensor) -> Tensor:  # (rows, in) -> (rows, out)
        """Apply the layer to each row."""
        return product(x, self.weight, self.bias, self.gelu)


@dataclass(frozen=True)
class Norm:
    """A layer norm over the last axis, computed in float32 for inputs of any dtype."""

    weight: Tensor
    bias: Tensor
    eps: float

    @classmethod
    def of(cls, norm: Any, device: torch.device) -> Norm:
        """Take the weights of a `torch.nn.LayerNorm`."""
        return cls(norm.weight.detach().float().to(device), norm.bias.detach().float().to(device), norm.eps)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the normalised input, in float32."""
        return F.layer_norm(x.float(), self.weight.shape, self.weight, self.bias, self.eps)


def product(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    """Return x W' + b, with a GELU if `gelu`: (rows, in) and (out, in) give (rows, out)."""
    if fused(x.device.type, x.dtype):
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu" if gelu else "none", [], "none")
        return y
    y = _overlapping(x, weight, bias) if _overlaps(x) else F.linear(x, weight, bias)
    return torch.ops.aten.gelu_(y) if gelu else y


def _overlaps(x: Tensor) -> bool:
    """Whether the rows of a float32 matrix overlap in memory. Half precision would round once more between products."""
    return x.dtype == torch.float32 and x.stride(0) < x.shape[1] <= 2 * x.stride(0)


def _overlapping(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x W' + b as two products of rows that do not overlap, because BLAS would copy rows that do."""
    step = x.stride(0)
    return F.linear(x[:, :step], weight[:, :step], bias).addmm_(x[:, step:], weight[:, step:].t())


@functools.cache
def fused(device: str, dtype: torch.dtype) -> bool:
    """Whether products of a device and a dtype are oneDNN's: where it has such a product, and is not the slower one.

    A small product is computed to find out whether there is one.
    """
    if device != "cpu" or not torch.backends.mkldnn.is_available() or (dtype == torch.float32 and _has_faster_mkl()):
        return False
    x: Any = torch.ones(16, 16, dtype=dtype)
    try:
        weight = torch.ops.mkldnn._reorder_linear_weight(x)
        return bool((torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "none") == 16).all())
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def _has_faster_mkl() -> bool:
    """Whether MKL's float32 product is faster than oneDNN's: with MKL, on x86 processors without AVX-512."""
    capabilities = _capabilities()
    return torch.backends.mkl.is_available() and bool(capabilities.get("avx2")) and not capabilities.get("avx512_f")


def is_fast(device: str, precision: str) -> bool:
    """Whether a processor has instructions for a precision. Without them the precision is slower than float32."""
    if device != "cpu" or precision == "fp32":
        return True
    return any(_capabilities().get(name) for name in FAST_INSTRUCTIONS[precision])


def _capabilities() -> dict[str, Any]:
    """Return the instruction sets of the processor, and whether it has them; none if torch does not say."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return capabilities
