"""Copies of clips, transformed by audiomentations, that are embedded beside the clips themselves: the extra [augment].

    ser extract --dataset ravdess --augment noise,pitch --copies 2 --seed 0

A copy is a row of a manifest as a clip is. Its file is the clip's; its key is made of the clip's key and of all that
decides its samples, so stores, shards and tasks need not know that it is one. Every copy gets all the transforms that
were asked for, in that order, each with a value that is drawn evenly from its range.

The ranges are narrower than audiomentations' defaults, in brackets, because a copy keeps its clip's label: level, pitch
and tempo are what an emotion sounds by (RAVDESS records most at two intensities: Livingstone and Russo 2018), and noise
buries quiet ones first. They are chosen, not tuned.

    noise    white, 10 to 30 dB below the clip's mean power, pauses included (5 to 40)
    pitch    by -2 to 2 semitones, formants along with it (-4 to 4)
    stretch  played at 0.9 to 1.1 times the speed, pitch unchanged, as long as it gets (0.8 to 1.25)
    gain     by -6 to 6 dB, and nothing is clipped (-12 to 12); an encoder that normalises its input, as wav2vec2-base
             does, hardly hears it

The same copy is the same samples, bit for bit, in every process and thread with these versions and this processor.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..errors import DataError, SerError, UnknownName
from ..manifest import COPY_OF, Clip, Manifest
from .decode import Waveform

TRANSFORM = "transform"  # the extra column that says how a copy is made
RECIPE_VERSION = 1  # counts changes to what this module does with audiomentations
DECISIVE = ("audiomentations", "python-stretch")  # packages whose versions decide samples

Apply = Callable[[Waveform, int, float, str], Waveform]  # waveform, its rate, the value that was drawn, the copy's key


@dataclass(frozen=True)
class Transform:
    """The range that a value is drawn from, in the transform's own unit, and what applies it."""

    low: float
    high: float
    apply: Apply


@dataclass(frozen=True)
class Augmentation:
    """How many copies of each clip, made how. Another seed makes others.

    Raises UnknownName for a transform that is not there; SerError for none, for one that is named twice, for less than
    one copy, and where audiomentations is not installed.
    """

    transforms: tuple[str, ...]
    copies: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.transforms:
            if name not in TRANSFORMS:
                raise UnknownName("transform", name, TRANSFORMS)
        if not self.transforms or len(set(self.transforms)) < len(self.transforms):
            named = ", ".join(self.transforms) or "none"
            raise SerError(f"transforms: got {named}; wanted one or more of {', '.join(TRANSFORMS)}, each once.")
        if self.copies < 1:
            raise SerError(f"copies: got {self.copies}; wanted 1 or more of each clip.")
        _need_audiomentations()

    @classmethod
    def asked(cls, transforms: Sequence[str] | None, copies: int | None, seed: int | None) -> Augmentation | None:
        """The recipe of a command line, None where it asks for no copies. Raises SerError as the class does."""
        if transforms is not None:
            return cls(tuple(transforms), 1 if copies is None else copies, seed or 0)
        if copies is None and seed is None:
            return None
        raise SerError(f"--copies and --seed need --augment, which takes one or more of {', '.join(TRANSFORMS)}.")


def copies_of(manifest: Manifest, recipe: Augmentation) -> Manifest:
    """The copies of a keyed manifest's usable clips: `<clip_id>#1` and so on, under the same dataset's name.

    `extra` holds `copy_of`, the clip's key, and `transform`, which with it suffices to make the copy again. Raises
    DataError for a clip without a key.
    """
    if bare := [clip.clip_id for clip in manifest.usable if not clip.key]:
        raise DataError(f"{len(bare)} clips of {manifest.dataset} have no key, {bare[0]} for one. Run add_keys first.")
    made = [copy_of(clip, recipe, number) for clip in manifest.usable for number in range(1, recipe.copies + 1)]
    return Manifest(manifest.dataset, tuple(made))


def copy_of(clip: Clip, recipe: Augmentation, number: int) -> Clip:
    """A keyed clip's copy with this number, from 1, whether or not the recipe asks for so many."""
    return _copy(clip, _description(recipe.transforms, recipe.seed, number), number)


def recipe_of(copy: Clip) -> str:
    """What a copy was made with, for people: `noise+gain, seed 0`. Raises DataError for what describes no copy."""
    try:
        said = json.loads(copy.extra.get(TRANSFORM, ""))
        return f"{'+'.join(said['transforms'])}, seed {int(said['seed'])}"
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{copy.clip_id}: is not described as a copy. Run `ser extract --augment` again.") from error


