"""Work in processes of this machine, one thread each; they stay for the next work."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import joblib

T = TypeVar("T")

# Ctrl-C reaches every process of a terminal: this one answers it and ends the others, which would each print where
# they were.
DEAF = (signal.SIGINT, signal.SIG_IGN)


def in_processes(do: Callable[..., T], work: Sequence[tuple[Any, ...]], jobs: int | None) -> list[T]:
    """`do(*arguments)` of each piece of work, in order. `jobs` is the number of processes, all cores for None."""
    return list(spread(do, work, jobs))


def spread(do: Callable[..., T], work: Sequence[tuple[Any, ...]], jobs: int | None) -> Iterable[T]:
    """The same, each as soon as it and those before it are done."""
    jobs = min(jobs or joblib.cpu_count(), len(work))
    if jobs <= 1:
        return (do(*arguments) for arguments in work)
    pool = joblib.Parallel(
        n_jobs=jobs,
        backend="loky",
        return_as="generator",
        inner_max_num_threads=1,
        initializer=signal.signal,
        initargs=DEAF,
    )
    done: Iterable[T] = pool(joblib.delayed(do)(*arguments) for arguments in work)
    return done
