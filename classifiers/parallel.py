"""Parallel processes on this machine, with one thread each. The processes are reused by later calls."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import joblib

T = TypeVar("T")

# Ctrl-C reaches all processes of a terminal. The workers ignore it, or each of them would print a traceback; the main
# process ends them.
IGNORE_CTRL_C = (signal.SIGINT, signal.SIG_IGN)


def in_processes(function: Callable[..., T], calls: Sequence[tuple[Any, ...]], jobs: int | None) -> list[T]:
    """Return `function(*arguments)` for the arguments of each call, in order.

    `jobs` is the number of processes; None uses all cores.
    """
    return list(iter_in_processes(function, calls, jobs))


def iter_in_processes(function: Callable[..., T], calls: Sequence[tuple[Any, ...]], jobs: int | None) -> Iterable[T]:
    """Return an iterable over the results of `in_processes`, in order, each as soon as it is available."""
    jobs = min(jobs or joblib.cpu_count(), len(calls))
    if jobs <= 1:
        return (function(*arguments) for arguments in calls)
    pool = joblib.Parallel(
        n_jobs=jobs,
        backend="loky",
        return_as="generator",
        inner_max_num_threads=1,
        initializer=signal.signal,
        initargs=IGNORE_CTRL_C,
    )
    results: Iterable[T] = pool(joblib.delayed(function)(*arguments) for arguments in calls)
    return results
