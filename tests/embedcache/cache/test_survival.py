"""What really happens to files and processes: nothing committed is lost, nothing wrong is read silently.

Faults are injected, not imagined: processes are killed, disks are full, bits are flipped. The counts are printed at the
end of the run; `make test-long` does more of each.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from helpers.permissions import nobody, public_folder
from helpers.places import REPOSITORY
from helpers.sounds import noise, ravdess_tree, write
from helpers.worker import Toy, keyed, truth

import embedcache.cache.content_keys
import embedcache.cache.shard
from embedcache import EmbeddingStore, KeyMemo, Manifest, SerError, StoreError, add_keys, datasets, extract
from embedcache.cache.maintenance import compact, repair, verify
from embedcache.cache.shard import Shard

WORKER = REPOSITORY / "tests" / "helpers" / "worker.py"
Count = Callable[[str, object], None]  # pytest's record_property


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest, np.ndarray]:
    """80 clips, their manifest, and their layers as no cache has touched them."""
    tree = ravdess_tree(tmp_path_factory.mktemp("survival") / "tree", actors=10, emotions=4, takes=2)
    manifest = keyed(tree)
    return tree, manifest, truth(manifest)


def start(tree: Path, cache: Path, *more: object, **options: object) -> subprocess.Popen:
    """A worker that has read the clips, and begins to encode."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, str(WORKER), str(tree), str(cache), *map(str, more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )
    process.stdout.readline()
    return process


def stored(cache: Path) -> EmbeddingStore:
    return EmbeddingStore.of(cache, Toy().info)


def check(cache: Path, manifest: Manifest, layers: np.ndarray) -> int:
    """Go on from what is there, and compare every row with the truth; how many."""
    extract(manifest, Toy(), stored(cache))
    again = stored(cache)
    assert again.verify() == []
    np.testing.assert_array_equal(again.read(manifest.keys, "layers"), layers)
    np.testing.assert_array_equal(again.read(manifest.keys, "pooled"), layers[:, -1])
    return len(layers)


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.long)])
def test_kill_9_at_random_moments(world: tuple, tmp_path: Path, kills: int, record_property: Count) -> None:
    """Each run goes on in the cache that the killed ones left; a cache that is whole makes room for the next."""
    tree, manifest, layers = world
    rng, survived, compared, cache, before = random.Random(kills), 0, 0, tmp_path / "0", set()
    while survived < kills:
        process = start(tree, cache, 0.02)
        time.sleep(rng.uniform(0.0, 0.6))
        process.kill()
        process.communicate()
        survived += process.returncode == -signal.SIGKILL
        held = stored(cache).keys
        assert held >= before
        before = held
        if len(held) == len(manifest) or survived == kills:
            compared += check(cache, manifest, layers)
            cache, before = tmp_path / str(survived), set()
    record_property("kills survived", survived)
    record_property("rows compared after kills", compared)


@pytest.mark.parametrize("point", ["writing", "renaming", "renamed"])
def test_killed_between_write_and_rename(world: tuple, tmp_path: Path, point: str) -> None:
    tree, manifest, layers = world
    process = start(tree, tmp_path, 0, point)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(list(tmp_path.rglob("*.part"))) == (point != "renamed")
    assert len(stored(tmp_path).shards) == (2 if point == "renamed" else 1)
    assert len(stored(tmp_path).keys) >= 2
    check(tmp_path, manifest, layers)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A file system of some size, and what makes it larger. Skips where none may be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield lambda more: subprocess.run(["mount", "-o", f"remount,size={more}", folder], check=True)
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk(world: tuple, tmp_path: Path, record_property: Count) -> None:
    tree, manifest, layers = world
    with small_disk(tmp_path / "disk", "64k") as grow:
        process = start(tree, tmp_path / "disk")
        _, said = process.communicate()
        assert process.returncode == 1
        assert "No space left on device. Stored vectors are intact. Make room" in said
        kept = len(stored(tmp_path / "disk").keys)
        assert 0 < kept < len(manifest)
        assert stored(tmp_path / "disk").verify() == []
        assert not list((tmp_path / "disk").rglob("*.part"))
        grow("10m")
        check(tmp_path / "disk", manifest, layers)
    record_property("rows kept on a full disk", kept)


