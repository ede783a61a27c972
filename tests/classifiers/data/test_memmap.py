"""Vectors larger than memory: rows of a file behave as an array, are read block by block, and leave nothing behind."""

import errno
import gc
import os
import pickle
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.places import REPOSITORY
from sklearn.model_selection import GroupKFold, cross_validate

from classifiers import Task, head, heads, make_folds
from classifiers.checks import toy_task
from classifiers.data import memmap, stored_vectors
from classifiers.data.memmap import MappedRows, blocks, write_rows
from classifiers.heads import lgbm
from classifiers.protocols.fold import fold_hash
from classifiers.protocols.leaks import leaks
from embedcache import Artifacts, DataError, EmbeddingStore, StoreError

STREAMING = ("mlp", "layer_weighted", "lgbm")


def matrix(n: int = 100, d: int = 12) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)


def in_file(X: np.ndarray, folder: Path) -> MappedRows:
    return write_rows(folder, X.shape, [X[:7], X[7:]])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is large is small: many blocks, few rows to make bins of, every task in a file."""
    monkeypatch.setattr(memmap, "BLOCK", 2**12)
    monkeypatch.setattr(lgbm, "SAMPLE", 100)
    monkeypatch.setattr(memmap, "IN_MEMORY", 2**12)
    monkeypatch.setattr(stored_vectors, "BYTES_PER_READ", 2**15)


@pytest.mark.parametrize(
    "key",
    [
        slice(None),
        slice(90, 5, -3),
        np.array([3, 3, -1, 50]),
        np.arange(100) % 3 == 0,
        [8, 2],
        (np.array([5, 1]), ...),
        (slice(None), slice(-4, None)),
        (slice(2, 50), slice(3, 9)),
        np.arange(0),
    ],
)
def test_rows_of_a_file_are_chosen_as_those_of_an_array(tmp_path: Path, key: object) -> None:
    X = matrix()
    rows = in_file(X, tmp_path)
    some = rows[key]
    wanted = X[key]
    assert (some.shape, some.ndim, some.dtype, some.nbytes, len(some)) == (
        wanted.shape,
        2,
        wanted.dtype,
        wanted.nbytes,
        len(wanted),
    )
    np.testing.assert_array_equal(np.asarray(some), wanted)
    np.testing.assert_array_equal(np.asarray(some[::-2][:, 1:3], dtype=np.float64), wanted[::-2][:, 1:3])


def test_choosing_reads_nothing_and_reading_says_when_the_file_is_gone(tmp_path: Path) -> None:
    rows = in_file(matrix(), tmp_path)
    rows.path.unlink()
    some = rows[10:][:, :3]
    with pytest.raises(DataError, match="cannot read .*No such file.* Load the task again to write the file anew"):
        np.asarray(some)


@pytest.mark.parametrize("key", [3, (slice(None), 2), (slice(None), [1, 2]), (slice(None), slice(None, None, 2))])
def test_what_is_no_matrix_is_refused(tmp_path: Path, key: object) -> None:
    rows = in_file(matrix(), tmp_path)
    with pytest.raises(TypeError, match="wanted rows by slice, numbers or mask, and columns as a:b|integers"):
        _ = rows[key]
    with pytest.raises(TypeError):
        list(rows)
    with pytest.raises(ValueError, match="without a copy"):
        np.array(rows, copy=False)


def test_blocks_of_a_file_are_those_of_the_array(tmp_path: Path, small: None) -> None:
    X, some = matrix(1000), np.random.default_rng(1).permutation(1000)[:600]
    rows = in_file(X, tmp_path)
    for chosen, wanted in ((None, X), (some, X[some])):
        ours, theirs = list(blocks(rows, chosen)), list(blocks(X, chosen))
        assert [len(a) for a in ours] == [len(b) for b in theirs]
        assert len(ours) > 5
        np.testing.assert_array_equal(np.concatenate(ours), wanted)
        np.testing.assert_array_equal(np.concatenate(theirs), wanted)
    assert [block.shape for block in blocks(X[:0])] == [(0, 12)]


def test_the_file_goes_with_the_last_that_reads_it(tmp_path: Path) -> None:
    rows = in_file(matrix(), tmp_path)
    sent = pickle.dumps(rows)
    assert len(sent) < 2000 + rows.rows.nbytes
    some, path = rows[:5], rows.path
    del rows
    received = pickle.loads(sent)
    np.testing.assert_array_equal(np.asarray(received), matrix())
    del received
    gc.collect()
    assert path.exists()  # whoever it was sent to never removes it
    del some
    gc.collect()
    assert not path.exists()


def test_a_fork_leaves_the_file_to_the_process_that_wrote_it(tmp_path: Path) -> None:
    rows = in_file(matrix(), tmp_path)
    memmap._remove(rows.path, os.getpid() + 1)
    assert rows.path.exists()


def test_a_process_that_ends_or_fails_leaves_no_file(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom classifiers.data.memmap import write_rows\n"
        "rows = write_rows(Path(sys.argv[1]), (9, 2), [np.ones((9, 2), np.float32)])\n"
        "print(len(list(Path(sys.argv[1]).iterdir())))\nraise ValueError"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "s"], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout == "1\n"
    assert "ValueError" in done.stderr
    assert list((tmp_path / "s").iterdir()) == []


def test_what_killed_processes_left_goes_when_the_next_file_is_made(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here, name = platform.node(), "0123abcd.f32"
    dead = tmp_path / f"{here}-{ended.pid}-{name}"
    others = [
        tmp_path / f"{here}-{os.getppid()}-{name}",
        tmp_path / f"another-machine-{ended.pid}-{name}",
        tmp_path / f"{here}-notes-{name}",
        tmp_path / "notes.f32",
    ]
    for path in (dead, *others):
        path.touch()
    rows = in_file(matrix(), tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([*others, rows.path])


def test_a_full_disk_is_said_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(memmap.os, "posix_fallocate", full)
    read: list[int] = []
    with pytest.raises(DataError, match=r"cannot write 8.0 GB of vectors, .* No space left on device. Make room, or"):
        write_rows(tmp_path, (2_000_000, 1000), (read.append(1) for _ in range(3)))
    assert not read
    assert list(tmp_path.iterdir()) == []


def test_blocks_of_fewer_rows_than_promised_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 14 numbers, wanted 18"):
        write_rows(tmp_path, (9, 2), [np.ones((7, 2), np.float32)])
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_reserves_nothing_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(memmap.os, "posix_fallocate", cannot)
    np.testing.assert_array_equal(np.asarray(in_file(matrix(), tmp_path)), matrix())


def test_a_store_that_fails_half_way_leaves_no_file(tmp_path: Path) -> None:
    def failing() -> Iterator[np.ndarray]:
        yield matrix()
        raise StoreError("a row is damaged")

    with pytest.raises(StoreError, match="a row is damaged"):
        write_rows(tmp_path, (1000, 12), failing())
    assert list(tmp_path.iterdir()) == []


def test_a_task_is_mapped_where_it_is_large(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {view: Task.load(view=view, artifacts=artifacts) for view in ("pooled", "layers")}
    assert all(isinstance(t.X, np.ndarray) for t in plain.values())
    monkeypatch.setattr(memmap, "IN_MEMORY", plain["layers"].X.nbytes - 1)
    monkeypatch.setattr(stored_vectors, "BYTES_PER_READ", 5 * 4 * 970)
    asked: list[int] = []
    original = EmbeddingStore.rows
    monkeypatch.setattr(
        EmbeddingStore, "rows", lambda store, keys, view: asked.append(len(keys)) or original(store, keys, view)
    )
    large = Task.load(view="layers", artifacts=artifacts)
    assert asked == [1, 5, 5, 5, 5, 4]  # the first tells how wide rows are
    assert isinstance(large.X, MappedRows)
    assert large.X.path.parent == (artifacts.root / "scratch").resolve()
    np.testing.assert_array_equal(np.asarray(large.X), plain["layers"].X)
    for name in ("y", "speakers", "clip_ids", "keys"):
        np.testing.assert_array_equal(getattr(large, name), getattr(plain["layers"], name))
    path = large.X.path
    del large
    gc.collect()
    assert not path.exists()


@pytest.mark.parametrize("limit", [0, 2**20])
def test_the_last_layer_stays_in_the_file_where_it_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(memmap, "IN_MEMORY", limit)
    plain = toy_task(n_layers=3, view="layers")
    last = replace(plain, X=in_file(plain.X, tmp_path)).to_view("pooled")
    assert isinstance(last.X, np.ndarray if limit else MappedRows)
    np.testing.assert_array_equal(np.asarray(last.X), plain.to_view("pooled").X)


def test_folds_and_leaks_never_touch_the_vectors(tmp_path: Path) -> None:
    plain = toy_task()
    large = replace(plain, X=in_file(plain.X, tmp_path))
    large.X.path.unlink()
    for protocol in ("speakers", "loso", "random", "holdout"):
        folds = make_folds(large, protocol, 4)
        assert leaks(large, folds, protocol) == leaks(plain, folds, protocol)
        assert fold_hash(large, folds) == fold_hash(plain, make_folds(plain, protocol, 4))


def hard_task(labels: int, n_layers: int) -> Task:
    """400 clips of 8 speakers, on which every head errs."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, labels, 400)
    X = rng.standard_normal((400, n_layers, 20)) + rng.standard_normal((labels, n_layers, 20))[y]
    names = np.array(["calm", "happy", "sad"])
    view = "layers" if n_layers > 1 else "pooled"
    X = X.reshape(400, -1).astype(np.float32)
    return Task(X, names[y], np.repeat([f"s{n}" for n in range(8)], 50), view=view, n_layers=n_layers)


