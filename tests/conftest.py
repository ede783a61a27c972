"""Shared pieces: small trees of made-up sound, tiny checkpoints, the real recordings where they are."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "0"
os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
import pytest
import soundfile
from warm import Warm

from embedcache import Artifacts, EmbeddingStore, Manifest, add_keys, datasets, extract, load_encoder

# A shell's background job ignores Ctrl-C, and so would what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parent.parent
RAVDESS = os.environ.get("SER_RAVDESS_ROOT")
needs_ravdess = pytest.mark.skipif(not RAVDESS, reason="SER_RAVDESS_ROOT names no RAVDESS")


def pytest_terminal_summary(terminalreporter: object) -> None:
    """What tests have counted (`record_property`), so that a run of the long suite shows it."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    lines = [f"{report.nodeid}: {name}: {value}" for report in reports for name, value in report.user_properties]
    if lines:
        terminalreporter.section("counted")
        terminalreporter.write_line("\n".join(sorted(lines)))


# The slowest tests of the default suite: started first, they do not keep one process busy when the others are done.
FIRST = ("every_command_and_snippet", "quickstart_says", "the_job_from_clips", "real_clips")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first; the order of the others stays."""
    items.sort(key=lambda item: not any(name in item.name for name in FIRST))


@pytest.fixture(autouse=True)
def _own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or writes the developer's caches."""
    for name in ("SER_ARTIFACTS", "SER_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))


def noise(seconds: float, rate: int = 16_000, seed: int = 0, channels: int = 1) -> np.ndarray:
    """Noise with a hum in it: (samples,) or (samples, channels)."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate))[:, None] / rate
    sound = 0.1 * rng.standard_normal((len(t), channels)) + 0.3 * np.sin(2 * np.pi * (110 + 10 * seed) * t)
    return sound[:, 0] if channels == 1 else sound


def write(path: Path, sound: np.ndarray, rate: int = 16_000, subtype: str | None = None) -> Path:
    """A sound file, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, subtype=subtype)
    return path


def ravdess_tree(root: Path, actors: int = 4, emotions: int = 3, takes: int = 2, seconds: float = 0.2) -> Path:
    """Clips under RAVDESS's names whose hum tells the emotion."""
    for actor in range(1, actors + 1):
        for emotion in range(1, emotions + 1):
            for take in range(1, takes + 1):
                name = f"03-01-{emotion:02d}-01-01-{take:02d}-{actor:02d}.wav"
                sound = noise(seconds, seed=100 * actor + 10 * emotion + take)
                t = np.arange(len(sound)) / 16_000
                write(root / f"Actor_{actor:02d}" / name, sound * 0.3 + 0.2 * np.sin(2 * np.pi * 200 * emotion * t))
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """24 clips of 4 actors, 3 emotions, 2 takes."""
    return ravdess_tree(tmp_path / "tree")


def extracted(
    root: Path,
    place: Path,
    encoder: str = "mfcc",
    dataset: str = "ravdess",
    views: Sequence[str] = ("pooled", "layers"),
) -> Manifest:
    """The clips below `root`, extracted into the artifacts folder `place`."""
    artifacts = Artifacts(place)
    loaded = load_encoder(encoder)
    manifest = add_keys(datasets.get(dataset).manifest(root))
    manifest, _ = extract(manifest, loaded, EmbeddingStore.of(artifacts.cache, loaded.info), views)
    manifest.to_csv(artifacts.manifest(manifest.dataset))
    return manifest


@pytest.fixture
def artifacts(tree: Path, tmp_path: Path) -> Artifacts:
    """The tree, extracted with mfcc."""
    extracted(tree, tmp_path / "artifacts")
    return Artifacts(tmp_path / "artifacts")


Ser = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """What runs `ser`."""
    process = Warm()
    yield process
    process.close()


@pytest.fixture
def ser(tmp_path: Path, warm: Warm) -> Ser:
    """`ser` in a process of its own, in an empty folder."""

    def run(*arguments: object, env: dict[str, str] | None = None, timeout: float = 180) -> subprocess.CompletedProcess:
        alone = {"LOKY_MAX_CPU_COUNT": "1"}  # a pool of processes costs more than it saves
        return warm.run([*map(str, arguments)], tmp_path, {**os.environ, **alone, **(env or {})}, timeout)

    return run


@pytest.fixture
def world(tmp_path: Path) -> dict[str, str]:
    """What pages of the documentation speak of, in the folder in which `ser` runs; the environment for it."""
    from pages import make_world  # which imports this module

    return make_world(tmp_path)


def tiny_config(family: str, **changes: object) -> object:
    """A config of two layers and 32 dimensions, otherwise as the family's base model."""
    import transformers

    small = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "conv_dim": (32,) * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    }
    return getattr(transformers, f"{family}Config")(**{**small, **changes})


def save_checkpoint(folder: Path, family: str = "Wav2Vec2", **changes: object) -> Path:
    """A seeded tiny checkpoint, as save_pretrained writes it."""
    import torch
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = getattr(transformers, f"{family}Model")(tiny_config(family, **changes))
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny wav2vec2 checkpoint."""
    return save_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny-wav2vec2")
