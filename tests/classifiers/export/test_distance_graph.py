"""distance.onnx computes the training_distance of `ser predict`, for any sound that there is."""

import numpy as np
import pytest
from helpers.junk import JUNK
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime import InferenceSession

from classifiers.export.distance_graph import distance_model
from classifiers.saved.training_sound import MeasuredSound, TrainingSound
from embedcache.synthetic import MANNERS, voice

RATES = (8000, 16_000, 44_100)


@pytest.fixture(scope="module")
def known() -> TrainingSound:
    clips = [(actor, emotion) for actor in range(1, 4) for emotion in MANNERS]
    waves = [np.concatenate([voice(actor, emotion, "01", take) for take in (0, 1)]) for actor, emotion in clips]
    sounds = [MeasuredSound.of(wave.astype(np.float32), 16_000, 16_000) for wave in waves]
    return TrainingSound.of(sounds, [str(actor) for actor, _ in clips])


@pytest.fixture(scope="module")
def graphs(known: TrainingSound) -> dict[int, InferenceSession]:
    models = {rate: distance_model(known, rate).SerializeToString() for rate in RATES}
    return {rate: InferenceSession(model, providers=["CPUExecutionProvider"]) for rate, model in models.items()}


def check(wave: np.ndarray, rate: int, known: TrainingSound, graphs: dict[int, InferenceSession]) -> None:
    wave = wave.astype(np.float32)
    (found,) = graphs[rate].run(None, {"waveform": wave[None]})
    assert found == pytest.approx(known.distance(MeasuredSound.of(wave, rate, rate)), rel=1e-3)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(n=st.integers(1, 30_000), rate=st.sampled_from(RATES), level=st.integers(-7, 1), seed=st.integers(0, 100))
def test_noise_of_any_length_and_level(
    known: TrainingSound, graphs: dict[int, InferenceSession], n: int, rate: int, level: int, seed: int
) -> None:
    check(10.0**level * np.random.default_rng(seed).standard_normal(n), rate, known, graphs)


@pytest.mark.parametrize("kind", sorted(JUNK))
@pytest.mark.parametrize("seconds", [0.05, 2.0])
def test_junk(known: TrainingSound, graphs: dict[int, InferenceSession], kind: str, seconds: float) -> None:
    check(JUNK[kind](seconds, 1), 16_000, known, graphs)


def test_voices_and_the_middle_of_long_sounds(known: TrainingSound, graphs: dict[int, InferenceSession]) -> None:
    wave = np.concatenate([voice(4, emotion, "01", take) for emotion in MANNERS for take in (0, 1)])
    for sound in (wave, np.tile(wave, 1 + 40 * 16_000 // len(wave))):
        check(sound, 16_000, known, graphs)
