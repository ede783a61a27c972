"""Predictor: a fitted head and its encoder, or an encoder that was fine-tuned. Audio files in, probabilities out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from embedcache import Encoder, EncoderInfo, ModelError, Recording, encoders, load_encoder
from embedcache.encoder import resolve_views
from embedcache.extract import encode_files
from embedcache.finetune import Finetuned
from embedcache.lineage import CARD

from .persist import Card, load_model
from .views import rows_of

CONFIG = "config.json"  # of transformers; model folders of `ser fit` have none


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
    """What turns recordings into probabilities (n, C), and the labels of their columns."""

    labels: tuple[str, ...]
    proba: Callable[[Sequence[Recording]], NDArray[Any]]

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> Predictor:
        """Load a folder of `ser fit`, with its encoder, or of `ser finetune`.

        Raises ModelError and EncoderError as `load_whole` and `Finetuned.load` do.
        """
        if (Path(folder) / CARD).exists() or (Path(folder) / CONFIG).exists():  # a checkpoint, whatever it lacks
            tuned = Finetuned.load(folder, device)
            return cls(tuned.card.labels, tuned.proba)
        estimator, card, encoder = load_whole(folder, device)
        parts = resolve_views(card.view.split("+"), encoder)

        def proba(recordings: Sequence[Recording]) -> NDArray[Any]:
            batch = encode_files(encoder, recordings, parts)
            said: NDArray[Any] = estimator.predict_proba(rows_of(batch, parts, card.n_frames))
            return said

        return cls(tuple(map(str, estimator.classes_)), proba)

    def predict(self, paths: Sequence[str | Path], abstain_below: float | None = None) -> list[Prediction]:
        """One prediction a file, in order; its label is None where the certainty is below `abstain_below`, in (0, 1).

        Raises AudioError naming a file that cannot be used, ValueError for another `abstain_below`.
        """
        if abstain_below is not None and not 0 < abstain_below < 1:
            raise ValueError(f"got abstain_below={abstain_below}; wanted a probability between 0 and 1, or None.")
        proba = self.proba([Recording.load(path) for path in paths])
        sure = proba.max(axis=1) >= (abstain_below or 0)
        best = (self.labels[column] for column in proba.argmax(axis=1))
        said = [label if is_sure else None for label, is_sure in zip(best, sure, strict=True)]
        return [
            Prediction(str(path), label, dict(zip(self.labels, map(float, row), strict=True)))
            for path, label, row in zip(paths, said, proba, strict=True)
        ]


def load_whole(folder: str | Path, device: str = "auto") -> tuple[Any, Card, Encoder]:
    """A model folder's head and card, and the encoder that made its vectors: a checkpoint, or a built-in by name.

    Raises ModelError where there is no such encoder here, as of imported vectors, or it has other weights than the
    one the head was fitted on; where only a library's version differs, it warns.
    """
    estimator, card = load_model(folder)
    if not card.checkpoint and not encoders.find(card.encoder):
        have = ", ".join(encoders.names())
        raise ModelError(f"{folder}: its vectors are of '{card.encoder}', which is no encoder here; have {have}.")
    encoder = load_encoder(card.checkpoint or card.encoder, device, str(card.encoder_info.get("precision", "fp32")))
    _check_encoder(card, encoder.info)
    return estimator, card, encoder


def _check_encoder(card: Card, here: EncoderInfo) -> None:
    there = card.encoder_info
    names = [
        f.name for f in fields(here) if f.name not in ("name", "checkpoint", "trained_on")
    ]  # which the weights name
    differ = [name for name in names if there.get(name) != getattr(here, name)]
    if not differ:
        return
    said = "; ".join(f"{name}: {there.get(name)} then, {getattr(here, name)} now" for name in differ)
    if differ != ["preprocessing"]:
        raise ModelError(f"the head was fitted on vectors of another {card.encoder}: {said}. Fit it again.")
    warnings.warn(f"the head's vectors were made a little differently: {said}", UserWarning, stacklevel=3)
