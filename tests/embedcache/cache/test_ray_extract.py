"""Many machines: a real Ray, whose workers and machines are killed in mid-job; the cache is that of one process."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from helpers.long_recordings import lay_end_to_end
from helpers.places import Ser
from helpers.sounds import ravdess_tree

from classifiers import compare
from classifiers.checks import toy_task
from embedcache import (
    Artifacts,
    EmbeddingStore,
    EncoderError,
    Manifest,
    SerError,
    add_keys,
    datasets,
    extract,
    load_encoder,
)
from embedcache.cache import dataset_extraction
from embedcache.cache import ray_extract as cluster
from embedcache.cache.extract import MAX_DECODERS
from embedcache.cache.ray_extract import connected, on_cluster

ray = pytest.importorskip("ray", reason="the extra [cluster]")
Count = Callable[[str, object], None]
MEMORY = 80 << 20
pytestmark = pytest.mark.xdist_group("ray")  # one Ray at a time


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, EmbeddingStore]:
    """96 clips of five seconds, and their vectors as one process makes them."""
    place = tmp_path_factory.mktemp("cluster")
    manifest = add_keys(datasets.get("ravdess").manifest(ravdess_tree(place / "tree", 12, 4, 2, seconds=5.0)))
    encoder = load_encoder("mfcc")
    alone = EmbeddingStore.of(place / "alone", encoder.info)
    extract(manifest, encoder, alone)
    return manifest, alone


@pytest.fixture(scope="module", autouse=True)
def _no_ray_is_left() -> Iterator[None]:
    yield
    ray.shutdown()


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray of two processes, for as many tests as want it in a row."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        ray.init(address="local", num_cpus=2, object_store_memory=MEMORY, include_dashboard=False, log_to_driver=False)


@pytest.fixture
def no_ray() -> None:
    ray.shutdown()


def spread(manifest: Manifest, cache: Path, patch: pytest.MonkeyPatch) -> EmbeddingStore:
    """Extract in batches of three clips."""
    patch.setattr(cluster, "CPU_SECONDS", 15.0)
    encoder = load_encoder("mfcc")
    store = EmbeddingStore.of(cache, encoder.info)
    _, report = extract(manifest, encoder, store, loop=on_cluster("local", "mfcc", "cpu"))
    assert report.encoded == len(set(manifest.keys))
    return store


def same(store: EmbeddingStore, alone: EmbeddingStore, manifest: Manifest) -> int:
    """Row by row; how many."""
    for view in ("pooled", "layers"):
        np.testing.assert_array_equal(store.read(manifest.keys, view), alone.read(manifest.keys, view))
    assert EmbeddingStore(store.folder).verify() == []
    assert sum(len(shard) for shard in store.shards) == len(set(manifest.keys))
    return len(manifest)


def working() -> list[int]:
    """The processes below this one that run a task."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cmdline").read_bytes().startswith(b"ray::_extract") and os.getpid() in ancestors(
                int(path.name)
            ):
                found.append(int(path.name))
        except OSError:
            continue
    return found


def ancestors(pid: int) -> set[int]:
    seen = set()
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        seen.add(pid)
    return seen


def killer(store: Path, moments: list[int], killed: list[int]) -> threading.Thread:
    """Kill one worker each time that so many shards are there."""

    def watch() -> None:
        for wanted in moments:
            while len(list(store.glob("*.h5"))) < wanted or not (pids := working()):
                time.sleep(0.005)
            os.kill(pids[0], signal.SIGKILL)
            killed.append(pids[0])

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.mark.long
def test_workers_that_are_killed_lose_nothing(
    clips: tuple, local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Count
) -> None:
    manifest, alone = clips
    killed: list[int] = []
    watching = killer(tmp_path / alone.folder.name, [0, 5], killed)
    store = spread(manifest, tmp_path, monkeypatch)
    watching.join(timeout=1)
    assert len(killed) == 2
    record_property("workers killed", len(killed))
    record_property("rows compared with one process's", same(store, alone, manifest))
    before = {path: path.stat().st_mtime_ns for path in store.folder.glob("*.h5")}
    _, again = extract(manifest, load_encoder("mfcc"), store, loop=on_cluster("local", "mfcc", "cpu"))
    assert again.encoded == 0
    for path in list(before)[:3]:
        path.unlink()
    store.refresh()
    spread_again = extract(manifest, load_encoder("mfcc"), store, loop=on_cluster("local", "mfcc", "cpu"))[1]
    assert 0 < spread_again.encoded <= 9
    same(store, alone, manifest)


