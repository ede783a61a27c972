"""Benchmark of stage 2 on vectors that are larger than the memory for them: peak memory and time of a fit.

    python -m benchmarks.mapped

Half a million synthetic vectors of 768 numbers, 1.5 GB, are written to a file in the system's temporary folder
(`TMPDIR` chooses another). `mlp` with few epochs and `lgbm` with few trees are fitted on them as `ser compare` fits: on
row numbers, with the speakers, on one thread. Each fit runs in a process of its own, once with X as `MappedRows` on
that file and once with X as an array.

`peak_gb` is the largest resident memory of the process, including pages of mapped files. `above_imports_gb` is its
difference from the memory before the first vector is read, with torch and LightGBM imported. `accuracy`, on speakers
without training clips, shows that something was learned (chance is 1/8), and that both sides learned the same.
"""

from __future__ import annotations

import importlib
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from classifiers import Head, Task, heads
from classifiers.data.memmap import Floats, MappedRows, write_rows
from classifiers.evaluation.cross_validation import fit_head
from embedcache.checking.memory import memory_mb

from ._measure import RESULTS, load, machine, run, save, table

LIMIT_GB = 1.0  # above the imports
LABELS = 8
HIDDEN = 32  # directions that labels, voices and clips differ in
BLOCK = 5_000  # rows that are made at once
FEW: dict[str, dict[str, int]] = {"mlp": {"epochs": 2}, "lgbm": {"n_estimators": 10}}
SIDES = ("mapped", "in memory")
COLUMNS = ("head", "side", "rows", "gb", "seconds", "imports_gb", "peak_gb", "above_imports_gb", "limit_gb", "accuracy")

Row = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """How many rows are fitted, how many of other speakers are predicted, how wide, how many a speaker says."""

    rows: int = 500_000
    unseen: int = 20_000
    dim: int = 768
    a_speaker: int = 1_000

    @property
    def all(self) -> int:
        """Rows of the file."""
        return self.rows + self.unseen


QUICK = Shape(rows=20_000, unseen=2_000, dim=32)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    quick: Annotated[bool, typer.Option("--quick", help="Use few rows, and measure only the mapped side.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the results.", show_default="benchmarks/results")] = RESULTS,
) -> None:
    """Fit `mlp` and `lgbm` on 500,000 rows of 768 numbers in a file, and on the same rows in memory."""
    before, shape = load(), QUICK if quick else Shape()
    with tempfile.TemporaryDirectory() as folder:
        X = write_rows(Path(folder), (shape.all, shape.dim), vectors(shape))
        rows = [apart(head, side, X.path, shape) for head in FEW for side in SIDES[: 1 if quick else None]]
    table(rows, COLUMNS)
    about = {"load_before": before, "shape": asdict(shape), "few": FEW}
    path = save("mapped-quick" if quick else "mapped", machine(), rows, about, out)
    typer.echo(f"written: {path}", err=True)


def spoken(shape: Shape) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The label and the speaker of each row, as numbers."""
    labels = np.random.default_rng(0).integers(0, LABELS, shape.all)
    return labels, np.arange(shape.all) // shape.a_speaker


def vectors(shape: Shape) -> Iterator[Floats]:
    """Blocks of rows: label means, speaker offsets and noise in 32 directions that the columns mix, and more noise."""
    label, speaker = spoken(shape)
    rng = np.random.default_rng(1)

    def normal(*size: int) -> Floats:
        return rng.standard_normal(size, dtype=np.float32)

    labels, voices, mix = normal(LABELS, HIDDEN), normal(speaker[-1] + 1, HIDDEN), normal(HIDDEN, shape.dim)
    for start in range(0, shape.all, BLOCK):
        part = slice(start, min(start + BLOCK, shape.all))
        hidden = 0.5 * labels[label[part]] + 0.5 * voices[speaker[part]] + normal(part.stop - start, HIDDEN)
        yield hidden @ mix + 10 * normal(len(hidden), shape.dim)


def apart(head: str, side: str, path: Path, shape: Shape) -> Row:
    """One fit in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, head, side, path, shape).result()


def measure(name: str, side: str, path: Path, shape: Shape) -> Row:
    """One fit in this process, which has done nothing yet."""
    spec = few(heads.get(name))
    importlib.import_module("classifiers.heads._torch")
    imports = memory_mb(peak=True) / 1000
    task = in_file(path, shape) if side == "mapped" else in_memory(in_file(path, shape))
    begin = time.perf_counter()
    with threadpool_limits(1):
        estimator = fit_head(spec, task, np.arange(shape.rows), seed=0)
        seconds = time.perf_counter() - begin
        accuracy = estimator.score(task.X[shape.rows :], task.y[shape.rows :])
    peak = memory_mb(peak=True) / 1000
    facts = {"head": name, "side": side, "rows": shape.rows, "gb": 4 * shape.rows * shape.dim / 1e9, "seconds": seconds}
    memory = {"imports_gb": imports, "peak_gb": peak, "above_imports_gb": peak - imports, "limit_gb": LIMIT_GB}
    return rounded(facts | memory | {"accuracy": accuracy})


def few(spec: Head) -> Head:
    """The head with few epochs or trees."""
    return replace(spec, build=lambda **given: spec.build(**given).set_params(**FEW[spec.name]))


def in_file(path: Path, shape: Shape) -> Task:
    """The rows, as they lie in the file."""
    label, speaker = spoken(shape)
    columns = (("label", label), ("speaker", speaker))
    labels, speakers = (np.array([f"{kind} {n}" for n in range(found.max() + 1)]) for kind, found in columns)
    return Task(MappedRows.of(path, shape.dim), labels[label], speakers[speaker])


def in_memory(task: Task) -> Task:
    """The same, as an array."""
    return replace(task, X=np.asarray(task.X))


def rounded(row: Row) -> Row:
    """Floats to four places."""
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}


if __name__ == "__main__":
    run(app)
