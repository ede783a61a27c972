"""Wall times of several ways to do something, measured in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ..progress import Progress, silent


def interleave(
    sides: Mapping[str, Callable[[], object]], rounds: int, progress: Progress = silent, warm_up: bool = True
) -> dict[str, list[float]]:
    """Return the wall seconds of each side: one run of each that does not count, then rounds in which every side runs.

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
