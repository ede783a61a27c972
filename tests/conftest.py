"""Shared pieces: small trees of made-up sound, tiny checkpoints, the real recordings where they are."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "0"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # pytest-xdist keeps every core busy: more threads wait for each other

import pytest
from helpers.checkpoints import save_checkpoint
from helpers.extraction import extracted
from helpers.pages import make_world
from helpers.places import Ser
from helpers.sounds import ravdess_tree
from helpers.warm import Warm

from classifiers import ModelCard, compare, head, save_model, save_predictions
from classifiers.checks import toy_task
from embedcache import Artifacts

# A shell's background job ignores Ctrl-C, and so would what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: object) -> None:
    """What tests have counted (`record_property`), so that a run of the long suite shows it."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    lines = [f"{report.nodeid}: {name}: {value}" for report in reports for name, value in report.user_properties]
    if lines:
        terminalreporter.section("counted")
        terminalreporter.write_line("\n".join(sorted(lines)))


# The slowest tests of the default suite: started first, they do not keep one process busy when the others are done.
FIRST = ("every_command_and_snippet", "quickstart_uses", "the_job_from_clips", "real_clips")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first; the order of the others stays."""
    items.sort(key=lambda item: not any(name in item.name for name in FIRST))


@pytest.fixture(autouse=True)
def _own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or writes the developer's caches."""
    for name in ("SER_ARTIFACTS", "SER_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """24 clips of 4 actors, 3 emotions, 2 takes."""
    return ravdess_tree(tmp_path / "tree")


@pytest.fixture
def artifacts(tree: Path, tmp_path: Path) -> Artifacts:
    """The tree, extracted with mfcc."""
    extracted(tree, tmp_path / "artifacts")
    return Artifacts(tmp_path / "artifacts")


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """What runs `ser`."""
    process = Warm()
    yield process
    process.close()


@pytest.fixture
def ser(tmp_path: Path, warm: Warm) -> Ser:
    """`ser` in a process of its own, in an empty folder."""

    def run(*arguments: object, env: dict[str, str] | None = None, timeout: float = 900) -> subprocess.CompletedProcess:
        alone = {"LOKY_MAX_CPU_COUNT": "1"}  # a pool of processes costs more than it saves
        return warm.run([*map(str, arguments)], tmp_path, {**os.environ, **alone, **(env or {})}, timeout)

    return run


@pytest.fixture
def world(tmp_path: Path) -> dict[str, str]:
    """What pages of the documentation speak of, in the folder in which `ser` runs; the environment for it."""
    return make_world(tmp_path)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny wav2vec2 checkpoint."""
    return save_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny-wav2vec2")


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """What no attack may bring into being."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sound model folders of three heads, to be copied and spoilt."""
    task, place, saved = toy_task(), tmp_path_factory.mktemp("models"), {}
    for name in ("logreg", "svm", "lgbm"):
        card = ModelCard(
            name, "mfcc", "", "f" * 64, {"dim": 6, "n_layers": 1}, "pooled", ("left", "right"), "toy", 160, 8
        )
        saved[name] = save_model(place / name, head(name).fit(task.X, task.y), card)
    return saved


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound run folder."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    save_predictions(folder, compare(toy_task(), ["logreg"], "random", n_folds=2, jobs=1), {})
    return folder
