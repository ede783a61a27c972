"""Augmented copies of clips: transformed by audiomentations, and embedded like the clips themselves.

    ser extract --dataset ravdess --augment noise,pitch --copies 2 --seed 0

This module needs the extra `augment`. A copy is a row of a manifest, as a clip is, with the path of its clip. The key
of a copy is computed from the clip's key and everything that decides the samples of the copy, so that stores, shards
and tasks need no special cases for copies. Every copy gets all requested transforms, in the requested order, each with
a value that is drawn uniformly from its range.

The ranges are narrower than the defaults of audiomentations, which are in parentheses, because a copy keeps the label
of its clip. Level, pitch and tempo express emotion (RAVDESS records most emotions at two intensities: Livingstone and
Russo 2018), and noise masks quiet emotions first. The ranges were chosen, not tuned.

    noise    white noise, 10 to 30 dB below the mean power of the clip, pauses included (5 to 40)
    pitch    shifted by -2 to 2 semitones, together with the formants (-4 to 4)
    stretch  played at 0.9 to 1.1 times the speed with the same pitch, which changes the duration (0.8 to 1.25)
    gain     changed by -6 to 6 dB, without clipping (-12 to 12); has little effect on an encoder that normalises its
             input, such as wav2vec2-base

With the same versions and the same kind of processor, a copy has the same samples, bit for bit, in every process and
thread.
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

from ..errors import ConfigError, DataError, SerError, UnknownName
from ..manifest import CHANNEL, COPY_OF, END, START, Clip, Manifest
from ..text import install_hint
from .decode import Waveform

TRANSFORM = "transform"  # extra column of a copy with the description of how it is made, as JSON
RECIPE_VERSION = 1  # number that increases with every change to this module that changes the samples of copies
DECISIVE = ("audiomentations", "python-stretch")  # packages whose versions affect the samples of copies

Apply = Callable[[Waveform, int, float, str], Waveform]  # (waveform, rate in Hz, drawn value, key of the copy)


@dataclass(frozen=True)
class Transform:
    """A transform, and the range of its value in the transform's own unit."""

    low: float  # smallest value
    high: float  # largest value
    apply: Apply  # function that applies the transform to a waveform


@dataclass(frozen=True)
class Augmentation:
    """The transforms, the number and the seed of augmented copies.

    Raises UnknownName if a transform does not exist. Raises ConfigError if there are no transforms, if a transform is
    repeated, or if there is less than one copy; SerError if audiomentations is not installed.
    """

    transforms: tuple[str, ...]  # names of transforms, in the order in which they are applied
    copies: int = 1  # number of copies of each clip
    seed: int = 0  # random seed

    def __post_init__(self) -> None:
        for name in self.transforms:
            if name not in TRANSFORMS:
                raise UnknownName("transform", name, TRANSFORMS)
        if not self.transforms or len(set(self.transforms)) < len(self.transforms):
            names = ", ".join(self.transforms) or "none"
            raise ConfigError(f"transforms: got {names}; wanted one or more of {', '.join(TRANSFORMS)}, each once.")
        if self.copies < 1:
            raise ConfigError(f"copies: got {self.copies}; wanted 1 or more of each clip.")
        _require_audiomentations()

    @classmethod
    def from_options(
        cls, transforms: Sequence[str] | None, copies: int | None, seed: int | None
    ) -> Augmentation | None:
        """Return the augmentation of the options --augment, --copies and --seed, or None if all are None.

        Raises ConfigError if --copies or --seed is given without --augment, and as the class does.
        """
        if transforms is not None:
            return cls(tuple(transforms), 1 if copies is None else copies, seed or 0)
        if copies is None and seed is None:
            return None
        raise ConfigError(f"--copies and --seed need --augment, which takes one or more of {', '.join(TRANSFORMS)}.")


def copies_of(manifest: Manifest, recipe: Augmentation) -> Manifest:
    """Return a manifest of the augmented copies of all usable clips of a keyed manifest.

    The manifest has the name of the same dataset. The copies of a clip have the ids `<clip_id>#1`, `<clip_id>#2` and so
    on. Their `extra` holds `copy_of`, the key of the clip, and `transform`, a description; both together are sufficient
    to make the copy again. Raises DataError if a clip has no key.
    """
    if keyless := [clip.clip_id for clip in manifest.usable if not clip.key]:
        raise DataError(
            f"{len(keyless)} clips of {manifest.dataset} have no key, such as {keyless[0]}. Run add_keys first."
        )
    copies = [copy_of(clip, recipe, number) for clip in manifest.usable for number in range(1, recipe.copies + 1)]
    return Manifest(manifest.dataset, tuple(copies))


def copy_of(clip: Clip, recipe: Augmentation, number: int) -> Clip:
    """Return copy `number`, from 1, of a keyed clip. The number may be larger than `recipe.copies`."""
    return _make_copy(clip, _describe(recipe.transforms, recipe.seed, number), number)


def recipe_of(copy: Clip) -> str:
    """Return how a copy was made, such as `noise+gain, seed 0`. Raises DataError if the description is not valid."""
    try:
        description = json.loads(copy.extra.get(TRANSFORM, ""))
        return f"{'+'.join(description['transforms'])}, seed {int(description['seed'])}"
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(
            f"{copy.clip_id}: has no valid description of how the copy is made. Run `ser extract --augment` again."
        ) from error


