"""Benchmark of stage 2 on a large dataset: time and memory of each command, from the import to the report.

    python -m benchmarks.large                           10,000, 100,000 and 150,000 clips
    python -m benchmarks.large --clips 10000             one size
    python -m benchmarks.large --head svm --head knn     some heads

The dataset is synthetic: one vector of 768 numbers a clip, eight labels, 1,400 speakers (fewer for fewer clips) of very
different numbers of clips, and the partitions train, dev and test, which share no speaker. Every step is the command
`ser` in a process of its own:

    import         `ser cache import` of an .npz with labels, speakers and partitions
    head NAME      `ser compare --head NAME --jobs 1`
    compare        `ser compare` with the default heads, in as many processes as there are cores
    leaderboard    `ser leaderboard` of all these runs
    report         `ser report` of the last comparison

`cpu_seconds` are those of all processors together: the busier the machine, the more `seconds` a step takes, but not
`cpu_seconds`. `memory_gb` is the largest memory of a command and of its processes together, looked at five times a
second. A page that several processes share counts once. Linux alone says.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from classifiers import heads
from embedcache import SerError
from embedcache.progress import terminal

from ._measure import RESULTS, load, machine, run, save, table

SIZES = (10_000, 100_000, 150_000)
DIM, LABELS, SPEAKERS = 768, 8, 1_400
HIDDEN = 32  # directions that labels, voices and clips differ in
CLIPS_A_SPEAKER = 50  # at most so many speakers that each has this many clips on average
PARTITIONS = {"Train": 0.6, "Dev": 0.2, "Test": 0.2}  # shares of the speakers
NAMES = ("--dataset", "large", "--encoder", "vectors")
COLUMNS = ("step", "clips", "seconds", "cpu_seconds", "memory_gb")
PAUSE = 0.2  # seconds between two looks at the memory

Row = dict[str, Any]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    clips: Annotated[list[int] | None, typer.Option(help="Numbers of clips.", show_default="all three sizes")] = None,
    head: Annotated[list[str] | None, typer.Option(help="Heads to compare.", show_default="all by default")] = None,
    protocol: Annotated[str, typer.Option(help="Protocol of the comparisons.")] = "partition",
    place: Annotated[Path | None, typer.Option(help="Folder for the files.", show_default="temporary")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.", show_default="benchmarks/results")] = RESULTS,
) -> None:
    """Measure time and memory of each command on a large synthetic dataset."""
    before, names, rows = load(), head or heads.usual(), []
    sizes = clips or list(SIZES)
    with terminal("measuring", total=len(sizes) * (len(names) + 4), unit="steps") as advance:
        for size in sizes:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                for row in measure(Path(folder), size, names, protocol):
                    rows.append(row)
                    advance(1)
    table(rows, COLUMNS)
    about = {"load_before": before, "protocol": protocol, "dim": DIM}
    typer.echo(f"written: {save('large', machine(), rows, about, out)}", err=True)


def measure(folder: Path, clips: int, names: Sequence[str], protocol: str) -> Iterator[Row]:
    """Yield a row for each step on a dataset of one size, whose files are in a folder."""
    path, place = folder / "large.npz", ("--artifacts", str(folder / "artifacts"))
    np.savez(path, **dataset(clips))
    compare = ("compare", *NAMES, "--protocol", protocol, *place)
    chosen = [option for name in names for option in ("--head", name)]
    steps = {
        "import": ("cache", "import", str(path), *NAMES, *place),
        **{f"head {name}": (*compare, "--head", name, "--jobs", "1") for name in names},
        "compare": (*compare, *chosen),
        "leaderboard": ("leaderboard", *place),
        "report": ("report", *place),
    }
    for step, command in steps.items():
        yield {"step": step, "clips": clips} | ser(command)


def dataset(clips: int) -> dict[str, Any]:
    """Return the arrays of the .npz: label means, offsets of speakers and noise in 32 directions, and more noise."""
    rng = np.random.default_rng(0)
    label, speaker = rng.integers(0, LABELS, clips), speakers(clips)

    def normal(*size: int) -> NDArray[np.float32]:
        return rng.standard_normal(size, dtype=np.float32)

    labels, voices, mix = normal(LABELS, HIDDEN), normal(speaker.max() + 1, HIDDEN), normal(HIDDEN, DIM)
    hidden = 0.5 * labels[label] + 0.5 * voices[speaker] + normal(clips, HIDDEN)
    pooled = normal(clips, DIM)
    pooled *= 4
    pooled += hidden @ mix
    share = np.cumsum(list(PARTITIONS.values()))
    part = np.searchsorted(share, rng.permutation(speaker.max() + 1) / (speaker.max() + 1), side="right")
    return {
        "clip_id": np.array([f"clip-{n:06d}" for n in range(clips)]),
        "pooled": pooled,
        "label": np.array([f"label {n}" for n in range(LABELS)])[label],
        "speaker": np.array([f"speaker {n:04d}" for n in range(speaker.max() + 1)])[speaker],
        "split": np.array(list(PARTITIONS))[part][speaker],
    }


def speakers(clips: int) -> NDArray[np.int64]:
    """Return the number of the speaker of each clip (n,): the last speaker has ten times as many clips as the first."""
    n = min(SPEAKERS, max(LABELS, clips // CLIPS_A_SPEAKER))
    until = np.cumsum(np.geomspace(1, 10, n))
    return np.searchsorted(until / until[-1], (np.arange(clips) + 0.5) / clips).astype(np.int64)


def ser(command: Sequence[str]) -> Row:
    """Run `ser` and return its seconds, those of its processors, and its memory. Raises SerError if it fails.

    The processes that it starts are those of its session, which are found by their number.
    """
    begin, most = time.perf_counter(), 0.0
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(
            [sys.executable, "-m", "cli", *command], stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        while not (ended := os.wait4(child.pid, os.WNOHANG))[0]:
            most = max(most, memory_of(child.pid))
            time.sleep(PAUSE)
        seconds, used = time.perf_counter() - begin, ended[2]
        said.seek(0)
        text = said.read()
    child.returncode = os.waitstatus_to_exitcode(ended[1])
    if child.returncode:
        raise SerError(f"`ser {' '.join(command)}` ended with exit code {child.returncode}: {text[-2000:]}")
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "memory_gb": round(most, 3),
    }


def memory_of(session: int) -> float:
    """Return the memory of the processes of a session in GB; pages that they share count once."""
    return sum(map(proportional, processes(session))) / 1e9


def processes(session: int) -> Iterator[int]:
    """Yield the numbers of the processes of a session."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getsid(int(folder.name)) == session:
                yield int(folder.name)


def proportional(process: int) -> int:
    """Return the bytes of a process in memory; a shared page is divided by the number of its processes. 0 if ended."""
    with suppress(OSError):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return 0


if __name__ == "__main__":
    run(app)
