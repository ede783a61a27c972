"""The encoder `functionals`: what its numbers are, what they do not depend on, and its graph."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from helpers.places import REPOSITORY
from helpers.sounds import noise
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcache import EncoderError, encoders, load_encoder
from embedcache.checks import check_encoder
from embedcache.encoders import functionals
from embedcache.encoders.acoustics.contours import VOICE, Contours, contours_of
from embedcache.encoders.acoustics.functionals import BLOCKS, LAGS, WIDTHS, functionals_of, names
from embedcache.encoders.acoustics.tensors import ascending, windows
from embedcache.onnx.runtime import Session, save_encoder

RATE = 16_000


def speech(seconds: float = 1.5, seed: int = 0, pitch: float = 150.0) -> np.ndarray:
    """Return syllables with a moving pitch, in noise: float32."""
    rng, t = np.random.default_rng(seed), np.arange(round(seconds * RATE)) / RATE
    hertz = pitch * (1 + 0.2 * np.sin(2 * np.pi * 0.7 * t + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 4 * t + rng.uniform(0, 6)), 0, None) * (
        1 + 0.5 * np.sin(2 * np.pi * 0.4 * t)
    )
    return (0.1 * voice * syllables + 0.002 * rng.standard_normal(len(t))).astype(np.float32)


def with_gap(wave: np.ndarray) -> np.ndarray:
    """Return a waveform with 0.3 s of digital silence in the middle, as a noise gate leaves it."""
    gap = wave.copy()
    gap[len(wave) // 2 : len(wave) // 2 + 4_800] = 0
    return gap


def vector(wave: np.ndarray) -> np.ndarray:
    return load_encoder("functionals").encode([wave], ["pooled"])["pooled"][0]


def deviations() -> np.ndarray:
    """Return the standard deviation of each functional over made-up clips, at least 1e-3."""
    clips = [speech(0.8 + 0.1 * n, n, 90 + 25 * n) for n in range(12)] + [noise(1.0, seed=n) * 0.1 for n in range(4)]
    rows = load_encoder("functionals").encode([clip.astype(np.float32) for clip in clips], ["pooled"])["pooled"]
    return np.maximum(rows.std(axis=0), 1e-3)


def contours(wave: np.ndarray) -> Contours:
    return contours_of(torch.from_numpy(wave))


def named(found: np.ndarray) -> dict[str, float]:
    return dict(zip(names(), found.tolist(), strict=True))


def test_the_contract_of_encoders() -> None:
    check_encoder(load_encoder("functionals"))


def test_each_number_has_one_name() -> None:
    found = contours(speech())
    for block in BLOCKS:
        assert block.compute(found).numel() == len(block.names)
    assert len(set(names())) == len(names()) == functionals.DIM == load_encoder("functionals").info.dim
    assert encoders.feature_names("functionals") == names()


def test_numbers_without_names() -> None:
    with pytest.raises(EncoderError, match="mfcc: its numbers have no names"):
        encoders.feature_names("mfcc")


@pytest.mark.parametrize("gain", [10**-1.5, 10**1.5])  # -30 and +30 dB
@pytest.mark.parametrize("sound", [speech(), with_gap(speech())])
def test_the_level_changes_nothing(gain: float, sound: np.ndarray) -> None:
    wave = 0.01 * sound / np.abs(sound).max()
    loud = (gain * wave).astype(np.float32)
    assert (np.abs(vector(loud) - vector(wave.astype(np.float32))) / deviations()).max() < 1e-4


def test_an_offset_changes_nothing() -> None:
    wave = speech()
    moved = np.abs(vector((wave + 0.05).astype(np.float32)) - vector(wave)) / deviations()
    assert moved.max() < 2e-3  # float32 rounds the samples at 0.05 to 4e-9


@pytest.mark.parametrize(("before", "after"), [(1.0, 0.0), (0.0, 1.0), (0.5, 2.0)])
def test_silence_before_and_after_changes_nothing(before: float, after: float) -> None:
    wave = speech()
    wave -= wave.mean()
    silent = np.pad(wave, (round(before * RATE), round(after * RATE)))
    assert (np.abs(vector(silent) - vector(wave)) / deviations()).max() < 1e-5


def test_silence_of_no_whole_number_of_frames_changes_little() -> None:
    wave = speech()
    moved = np.abs(vector(np.pad(wave, (1_000 + 77, 33))) - vector(wave)) / deviations()
    assert np.median(moved) < 0.05


@pytest.mark.parametrize("wave", [np.zeros(RATE), np.full(RATE, 0.3), np.r_[1.0, np.zeros(RATE)], np.zeros(400)])
def test_no_sound_gives_finite_numbers(wave: np.ndarray) -> None:
    assert np.isfinite(vector(wave.astype(np.float32))).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(400, 4_000), st.integers(0, 2**16), st.floats(1e-6, 1.0))
def test_clips_of_any_length_and_level_give_finite_numbers(samples: int, seed: int, level: float) -> None:
    wave = level * np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32)
    assert np.isfinite(vector(wave)).all()


@pytest.mark.parametrize("hertz", [70, 120, 220, 440])
def test_pitch_and_voicing(hertz: int) -> None:
    t = np.arange(RATE) / RATE
    voice = 0.1 * sum(np.sin(2 * np.pi * hertz * k * t) / k for k in range(1, 8)).astype(np.float32)
    found = contours(np.concatenate([0.002 * noise(0.5).astype(np.float32), voice]))
    assert found.voiced[:40].max() < 0.1
    assert found.voiced[65:-11].min() > 0.9
    pitch = found.voice[65:-11, VOICE.index("pitch")].numpy()
    np.testing.assert_allclose(pitch, 12 * np.log2(hertz / 100), atol=0.05)  # semitones


def test_the_contours_agree_with_librosa() -> None:
    import librosa

    wave = 0.1 * noise(1.0).astype(np.float32)
    found = contours(wave)
    padded = np.pad(wave.astype(np.float64) - wave.mean(), 256 + 160)
    power = np.abs(librosa.stft(padded, n_fft=512, hop_length=160, win_length=400, center=False)) ** 2
    mel = librosa.feature.melspectrogram(S=power, sr=RATE, n_mels=40, fmin=50, fmax=8000, norm=None)
    theirs = 10 * np.log10(mel / power.sum(0).mean() + 1e-7).T
    inner = slice(3, -4)  # librosa keeps the mean of each frame
    np.testing.assert_allclose(found.mel[inner], theirs[inner], atol=0.2)
    np.testing.assert_allclose(found.cepstra[inner], librosa.feature.mfcc(S=theirs.T, n_mfcc=24).T[inner], atol=0.4)
    centroid = librosa.feature.spectral_centroid(S=power, sr=RATE)[0] / 1000
    np.testing.assert_allclose(found.voice[inner, VOICE.index("centroid")], centroid[inner], atol=0.01)


def test_functionals_agree_with_scipy() -> None:
    found = contours(speech())
    inside = found.inside[:, 0].numpy() > 0
    ours = named(functionals_of(found).numpy())
    for n, name in enumerate(VOICE):
        contour = found.voice[inside, n].numpy()
        std = contour.std()
        shrunk = std / (std + 0.01)  # of the deviation that divides
        assert ours[f"{name}.mean"] == pytest.approx(contour.mean())
        assert ours[f"{name}.std"] == pytest.approx(std)
        assert ours[f"{name}.skewness"] == pytest.approx(scipy.stats.skew(contour) * shrunk**3)
        assert ours[f"{name}.kurtosis"] == pytest.approx(scipy.stats.kurtosis(contour, fisher=False) * shrunk**4)
        assert ours[f"{name}.p25"] == pytest.approx(np.percentile(contour, 25))
        assert ours[f"{name}.p95"] == pytest.approx(np.percentile(contour, 95))
        frames = np.arange(len(contour))
        trend = np.polyfit(frames, contour, 1)[0] * len(contour) / 2
        assert ours[f"{name}.trend"] == pytest.approx(trend, abs=1e-9)
        weight = found.voiced[inside, 0].numpy()
        assert ours[f"{name}.voiced_mean"] == pytest.approx(np.average(contour, weights=weight))
    energy, hnr = (found.voice[inside, VOICE.index(name)].numpy() for name in ("energy", "hnr"))
    shrunk = np.prod([x.std() / (x.std() + 0.01) for x in (energy, hnr)])
    assert ours["energy.with_hnr"] == pytest.approx(np.corrcoef(energy, hnr)[0, 1] * shrunk)
    first = found.cepstra[inside, 0].numpy()
    centred = first - first.mean()
    product = (centred[5:] * centred[:-5]).sum() / len(centred) / (centred.std() + 0.01) ** 2
    assert 5 in LAGS
    assert ours["cepstrum_00.autocorrelation_50ms"] == pytest.approx(product)


@pytest.mark.parametrize(("hertz", "band"), [(0.7, "0.5-1Hz"), (1.4, "1-2Hz"), (2.8, "2-4Hz"), (5.6, "4-8Hz")])
def test_modulation_is_found_in_its_band(hertz: float, band: str) -> None:
    t = np.arange(6 * RATE) / RATE
    wave = (0.1 * (1 + 0.5 * np.sin(2 * np.pi * hertz * t)) * np.random.default_rng(0).standard_normal(len(t))).astype(
        "f4"
    )
    ours = named(vector(wave))
    powers = {name: value for name, value in ours.items() if name.startswith("energy.modulation_")}
    assert max(powers, key=powers.__getitem__) == f"energy.modulation_{band}"


def test_modulation_has_the_power_of_the_filtered_contour() -> None:
    """The same band by filtering in time, with scipy."""
    import scipy.ndimage

    found = contours(speech(3.0))
    inside = found.inside[:, 0].numpy() > 0
    contour = np.pad(found.voice[inside, 0].numpy() - found.voice[inside, 0].numpy().mean(), 400)
    wide, narrow = (scipy.ndimage.gaussian_filter1d(contour, width, truncate=8) for width in WIDTHS[3:5])
    power = ((narrow - wide) ** 2).sum() / inside.sum()
    ours = named(functionals_of(found).numpy())["energy.modulation_4-8Hz"]
    assert ours == pytest.approx(10 * np.log10(power + 1e-3), abs=0.01)


def test_frames_are_the_contours_of_the_speech() -> None:
    wave = np.pad(speech(), (RATE, RATE))
    frames = load_encoder("functionals").encode([wave], ["frames:0"])["frames:0"][0]
    found = contours(wave)
    assert frames.shape == (int(found.inside.sum()), 38)
    assert len(frames) < 160  # of 350
    np.testing.assert_array_equal(frames[:, 0], found.cepstra[found.inside[:, 0] > 0, 0].numpy().astype(np.float16))


GOLDEN = {
    "energy.mean": -0.617,
    "pitch.mean": 11.823,
    "pitch.p95": 15.556,
    "periodicity.p5": 0.940,
    "hnr.mean": 27.576,
    "centroid.mean": 0.263,
    "entropy.std": 0.253,
    "flux.slope_p75": 0.000,
    "alpha_ratio.voiced_mean": 15.554,
    "slope_high.trend": -0.124,
    "cepstrum_01.mean": 45.447,
    "cepstrum_05.loud_std": 3.159,
    "mel_07.voiced_mean": -67.378,
    "mel_20.modulation_4-8Hz": -5.035,
    "pitch.modulation_1-2Hz": -4.933,
    "energy.with_hnr": 0.679,
    "cepstrum_02.with_slope_of_cepstrum_03": -0.207,
    "cepstrum_03.autocorrelation_100ms": 0.079,
    "duration": 0.030,
    "voicings_a_second": 0.908,
}


def test_numbers_of_the_recipe() -> None:
    """Measured with version 1 of the recipe. Where this fails on purpose, raise `recipe_version` with it."""
    t = np.arange(RATE) / RATE
    wave = (0.3 * np.sin(2 * np.pi * (150 + 50 * t) * t) + 0.05 * np.sin(2 * np.pi * 2500 * t)).astype(np.float32)
    ours = named(vector(wave))
    assert functionals.load().info.recipe_version == 1
    assert {name: round(ours[name], 3) for name in GOLDEN} == pytest.approx(GOLDEN, abs=2e-3)


def test_views_of_the_exporter_are_those_of_torch() -> None:
    """The operations that replace a view and a sort while torch traces a graph give the same numbers."""
    values = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    column = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    usual = windows(values, 7, 4, 8), ascending(column)
    traced = torch.compiler.is_exporting
    torch.compiler.is_exporting = lambda: True
    try:
        exported = windows(values, 7, 4, 8), ascending(column)
    finally:
        torch.compiler.is_exporting = traced
    for one, other in zip(usual, exported, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_devices_and_precisions_that_it_does_not_have() -> None:
    with pytest.raises(EncoderError, match="functionals has no weights and runs on the CPU only"):
        load_encoder("functionals", "cuda")
    with pytest.raises(EncoderError, match="functionals gives fp32 only"):
        load_encoder("functionals", precision="bf16")
    assert "functionals" in encoders.names()


MEASURE = """
import sys
import numpy as np
import torch
from embedcache import load_encoder

