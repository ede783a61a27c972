"""What is doubted of a clip, whatever head predicts it: junk gets no confidence without a note."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.junk import JUNK, RATE
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.inference.audio_files import FileResult
from classifiers.inference.input_checks import ExpectedInput, check_input, input_notes, nothing_audible
from classifiers.inference.output_formats import csv_lines, to_dict
from classifiers.inference.predictor import to_prediction
from classifiers.inference.printing import print_predictions
from classifiers.inference.windows import AudioClip
from classifiers.saved.training_sound import MeasuredSound, TrainingSound
from embedcache.synthetic import MANNERS, voice

LABELS = ("angry", "calm", "happy", "sad")


def sentence(actor: int, emotion: str) -> np.ndarray:
    return np.concatenate([voice(actor, emotion, "01", take) for take in range(4)]).astype(np.float32)


@pytest.fixture(scope="module")
def expected() -> ExpectedInput:
    clips = [(actor, emotion) for actor in range(1, 7) for emotion in MANNERS]
    sounds = [MeasuredSound.of(sentence(*clip), RATE, RATE) for clip in clips]
    return ExpectedInput(sounds=(TrainingSound.of(sounds, [str(actor) for actor, _ in clips]),))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(sorted(JUNK)),
    seconds=st.floats(0.2, 4),
    seed=st.integers(0, 1000),
    weights=st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda weights: sum(weights) > 0),
)
def test_no_head_is_sure_of_junk(
    expected: ExpectedInput, kind: str, seconds: float, seed: int, weights: list[float]
) -> None:
    """Whatever probabilities a head gives: silence and clicks get equal ones, all other junk less, and each a note."""
    row = np.array(weights) / sum(weights)
    clip = AudioClip(JUNK[kind](seconds, seed).astype(np.float32), RATE, RATE)
    p = to_prediction(clip, LABELS, row, None, expected)
    assert p.notes
    assert sum(p.probabilities.values()) == pytest.approx(1)
    assert p.confidence < 1
    if not p.audible:
        assert p.label is None
        assert set(p.probabilities.values()) == {0.25}
    else:
        assert p.training_distance > 1
        assert p.confidence <= p.training_distance**-2 + 0.25
        assert p.notes[0].startswith("Unlike the training clips: ")
        assert p.label == LABELS[int(row.argmax())] or np.isclose(np.sort(row)[-2], row.max())


@pytest.mark.parametrize("kind", ["digital silence", "an offset", "noise at -80 dB", "a click"])
def test_a_model_that_knows_no_training_clips_is_not_sure_of_silence(kind: str) -> None:
    """As a model of an earlier version, or a fine-tuned network."""
    clip = AudioClip(JUNK[kind](2, 0).astype(np.float32), RATE, RATE)
    p = to_prediction(clip, LABELS, np.array([1.0, 0, 0, 0]), None)
    assert (p.label, p.confidence, p.training_distance) == (None, 0.25, None)


def test_a_voice_is_predicted_as_the_head_says(expected: ExpectedInput) -> None:
    row = np.array([0.9, 0.05, 0.03, 0.02])
    p = to_prediction(AudioClip(sentence(7, "sad"), RATE, RATE), LABELS, row, None, expected)
    assert (p.notes, p.label) == ((), "angry")
    assert list(p.probabilities.values()) == list(row)
    assert p.training_distance < 1


def test_a_click_does_not_last_longer_than_its_clip() -> None:
    click = np.zeros(604, np.float32)
    click[200:204] = 0.9
    assert nothing_audible(click, 16_000).startswith("Only 38 ms are louder")


def test_the_farthest_of_several_models_counts(expected: ExpectedInput) -> None:
    (sound,) = expected.sounds
    clip = AudioClip(sentence(7, "sad"), RATE, RATE)
    strict = replace(sound, limit=sound.limit / 10)
    alone, both = (check_input(clip, ExpectedInput(sounds=sounds)) for sounds in ((sound,), (sound, strict)))
    assert both.distance == pytest.approx(10 * alone.distance)
    assert check_input(clip, ExpectedInput(sounds=(strict, sound))) == both


def test_notes_compare_with_the_training_clips(expected: ExpectedInput) -> None:
    """A telephone model finds telephone speech usual, a model of long recordings long ones."""
    (sound,) = expected.sounds
    clip = AudioClip(sentence(7, "sad"), RATE, 8000)

    def names(clip: AudioClip, sound: TrainingSound | None) -> list[str]:
        return [note.partition(":")[0] for note in input_notes(clip, sound=sound)]

    assert names(clip, None) == names(clip, sound) == ["Narrow"]
    assert names(clip, replace(sound, lowest_rate=8000)) == []
    assert names(clip, replace(sound, lowest_rate=11_025)) == ["Narrow"]
    wide = replace(clip, native_rate=RATE)
    assert names(wide, replace(sound, shortest=2.1 * clip.seconds, longest=9.0)) == ["Short"]
    assert names(wide, replace(sound, shortest=0.1, longest=clip.seconds / 2.1)) == ["Long"]
    assert names(replace(wide, wave=wide.wave / 1000), sound) == ["Level"]
    assert names(replace(wide, wave=np.tile(wide.wave, 30)), replace(sound, longest=60.0)) == []


def test_the_distance_is_in_every_format(expected: ExpectedInput) -> None:
    noise = AudioClip(JUNK["white noise"](2, 0).astype(np.float32), RATE, RATE)
    p = to_prediction(noise, LABELS, np.array([1.0, 0, 0, 0]), None, expected)
    assert to_dict(p)["training_distance"] == round(p.training_distance, 3)
    output = csv_lines(LABELS)
    assert output.header.endswith(",notes,training_distance")
    assert output.line(p).endswith(f",{p.training_distance:.3f}")
    assert output.line(to_prediction(noise, LABELS, np.array([1.0, 0, 0, 0]), None)).endswith(",")


def test_the_end_says_how_many_were_unlike_the_training_clips(
    expected: ExpectedInput, capsys: pytest.CaptureFixture
) -> None:
    clips = [AudioClip(sentence(7, "sad"), RATE, RATE), AudioClip(JUNK["a tone"](2, 0).astype(np.float32), RATE, RATE)]
    found = [to_prediction(clip, LABELS, np.array([1.0, 0, 0, 0]), None, expected) for clip in clips]
    print_predictions([FileResult("a.wav", tuple(found))], csv_lines(LABELS), None)
    assert "unlike the training clips: 1 of 2 (50.0%); their confidence was lowered" in capsys.readouterr().err