def test_files_that_may_not_grow(world: tuple, tmp_path: Path) -> None:
    """The same by a limit on a file's size, which needs no rights: the first shard is small enough, the last is not."""
    tree, manifest, layers = world
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))  # noqa: E731
    extract(Manifest("ravdess", manifest.clips[:2]), Toy(), stored(tmp_path))
    process = start(tree, tmp_path, 0, preexec_fn=limit)
    _, said = process.communicate()
    assert process.returncode in (0, 1)
    assert process.returncode == 0 or "File too large. Stored vectors are intact" in said
    check(tmp_path, manifest, layers)


@pytest.fixture
def public() -> Iterator[tuple[Path, Manifest]]:
    """A cache that everybody may read, with half of eight clips in it."""
    with public_folder() as place:
        manifest = keyed(ravdess_tree(place / "tree", actors=2, emotions=2, takes=2))
        extract(Manifest("ravdess", manifest.clips[:4]), Toy(), stored(place / "cache"))
        yield place / "cache", manifest


def test_a_read_only_folder(public: tuple[Path, Manifest]) -> None:
    cache, manifest = public
    compact(stored(cache).folder)
    (shard,) = stored(cache).shards
    for folder in (cache, shard.path.parent):
        folder.chmod(0o555)
    with nobody():
        np.testing.assert_array_equal(stored(cache).read(manifest.keys[:4], "layers"), truth(manifest)[:4])
        assert verify(shard.path.parent) == []
        with pytest.raises(StoreError, match="Permission denied. Stored vectors are intact"):
            extract(manifest, Toy(), stored(cache))
    data = bytearray(shard.path.read_bytes())
    data[-1] ^= 1
    shard.path.write_bytes(data)
    with nobody(), pytest.raises(StoreError, match="Permission denied"):
        repair(shard.path.parent)
    assert list(shard.path.parent.iterdir()) == [shard.path]


def test_a_shard_that_may_not_be_read_is_not_taken_for_damaged(public: tuple[Path, Manifest]) -> None:
    cache, _ = public
    shard = stored(cache).shards[0].path
    shard.parent.chmod(0o777)
    shard.chmod(0)
    with nobody(), pytest.raises(StoreError, match="Permission denied"):
        repair(shard.parent)
    assert shard.exists()


@pytest.mark.parametrize("writers", [2, pytest.param(8, marks=pytest.mark.long)])
def test_extractors_at_once(world: tuple, tmp_path: Path, writers: int, record_property: Count) -> None:
    """With a compaction going on all the time; every writer must come through, and no row may be wrong or repeated."""
    tree, manifest, layers = world
    begun = [start(tree, tmp_path, 0.01 * (n % 3)) for n in range(writers)]
    while any(process.poll() is None for process in begun):
        if stored(tmp_path).folder.exists():
            compact(stored(tmp_path).folder)
        time.sleep(0.02)
    assert [process.communicate()[1] for process in begun] == [""] * writers
    assert not stored(tmp_path).missing(manifest.keys)
    compared = check(tmp_path, manifest, layers)
    compact(stored(tmp_path).folder)
    assert sum(len(shard) for shard in stored(tmp_path).shards) == len(set(manifest.keys))
    assert {path.suffix for path in stored(tmp_path).folder.iterdir()} == {".h5"}  # no lock is left, for there was none
    check(tmp_path, manifest, layers)
    record_property("writers at once, a compaction beside them", writers)
    record_property(f"rows compared after {writers} writers", compared)


MERGING = """
import sys
from embedcache.cache import maintenance
maintenance.MERGED_BYTES = 20_000
maintenance.compact(sys.argv[1])
"""
READING = """
import sys, time
from pathlib import Path
import numpy as np
from embedcache import EmbeddingStore
from embedcache.cache.maintenance import summarise, verify
folder, keys, layers, rounds = Path(sys.argv[1]), sys.argv[2], np.load(sys.argv[3]), 0
keys = Path(keys).read_text().split()
while not (folder / "ended").exists():
    np.testing.assert_array_equal(EmbeddingStore(folder).read(keys, "layers"), layers)
    assert len(summarise(folder).keys) == len(keys) and verify(folder) == []
    rounds += 1
print(rounds)
"""