def test_a_task_that_is_run_again_finds_its_shard(clips: tuple, tmp_path: Path) -> None:
    manifest, alone = clips
    work = cluster.RayWork("mfcc", "cpu", "fp32", alone.info.fingerprint, tmp_path, ("pooled", "layers"))
    assert cluster._extract(work, manifest.clips[:3]) == pytest.approx(15.0)
    (path,) = tmp_path.iterdir()
    before = path.stat()
    cluster._extract(work, manifest.clips[:3])
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    cluster._extract(work, manifest.clips[3:5])
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.long
def test_spans_of_long_recordings_are_those_of_one_process(local: None, tmp_path: Path) -> None:
    tables = lay_end_to_end(tmp_path, speakers=6, stereo=True)
    manifest = add_keys(datasets.get("folder").manifest(tables.spans))
    encoder = load_encoder("mfcc")
    alone, store = (EmbeddingStore.of(tmp_path / name, encoder.info) for name in ("alone", "spread"))
    extract(manifest, encoder, alone)
    _, report = extract(manifest, encoder, store, loop=on_cluster("local", "mfcc", "cpu"))
    assert report.encoded == len(manifest)
    np.testing.assert_array_equal(store.read(manifest.keys, "pooled"), alone.read(manifest.keys, "pooled"))


