"""How training clips sound, and how far other sounds are from them: speech is near, all else is far."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from helpers.junk import JUNK, RATE
from helpers.places import RAVDESS, needs_ravdess
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.saved.sound_profile import NAMES, sound_profile
from classifiers.saved.training_sound import MeasuredSound, TrainingSound
from embedcache import Recording
from embedcache.synthetic import MANNERS, voice


def voices(actors: range) -> tuple[list[MeasuredSound], list[str]]:
    """Synthetic voices, several sentences each, and their speakers."""
    clips = [(actor, emotion, take) for actor in actors for emotion in MANNERS for take in (0, 1)]
    waves = [np.concatenate([voice(a, e, "01", t), voice(a, e, "01", t + 2)]).astype(np.float32) for a, e, t in clips]
    return [MeasuredSound.of(wave, RATE, RATE) for wave in waves], [str(actor) for actor, _, _ in clips]


@pytest.fixture(scope="module")
def known() -> TrainingSound:
    return TrainingSound.of(*voices(range(1, 7)))


def test_nearly_all_training_clips_are_within_the_limit(known: TrainingSound) -> None:
    sounds, speakers = voices(range(1, 7))
    assert np.mean([known.distance(sound) > 1 for sound in sounds]) <= 0.01
    one = TrainingSound.of(sounds[:1], speakers[:1])  # one clip has no deviation, and no clip to be far from
    assert one.distance(sounds[0]) <= 1 < one.distance(MeasuredSound.of(np.zeros(RATE, np.float32), RATE, RATE))


@pytest.mark.parametrize("kind", sorted(JUNK))
def test_a_broken_training_clip_does_not_make_junk_near(kind: str) -> None:
    """As most corpora have: the largest distance of a training clip would be that of the broken one."""
    sounds, speakers = voices(range(1, 13))
    broken = MeasuredSound.of(JUNK[kind](3, 1).astype(np.float32), RATE, RATE)
    known = TrainingSound.of([*sounds, broken], [*speakers, "1"])
    for other, make in JUNK.items():
        assert known.distance(MeasuredSound.of(make(3, 2).astype(np.float32), RATE, RATE)) > 1, other


def test_another_speaker_is_near(known: TrainingSound) -> None:
    sounds, _ = voices(range(7, 9))
    assert np.mean([known.distance(sound) > 1 for sound in sounds]) <= 0.05


@settings(max_examples=60, deadline=None, derandomize=True)
@given(kind=st.sampled_from(sorted(JUNK)), seconds=st.floats(0.5, 4), seed=st.integers(0, 1000))
def test_what_is_no_speech_is_far(known: TrainingSound, kind: str, seconds: float, seed: int) -> None:
    sound = JUNK[kind](seconds, seed).astype(np.float32)
    assert known.distance(MeasuredSound.of(sound, RATE, RATE)) > 1, kind


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 20_000),
    rate=st.sampled_from([8000, 16_000, 44_100]),
    scale=st.sampled_from([0.0, 1e-30, 1e-6, 0.3, 1.0, 30.0]),
    seed=st.integers(0, 100),
)
def test_a_profile_is_finite_for_any_waveform(n: int, rate: int, scale: float, seed: int) -> None:
    wave = (scale * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)
    for part in (wave, np.sign(wave), wave**3):
        profile = sound_profile(part, rate)
        assert profile.shape == (len(NAMES),)
        assert np.isfinite(profile).all()


def test_a_profile_does_not_depend_on_level_or_offset(known: TrainingSound) -> None:
    wave = np.concatenate([voice(1, "happy", "01", take) for take in range(4)]).astype(np.float32)
    profile = sound_profile(wave, RATE)
    np.testing.assert_allclose(sound_profile(0.1 * wave, RATE), profile, rtol=0.02, atol=0.02)
    np.testing.assert_allclose(sound_profile(wave + np.float32(0.1), RATE), profile, rtol=0.02, atol=0.02)
    around = np.concatenate([np.zeros(RATE, np.float32), wave, np.zeros(RATE, np.float32)])
    assert known.distance(MeasuredSound.of(around, RATE, RATE)) < 1


def test_a_card_gives_it_back(known: TrainingSound) -> None:
    assert TrainingSound.from_dict(json.loads(json.dumps(asdict(known)))) == known
    assert TrainingSound.from_dict({}) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": (0.0,) * (len(NAMES) - 1)},
        {"deviation": (0.0,) * len(NAMES)},
        {"deviation": (float("nan"),) * len(NAMES)},
        {"limit": 0.0},
        {"limit": float("inf")},
        {"limit": "3"},
        {"clips": None},
    ],
)
def test_numbers_that_cannot_be_are_refused(known: TrainingSound, wrong: dict) -> None:
    with pytest.raises(ValueError, match="training_sound has|wrong type"):
        TrainingSound.from_dict(json.loads(json.dumps(asdict(replace(known, **wrong)))))


@needs_ravdess
@pytest.mark.long
def test_real_speakers_are_near_and_junk_is_far() -> None:
    """Eight speakers are trained on, the other sixteen tested."""
    paths = sorted(Path(RAVDESS).glob("*/*"))[::8]
    sounds = {path: MeasuredSound.of(Recording.load(path).waveform(RATE), RATE, 48_000) for path in paths}
    speakers = {path: path.stem[-2:] for path in paths}
    trained = [path for path in paths if int(speakers[path]) % 3 == 0]
    known = TrainingSound.of([sounds[path] for path in trained], [speakers[path] for path in trained])
    tested = [known.distance(sounds[path]) for path in paths if path not in trained]
    assert np.mean(np.array(tested) > 1) <= 0.03
    for kind, make in JUNK.items():
        assert known.distance(MeasuredSound.of(make(3, 1).astype(np.float32), RATE, RATE)) > 1, kind
