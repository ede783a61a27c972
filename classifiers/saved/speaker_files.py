"""Files of an adapted model: the training speakers in general, and the statistics of each enrolled speaker.

`adaptation.json` lies in the model folder, and `speakers/<name>.json` for each speaker that `ser enrol` was given. They
hold numbers alone, the means and variances of vectors: no sound. They may come from an untrusted source, so sizes,
types and values are checked.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import ConfigError, ModelError
from embedcache.files.atomic import atomic_write
from embedcache.files.untrusted import read_json

from ..adaptation.speaker_statistics import Population, SpeakerStatistics, Strength, standardised

ADAPTATION, SPEAKERS = "adaptation.json", "speakers"
MAX_BYTES = 1 << 26  # largest file; the statistics of 13 layers of 1024 numbers take 1.2 MB
LARGEST = 1e12  # largest mean, so that standardised vectors remain finite
MAX_CLIPS = 1_000_000_000
NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
ADVICE = "Fit the model again, or enrol the speaker again."


@dataclass(frozen=True)
class ModelAdaptation:
    """How a model standardises the vectors of a speaker."""

    population: Population  # of the speakers that the model was fitted on
    strength: Strength

    def vectors(self, X: NDArray[np.floating], speaker: SpeakerStatistics | None) -> NDArray[np.float32]:
        """Return vectors (n, d) of clips of a speaker as the head reads them; None is an unknown speaker."""
        known = speaker or SpeakerStatistics.of(np.empty((0, len(self.population.mean))))
        return standardised(X, self.population.shrunk(known, self.strength))


def save_adaptation(folder: Path, adaptation: ModelAdaptation) -> None:
    """Write `adaptation.json` into a model folder."""
    strength = {name: None if math.isinf(k) else k for name, k in asdict(adaptation.strength).items()}
    columns = {name: column.tolist() for name, column in vars(adaptation.population).items()}
    _write(folder / ADAPTATION, {"strength": strength, **columns})


def load_adaptation(folder: Path, n_features: int) -> ModelAdaptation:
    """Load `adaptation.json` for a head of `n_features` columns. Raises ModelError if it is missing or invalid."""
    path = folder / ADAPTATION
    values = _read(path)
    names = ("mean", "variance", "mean_spread", "variance_spread")
    columns = {name: _column(path, values, name, n_features, name == "mean") for name in names}
    given = values.get("strength")
    if not isinstance(given, Mapping) or not all(_is_strength(given.get(name, "")) for name in ("mean", "variance")):
        raise ModelError(f"{path}: has no valid strength; wanted two numbers of 0 or more, or null. {ADVICE}")
    strengths = (math.inf if given[name] is None else float(given[name]) for name in ("mean", "variance"))
    return ModelAdaptation(Population(**columns), Strength(*strengths))


def speaker_path(folder: Path, name: str) -> Path:
    """Return the file of a speaker. Raises ConfigError if the name cannot be that of a file on all systems."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"got the speaker {name!r}; wanted letters, digits, dots, hyphens and underscores of ASCII, at most 64."
        )
    return folder / SPEAKERS / f"{name}.json"


def save_speaker(folder: Path, name: str, statistics: SpeakerStatistics, fingerprint: str) -> Path:
    """Write the statistics of a speaker beside a model. `fingerprint` is that of the model's encoder."""
    path = speaker_path(folder, name)
    columns = {"mean": statistics.mean.tolist(), "variance": statistics.variance.tolist()}
    _write(path, {"clips": statistics.clips, "fingerprint": fingerprint, **columns})
    return path


def load_speaker(folder: Path, name: str, n_features: int, fingerprint: str) -> SpeakerStatistics:
    """Load the statistics of a speaker.

    Raises ModelError if the speaker is not enrolled, if the file is invalid, or if it is of another encoder.
    """
    path = speaker_path(folder, name)
    if not path.exists():
        enrolled = ", ".join(sorted(p.stem for p in path.parent.glob("*.json"))[:10]) or "nobody"
        raise ModelError(f"{folder}: the speaker {name} is not enrolled; have {enrolled}. Use `ser enrol` first.")
    values = _read(path)
    mean, variance = (_column(path, values, name, n_features, name == "mean") for name in ("mean", "variance"))
    clips = values.get("clips")
    if not isinstance(clips, int) or isinstance(clips, bool) or not 0 < clips <= MAX_CLIPS:
        raise ModelError(f"{path}: has {clips!r} clips; wanted a whole number from 1. {ADVICE}")
    if values.get("fingerprint") != fingerprint:
        raise ModelError(f"{path}: is of vectors of another encoder than that of the model. {ADVICE}")
    return SpeakerStatistics(mean, variance, clips)


def _write(path: Path, values: Mapping[str, Any]) -> None:
    with atomic_write(path) as file:
        json.dump(values, file)


def _read(path: Path) -> Mapping[str, Any]:
    values = read_json(path, MAX_BYTES, ModelError, ADVICE)
    if not isinstance(values, Mapping):
        raise ModelError(f"{path}: wanted an object of numbers. {ADVICE}")
    return values


def _column(
    path: Path, values: Mapping[str, Any], name: str, n_features: int, may_be_negative: bool
) -> NDArray[np.float64]:
    """Return a list of finite numbers (n_features,) as an array. Raises ModelError if it is another thing."""
    found = values.get(name)
    if not isinstance(found, list) or not all(type(number) in (int, float) for number in found):
        raise ModelError(f"{path}: has no list of numbers called {name}. {ADVICE}")
    try:
        column = np.array(found, np.float64)
    except OverflowError:
        column = np.array([math.inf])
    if len(column) != n_features:
        raise ModelError(f"{path}: has {len(column)} numbers of {name}; the head reads {n_features}. {ADVICE}")
    least, most = (-LARGEST, LARGEST) if may_be_negative else (0, LARGEST**2)
    if not ((least <= column) & (column <= most)).all():  # also False for NaN
        raise ModelError(f"{path}: has numbers of {name} that are not finite, too large, or negative. {ADVICE}")
    return column


def _is_strength(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value < 1e9)
