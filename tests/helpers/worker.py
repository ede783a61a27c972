"""An extraction in a process of its own, for tests that hurt it: `python worker.py TREE CACHE [SLOW [KILL]]`.

Every pack is a shard at once. SLOW is how many seconds a pack takes at least; KILL is the point at which the process
kills itself: `writing` (half of the second shard's bytes are out), `renaming` (before its rename), `renamed` (after).
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from embedcache import EmbeddingStore, EncoderInfo, Manifest, SerError, add_keys, datasets, extract


@dataclasses.dataclass(frozen=True)
class Toy:
    """Two layers of eight numbers that depend on every sample."""

    slow: float = 0.0
    info: EncoderInfo = EncoderInfo("toy", "", "", 16_000, 2, 8, "fp32", "none", 1)  # noqa: RUF009
    views: tuple[str, ...] = ("pooled", "layers")
    shortest: float = 0.01
    longest: float = 60.0
    pack: float = 0.5
    lanes: int = 1

    def encode(self, waveforms, views):
        time.sleep(self.slow)
        layers = np.stack([[self._sums(wave), self._sums(wave**2)] for wave in waveforms]).astype(np.float32)
        return {view: {"pooled": layers[:, -1], "layers": layers}[view] for view in views}

    def _sums(self, wave: np.ndarray) -> list[float]:
        return [float(part.sum()) for part in np.array_split(wave, 8)]


def keyed(tree: Path) -> Manifest:
    return add_keys(datasets.get("ravdess").manifest(tree))


def truth(manifest: Manifest) -> np.ndarray:
    """The layers of each clip, without a cache."""
    from embedcache import read

    return Toy().encode([read(clip.path, 16_000) for clip in manifest.clips], ["layers"])["layers"]


def kill_at(point: str) -> None:
    """Arrange for this process's death during the second shard."""
    replace, write, renamed = Path.replace, os.fsync, []

    def die(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def fsync(handle: int) -> None:
        if point == "writing" and renamed:
            os.ftruncate(handle, os.fstat(handle).st_size // 2)
            die()
        write(handle)

    def rename(self: Path, target: Path) -> Path:
        if point == "renaming" and renamed:
            die()
        moved = replace(self, target)
        renamed.append(moved)
        if point == "renamed" and len(renamed) == 2:
            die()
        return moved

    os.fsync, Path.replace = fsync, rename


def main(tree: str, cache: str, slow: str = "0", kill: str = "") -> None:
    loop = sys.modules["embedcache.cache.extract"]
    loop.LOSS_SECONDS = loop.LOSS_SHARE = 0.0
    encoder, manifest = Toy(float(slow)), keyed(Path(tree))
    if kill:
        kill_at(kill)
    print("ready", flush=True)
    extract(manifest, encoder, EmbeddingStore.of(cache, encoder.info))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except SerError as error:
        sys.exit(f"error: {error}")
