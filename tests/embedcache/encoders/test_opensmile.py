"""`egemaps` and `compare`: against the package itself where it is installed, and with a stand-in where it is not."""

import importlib.metadata
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from helpers.places import Ser
from helpers.sounds import noise
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import cli
from classifiers import load_model
from classifiers.export.onnx_export import export_onnx
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts, AudioError, EncoderError, encoders, load_encoder
from embedcache.cache.dataset_extraction import extract_dataset
from embedcache.checks import check_encoder
from embedcache.encoders import opensmile as ours
from embedcache.text import install_hint

SETS = {"egemaps": ("eGeMAPSv02", 88), "compare": ("ComParE_2016", 6373)}
needs_opensmile = pytest.mark.skipif(not find_spec("opensmile"), reason="the extra [opensmile] is not installed")


class FeatureSet(Enum):
    """The feature sets of the stand-in."""

    eGeMAPSv02 = "egemaps/v02/eGeMAPSv02"
    ComParE_2016 = "compare/ComParE_2016"


class FeatureLevel(Enum):
    """The level of the stand-in."""

    Functionals = "func"


class Smile:
    """Reads 16-bit samples as `opensmile.Smile` does: one beyond full scale turns into a large negative one."""

    def __init__(self, feature_set: FeatureSet, feature_level: FeatureLevel) -> None:
        self.num_features = {"eGeMAPSv02": 88, "ComParE_2016": 6373}[feature_set.name]
        self.feature_names = [f"{feature_set.name}_{number}" for number in range(self.num_features)]

    def __call__(self, signal: np.ndarray, sampling_rate: int) -> np.ndarray:
        assert (signal.dtype, sampling_rate) == (np.float32, 16_000)
        samples = (signal.astype(np.float64) * 32768).astype(np.int64).astype(np.int16) / 32768
        low = np.quantile(samples, np.linspace(0, 1, self.num_features - 1))
        return np.append(low, len(samples)).astype(np.float32).reshape(1, -1, 1)