def test_a_machine_with_another_encoder_is_refused(clips: tuple, tmp_path: Path) -> None:
    work = cluster.RayWork("mfcc", "cpu", "fp32", "f" * 64, tmp_path, ("pooled",))
    with pytest.raises(EncoderError, match="All machines need the same files and the same versions"):
        cluster._extract(work, clips[0].clips[:1])
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_what_a_task_raises_reaches_the_driver(
    clips: tuple, local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = ravdess_tree(tmp_path / "tree", 3, 2, 2)
    manifest = add_keys(datasets.get("ravdess").manifest(tree))
    changed = Path(manifest.clips[5].path)
    changed.write_bytes(Path(manifest.clips[0].path).read_bytes())
    with pytest.raises(SerError, match=f"^{changed}: changed during the extraction"):
        spread(manifest, tmp_path / "cache", monkeypatch)
    with pytest.raises(EncoderError, match="no machine of the cluster has a GPU"):
        extract(
            manifest,
            load_encoder("mfcc"),
            EmbeddingStore(tmp_path, clips[1].info),
            loop=on_cluster("local", "mfcc", "cuda"),
        )


def test_a_task_with_a_gpu_decodes_in_the_cores_of_one_gpu() -> None:
    def machine(cpu: float, gpu: float, alive: bool = True) -> dict:
        return {"Alive": alive, "Resources": {"CPU": cpu, **({"GPU": gpu} if gpu else {})}}

    assert cluster._cores([machine(64, 8)]) == 8
    assert cluster._cores([machine(32, 1)]) == MAX_DECODERS
    assert cluster._cores([machine(32, 1), machine(16, 4), machine(2, 0), machine(2, 2, alive=False)]) == 4
    assert cluster._cores([machine(1, 2)]) == 1


@pytest.mark.long
def test_a_process_with_a_gpu_runs_many_tasks(
    clips: tuple, no_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray believes in a GPU that nothing uses here; the encoder is loaded once."""

    def process() -> int:
        return os.getpid()

    manifest, alone = clips
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setattr(cluster, "GPU_SECONDS", 15.0)
    options = {"object_store_memory": MEMORY, "include_dashboard": False, "log_to_driver": False}
    ray.init(address="local", num_cpus=2, num_gpus=1, **options)
    try:
        task = cluster._remote(ray, process, cores=2, gpus=1)
        assert len({ray.get(task.remote()) for _ in range(4)}) == 1
        store = EmbeddingStore.of(tmp_path, alone.info)
        extract(manifest, load_encoder("mfcc"), store, loop=on_cluster("local", "mfcc"))
        same(store, alone, manifest)
    finally:
        ray.shutdown()


def test_the_machine_that_starts_an_extraction_needs_no_gpu(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = []

    def load(name: str, device: str, *options: object, **more: object) -> object:
        devices.append(device)
        return load_encoder(name, "cpu")

    ran = []
    monkeypatch.setattr(dataset_extraction, "load_encoder", load)
    monkeypatch.setattr(cluster, "_run_batches", lambda ray, work, clips: ran.append(work.device) or [])
    monkeypatch.setattr(cluster, "connected", lambda address: nullcontext())
    extract_dataset = dataset_extraction.extract_dataset
    extract_dataset(Artifacts(tmp_path / "a"), "ravdess", tree, "mfcc", "cuda", cluster="auto")
    assert (devices, ran) == (["cpu"], ["cuda"])


def test_a_numbered_gpu_is_no_device_of_a_cluster() -> None:
    with pytest.raises(EncoderError, match=r"--device cuda:1 with --cluster: .*Use --device cuda\."):
        on_cluster("local", "mfcc", "cuda:1")
    with pytest.raises(EncoderError, match="got the device 'gpu'"):
        on_cluster("local", "mfcc", "gpu")


@pytest.mark.long
def test_a_comparison_is_the_same_on_a_cluster(local: None, record_property: Count) -> None:
    task = toy_task(n_layers=2, view="layers")
    here, there = (
        compare(task, ["mlp", "svm", "lgbm", "layer_weighted"], "speakers", 3, jobs=1, cluster=address)
        for address in (None, "local")
    )
    for ours, theirs in zip(here, there, strict=True):
        np.testing.assert_array_equal(ours.proba, theirs.proba)
        assert (ours.head, ours.params, ours.fold_hash) == (theirs.head, theirs.params, theirs.fold_hash)
        assert ours.folds.tolist() == theirs.folds.tolist()
    record_property("rows of comparisons equal on a cluster", sum(len(p.proba) for p in there))


def test_what_cannot_be_had_is_said(no_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("127.0.0.1:1", "[::1]:1", "ray://127.0.0.1:1", "nonsense:x", ""):
        with (
            pytest.raises(SerError, match=f"--cluster {re.escape(address)}: cannot be reached .*--cluster local"),
            connected(address),
        ):
            pass
    monkeypatch.setitem(sys.modules, "ray", None)
    for ask in (lambda: connected("local").__enter__(), lambda: on_cluster("local", "mfcc")):
        with pytest.raises(SerError, match=r"--cluster needs Ray. Install it with `.*\[cluster\]"):
            ask()


@pytest.mark.long
def test_a_machine_that_is_lost_loses_nothing(
    clips: tuple, no_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Count
) -> None:
    """Two machines' worth of Ray; all processes of one are killed in mid-job, by their numbers."""
    from ray.cluster_utils import Cluster

    manifest, alone = clips
    options = {"num_cpus": 1, "object_store_memory": MEMORY}
    machines = Cluster(initialize_head=True, head_node_args={**options, "include_dashboard": False})
    second = machines.add_node(**options)
    ray.init(address=machines.address, log_to_driver=False)
    lost: list[int] = []

    def lose() -> None:
        while len(list((tmp_path / alone.folder.name).glob("*.h5"))) < 6 or len(working()) < 2:
            time.sleep(0.005)
        for process in (info.process for infos in second.all_processes.values() for info in infos):
            os.kill(process.pid, signal.SIGKILL)
            lost.append(process.wait())

    watching = threading.Thread(target=lose, daemon=True)
    try:
        assert ray.cluster_resources()["CPU"] == 2
        watching.start()
        store = spread(manifest, tmp_path, monkeypatch)
        watching.join(timeout=1)
        assert set(lost) == {-signal.SIGKILL}
        record_property("machines killed in mid-job", 1)
        record_property("rows compared with one process's", same(store, alone, manifest))
    finally:
        ray.shutdown()
        machines.shutdown()


@pytest.mark.long
def test_the_command_starts_a_ray_of_its_own_and_ends_it(ser: Ser, tree: Path) -> None:
    done = ser("extract", "--dataset", "ravdess", "--encoder", "mfcc", "--root", tree, "--cluster", "local")
    assert done.returncode == 0, done.stderr
    assert "encoded now: 24" in done.stdout
    again = ser("extract", "--dataset", "ravdess", "--encoder", "mfcc", "--root", tree, "--cluster", "127.0.0.1:1")
    assert again.returncode == 0  # nothing is missing: no cluster is asked for
