"""Parallel processes on this machine, with one thread each, which later calls reuse; and a thread in the background."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

import joblib
from joblib.externals.loky import process_executor

T = TypeVar("T")


def iter_in_processes(function: Callable[..., T], calls: Sequence[tuple[Any, ...]], jobs: int | None) -> Iterable[T]:
    """Return an iterable over `function(*arguments)` for the arguments of each call, in order, each once it is there.

    `jobs` is the number of processes, which begin at once; None uses all cores. With one, calls are made here, each
    when its result is asked for.
    """
    jobs = min(jobs or joblib.cpu_count(), len(calls))
    if jobs <= 1:
        return (function(*arguments) for arguments in calls)
    pool = joblib.Parallel(
        n_jobs=jobs,
        backend="loky",
        return_as="generator",
        inner_max_num_threads=1,
        batch_size=1,  # several calls in one could leave the other processes without any at the end
        initializer=_prepare_worker,
    )
    results: Iterable[T] = pool(joblib.delayed(function)(*arguments) for arguments in calls)
    return results


def _prepare_worker() -> None:
    """Let a worker ignore Ctrl-C, and keep it although its memory grows.

    Ctrl-C reaches all processes of a terminal. The main process ends the workers; each of them would print a traceback.
    joblib ends a worker whose memory has grown by 300 MB since its first call, and warns. Libraries that are loaded and
    rows of files that are read take more, and the next worker would have to load them again.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process_executor._MAX_MEMORY_LEAK_SIZE = math.inf


def in_background(function: Callable[[], T]) -> Future[T]:
    """Call a function in a thread. Nobody waits for the thread when the program ends, so Ctrl-C ends it at once."""
    future: Future[T] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=call, daemon=True).start()
    return future