def transformed(wave: Waveform, rate: int, copy: Clip) -> Waveform:
    """Return the waveform of a copy, (samples,) float32, from the waveform of its clip, which is not modified.

    `rate` is the sample rate of both in Hz. Raises DataError if the description of the copy is from other versions or
    does not belong to the key of the copy, and SerError if audiomentations is not installed.
    """
    clip_key, description = copy.extra[COPY_OF], copy.extra.get(TRANSFORM, "")
    if not _is_current(description) or copy.key != _key(clip_key, description):
        raise DataError(
            f"{copy.clip_id}: the copy cannot be made here: its description is {description or 'missing'}; wanted "
            f"{json.dumps(_made_with())} and the key of that description. Run `ser extract --augment` again, and use "
            "the same versions everywhere."
        )
    for name, value in _values(description, copy.key).items():
        wave = TRANSFORMS[name].apply(wave, rate, value, copy.key)
    return np.ascontiguousarray(wave, dtype=np.float32)


def _make_copy(clip: Clip, description: str, number: int) -> Clip:
    key = _key(clip.key, description)
    return Clip(
        dataset=clip.dataset,
        clip_id=f"{clip.clip_id}#{number}",
        path=clip.path,
        label=clip.label,
        speaker=clip.speaker,
        gender=clip.gender,
        extra={COPY_OF: clip.key, TRANSFORM: description}
        | {name: value for name, value in clip.extra.items() if name in (CHANNEL, START, END)},
        key=key,
        seconds=clip.seconds / _values(description, key).get("stretch", 1.0),
    )


def _describe(transforms: Sequence[str], seed: int, number: int) -> str:
    """Return everything that decides the samples of a copy apart from its clip, as JSON.

    The text enters the key of the copy, so changing a single character changes all keys.
    """
    ranges = {name: (TRANSFORMS[name].low, TRANSFORMS[name].high) for name in transforms}
    return json.dumps({"transforms": ranges, "seed": seed, "copy": number, "made with": _made_with()})


def _is_current(description: str) -> bool:
    """Whether this version writes exactly this description. Manifests may come from untrusted sources."""
    try:
        content = json.loads(description)
        return description == _describe(list(content["transforms"]), content["seed"], content["copy"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


def _key(clip_key: str, description: str) -> str:
    """Return the key of a copy, 64 hexadecimal digits."""
    return hashlib.sha256(f"{clip_key}\n{description}".encode()).hexdigest()


def _values(description: str, key: str) -> dict[str, float]:
    """Return the value of each transform of a copy, in order.

    The key of the copy seeds Python's generator, whose numbers are the same in every version of Python.
    """
    draw = random.Random(int(key, 16))
    return {name: draw.uniform(low, high) for name, (low, high) in json.loads(description)["transforms"].items()}


def _noise(wave: Waveform, rate: int, decibels: float, key: str) -> Waveform:
    """Add white noise at a signal-to-noise ratio in decibels, as audiomentations' AddGaussianSNR does.

    That class draws its noise from numpy's global generator, which another thread may use or seed at any time, and no
    lock here could prevent that. The noise is therefore drawn from a RandomState, seeded by the key of the copy, whose
    numbers are the same in every version of numpy (NEP 19).
    """
    generator = np.random.RandomState(np.frombuffer(bytes.fromhex(key), dtype="<u4"))
    power = float(np.mean(np.square(wave, dtype=np.float64)))
    noise = generator.normal(0.0, np.sqrt(power) / 10 ** (decibels / 20), len(wave))
    return wave + noise.astype(np.float32)


def _pitch(wave: Waveform, rate: int, semitones: float, key: str) -> Waveform:
    from audiomentations import PitchShift

    return _run(PitchShift(), {"num_semitones": semitones}, wave, rate)


def _stretch(wave: Waveform, rate: int, speed: float, key: str) -> Waveform:
    """Change the speed, and with it the length: a copy cut or padded to the old length would lose or gain something."""
    from audiomentations import TimeStretch

    return _run(TimeStretch(leave_length_unchanged=False), {"rate": speed}, wave, rate)


def _gain(wave: Waveform, rate: int, decibels: float, key: str) -> Waveform:
    from audiomentations import Gain

    return _run(Gain(), {"amplitude_ratio": 10 ** (decibels / 20)}, wave, rate)


def _run(transform: Any, parameters: dict[str, float], wave: Waveform, rate: int) -> Waveform:
    """Apply a transform of audiomentations with the given parameters.

    The parameters are frozen, since the transform would otherwise draw them from Python's global generator, which other
    threads may use or seed at any time.
    """
    transform.parameters = {"should_apply": True, **parameters}
    transform.freeze_parameters()
    result: Waveform = transform(wave, rate)
    return result


TRANSFORMS = {
    "noise": Transform(10.0, 30.0, _noise),  # signal-to-noise ratio in dB
    "pitch": Transform(-2.0, 2.0, _pitch),  # shift in semitones
    "stretch": Transform(0.9, 1.1, _stretch),  # factor on the speed
    "gain": Transform(-6.0, 6.0, _gain),  # change of the level in dB
}


@functools.cache
def _made_with() -> dict[str, str]:
    """Return the versions that affect the samples of copies; they are part of each description."""
    _require_audiomentations()
    return {"recipe": str(RECIPE_VERSION), **{package: version(package) for package in DECISIVE}}


def _require_audiomentations() -> None:
    """Raise SerError if audiomentations is not installed."""
    if find_spec("audiomentations") is None:
        raise SerError(
            f"--augment needs audiomentations. Install it with `{install_hint('augment')}`, or leave out --augment."
        )
