"""Near copies are found under other names and bytes, other takes are not, whatever the vectors are."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from helpers.places import EMODB, RAVDESS, needs_emodb, needs_ravdess

from classifiers import Task
from classifiers.data.memmap import write_rows
from classifiers.data.near_copies import MIN_CLIPS, MIN_DIMENSIONS, find_near_copies, least_margin
from embedcache import datasets, load_encoder
from embedcache.audio.decode import read


def takes(n: int = 300, dim: int = 300, seed: int = 0) -> Task:
    """A task of n clips in 30 groups whose vectors are alike."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(30, dim))[np.arange(n) % 30] * 3 + rng.normal(size=(n, dim))
    y = np.array(["a", "b"])[np.arange(n) % 2]
    return Task((X * rng.uniform(0.1, 100, dim)).astype(np.float32), y, np.arange(n).astype(str))


def with_copies(t: Task, rows: list[int], noise: float = 0.05) -> Task:
    """The task with noisy copies of some rows at its end."""
    rng = np.random.default_rng(1)
    copies = t.X[rows] + noise * t.X.std(axis=0) * rng.normal(size=(len(rows), t.X.shape[1]))
    everything = t.take(np.concatenate([np.arange(len(t)), rows]))
    return replace(everything, X=np.concatenate([t.X, copies.astype(np.float32)]))


def test_copies_are_found_and_repeats_are_not() -> None:
    t = takes()
    assert len(find_near_copies(t).rows) == 0
    found = find_near_copies(with_copies(t, [7, 40, 41]))
    assert sorted(map(tuple, found.rows.tolist())) == [(7, 300), (40, 301), (41, 302)]
    assert (np.diff(found.margins) <= 0).all()
    assert found.margins.min() > least_margin(303)


def test_every_clip_may_have_a_copy() -> None:
    t = takes()
    found = find_near_copies(with_copies(t, list(range(300)), 0.01)).rows
    assert len(found) >= 270
    assert (found[:, 1] - found[:, 0] == 300).all()


def test_files_that_are_identical_are_another_leak() -> None:
    t = with_copies(takes(), [7, 40])
    keys = np.arange(len(t)).astype(str)
    keys[300] = "7"
    assert find_near_copies(replace(t, keys=keys)).rows.tolist() == [[40, 301]]
    assert len(find_near_copies(replace(t, keys=np.full(len(t), ""))).rows) == 2  # unknown keys are not equal


def test_the_last_layer_decides() -> None:
    t = with_copies(takes(), [7])
    other = np.random.default_rng(2).normal(size=t.X.shape).astype(np.float32)
    layers = replace(t, X=np.concatenate([other, t.X], axis=1), view="layers", n_layers=2)
    assert find_near_copies(layers).rows.tolist() == [[7, 300]]


def test_vectors_of_a_file_give_the_same_pairs(tmp_path: Path) -> None:
    t = with_copies(takes(), [7, 40])
    mapped = replace(t, X=write_rows(tmp_path, t.X.shape, [t.X]))
    np.testing.assert_array_equal(find_near_copies(mapped).margins, find_near_copies(t).margins)


@pytest.mark.parametrize("X", [np.zeros((200, 4)), np.ones((200, 30)), np.tile(np.eye(4), (50, 1))])
def test_vectors_without_information_have_no_copies(X: np.ndarray) -> None:
    y = np.array(["a", "b"])[np.arange(200) % 2]
    assert len(find_near_copies(Task(X.astype(np.float32), y, y)).rows) == 0


def test_few_clips_and_frames_are_not_searched() -> None:
    t = with_copies(takes(MIN_CLIPS), [7])
    assert len(find_near_copies(t).rows) == 1
    assert len(find_near_copies(t.take(np.arange(2, MIN_CLIPS + 1))).rows) == 0
    assert len(find_near_copies(replace(t, view="frames:0", n_frames=2)).rows) == 0


def test_a_part_of_a_task_keeps_its_pairs() -> None:
    t = replace(takes(), near_copies=np.array([[0, 5], [2, 9], [9, 11]]))
    assert t.take(np.array([9, 2, 11, 0])).near_copies.tolist() == [[1, 0], [0, 2]]


def test_memory_is_that_of_the_vectors_and_one_block() -> None:
    t = takes(8000, 64)
    tracemalloc.start()
    find_near_copies(t)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6  # all cosines at once would take 256 MB


def sound(path: str) -> tuple[np.ndarray, int]:
    return soundfile.read(path, dtype="float32")


COPIES = {
    "quieter": lambda x, rate: (x / 2, rate),
    "louder": lambda x, rate: (np.clip(2 * x, -1, 1 - 2**-15), rate),
    "start": lambda x, rate: (x[rate // 10 :], rate),
    "end": lambda x, rate: (x[: -rate // 20], rate),
    "resampled": lambda x, rate: (soxr.resample(x, rate, 48_000), 48_000),
}


def real(name: str, root: Path, folder: Path, suffix: str) -> tuple[int, int, int]:
    """Copies of real clips: how many were made, how many found, and how many other pairs were found."""
    clips = datasets.get(name).manifest(root).clips
    step = len(clips) // 40
    paths = [clip.path for clip in clips]
    for n, row in enumerate(range(0, len(clips), step)):
        change = COPIES[list(COPIES)[n % len(COPIES)]]
        soundfile.write(folder / f"{row}.{suffix}", *change(*sound(paths[row])))
    copies = sorted(folder.glob(f"*.{suffix}"))
    encoder = load_encoder("mfcc")
    waves = [read(path, 16_000) for path in [*paths, *copies]]
    X = np.concatenate([encoder.encode(waves[i : i + 20], ("pooled",))["pooled"] for i in range(0, len(waves), 20)])
    y = np.array([clip.label for clip in clips] + ["copy"] * len(copies))
    made = {(int(path.stem), len(paths) + n) for n, path in enumerate(copies)}
    alone = find_near_copies(Task(X[: len(paths)], y[: len(paths)], y[: len(paths)]))
    found = {tuple(pair) for pair in find_near_copies(Task(X, y, y)).rows.tolist()}
    return len(made), len(found & made), len(found - made) + len(alone.rows)


@needs_emodb
@pytest.mark.long
def test_copies_of_emodb_are_found_and_nothing_else(tmp_path: Path) -> None:
    made, found, other = real("emodb", EMODB, tmp_path, "flac")
    assert other == 0
    assert found >= 0.85 * made


@needs_ravdess
@pytest.mark.long
def test_copies_of_ravdess_are_found_and_nothing_else(tmp_path: Path) -> None:
    """Without keys, the one other pair is that of the two identical clips, found with and without the copies."""
    made, found, other = real("ravdess", RAVDESS, tmp_path, "flac")
    assert other <= 2
    assert found >= 0.95 * made


def test_vectors_of_few_dimensions_are_not_searched() -> None:
    assert len(find_near_copies(with_copies(takes(dim=MIN_DIMENSIONS), [7])).rows) == 1
    assert len(find_near_copies(with_copies(takes(dim=MIN_DIMENSIONS - 1), [7])).rows) == 0