def use_stand_in(monkeypatch: pytest.MonkeyPatch, smile: type = Smile) -> None:
    module = ModuleType("opensmile")
    module.FeatureSet, module.FeatureLevel, module.Smile = FeatureSet, FeatureLevel, smile
    monkeypatch.setitem(sys.modules, "opensmile", module)
    versions = {"opensmile": "2.6.0"}
    monkeypatch.setattr(ours, "version", lambda package: versions.get(package) or importlib.metadata.version(package))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package `opensmile` that computes quantiles of the samples."""
    use_stand_in(monkeypatch)


@pytest.fixture
def without_opensmile(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package `opensmile`."""

    def version(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(ours, "version", version)


@pytest.fixture(params=["stand-in", pytest.param("opensmile", marks=needs_opensmile)])
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The stand-in, and the package itself where it is installed."""
    if request.param == "stand-in":
        use_stand_in(monkeypatch)
    return request.param


@pytest.mark.parametrize("name", SETS)
def test_they_keep_the_contract(package: str, name: str) -> None:
    encoder = load_encoder(name)
    check_encoder(encoder)
    assert (encoder.info.name, encoder.info.n_layers, encoder.info.dim) == (name, 1, SETS[name][1])
    assert (encoder.info.sample_rate, encoder.info.checkpoint, encoder.info.weights_sha256) == (16_000, "", "")
    assert len(encoder.feature_names) == encoder.info.dim
    empty = encoder.encode([], ["pooled", "layers"])
    assert (empty["pooled"].shape, empty["layers"].shape) == ((0, encoder.info.dim), (0, 1, encoder.info.dim))


@pytest.mark.parametrize("name", SETS)
def test_a_clip_of_60_ms_has_finite_values_and_a_shorter_one_is_refused(package: str, name: str) -> None:
    encoder = load_encoder(name)
    t = np.arange(960) / 16_000
    for wave in (noise(0.06), np.zeros(960), 0.5 * np.sin(2 * np.pi * 200 * t), np.sign(np.sin(2 * np.pi * 90 * t))):
        assert np.isfinite(encoder.encode([wave.astype(np.float32)], ["pooled"])["pooled"]).all()
    with pytest.raises(AudioError, match=rf"got a waveform of 959 samples .*; {name} needs at least 960"):
        encoder.encode([np.zeros(959, np.float32)], ["pooled"])


@pytest.mark.parametrize("name", SETS)
def test_samples_beyond_full_scale_are_clipped_and_turn_no_sign(package: str, name: str) -> None:
    """A resampled clip may exceed 1 a little; openSMILE alone would read 1.0 as -1.0."""
    encoder = load_encoder(name)
    loud = (4 * noise(0.3)).astype(np.float32)
    assert loud.max() > 1
    vectors = encoder.encode([loud, np.clip(loud, -1, 32_767 / 32_768)], ["pooled"])["pooled"]
    np.testing.assert_array_equal(vectors[0], vectors[1])


@pytest.mark.usefixtures("stand_in")
@given(arrays(np.float32, st.integers(960, 1200), elements=st.floats(-2, 2, width=32)))
def test_16_bit_samples_keep_their_sign(wave: np.ndarray) -> None:
    quantiles = ours.load("egemaps", "eGeMAPSv02").encode([wave], ["pooled"])["pooled"][0, :-1]
    assert np.allclose(quantiles, np.quantile(np.clip(wave, -1, 1), np.linspace(0, 1, 87)), atol=2 / 32768)


@pytest.mark.usefixtures("stand_in")
def test_the_fingerprint_has_the_feature_set_and_the_version_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    egemaps, compare = (load_encoder(name).info for name in SETS)
    assert "opensmile 2.6.0, functionals of eGeMAPSv02" in egemaps.preprocessing
    assert "opensmile 2.6.0, functionals of ComParE_2016" in compare.preprocessing
    monkeypatch.setattr(ours, "version", lambda package: "2.7.0")
    assert load_encoder("egemaps").info.fingerprint != egemaps.fingerprint


@pytest.mark.usefixtures("without_opensmile")
@pytest.mark.parametrize("name", SETS)
def test_without_the_package_one_message_says_what_installs_it(name: str) -> None:
    said = f"{name}: needs the package opensmile, whose licence allows research only. Install it with "
    with pytest.raises(
        EncoderError, match=re.escape(f"{said}`{install_hint('opensmile')}`, or use --encoder functionals.")
    ):
        load_encoder(name)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("libSMILEapi.so: wrong ELF class"), "libSMILEapi.so: wrong ELF class"),
        (RuntimeError("Unsupported platform Plan9"), "Unsupported platform Plan9"),
        (Exception("Code: 6"), "Code: 6"),
    ],
)
def test_a_package_that_does_not_run_here_says_where_it_does(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    class Broken(Smile):
        def __init__(self, *arguments: object) -> None:
            raise error

    use_stand_in(monkeypatch, Broken)
    with pytest.raises(EncoderError, match=rf"egemaps: opensmile 2.6.0 cannot be used here \({re.escape(said)}\)"):
        load_encoder("egemaps")


@pytest.mark.usefixtures("stand_in")
def test_there_is_no_device_and_no_precision_to_choose() -> None:
    with pytest.raises(EncoderError, match="--device cuda: compare has no weights and runs on the CPU only"):
        load_encoder("compare", "cuda")
    with pytest.raises(EncoderError, match="--precision bf16: egemaps is computed in fp32 only"):
        load_encoder("egemaps", precision="bf16")


def test_the_licence_is_in_the_list_of_encoders(ser: Ser) -> None:
    """Nothing need be installed for it."""
    listed = {line.split("\t")[0]: line.split("\t")[2] for line in ser("encoders").stdout.splitlines()}
    assert {listed[name] for name in SETS} == {"research only (audEERING), features and models included"}


@pytest.mark.usefixtures("stand_in")
def test_an_extraction_says_what_the_licence_forbids_in_one_line(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["extract", "--dataset", "ravdess", "--root", str(tree), "--encoder", "egemaps"]
    monkeypatch.setattr(sys, "argv", ["ser", *words, "--artifacts", str(tmp_path / "artifacts")])
    with pytest.raises(SystemExit) as done:
        cli.main()
    printed = capsys.readouterr()
    assert done.value.code in (None, 0)
    assert printed.err.count(f"note: egemaps: {ours.TERMS}\n") == 1
    assert ours.TERMS not in printed.out


@pytest.fixture
def fitted(stand_in: None, tree: Path, tmp_path: Path) -> Path:
    """A head on `egemaps`."""
    artifacts = Artifacts(tmp_path / "artifacts")
    extract_dataset(artifacts, "ravdess", tree, "egemaps")
    return fit_model(artifacts, ComparisonConfig(heads=("logreg",), folds=2), jobs=1)[0]


def test_the_card_of_a_model_has_the_licence_and_what_it_forbids(fitted: Path) -> None:
    _, card = load_model(fitted)
    assert card.encoder_licences == {"egemaps": ours.LICENCE}
    assert card.limits[0] == ours.TERMS


def test_the_encoder_is_not_exported_and_the_head_alone_is(fitted: Path) -> None:
    with pytest.raises(EncoderError, match="egemaps: cannot be exported as ONNX, .*Export the head alone, without"):
        export_onnx(fitted, with_encoder=True)
    assert not (fitted / "onnx").exists()
    assert export_onnx(fitted).files == ("head.onnx", "model.json")


@pytest.fixture(scope="module")
def engines() -> dict[str, object]:
    """The package's own objects, by encoder."""
    package = pytest.importorskip("opensmile")
    level = package.FeatureLevel.Functionals
    return {name: package.Smile(getattr(package.FeatureSet, SETS[name][0]), level) for name in SETS}


def speech_like(seconds: float, seed: int) -> np.ndarray:
    return (0.5 * noise(seconds, seed=seed)).astype(np.float32)


@pytest.mark.parametrize("name", SETS)
def test_the_rows_are_those_of_the_package(engines: dict[str, object], name: str) -> None:
    encoder = load_encoder(name)
    waves = [speech_like(seconds, seed) for seed, seconds in enumerate((0.06, 0.3, 1.1))]
    tables = [engines[name].process_signal(wave, 16_000) for wave in waves]
    assert encoder.feature_names == tuple(tables[0].columns)
    rows = encoder.encode(waves, ["pooled"])["pooled"]
    np.testing.assert_array_equal(rows, np.concatenate([table.to_numpy() for table in tables]))


@needs_opensmile
def test_egemaps_has_the_names_of_its_paper() -> None:
    names = load_encoder("egemaps").feature_names
    assert names[0] == "F0semitoneFrom27.5Hz_sma3nz_amean"
    assert names[-1] == "equivalentSoundLevel_dBp"
    families = ("F0semitone", "loudness", "spectralFlux", "mfcc", "jitterLocal", "shimmerLocaldB", "HNRdBACF", "F1")
    assert all(any(name.startswith(family) for name in names) for family in families)


@needs_opensmile
@pytest.mark.parametrize("name", SETS)
def test_the_rows_do_not_depend_on_what_runs_beside_them(name: str) -> None:
    encoder = load_encoder(name)
    waves = [speech_like(seconds, seed) for seed, seconds in enumerate((0.06, 0.2, 0.31))]
    alone = encoder.encode(waves, ["pooled"])["pooled"]
    with ThreadPoolExecutor(4) as threads:
        batches = list(threads.map(lambda _: encoder.encode(waves, ["pooled"])["pooled"], range(8)))
    for batch in batches:
        np.testing.assert_array_equal(batch, alone)


def test_no_default_asks_for_them() -> None:
    assert set(SETS) <= set(encoders.names())
    assert {spec.name for spec in encoders.all() if spec.terms} == {*SETS, "mms-300m"}
