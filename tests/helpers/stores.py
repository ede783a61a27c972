"""Keys and rows for stores that hold made-up numbers."""

from __future__ import annotations

import numpy as np

from embedcache import EncoderInfo
from embedcache.encoder import Frames

INFO = EncoderInfo("toy", "", "", 16_000, 3, 4, "fp32", "none", 1)


def key(n: int) -> str:
    return f"{n:064x}"


def rows(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    layers = np.random.default_rng(seed).standard_normal((n, 3, 4)).astype(np.float32)
    return {"layers": layers, "pooled": layers[:, -1]}


def ragged(*lengths: int) -> Frames:
    return Frames.of(np.random.default_rng(1).standard_normal((sum(lengths), 4)).astype(np.float16), lengths)
