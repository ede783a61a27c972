"""The queue in which requests wait for the encoder. Those that wait together are joined into packs.

Nobody waits for a pack to fill: what waits when a lane is free runs at once. Packs that run side by side share the
cores, so that no thread waits for another. The vector of a clip does not depend on the clips that it is joined with,
see `embedcache.encoder`. Its probabilities may differ in the last digits, because the product of a head with several
vectors adds in another order than with one: by about 1e-15 for heads that compute in float64.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from os import cpu_count

from threadpoolctl import ThreadpoolController

from embedcache.audio.decode import Waveform

from ..inference.model import Attribution, EncodedWaveforms, Model, Proba
from ..inference.predictor import BATCH_SECONDS

SMOOTHING = 0.2  # weight of the latest pack in the mean speed
RETRY_SECONDS = (1, 120)  # shortest and longest time after which a client should try again, in seconds

Results = tuple[list[Proba], list[Attribution]]  # probabilities (n, C) by model; attributions by model, or none


def always() -> bool:
    """Whether somebody waits for a result: always."""
    return True


@dataclass(frozen=True)
class Job:
    """Clips of one request that go through the encoder together."""

    models: tuple[Model, ...]
    waves: tuple[Waveform, ...]  # at the sample rate of the models
    seconds: float  # duration of all waves together
    attribution: bool  # whether the attribution of the first wave is wanted, too
    is_wanted: Callable[[], bool]  # whether somebody still waits for the result
    result: Future[Results] = field(default_factory=Future)

    def can_join(self, other: Job) -> bool:
        """Whether both need the same models, loaded from the same folders."""
        return len(self.models) == len(other.models) and all(
            mine is its for mine, its in zip(self.models, other.models, strict=True)
        )


@dataclass(frozen=True)
class PackReport:
    """What one run of the encoder took."""

    requests: int
    clips: int
    audio_seconds: float
    seconds: float


class PackQueue:
    """Runs the clips of requests in packs, first come, first served. Any number of threads may use one queue."""

    def __init__(
        self,
        lanes: int = 1,
        pack_seconds: float = BATCH_SECONDS,
        on_pack: Callable[[PackReport], None] = lambda report: None,
        alone: int | None = None,
    ) -> None:
        """At most `lanes` packs run side by side. Requests are joined up to `pack_seconds` of sound; 0 joins none.

        `alone` is the number of threads of a pack that runs alone, None for as many as usual; others share the cores.
        """
        self.lanes, self.pack_seconds, self.on_pack, self._alone = lanes, pack_seconds, on_pack, alone
        self._waiting: deque[Job] = deque()
        self._lock = threading.Lock()
        self._open_seconds = 0.0  # sound of the jobs that wait or run, in seconds
        self._running = 0  # packs that run
        self._speed = math.inf  # seconds of sound that one lane computes in a second
        self._pool = ThreadPoolExecutor(lanes, "prediction")

    def submit(
        self,
        models: Sequence[Model],
        waves: Sequence[Waveform],
        seconds: float,
        attribution: bool,
        is_wanted: Callable[[], bool] = always,
    ) -> Future[Results]:
        """Return the future of the results of waves, which last `seconds` in all, with these models.

        The future is cancelled if `is_wanted` is false before the waves' turn has come, and if the queue is closed.
        """
        job = Job(tuple(models), tuple(waves), seconds, attribution, is_wanted)
        with self._lock:
            self._waiting.append(job)
            self._open_seconds += seconds
        self._pool.submit(self._run_pack)  # finds nothing if the job was joined with an earlier one
        return job.result

    @property
    def length(self) -> int:
        """Number of jobs that wait."""
        return len(self._waiting)

    def retry_after(self) -> int:
        """Return the time in which what waits now will be done, in whole seconds, by the speed of the latest packs."""
        shortest, longest = RETRY_SECONDS
        return min(longest, max(shortest, math.ceil(self._open_seconds / (self._speed * self.lanes))))

    def drop_unwanted(self) -> None:
        """Drop the jobs for which nobody waits any more."""
        with self._lock:
            self._cancel_unwanted()

    def close(self) -> None:
        """Drop what waits. What runs goes on, but nobody waits for it."""
        with self._lock:
            dropped, self._waiting = list(self._waiting), deque()
        for job in dropped:
            job.result.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run_pack(self) -> None:
        jobs, threads = self._take_pack()
        if not jobs:
            return
        begin = time.perf_counter()
        outcomes = _outcomes(jobs, threads)
        self._count_pack(jobs, time.perf_counter() - begin)  # before the results, so that who has one finds it counted
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, Exception):
                job.result.set_exception(outcome)
            else:
                job.result.set_result(outcome)

    def _take_pack(self) -> tuple[list[Job], int | None]:
        """Return the first job that waits with the later ones that are joined with it, and the threads for them.

        A lane takes its share of what waits, so that the other lanes find work when they are free.
        """
        with self._lock:
            self._cancel_unwanted()
            if not self._waiting:
                return [], None
            share = sum(job.seconds for job in self._waiting) / self.lanes
            pack, kept = [self._waiting.popleft()], deque[Job]()
            for job in self._waiting:
                seconds = sum(packed.seconds for packed in pack) + job.seconds
                fits = seconds <= min(self.pack_seconds, share) and job.can_join(pack[0])
                (pack if fits else kept).append(job)
            self._waiting = kept
            self._running += 1
            alone = self._running == 1 and not kept
        return pack, self._alone if alone or self.lanes == 1 else threads_of(self.lanes)

    def _cancel_unwanted(self) -> None:
        """Cancel the jobs for which nobody waits any more. The lock is held."""
        for job in self._waiting:
            if not job.is_wanted():
                job.result.cancel()
                self._open_seconds = max(0.0, self._open_seconds - job.seconds)
        self._waiting = deque(job for job in self._waiting if not job.result.cancelled())

    def _count_pack(self, jobs: Sequence[Job], seconds: float) -> None:
        """Count a pack that has run for so many seconds."""
        audio_seconds = sum(job.seconds for job in jobs)
        speed = audio_seconds / max(seconds, 1e-9)
        with self._lock:
            self._running -= 1
            self._open_seconds = max(0.0, self._open_seconds - audio_seconds)
            self._speed = speed if math.isinf(self._speed) else self._speed + SMOOTHING * (speed - self._speed)
        self.on_pack(PackReport(len(jobs), sum(len(job.waves) for job in jobs), audio_seconds, seconds))


def threads_of(lanes: int) -> int:
    """Return the number of threads of each of some packs that share the cores."""
    return max(1, (cpu_count() or 1) // lanes)


@cache
def _thread_limits() -> ThreadpoolController:
    return ThreadpoolController()  # finds the libraries that are loaded, which takes time


def _outcomes(jobs: Sequence[Job], threads: int | None) -> list[Results | Exception]:
    """Return the results of jobs that run as one pack; if that fails, each runs alone, so that one clip fails alone."""
    try:
        with _thread_limits().limit(limits=threads, user_api="openmp"):
            return [*_run_together(jobs)]
    except Exception as error:  # whatever a network raises is the answer to the request, not the end of the queue
        if len(jobs) == 1:
            return [error]
    return [outcome for job in jobs for outcome in _outcomes([job], threads)]


def _run_together(jobs: Sequence[Job]) -> list[Results]:
    """Return the results of each job from one run of the encoders."""
    encoded = EncodedWaveforms.encode(jobs[0].models, [wave for job in jobs for wave in job.waves])
    probabilities, results, start = encoded.probabilities(), [], 0
    for job in jobs:
        stop = start + len(job.waves)
        rows = [proba[start:stop] for proba in probabilities]
        results.append((rows, encoded.attributions(start) if job.attribution else []))
        start = stop
    return results