@pytest.mark.parametrize("class_weight", [None, "balanced", {"calm": 5.0}])
@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("name", STREAMING)
def test_a_fit_on_a_file_is_the_fit_on_the_array(
    tmp_path: Path, small: None, name: str, labels: int, class_weight: object
) -> None:
    """Bit by bit: weights, trees, probabilities; and the head keeps nothing of the file."""
    t = hard_task(labels, 3 if name == "layer_weighted" else 1)
    rows = in_file(t.X, tmp_path)
    told = {} if name == "lgbm" else {"groups": t.speakers}
    few = {"n_estimators": 5} if name == "lgbm" else {"epochs": 2}
    some = np.random.default_rng(1).permutation(400)[:350]
    told = {key: value[some] for key, value in told.items()}
    first, second = (
        head(name, n_layers=t.n_layers, random_state=7)
        .set_params(**few, class_weight=class_weight)
        .fit(X[some], t.y[some], **told)
        for X in (t.X, rows)
    )
    np.testing.assert_array_equal(first.predict_proba(t.X), second.predict_proba(rows))
    np.testing.assert_array_equal(first.predict_proba(t.X), second.predict_proba(t.X))
    if name == "lgbm":
        assert first.booster_.model_to_string() == second.booster_.model_to_string()
    else:
        np.testing.assert_array_equal(first.scaler_.mean_, second.scaler_.mean_)
        assert all(np.array_equal(a, b) for a, b in zip(first.coefs_, second.coefs_, strict=True))
        assert first.history_ == second.history_
    assert first.score(t.X, t.y) < 1
    del rows
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", heads.names())
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_refused_as_in_an_array(tmp_path: Path, small: None, name: str, value: float) -> None:
    t = toy_task()
    whole, X = in_file(t.X, tmp_path), t.X.copy()
    X[150, 3] = value
    rows, fitted = in_file(X, tmp_path), head(name).fit(t.X, t.y)
    calls = [lambda X: head(name).fit(X, t.y), fitted.predict_proba]
    for call in calls:
        said = []
        for given in (X, rows):
            with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)") as error:
                call(given)
            said.append(str(error.value))
        assert said[0] == said[1]
    np.testing.assert_array_equal(fitted.predict(whole), fitted.predict(t.X))


