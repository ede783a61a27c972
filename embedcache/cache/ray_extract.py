"""The extraction loop on many machines, as plain Ray tasks: the extra [cluster].

A task decodes and encodes one batch of clips and writes one shard into the store's folder, which all machines share.
The shard is named after its clips and views. If a task runs again because its machine was lost, it finds that shard or
writes the same one. Plain tasks are used because they survive the loss of a whole machine; actors lost work or hung.

    ser extract --cluster local      start Ray on this machine, and stop it afterwards
    ser extract --cluster auto       use the Ray cluster that this machine belongs to
    ser extract --cluster HOST:PORT  use the Ray cluster at this address
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..encoder import Encoder, check_device, join
from ..encoders import load_encoder
from ..errors import EncoderError, SerError, first_line
from ..manifest import Clip
from ..progress import Advance
from ..text import install_hint
from .extract import MAX_DECODERS, Loop, encode_packs, packs
from .shard import SUFFIX, write_shard
from .store import EmbeddingStore

LOCAL = "local"
# Longest audio of one task, in seconds. A lost machine or Ctrl-C costs this much work of each task: half a minute for a
# CPU core, one second for a GPU.
CPU_SECONDS, GPU_SECONDS = 200.0, 7200.0
CPU_LEAST, GPU_LEAST = 60.0, 600.0  # shortest audio of one task, in seconds: a pack of the packed engine
TASKS_PER_SLOT = 4  # least number of tasks for each slot of the cluster, so that few slots wait for the last task
CONNECT_SECONDS = 5.0  # how long to wait for an answer at HOST:PORT
BATCHES_AHEAD = 2  # batches submitted for each slot: the next is ready when one ends, and the list of them stays short


@dataclass(frozen=True)
class RayWork:
    """The settings that all tasks of an extraction share."""

    encoder: str  # name, checkpoint folder or hub id
    device: str
    precision: str
    fingerprint: str  # fingerprint of the encoder on the machine that started the extraction
    folder: Path  # folder of the store
    views: tuple[str, ...]
    cores: int = 1  # cores of a task, and threads that decode in it


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to a Ray cluster, or start Ray on this machine for `local`; disconnect or stop Ray afterwards.

    The value of the context is the module `ray`. A connection that exists already is used and kept. Raises SerError if
    Ray is not installed or the cluster cannot be reached.
    """
    ray = _import_ray()
    if ray.is_initialized():
        yield ray
        return
    options = {"include_dashboard": False} if address == LOCAL else {}
    try:
        _check_reachable(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise SerError(
            f"--cluster {address}: cannot be reached ({first_line(error)}). Start one with `ray start --head` "
            "and name its HOST:PORT, or use --cluster local."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def on_cluster(address: str, encoder: str, device: str = "auto", precision: str = "fp32") -> Loop:
    """Return a `loop` for `extract` that runs the batches on a cluster.

    Each machine loads the encoder by these arguments of `load_encoder`; this machine needs no GPU. Raises SerError if
    Ray is not installed, and EncoderError for a numbered GPU. The cluster is contacted only when there are clips to
    encode.
    """
    check_device(device)
    if ":" in device:
        raise EncoderError(
            f"--device {device} with --cluster: each task uses the GPU that Ray gives to it. Use --device cuda."
        )
    _check_ray()

    def loop(
        clips: Sequence[Clip], loaded: Encoder, views: Sequence[str], store: EmbeddingStore, advance: Advance
    ) -> None:
        name = str(Path(encoder).resolve()) if Path(encoder).is_dir() else encoder
        work = RayWork(name, device, precision, loaded.info.fingerprint, store.folder.resolve(), tuple(views))
        with connected(address) as ray:
            results = _run_batches(ray, work, clips)
            try:
                for seconds in results:
                    advance(seconds)
            finally:
                store.refresh()

    return loop


def _run_batches(ray: Any, work: RayWork, clips: Sequence[Clip]) -> Iterator[float]:
    """Return an iterator that extracts the clips in batches on a cluster and yields the seconds of each batch."""
    slots, gpus = _slots(ray, work.device)
    work = replace(work, cores=_cores(ray.nodes()) if gpus else 1)
    task = _remote(ray, _extract, work.cores, min(gpus, 1))
    seconds = _batch_seconds(clips, slots, *((GPU_LEAST, GPU_SECONDS) if gpus else (CPU_LEAST, CPU_SECONDS)))
    calls = (functools.partial(task.remote, work, batch) for batch in packs(clips, seconds))
    return _bounded(ray, calls, BATCHES_AHEAD * slots)


def _remote(ray: Any, function: Callable[..., Any], cores: int, gpus: int) -> Any:
    """Return a function as a Ray task that is repeated if its process dies.

    A process runs any number of tasks: by default Ray would end it after each task with a GPU, and the encoder would be
    loaded for each.
    """
    return ray.remote(num_cpus=cores, num_gpus=gpus, max_retries=-1, max_calls=0)(function)


@contextmanager
def ray_pool(address: str, jobs: int | None = None) -> Iterator[tuple[Any, int, Callable[[Any], Callable[[], Any]]]]:
    """Yield a joblib pool on a cluster, the number of calls in one round of it, and a function that shares a value.

    The function stores a value once on each machine and returns a callable that fetches it. Raises SerError as
    `connected` does.
    """
    import joblib

    with connected(address) as ray:
        from ray.util.joblib import register_ray

        register_ray()
        cores = int(ray.cluster_resources().get("CPU", 1))
        with joblib.parallel_config(backend="ray", n_jobs=min(jobs or cores, cores)), joblib.Parallel() as pool:
            yield pool, TASKS_PER_SLOT * pool.n_jobs, lambda value: functools.partial(ray.get, ray.put(value))


def _check_ray() -> None:
    if find_spec("ray") is None:
        raise SerError(f"--cluster needs Ray. Install it with `{install_hint('cluster')}`, or leave out --cluster.")


def _import_ray() -> Any:
    _check_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics are sent
    import ray

    return ray


def _check_reachable(address: str) -> None:
    """Raise OSError if nothing answers at HOST:PORT, where Ray would try for minutes; ValueError for no address."""
    if address in (LOCAL, "auto"):
        return
    match = re.fullmatch(r"\[?([^/\]]+)\]?:(\d{1,5})", address)
    if not match:
        raise ValueError("wanted local, auto or HOST:PORT")
    socket.create_connection((match[1], int(match[2])), timeout=CONNECT_SECONDS).close()


def _slots(ray: Any, device: str) -> tuple[int, int]:
    """Return the number of tasks that the cluster runs at once, and the number of its GPUs that they use."""
    resources = ray.cluster_resources()
    gpus = 0 if device == "cpu" else int(resources.get("GPU", 0))
    if device.startswith("cuda") and not gpus:
        raise EncoderError(
            f"--device {device}: no machine of the cluster has a GPU that Ray can use. Use --device cpu."
        )
    return max(1, gpus or int(resources.get("CPU", 1))), gpus


def _cores(machines: Sequence[Mapping[str, Any]]) -> int:
    """Return the cores of a task with a GPU: as many as every machine has for each of its GPUs, up to MAX_DECODERS.

    `machines` is the list that `ray.nodes()` returns. One core would not decode as fast as a GPU encodes.
    """
    resources = [machine["Resources"] for machine in machines if machine["Alive"]]
    shares = [found.get("CPU", 0) // found["GPU"] for found in resources if found.get("GPU", 0) >= 1]
    return int(max(1, min(MAX_DECODERS, *shares)))


def _batch_seconds(clips: Sequence[Clip], slots: int, least: float, most: float) -> float:
    """Return the audio of one task, in seconds: at least `least` if `most` allows, and at most `most`."""
    return min(most, max(least, sum(clip.seconds for clip in clips) / (TASKS_PER_SLOT * slots)))


def _bounded(ray: Any, calls: Iterable[Callable[[], Any]], most: int) -> Iterator[Any]:
    """Yield the results of remote calls as they arrive; at most `most` calls run or wait at once.

    Raises the error of a call that fails, and cancels the calls that are left then.
    """
    pending: list[Any] = []
    try:
        for call in calls:
            if len(pending) >= most:
                done, pending = ray.wait(pending)
                yield _result(ray, done[0])
            pending.append(call())
        while pending:
            done, pending = ray.wait(pending)
            yield _result(ray, done[0])
    finally:
        for left in pending:
            ray.cancel(left, force=True)


def _result(ray: Any, done: Any) -> Any:
    """Return the result of a remote call that has ended. Raises SerError if the call failed."""
    try:
        return ray.get(done)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, SerError):
            raise cause from error
        raise SerError(f"a task of the cluster failed ({cause!r}). Every machine needs this version of ser.") from error


def _extract(work: RayWork, clips: Sequence[Clip]) -> float:
    """Write the shard of a batch of clips unless it exists, and return the seconds of audio of the batch.

    This is the Ray task. Raises EncoderError if the encoder of this machine has another fingerprint than `work`.
    """
    encoder = _load_cached(work.encoder, work.device, work.precision)
    if encoder.info.fingerprint != work.fingerprint:
        raise EncoderError(
            f"{work.encoder} on {os.uname().nodename} is not the encoder that the extraction was started with "
            f"({encoder.info.preprocessing}). All machines need the same files and the same versions."
        )
    name = _shard_name(work, clips)
    if not (work.folder / f"{name}{SUFFIX}").exists():
        with closing(encode_packs(clips, encoder, work.views, work.cores)) as batches:
            encoded = list(batches)
        rows = {view: join([batch[view] for _, batch in encoded]) for view in work.views}
        write_shard(work.folder, encoder.info, [clip.key for pack, _ in encoded for clip in pack], rows, name)
    return sum(clip.seconds for clip in clips)


@functools.lru_cache(maxsize=1)
def _load_cached(encoder: str, device: str, precision: str) -> Encoder:
    """Load an encoder once in each worker process, for all of its tasks."""
    return load_encoder(encoder, device, precision)


def _shard_name(work: RayWork, clips: Sequence[Clip]) -> str:
    """Return the name of a batch's shard, which depends only on the keys of the clips and on the views."""
    text = "\n".join([*work.views, "", *sorted(clip.key for clip in clips)])
    return f"batch-{hashlib.sha256(text.encode()).hexdigest()[:24]}"