torch.set_num_threads(int(sys.argv[2]))
waves = list(np.load(sys.argv[1]).values())
np.save(sys.argv[3], load_encoder("functionals").encode(waves, ["pooled"])["pooled"])
"""


@pytest.mark.long
def test_another_processor_gives_the_same_numbers(tmp_path: Path) -> None:
    """Instructions of older processors, as torch and MKL can be told to use them, and other numbers of threads."""
    np.savez(tmp_path / "waves.npz", *[with_gap(speech(1 + 0.3 * n, n, 100 + 20 * n)) for n in range(8)])
    old = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "OPENBLAS_CORETYPE": "Prescott"}
    rows = []
    for threads, changed in ((1, {}), (4, {}), (1, old)):
        out = tmp_path / f"{len(rows)}.npy"
        command = [sys.executable, "-c", MEASURE, str(tmp_path / "waves.npz"), str(threads), str(out)]
        subprocess.run(command, check=True, cwd=REPOSITORY, env={**os.environ, **changed})
        rows.append(np.load(out).astype(np.float64))
    for other in rows[1:]:
        assert (np.abs(other - rows[0]) / deviations()).max() < 1e-6


@pytest.mark.long
def test_the_exported_graph_computes_the_same_for_any_length(tmp_path: Path) -> None:
    encoder = load_encoder("functionals")
    save_encoder(encoder.info, "pooled", tmp_path / "encoder.onnx")
    graph = Session.of(tmp_path / "encoder.onnx")
    waves = [
        speech(0.4),
        with_gap(speech(2.7, 1)),
        0.1 * noise(1.1),
        np.zeros(5_000),
        speech(1.3, 2)[:401],
        0.3 + speech(0.9, 3),
    ]
    for wave in (wave.astype(np.float32) for wave in waves):
        moved = np.abs(graph(wave[None])[0][0] - vector(wave)) / deviations()
        assert moved.max() < 1e-4


def test_views_that_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="the view 'pooled.layers' cannot be exported; wanted pooled or layers"):
        save_encoder(load_encoder("functionals").info, "pooled+layers", tmp_path / "encoder.onnx")