@pytest.mark.parametrize("name", STREAMING)
def test_a_file_that_does_not_fit_is_refused_as_an_array(tmp_path: Path, name: str) -> None:
    t = toy_task()
    rows, fitted = in_file(t.X, tmp_path), head(name).fit(t.X, t.y)
    calls = [
        lambda X: fitted.predict(X[:, :4]),
        lambda X: fitted.predict(X[:0]),
        lambda X: head(name).predict(X),
        lambda X: head(name).fit(X, t.y[:-1]),
        lambda X: head(name).fit(X[:0], t.y[:0]),
        lambda X: head(name).fit(X[:2], ["a", "a"]),
    ]
    for call in calls:
        said = []
        for given in (t.X, rows):
            with pytest.raises(ValueError, match=r".") as error:
                call(given)
            said.append(str(error.value))
        assert said[0] == said[1]


@pytest.mark.parametrize("name", ["mlp", "lgbm", "logreg"])
def test_rows_of_a_file_are_at_home_in_plain_scikit_learn(tmp_path: Path, small: None, name: str) -> None:
    t = toy_task()
    scores = [
        cross_validate(head(name, random_state=0), X, t.y, groups=t.speakers, cv=GroupKFold(3))["test_score"]
        for X in (t.X, in_file(t.X, tmp_path))
    ]
    np.testing.assert_array_equal(*scores)


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from classifiers import head
from classifiers.data.memmap import write_rows

def peak():
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1000

def fitted(X, y):
    few = {"n_estimators": 1} if sys.argv[1] == "lgbm" else {"epochs": 1, "batch_size": 256}
    return head(sys.argv[1], random_state=0).set_params(**few).fit(X, y)

n, d = int(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(0)
made = (rng.standard_normal((n // 20, d), dtype=np.float32) for _ in range(20))
X, y = write_rows(Path(sys.argv[2]), (n, d), made), np.arange(n) % 2
fitted(rng.standard_normal((100, d)), y[:100])  # libraries load some of themselves at the first fit
before = peak()
rows = np.flatnonzero(rng.random(n) < 0.8)
fitted(X[rows], y[rows]).predict_proba(X)
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system does not tell the peak")
@pytest.mark.long
@pytest.mark.parametrize(("name", "n", "d", "most"), [("mlp", 40_000, 1250, 120), ("lgbm", 400_000, 100, 100)])
def test_a_fit_holds_a_part_of_the_file(tmp_path: Path, name: str, n: int, d: int, most: float) -> None:
    """160 MB of rows or more; a network draws them at random, so that every row brings other pages along."""
    command = [sys.executable, "-c", MEMORY, name, tmp_path, n, d]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert float(done.stdout) < most  # MB
