"""The extraction loop on many machines, as plain Ray tasks: the extra [cluster].

A task is a batch of clips: it decodes them, encodes them and writes one shard into the store's folder, which all
machines share. The shard is named after its clips and views, so a task that is run again, because its machine was lost,
finds it there or writes the same. Plain tasks, because they survive the loss of a whole machine; actors lost work or
hung.

    ser extract --cluster local      a Ray of its own on this machine, gone afterwards
    ser extract --cluster auto       the Ray that this machine belongs to; or HOST:PORT
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..encoder import Encoder, join
from ..encoders import load_encoder
from ..errors import EncoderError, SerError, first_line
from ..manifest import Clip
from ..progress import Advance
from .extract import Loop, encoded, packs
from .shard import SUFFIX, write_shard
from .store import EmbeddingStore

LOCAL = "local"
# A lost machine, or Ctrl-C, costs this much audio of each task: half a minute of a core's work, a second of a GPU's.
CPU_SECONDS, GPU_SECONDS = 200.0, 7200.0
TURNS = 4  # batches a slot of the cluster at least, so that the last one to finish keeps few waiting
KNOCK_SECONDS = 5.0
AHEAD = 2  # batches in flight for each slot: the next is there when one ends, and the driver holds no long list


@dataclass(frozen=True)
class RayWork:
    """What every task of an extraction is told."""

    encoder: str
    device: str
    precision: str
    fingerprint: str
    folder: Path
    views: tuple[str, ...]


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster, or one of this machine's own for `local`; left, or ended, afterwards.

    Raises SerError where Ray is not installed or the cluster cannot be reached.
    """
    ray = _ray()
    if ray.is_initialized():
        yield ray
        return
    own = {"include_dashboard": False} if address == LOCAL else {}
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
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
    """What `extract` takes as its `loop`: the batches run on a cluster, where the encoder is loaded by these names.

    Raises SerError where Ray is not installed; the cluster is asked for only when there is something to encode.
    """
    _need_ray()

    def loop(
        clips: Sequence[Clip], loaded: Encoder, views: Sequence[str], store: EmbeddingStore, tell: Advance
    ) -> None:
        name = str(Path(encoder).resolve()) if Path(encoder).is_dir() else encoder
        work = RayWork(name, device, precision, loaded.info.fingerprint, store.folder.resolve(), tuple(views))
        with connected(address) as ray:
            slots, gpus = _slots(ray, device)
            batch_seconds = _batch_seconds(clips, loaded, slots, GPU_SECONDS if gpus else CPU_SECONDS)
            task = ray.remote(num_cpus=1, num_gpus=min(gpus, 1), max_retries=-1)(_extract)
            calls = (functools.partial(task.remote, work, batch) for batch in packs(clips, batch_seconds))
            try:
                for seconds in _bounded(ray, calls, AHEAD * slots):
                    tell(seconds)
            finally:
                store.refresh()

    return loop


@contextmanager
def ray_pool(address: str, jobs: int | None = None) -> Iterator[tuple[Any, int, Callable[[Any], Callable[[], Any]]]]:
    """joblib's pool on a cluster, how many calls are a round of it, and what stores a value once on each machine.

    What it stores is fetched by calling what it gives. Raises SerError as `connected` does.
    """
    import joblib

    with connected(address) as ray:
        from ray.util.joblib import register_ray

        register_ray()
        cores = int(ray.cluster_resources().get("CPU", 1))
        with joblib.parallel_config(backend="ray", n_jobs=min(jobs or cores, cores)), joblib.Parallel() as pool:
            yield pool, TURNS * pool.n_jobs, lambda value: functools.partial(ray.get, ray.put(value))


def _need_ray() -> None:
    if find_spec("ray") is None:
        raise SerError("--cluster needs Ray: `pip install ray`, or leave --cluster out.")


def _ray() -> Any:
    _need_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no request to anywhere else
    import ray

    return ray


def _knock(address: str) -> None:
    """Raise OSError where nobody answers at HOST:PORT: Ray itself would try for minutes. ValueError for no address."""
    if address in (LOCAL, "auto"):
        return
    found = re.fullmatch(r"\[?([^/\]]+)\]?:(\d{1,5})", address)
    if not found:
        raise ValueError("wanted local, auto or HOST:PORT")
    socket.create_connection((found[1], int(found[2])), timeout=KNOCK_SECONDS).close()


def _slots(ray: Any, device: str) -> tuple[int, int]:
    """How many tasks the cluster runs at once, and how many GPUs they have."""
    has = ray.cluster_resources()
    gpus = 0 if device == "cpu" else int(has.get("GPU", 0))
    if device.startswith("cuda") and not gpus:
        raise EncoderError(f"--device {device}: no machine of the cluster has a GPU that Ray knows. Use --device cpu.")
    return max(1, gpus or int(has.get("CPU", 1))), gpus


def _batch_seconds(clips: Sequence[Clip], encoder: Encoder, slots: int, most: float) -> float:
    """Seconds of audio of one task."""
    return min(most, max(encoder.pack, sum(clip.seconds for clip in clips) / (TURNS * slots)))


def _bounded(ray: Any, calls: Iterable[Callable[[], Any]], most: int) -> Iterator[Any]:
    """The results of remote calls, as they come, with at most so many under way. Raises what a task raised."""
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
    try:
        return ray.get(done)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, SerError):
            raise cause from error
        raise SerError(f"a task of the cluster failed ({cause!r}). Every machine needs this version of ser.") from error


def _extract(work: RayWork, clips: Sequence[Clip]) -> float:
    """One task: the seconds of audio of these clips, whose rows are in the store's folder afterwards."""
    encoder = _loaded(work.encoder, work.device, work.precision)
    if encoder.info.fingerprint != work.fingerprint:
        raise EncoderError(
            f"{work.encoder} is another encoder on {os.uname().nodename} ({encoder.info.preprocessing}) than where the "
            "extraction was started. All machines need the same files and the same versions."
        )
    name = _name(work, clips)
    if not (work.folder / f"{name}{SUFFIX}").exists():
        with closing(encoded(clips, encoder, work.views, threads=1)) as batches:
            done = list(batches)
        rows = {view: join([batch[view] for _, batch in done]) for view in work.views}
        write_shard(work.folder, encoder.info, [clip.key for pack, _ in done for clip in pack], rows, name)
    return sum(clip.seconds for clip in clips)


@functools.lru_cache(maxsize=1)
def _loaded(encoder: str, device: str, precision: str) -> Encoder:
    """One encoder a worker, whatever tasks it runs."""
    return load_encoder(encoder, device, precision)


def _name(work: RayWork, clips: Sequence[Clip]) -> str:
    """The name of a batch's shard: the same for the same clips and views, wherever and whenever it is made."""
    said = "\n".join([*work.views, "", *sorted(clip.key for clip in clips)])
    return f"batch-{hashlib.sha256(said.encode()).hexdigest()[:24]}"