def transformed(wave: Waveform, rate: int, copy: Clip) -> Waveform:
    """The samples of a copy, (samples,) float32, from those of its clip, which stay as they are; `rate` in Hz.

    Raises DataError for a copy of other versions or of another key than its description gives, SerError where
    audiomentations is not installed.
    """
    clip_key, how = copy.extra[COPY_OF], copy.extra.get(TRANSFORM, "")
    if not _is_ours(how) or copy.key != _key(clip_key, how):
        raise DataError(
            f"{copy.clip_id}: is described as a copy that cannot be made here ({how or 'not at all'}); wanted "
            f"{json.dumps(_made_with())} and the key of that. Run `ser extract --augment` again, everywhere with the "
            "same versions."
        )
    for name, value in _values(how, copy.key).items():
        wave = TRANSFORMS[name].apply(wave, rate, value, copy.key)
    return np.ascontiguousarray(wave, dtype=np.float32)


def _copy(clip: Clip, how: str, number: int) -> Clip:
    key = _key(clip.key, how)
    return Clip(
        dataset=clip.dataset,
        clip_id=f"{clip.clip_id}#{number}",
        path=clip.path,
        label=clip.label,
        speaker=clip.speaker,
        gender=clip.gender,
        extra={COPY_OF: clip.key, TRANSFORM: how},
        key=key,
        seconds=clip.seconds / _values(how, key).get("stretch", 1.0),
    )


def _description(transforms: Sequence[str], seed: int, number: int) -> str:
    """All that decides a copy's samples beside its clip, as JSON: transforms in order, with their ranges."""
    ranges = {name: (TRANSFORMS[name].low, TRANSFORMS[name].high) for name in transforms}
    return json.dumps({"transforms": ranges, "seed": seed, "copy": number, "made with": _made_with()})


def _is_ours(how: str) -> bool:
    """Whether a description says, letter by letter, what this version would say: a manifest may be a stranger's."""
    try:
        said = json.loads(how)
        return how == _description(list(said["transforms"]), said["seed"], said["copy"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


def _key(clip_key: str, how: str) -> str:
    return hashlib.sha256(f"{clip_key}\n{how}".encode()).hexdigest()


def _values(how: str, key: str) -> dict[str, float]:
    """The values of a copy's transforms, in order. Its key is the seed; Python promises this generator's numbers."""
    draw = random.Random(int(key, 16))
    return {name: draw.uniform(low, high) for name, (low, high) in json.loads(how)["transforms"].items()}


def _noise(wave: Waveform, rate: int, decibels: float, key: str) -> Waveform:
    """What AddGaussianSNR does, with numbers of one's own.

    That class draws its noise from numpy's global generator, which any other thread may draw from or seed between two
    of our steps: no lock of ours would keep it away. RandomState's numbers are frozen (NumPy's NEP 19).
    """
    generator = np.random.RandomState(np.frombuffer(bytes.fromhex(key), dtype="<u4"))
    power = float(np.mean(np.square(wave, dtype=np.float64)))
    noise = generator.normal(0.0, np.sqrt(power) / 10 ** (decibels / 20), len(wave))
    return wave + noise.astype(np.float32)


def _pitch(wave: Waveform, rate: int, semitones: float, key: str) -> Waveform:
    from audiomentations import PitchShift

    return _run(PitchShift(), {"num_semitones": semitones}, wave, rate)


def _stretch(wave: Waveform, rate: int, speed: float, key: str) -> Waveform:
    """As long as it gets: cut or padded to the clip's length it would lose its end, or gain silence."""
    from audiomentations import TimeStretch

    return _run(TimeStretch(leave_length_unchanged=False), {"rate": speed}, wave, rate)


def _gain(wave: Waveform, rate: int, decibels: float, key: str) -> Waveform:
    from audiomentations import Gain

    return _run(Gain(), {"amplitude_ratio": 10 ** (decibels / 20)}, wave, rate)


def _run(transform: Any, parameters: dict[str, float], wave: Waveform, rate: int) -> Waveform:
    """A transform of audiomentations with these parameters.

    Frozen, it draws none itself, which it would do from Python's global generator: that one is any thread's to move.
    """
    transform.parameters = {"should_apply": True, **parameters}
    transform.freeze_parameters()
    made: Waveform = transform(wave, rate)
    return made


TRANSFORMS = {
    "noise": Transform(10.0, 30.0, _noise),  # dB, signal to noise
    "pitch": Transform(-2.0, 2.0, _pitch),  # semitones
    "stretch": Transform(0.9, 1.1, _stretch),  # times the speed
    "gain": Transform(-6.0, 6.0, _gain),  # dB
}


@functools.cache
def _made_with() -> dict[str, str]:
    _need_audiomentations()
    return {"recipe": str(RECIPE_VERSION), **{package: version(package) for package in DECISIVE}}


def _need_audiomentations() -> None:
    if find_spec("audiomentations") is None:
        raise SerError("--augment needs audiomentations: `pip install 'ser[augment]'`, or leave --augment out.")
