"""Predictor: a fitted head and its encoder. Audio files in, probabilities out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from embedcache import Encoder, EncoderInfo, ModelError, Recording, encoders, load_encoder
from embedcache.encoder import resolve_views
from embedcache.extract import encode_files

from .persist import Card, load_model
from .views import rows_of


@dataclass(frozen=True)
class Prediction:
    """What a head says of one file."""

    path: str
    label: str | None  # None: not sure enough
    probabilities: dict[str, float]  # label -> probability, sum 1

    @property
    def certainty(self) -> float:
        """The probability of the likeliest label."""
        return max(self.probabilities.values())


@dataclass(frozen=True)
class Predictor:
    """A fitted head with the encoder that made its vectors."""

    estimator: Any
    card: Card
    encoder: Encoder

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> Predictor:
        """Load a model folder and its encoder: a checkpoint, or a built-in by name.

        Raises ModelError where there is no such encoder here, as of imported vectors, or it has other weights than the
        one the head was fitted on; where only a library's version differs, it warns.
        """
        estimator, card = load_model(folder)
        if not card.checkpoint and not encoders.find(card.encoder):
            have = ", ".join(encoders.names())
            raise ModelError(f"{folder}: its vectors are of '{card.encoder}', which is no encoder here; have {have}.")
        encoder = load_encoder(card.checkpoint or card.encoder, device, str(card.encoder_info.get("precision", "fp32")))
        _check_encoder(card, encoder.info)
        return cls(estimator, card, encoder)

    def predict(self, paths: Sequence[str | Path], abstain_below: float | None = None) -> list[Prediction]:
        """One prediction a file, in order; its label is None where the certainty is below `abstain_below`, in (0, 1).

        Raises AudioError naming a file that cannot be used, ValueError for another `abstain_below`.
        """
        if abstain_below is not None and not 0 < abstain_below < 1:
            raise ValueError(f"got abstain_below={abstain_below}; wanted a probability between 0 and 1, or None.")
        recordings = [Recording.load(path) for path in paths]
        parts = resolve_views(self.card.view.split("+"), self.encoder)
        batch = encode_files(self.encoder, recordings, parts)
        proba = self.estimator.predict_proba(rows_of(batch, parts, self.card.n_frames))
        labels = [str(label) for label in self.estimator.classes_]
        sure = proba.max(axis=1) >= (abstain_below or 0)
        said = [labels[best] if is_sure else None for best, is_sure in zip(proba.argmax(axis=1), sure, strict=True)]
        return [
            Prediction(str(path), label, dict(zip(labels, map(float, row), strict=True)))
            for path, label, row in zip(paths, said, proba, strict=True)
        ]


def _check_encoder(card: Card, here: EncoderInfo) -> None:
    there = card.encoder_info
    names = [f.name for f in fields(here) if f.name not in ("name", "checkpoint")]
    differ = [name for name in names if there.get(name) != getattr(here, name)]
    if not differ:
        return
    said = "; ".join(f"{name}: {there.get(name)} then, {getattr(here, name)} now" for name in differ)
    if differ != ["preprocessing"]:
        raise ModelError(f"the head was fitted on vectors of another {card.encoder}: {said}. Fit it again.")
    warnings.warn(f"the head's vectors were made a little differently: {said}", UserWarning, stacklevel=3)
