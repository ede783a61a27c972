"""Progress of long work: a bar with rate and time left on a terminal, a line now and then elsewhere, or silence.

A `Progress` is called with what is done and how much there is of it, and gives a context manager whose value is called
with each step forward:

    with progress("encoding", total=1440, unit="clips") as advance:
        for clip in clips:
            ...
            advance(1)

Everything goes to standard error, so that standard output stays a result.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[float], None]
SECONDS_BETWEEN_LINES = 10.0


class Progress(Protocol):
    """How long work reports itself."""

    def __call__(self, what: str, total: float, unit: str) -> AbstractContextManager[Advance]: ...


@contextmanager
def silent(what: str, total: float, unit: str) -> Iterator[Advance]:
    """Says nothing: the default from Python."""
    yield lambda step: None


def terminal(what: str, total: float, unit: str) -> AbstractContextManager[Advance]:
    """A bar where standard error is a terminal, else plain lines."""
    return _bar(what, total, unit) if sys.stderr.isatty() else _lines(what, total, unit)


@contextmanager
def _bar(what: str, total: float, unit: str) -> Iterator[Advance]:
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
        task = bar.add_task(what, total=total, unit=unit, rate="")
        begin, done = time.monotonic(), 0.0

        def advance(step: float) -> None:
            nonlocal done
            done += step
            bar.update(task, advance=step, rate=f"{done / max(time.monotonic() - begin, 1e-9):,.1f}/s")

        yield advance


@contextmanager
def _lines(what: str, total: float, unit: str) -> Iterator[Advance]:
    begin = last = time.monotonic()
    done = 0.0

    def say(now: float) -> None:
        rate = done / max(now - begin, 1e-9)
        left = max(total - done, 0.0) / rate if rate else 0.0
        text = f"{what}: {done:,.0f}/{total:,.0f} {unit}, {rate:,.1f}/s, {left:,.0f} s left"
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    def advance(step: float) -> None:
        nonlocal done, last
        done += step
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            say(now)

    yield advance
    if last != begin:  # it said something: it also says that it is done
        say(time.monotonic())
