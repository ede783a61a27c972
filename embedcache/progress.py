"""Progress reports of long work: a progress bar on a terminal, a line every ten seconds elsewhere, or nothing.

A `Progress` is called with the name of the task, the total amount of work and its unit. It returns a context manager,
which gives a function that is called with the amount of work done since the last call:

    with progress("encoding", total=1440, unit="clips") as advance:
        for clip in clips:
            ...
            advance(1)

Progress is written to standard error, so that standard output contains the result only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[float], None]  # receives the amount of work done since the last call
SECONDS_BETWEEN_LINES = 10.0


class Progress(Protocol):
    """A function that reports the progress of a task; see the module's docstring."""

    def __call__(self, task: str, total: float, unit: str) -> AbstractContextManager[Advance]: ...


@contextmanager
def silent(task: str, total: float, unit: str) -> Iterator[Advance]:
    """Report nothing: the default in Python."""
    yield lambda step: None


def terminal(task: str, total: float, unit: str) -> AbstractContextManager[Advance]:
    """Report to standard error: with a progress bar if standard error is a terminal, with lines of text otherwise."""
    return _show_bar(task, total, unit) if sys.stderr.isatty() else _print_lines(task, total, unit)


@contextmanager
def _show_bar(task: str, total: float, unit: str) -> Iterator[Advance]:
    """Show a progress bar with the rate and the remaining time."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}"),
        TextColumn("{task.fields[rate]}", style="dim"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task_id = bar.add_task(task, total=total, unit=unit, rate="")
        begin, done = time.monotonic(), 0.0

        def advance(step: float) -> None:
            nonlocal done
            done += step
            bar.update(task_id, advance=step, rate=f"{done / max(time.monotonic() - begin, 1e-9):,.1f}/s")

        yield advance


@contextmanager
def _print_lines(task: str, total: float, unit: str) -> Iterator[Advance]:
    """Print a line every SECONDS_BETWEEN_LINES seconds, and nothing for tasks that are shorter."""
    begin = last = time.monotonic()
    done = 0.0

    def print_line(now: float) -> None:
        rate = done / max(now - begin, 1e-9)
        left = max(total - done, 0.0) / rate if rate else 0.0
        text = f"{task}: {done:,.0f}/{total:,.0f} {unit}, {rate:,.1f}/s, {left:,.0f} s left"
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    def advance(step: float) -> None:
        nonlocal done, last
        done += step
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            print_line(now)

    yield advance
    if last != begin:  # a task that printed a line also prints a last line when it is done
        print_line(time.monotonic())
