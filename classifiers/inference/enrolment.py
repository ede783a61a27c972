"""Enrolment of speakers: the statistics of their clips, kept beside a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embedcache import ConfigError, ModelError, Recording
from embedcache.files.existing import refuse_existing
from embedcache.text import count

from ..adaptation.speaker_statistics import SpeakerStatistics
from ..saved.hub_models import locate_model
from ..saved.speaker_files import save_speaker, speaker_path
from .model import EncodedWaveforms
from .predictor import Predictor, packs
from .speakers import check_adapts


def enrol(folder: str | Path, name: str, paths: Sequence[str | Path], device: str = "auto") -> tuple[Path, int]:
    """Keep the statistics of a speaker's clips beside a model. Return their file and the number of clips.

    The file holds means and variances of vectors alone. Take clips with different emotions, as they come. Raises
    ModelError if the model is not adapted or the speaker is enrolled already, ConfigError if there is no clip or the
    name is invalid, AudioError if a clip cannot be used.
    """
    folder = locate_model(folder)
    if not paths:
        raise ConfigError("got no clip; wanted at least one clip of the speaker.")
    advice = f"The speaker {name} is enrolled. Choose another name, or remove the file to enrol again."
    refuse_existing(speaker_path(folder, name), ModelError, advice)
    predictor = Predictor.load(folder, device=device)
    (model,) = predictor.models
    check_adapts([(model.name, model.adapted)], name)
    clips = [clip for path in paths for clip in predictor.clips(Recording.load(path))]
    encoded = (EncodedWaveforms.encode(predictor.models, [clip.wave for clip in pack]) for pack in packs(clips))
    X = np.concatenate([one.vectors() for one in encoded])
    return save_speaker(folder, name, SpeakerStatistics.of(X), str(model.card["fingerprint"])), len(X)


def enrolled_text(name: str, clips: int, path: Path) -> str:
    """Return a sentence on an enrolled speaker."""
    return f"{name}: {count(clips, 'clip')}; means and variances of their vectors, no sound: {path}"
