"""Code that the benchmarks share: runs in turns, facts about the machine, results as JSON, a table and a picture."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib

from embedcache import SerError, __version__
from embedcache.files.atomic import atomic_write
from embedcache.progress import Progress, silent

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "numpy", "scikit-learn", "lightgbm")
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
INK, STRONG, PALE = "#1f2933", "#1d4ed8", "#b6c2d1"


def run(app: Callable[[], object]) -> None:
    """Run a typer command line; a SerError becomes one message and exit code 1."""
    try:
        app()
    except SerError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def interleave(
    sides: Mapping[str, Callable[[], object]], rounds: int, progress: Progress = silent, warm_up: bool = True
) -> dict[str, list[float]]:
    """Wall seconds of each side: one run of each that does not count, then rounds in which every side runs once.

    The order rotates by round, so that a machine that grows busy or hot slows no side more than another. Without
    `warm_up` the first run counts: for work that nobody runs twice in one process.
    """
    names = list(sides)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with progress(f"measuring {', '.join(names)}", total=len(names) * (rounds + warm_up), unit="runs") as advance:
        for number in range(-int(warm_up), rounds):
            first = max(number, 0) % len(names)
            for name in names[first:] + names[:first]:
                took = _seconds(sides[name])
                if number >= 0:
                    seconds[name].append(took)
                advance(1)
    return seconds


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def machine() -> dict[str, Any]:
    """What the numbers depend on. A CUDA device is named where torch was imported already. Says no name or path."""
    cpu, flags = _cpu()
    return {
        "cpu": cpu,
        "cores": joblib.cpu_count(),
        "memory_gb": _memory_gb(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cuda": _cuda(),
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def load() -> float | None:
    """How many processes wanted a core over the last minute: ask before measuring, 0 is an idle machine."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None  # Windows has none


def forget_peak() -> bool:
    """Let `memory_mb` count its peak from now on; False where the system cannot: Linux alone can."""
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return False
    reset.write_text("5")
    return True


def memory_mb(peak: bool = False) -> float:
    """MB of this process that are in memory now, or were at the peak. Linux alone says."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return float(lines["VmHWM" if peak else "VmRSS"].split()[0]) * 1024 / 1e6


def _cpu() -> tuple[str, frozenset[str]]:
    """The processor's model and instruction sets; on systems other than Linux the sets stay unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    model = facts.get("model name") or platform.processor() or platform.machine()
    return model, frozenset(facts.get("flags", "").split())


def _memory_gb() -> float | None:
    """Physical memory, where the system tells."""
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    except (AttributeError, ValueError):  # Windows; a system without these names
        return None


def _cuda() -> str | None:
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None


def slug(facts: Mapping[str, Any]) -> str:
    """A short name of a machine for files: `amd-epyc-2-cores`."""
    model = re.sub(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*", " ", facts["cpu"].lower())
    parts = (model, f"{facts['cores']} cores", (facts.get("cuda") or "").lower())
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts)).strip("-")


def save(
    name: str,
    facts: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    extra: Mapping[str, Any],
    folder: Path = RESULTS,
) -> Path:
    """Write `<name>-<machine>.json`: when, with which ser, on what, and the rows."""
    path = folder / f"{name}-{slug(facts)}.json"
    date = datetime.now(UTC).isoformat(timespec="seconds")
    result = {"benchmark": name, "date": date, "ser": __version__, "machine": dict(facts), **extra, "rows": list(rows)}
    with atomic_write(path, advice="Make room, or choose another folder.") as file:
        file.write(json.dumps(result, indent=2) + "\n")
    return path


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """A plain table on a terminal; tab-separated through a pipe."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    if not sys.stdout.isatty():
        sys.stdout.write("".join("\t".join(line) + "\n" for line in [list(columns), *cells]))
        return
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        numeric = any(isinstance(row.get(column), int | float) for row in rows)
        grid.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for line in cells:
        grid.add_row(*line)
    Console(highlight=False).print(grid)


def _cell(value: object) -> str:
    """Three digits of a number, all of one that is longer before its point; nothing for what is not known."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"
    return "" if value is None else str(value)


def bars(
    path: Path,
    title: str,
    labels: Sequence[str],
    values: Sequence[float],
    unit: str,
    note: str = "",
    strong: Sequence[bool] | None = None,
) -> Path:
    """A PNG of horizontal bars, the first on top, each with its value at its end. `strong` bars stand out."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 1.3 + 0.34 * len(labels)), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    colours = [STRONG if stands_out else PALE for stands_out in strong or [True] * len(labels)]
    drawn = axes.barh(range(len(labels)), values, color=colours, height=0.72)
    ends = [f"{_cell(float(value))} {unit}" for value in values]
    axes.bar_label(drawn, ends, padding=4, color=INK, fontsize=9)
    axes.set_yticks(range(len(labels)), labels, color=INK)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    room = min(0.03 + 0.016 * max(map(len, ends)), 0.6)  # the share of the width that the longest text takes
    axes.set_xlim(0, max(values) / (1 - room) or 1)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.suptitle(textwrap.fill(title, 95), fontsize=10, color=INK)
    figure.supxlabel(textwrap.fill(note, 120), fontsize=8, color=INK)
    with atomic_write(path, "wb", advice="Make room, or choose another folder.") as file:
        figure.savefig(file, format="png")
    return path
