"""Exported files say what they are and what they read, and the programs of the docs predict as `ser predict` does."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import soxr
from helpers.checkpoints import save_checkpoint
from helpers.pages import blocks
from helpers.places import REPOSITORY
from helpers.sounds import noise, ravdess_tree, write

from classifiers import ModelCard, Predictor, head, save_model
from classifiers.checks import toy_task
from classifiers.export.metadata import RESAMPLER
from classifiers.export.onnx_export import export_onnx
from classifiers.inference.input_checks import AUDIBLE, FRAME, MIN_AUDIBLE
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts, EmbeddingStore, __version__, datasets, extract, load_encoder
from embedcache.cache.content_keys import add_keys

PAGE = (REPOSITORY / "docs" / "how-to" / "onnx.md").read_text(encoding="utf-8")
EXAMPLES = REPOSITORY / "docs" / "examples" / "onnx"
TOGETHER = pytest.mark.xdist_group("onnx metadata")  # in one process: the networks are exported once
# Three ways to store a sound, and the largest difference of a probability from `ser predict`.
RATES = {(16_000, "PCM_16"): 2e-5, (48_000, "PCM_24"): 2e-5, (44_100, "FLOAT"): 1e-3}


def facts_of(path: Path) -> dict[str, str]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.get_modelmeta().custom_metadata_map


@dataclass(frozen=True)
class Net:
    """A calibrated head on a small network, exported with it."""

    model: Path
    folder: Path


@pytest.fixture(scope="session", params=["network", pytest.param("functionals", marks=pytest.mark.long)])
def net(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Net:
    root = tmp_path_factory.mktemp(request.param)
    name = "functionals" if request.param == "functionals" else str(save_checkpoint(root / "net"))
    place, loaded = Artifacts(root / "artifacts"), load_encoder(name)
    manifest = add_keys(datasets.get("ravdess").manifest(ravdess_tree(root / "tree")))
    manifest, _ = extract(manifest, loaded, EmbeddingStore.of(place.cache, loaded.info), ["pooled", "layers"])
    manifest.to_csv(place.manifest("ravdess"))
    model, _, _ = fit_model(place, ComparisonConfig(heads=("logreg",), folds=2, calibrate=True), jobs=1)
    return Net(model, export_onnx(model, with_encoder=True).folder)


@pytest.fixture
def clips(tmp_path: Path) -> list[str]:
    """A sound as it is stored elsewhere, silence, and a click."""
    sound = noise(1.3, rate=96_000)
    for rate, kind in RATES:
        stored = soxr.resample(sound, 96_000, rate)
        write(tmp_path / f"{rate}.wav", np.stack([stored, 0.3 * stored], axis=1), rate, kind)
    write(tmp_path / "silence.wav", np.zeros(24_000), 24_000, "PCM_16")
    click = np.zeros(48_000)
    click[3000:3500] = 0.5 * noise(0.1, rate=48_000)[:500]
    write(tmp_path / "click.wav", click, 48_000, "PCM_16")
    return [
        *(str(tmp_path / f"{rate}.wav") for rate, _ in RATES),
        *(str(tmp_path / n) for n in ("silence.wav", "click.wav")),
    ]


@TOGETHER
def test_both_files_and_the_card_have_the_same_texts(net: Net) -> None:
    card = json.loads((net.folder / "model.json").read_text(encoding="utf-8"))
    facts = card["onnx"]["metadata"]
    for name in ("head.onnx", "encoder.onnx", "distance.onnx"):
        assert facts_of(net.folder / name) == facts
    assert card["onnx"]["distance"]["file"] == "distance.onnx"
    assert json.loads(facts["labels"]) == card["labels"]
    assert facts["encoder_fingerprint"] == card["fingerprint"]
    assert facts["ser_version"] == __version__
    assert json.loads(facts["scores"])["uar"]["value"] == card["scores"]["uar"]["value"]
    assert (facts["sample_rate"], facts["channel"], facts["view"]) == ("16000", "mean", "pooled")
    assert facts["calibration"].startswith("temperature ")
    assert int(facts["shortest_samples"]) == 400
    silence = [float(facts[f"silence_{name}"]) for name in ("frame_seconds", "below_db", "least_seconds")]
    assert silence == [FRAME, AUDIBLE, MIN_AUDIBLE]


@TOGETHER
def test_the_page_describes_each_key(net: Net) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(facts_of(net.folder / "head.onnx"))


@TOGETHER
def test_the_page_says_what_is_in_no_file(net: Net) -> None:
    for sentence in json.loads(facts_of(net.folder / "head.onnx")["not_in_file"]):
        assert sentence in " ".join(PAGE.split())


def test_a_head_of_imported_vectors_says_nothing_of_sound(tmp_path: Path) -> None:
    task = toy_task()
    info = {"sample_rate": 0, "dim": 6, "n_layers": 1}
    card = ModelCard("logreg", "x", "", "f" * 64, info, "pooled", ("left", "right"), "toy", 160, 8)
    facts = facts_of(
        export_onnx(save_model(tmp_path / "m", head("logreg").fit(task.X, task.y), card)).folder / "head.onnx"
    )
    assert json.loads(facts["labels"]) == ["left", "right"]
    assert facts["calibration"] == "none"
    assert not {"sample_rate", "resampler", "silence_below_db", "shortest_samples"} & set(facts)


@pytest.mark.parametrize(
    ("rate", "bound"), [(48_000, 1e-8), (24_000, 1e-8), (44_100, 2e-3), (8000, 2e-3), (96_000, 2e-3)]
)
def test_the_resampler_is_that_of_ser_predict(rate: int, bound: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    import predict

    x = np.random.default_rng(0).standard_normal(rate // 3)
    wanted = soxr.resample(x, rate, 16_000, quality="VHQ")
    got = predict.resample(x, rate, 16_000, RESAMPLER)
    assert len(got) == len(wanted)
    assert np.sqrt(np.mean((got - wanted) ** 2) / np.mean(wanted**2)) < bound


PROGRAMS = {
    "python": [sys.executable, str(EXAMPLES / "predict.py")],
    "node": ["node", "predict.mjs"],
    "dotnet": ["dotnet", "run"],
}


def ready(program: str, place: Path) -> None:
    """Install what a program of the docs needs; skip the test where it is not to be had."""
    if program == "python":
        return
    if not shutil.which(program):
        pytest.skip(f"there is no {program} here")
    if program == "node":
        shutil.copy(EXAMPLES / "predict.mjs", place)
        install = [["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "onnxruntime-node"]]
    else:
        install = [["dotnet", "new", "console", "--force"], ["dotnet", "add", "package", "Microsoft.ML.OnnxRuntime"]]
    for command in install:
        if subprocess.run(command, cwd=place, capture_output=True, timeout=600).returncode:
            pytest.skip(f"{' '.join(command)} failed: no registry here")
    if program == "dotnet":
        shutil.copy(EXAMPLES / "Program.cs", place)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders in which programs of the docs are ready to run, by program; filled by tests."""
    return {name: tmp_path_factory.mktemp(name) for name in PROGRAMS}