def run_beside(code: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)


@pytest.mark.parametrize("shards", [150, pytest.param(1500, marks=pytest.mark.long)])
def test_compactions_at_once_with_readers_beside_them(tmp_path: Path, shards: int, record_property: Count) -> None:
    """Shards of one row each; every reading must find all rows, whatever two compactions take away meanwhile."""
    store = EmbeddingStore.of(tmp_path, Toy().info)
    keys = [f"{number:064x}" for number in range(shards)]
    layers = np.random.default_rng(0).normal(size=(shards, 2, 8)).astype(np.float32)
    for number, key in enumerate(keys):
        row = layers[number : number + 1]
        embedcache.cache.shard.write_shard(store.folder, Toy().info, [key], {"layers": row, "pooled": row[:, -1]})
    (tmp_path / "keys").write_text("\n".join(keys))
    np.save(tmp_path / "layers.npy", layers)
    readers = [run_beside(READING, store.folder, tmp_path / "keys", tmp_path / "layers.npy") for _ in range(2)]
    merging = [run_beside(MERGING, store.folder) for _ in range(2)]
    assert [process.communicate() for process in merging] == [("", "")] * 2
    (store.folder / "ended").touch()
    said = [process.communicate() for process in readers]
    assert [error for _, error in said] == [""] * 2
    compact(store.folder)
    again = EmbeddingStore(store.folder)
    np.testing.assert_array_equal(again.read(keys, "layers"), layers)
    assert sum(len(shard) for shard in again.shards) == shards
    record_property("shards merged by two compactions at once", shards)
    record_property("readings of all rows meanwhile", sum(int(rounds) for rounds, _ in said))


@pytest.mark.parametrize("flips", [30, pytest.param(3000, marks=pytest.mark.long)])
def test_a_flipped_bit_anywhere(world: tuple, tmp_path: Path, flips: int, record_property: Count) -> None:
    """It is found by a read or by `verify`, or changes nothing that can be read; and `repair` mends the cache."""
    _, manifest, layers = world
    check(tmp_path, manifest, layers)
    compact(stored(tmp_path).folder)
    path = stored(tmp_path).shards[0].path
    numbers, sound, rng, found = numbered(stored(tmp_path).shards[0]), path.read_bytes(), random.Random(flips), 0
    for _ in range(flips):
        data, at = bytearray(sound), rng.randrange(len(sound))
        data[at] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        complaints = verify(path.parent)
        found += bool(complaints)
        assert complaints or (reads_right(tmp_path, manifest, layers) and at not in numbers)
        repair(path.parent)
        assert verify(path.parent) == []
        for view, made in (("layers", layers), ("pooled", layers[:, -1])):
            lost = set(stored(tmp_path).missing(manifest.keys, [view]))
            kept = [number for number, key in enumerate(manifest.keys) if key not in lost]
            np.testing.assert_array_equal(stored(tmp_path).read([manifest.keys[n] for n in kept], view), made[kept])
        for left in path.parent.iterdir():
            left.unlink()
    assert found > flips / 2
    record_property("bits flipped", flips)
    record_property("found", found)
    record_property("without any effect", flips - found)


def numbered(shard: Shard) -> set[int]:
    """The bytes that are keys, vectors or checksums; all others are HDF5's, checked by it, or unused."""
    extents = [shard.key, *(extent for view in shard.views.values() for extent in (view.values, view.crcs))]
    return {at for extent in extents for at in range(extent.offset, extent.offset + extent.nbytes)}


def reads_right(cache: Path, manifest: Manifest, layers: np.ndarray) -> bool:
    """Whether all rows can be read; one that can and is wrong ends the test."""
    try:
        got = stored(cache).read(manifest.keys, "layers"), stored(cache).read(manifest.keys, "pooled")
    except StoreError:
        return False
    np.testing.assert_array_equal(got[0], layers)
    np.testing.assert_array_equal(got[1], layers[:, -1])
    return True


