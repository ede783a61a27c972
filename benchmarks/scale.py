"""Benchmark of the cache at size: opening, querying, checking and reading a store of 10,000 to 1,000,000 clips.

    python -m benchmarks.scale                     10,000, 100,000 and 1,000,000 clips: 3 GB on disk, minutes
    python -m benchmarks.scale --shards 200        the 1440 clips of RAVDESS in one shard and in 200 shards

The store has synthetic `pooled` vectors of 768 numbers, in shards as `ser extract` writes them. Each size is built and
measured in a process of its own. The columns of the results, in seconds if not stated otherwise:

    open            read the headers of the shards
    first missing   read the keys, too, and look up as many keys as there are clips
    missing         the same query again
    memory MB       peak memory of these three steps
    random          read 1440 clips from anywhere; median
    sequential      read 100,000 clips, or all if there are fewer, in the order in which they were written; median

The rows `growth` are the ratios to a tenth of the clips; 10 is proportional. The files were just written, so they are
read from the page cache, not from the disk.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from embedcache import EmbeddingStore, EncoderInfo
from embedcache.cache.extract import SHARD_BYTES
from embedcache.cache.key_index import unpack
from embedcache.checking.memory import forget_peak, memory_mb
from embedcache.progress import terminal

from ._measure import RESULTS, load, machine, run, save, table

SIZES = (10_000, 100_000, 1_000_000)
QUICK_SIZES = (1_000, 10_000)
DIM, LAYERS = 768, 13
RANDOM, SEQUENTIAL = 1440, 100_000
ROUNDS = 5
MEASURES = ("build", "open", "first missing", "missing", "verify", "random", "sequential")
COLUMNS = ("clips", "shards", *MEASURES, "verify MB/s", "sequential MB/s", "memory MB")
CLIPS = 1440  # of RAVDESS

Row = dict[str, Any]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    shards: Annotated[int | None, typer.Option(help="Measure 1440 clips in this number of shards, and in one.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Use 1,000 and 10,000 clips.")] = False,
    place: Annotated[
        Path | None, typer.Option(help="Folder in which the stores are built.", show_default="temporary")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.", show_default="benchmarks/results")] = RESULTS,
) -> None:
    """Measure the store at several sizes, or with two numbers of shards."""
    before = load()
    with tempfile.TemporaryDirectory(dir=place) as folder:
        if shards:
            rows, name = by_shards(Path(folder), shards), "reading"
        else:
            sizes = QUICK_SIZES if quick else SIZES
            with terminal("measuring", total=sum(sizes), unit="clips") as advance:
                rows = grown([apart(_measure, Path(folder) / str(n), n, advance=advance) for n in sizes])
            name = "scale-quick" if quick else "scale"
    table(rows, ("shards", "pooled ms", "layers ms") if shards else COLUMNS)
    typer.echo(f"written: {save(name, machine(), rows, {'load_before': before}, out)}", err=True)


def apart(work: Callable[..., Row], folder: Path, clips: int, advance: Callable[[float], None]) -> Row:
    """The row of one size, measured in a fresh process: its memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        row = pool.submit(work, folder, clips).result()
    advance(clips)
    return row


def _measure(folder: Path, clips: int) -> Row:
    """Build a store of `pooled` vectors, and time what is asked of one."""
    info = _info(1)
    keys = unpack(np.random.default_rng(clips).integers(0, 256, (clips, 32), np.uint8).view("S32")[:, 0])
    seconds = {"build": _timed(lambda: _build(folder, info, keys))[0]}
    some = [keys[n] for n in np.random.default_rng(0).integers(0, clips, RANDOM)]
    has_peak, before = forget_peak(), memory_mb()
    seconds["open"], store = _timed(lambda: EmbeddingStore(folder))
    seconds["first missing"], lacking = _timed(lambda: store.missing(keys, ["pooled"]))
    if lacking:
        raise RuntimeError(f"{len(lacking)} of {clips} rows that were written are missing from the store")
    seconds["missing"] = _timed(lambda: store.missing(keys, ["pooled"]))[0]
    memory = memory_mb(peak=True) - before if has_peak else None
    seconds["random"] = median(_timed(lambda: store.read(some, "pooled"))[0] for _ in range(ROUNDS))
    seconds["sequential"] = median(_timed(lambda: store.read(keys[:SEQUENTIAL], "pooled"))[0] for _ in range(ROUNDS))
    seconds["verify"] = _timed(store.verify)[0]
    megabytes = 4 * DIM * clips / 1e6
    rates = {
        "verify MB/s": megabytes / seconds["verify"],
        "sequential MB/s": 4 * DIM * min(SEQUENTIAL, clips) / 1e6 / seconds["sequential"],
        "memory MB": memory,
    }
    return {"clips": clips, "shards": len(store.shards)} | seconds | rates


def grown(rows: Sequence[Row]) -> list[Row]:
    """The rows, each but the first followed by how many times as long everything took as with a tenth of the clips."""
    found = list(rows[:1])
    for small, large in pairwise(rows):
        found += [large, {"clips": "growth"} | {name: large[name] / small[name] for name in ("shards", *MEASURES)}]
    return found


def by_shards(folder: Path, shards: int) -> list[Row]:
    """Milliseconds to read the clips of RAVDESS in an order of their own, from one shard and from many."""
    rng, info = np.random.default_rng(0), _info(LAYERS)
    layers = rng.standard_normal((CLIPS, LAYERS, DIM), np.float32)
    keys = unpack(rng.integers(0, 256, (CLIPS, 32), np.uint8).view("S32")[:, 0])
    rows: list[Row] = []
    for count in (1, shards):
        store = EmbeddingStore(folder / str(count), info)
        for part in np.array_split(rng.permutation(CLIPS), count):
            store.write([keys[n] for n in part], {"layers": layers[part], "pooled": layers[part, -1]})
        row: Row = {"shards": count}
        for view in ("pooled", "layers"):
            store.read(keys, view)
            row[f"{view} ms"] = 1000 * median(_timed(partial(store.read, keys, view))[0] for _ in range(ROUNDS))
        rows.append(row)
    return rows


def _info(n_layers: int) -> EncoderInfo:
    return EncoderInfo("synthetic", "", "", 16_000, n_layers, DIM, "fp32", "none", 1)


def _build(folder: Path, info: EncoderInfo, keys: Sequence[str]) -> None:
    store, rng, step = EmbeddingStore(folder, info), np.random.default_rng(0), SHARD_BYTES // (4 * DIM)
    for begin in range(0, len(keys), step):
        block = keys[begin : begin + step]
        store.write(block, {"pooled": rng.standard_normal((len(block), DIM), np.float32)})


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


if __name__ == "__main__":
    run(app)