@TOGETHER
@pytest.mark.parametrize(
    "program", ["python", pytest.param("node", marks=pytest.mark.long), pytest.param("dotnet", marks=pytest.mark.long)]
)
def test_a_program_predicts_as_ser_predict(program: str, net: Net, clips: list[str], programs: dict[str, Path]) -> None:
    place = programs[program]
    if not any(place.iterdir()):
        ready(program, place)
    command = [*PROGRAMS[program], str(net.folder), *clips]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    bounds = [*RATES.values(), 1e-3, 1e-3]
    for answer, prediction, bound in zip(answers, Predictor.load(net.model).predict(clips), bounds, strict=True):
        assert answer["label"] == prediction.label
        assert list(answer["probabilities"]) == list(prediction.probabilities)
        found = [list(one.values()) for one in (answer["probabilities"], prediction.probabilities)]
        np.testing.assert_allclose(*found, atol=bound)
    assert [answer["label"] for answer in answers[-2:]] == [None, None]


@TOGETHER
def test_a_clip_that_is_too_short_is_refused(net: Net, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", np.ones(399) / 2, 16_000)
    command = [*PROGRAMS["python"], str(net.folder), str(tmp_path / "short.wav")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "399 samples; wanted 400 to" in done.stderr


def test_what_the_page_shows_is_in_the_programs() -> None:
    shown = {"js": "predict.mjs", "csharp": "Program.cs", "py": "predict.py"}
    found = [(block.language, block.text) for block in blocks(PAGE) if block.language in shown]
    assert {language for language, _ in found} == set(shown)
    for language, text in found:
        assert text in (EXAMPLES / shown[language]).read_text(encoding="utf-8"), text
