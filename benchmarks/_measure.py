"""Code that the benchmarks share: results as JSON, with facts about the machine, as a table and as a picture."""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from embedcache import SerError, __version__
from embedcache.checking.machine import PACKAGES
from embedcache.checking.machine import machine as machine_facts
from embedcache.files.atomic import atomic_write

RESULTS = Path(__file__).parent / "results"
INK, STRONG, PALE = "#1f2933", "#1d4ed8", "#b6c2d1"


def run(app: Callable[[], object]) -> None:
    """Run a typer command line; a SerError becomes one message and exit code 1."""
    try:
        app()
    except SerError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return machine_facts((*PACKAGES, "scikit-learn", "lightgbm"))


def load() -> float | None:
    """How many processes wanted a core over the last minute: ask before measuring, 0 is an idle machine."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None  # Windows has none


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