@pytest.mark.parametrize("cuts", [40, pytest.param(400, marks=pytest.mark.long)])
def test_a_truncated_shard(world: tuple, tmp_path: Path, cuts: int, record_property: Count) -> None:
    _, manifest, layers = world
    check(tmp_path, manifest, layers)
    compact(stored(tmp_path).folder)
    path = stored(tmp_path).shards[0].path
    sound, rng = path.read_bytes(), random.Random(cuts)
    for length in [0, 1, len(sound) - 1, *(rng.randrange(len(sound)) for _ in range(cuts))]:
        path.write_bytes(sound[:length])
        with pytest.raises(StoreError, match="Run `ser cache repair`"):
            stored(tmp_path)
        assert len(verify(path.parent)) == 1
    repair(path.parent)
    check(tmp_path, manifest, layers)
    record_property("truncations found", cuts + 3)


@pytest.mark.parametrize("days", [-4000, 4000])
def test_a_clock_that_jumps(world: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    """Between the first half of an extraction and the second, and under the memory of the files' keys."""
    tree, manifest, layers = world
    memo = KeyMemo(tmp_path / "keys.json")
    add_keys(datasets.get("ravdess").manifest(tree), memo)
    extract(Manifest("ravdess", manifest.clips[:40]), Toy(), stored(tmp_path))

    class Jumped(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.now(zone) + timedelta(days=days)

    monkeypatch.setattr(embedcache.cache.shard, "datetime", Jumped)
    now = time.time_ns
    monkeypatch.setattr(embedcache.files.stamps.time, "time_ns", lambda: now() + days * 86_400 * 10**9)
    check(tmp_path, manifest, layers)
    clip = manifest.clips[0]
    old = Path(clip.path).read_bytes()
    try:
        write(Path(clip.path), noise(0.2, seed=1234))
        then = time.time() + days * 86_400
        os.utime(clip.path, (then, then))
        for _ in range(2):
            again = add_keys(datasets.get("ravdess").manifest(tree), KeyMemo(tmp_path / "keys.json"))
            assert again.clips[0].key not in ("", clip.key)
    finally:
        Path(clip.path).write_bytes(old)
    compact(stored(tmp_path).folder)
    check(tmp_path, manifest, layers)


@pytest.mark.parametrize("rounds", [15, pytest.param(150, marks=pytest.mark.long)])
def test_audio_that_changes_while_it_is_read(tmp_path: Path, rounds: int, record_property: Count) -> None:
    """A recorder that writes over its files all the time: what is stored under a key is the vector of those bytes."""
    tree = ravdess_tree(tmp_path / "tree", actors=2, emotions=2, takes=1)
    paths = sorted(tree.rglob("*.wav"))
    versions = [write(tmp_path / f"{n}.wav", noise(0.2, seed=n)).read_bytes() for n in range(6)]
    ended = threading.Event()

    def record() -> None:
        rng = random.Random(0)
        while not ended.is_set():
            rng.choice(paths).write_bytes(rng.choice(versions))
            time.sleep(0.002)

    recorder = threading.Thread(target=record)
    recorder.start()
    true = {embedcache.Recording(Path(), data).key: data for data in versions}
    refused, done, last = 0, 0, time.monotonic() + 60
    try:
        while done < rounds or (len(stored(tmp_path).keys & set(true)) < 2 and time.monotonic() < last):
            done += 1
            try:
                extract(keyed(tree), Toy(), stored(tmp_path))
            except SerError as error:
                refused += 1
                assert any(word in str(error) for word in ("changed during", "is truncated", "is empty", "be decoded"))
    finally:
        ended.set()
        recorder.join()
    for path in paths:  # as they were before anything was written over them
        path.write_bytes(b"")
    again = stored(tmp_path)
    assert again.verify() == []
    known = sorted(again.keys & set(true))
    waves = [embedcache.Recording(Path(), true[key]).waveform(16_000) for key in known]
    assert len(known) >= 2
    np.testing.assert_array_equal(again.read(known, "layers"), Toy().encode(waves, ["layers"])["layers"])
    record_property("extractions of changing audio", done)
    record_property("of them refused", refused)
