"""Predictions of vectors that are in a file, for heads whose encoder is elsewhere or has run already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embedcache import EncoderInfo, ModelError
from embedcache.encoder import VIEWS, Vectors
from embedcache.exchange.vector_file import VectorFile, infinite_rows, open_vectors
from embedcache.files.untrusted import build
from embedcache.text import examples

from ..data.views import rows_of
from ..saved.model_folder import ModelCard, load_model
from .predictor import Prediction, check_abstain_below
from .speakers import Adapter, check_adapts, speaker_adapter

BLOCK = 4096  # vectors that are predicted at a time


@dataclass(frozen=True)
class VectorPredictor:
    """A fitted head, without its encoder."""

    folder: Path
    head: Any
    card: ModelCard
    labels: tuple[str, ...]  # labels of the columns of the head's probabilities
    adapted: Adapter  # what adapts vectors to the speaker

    @classmethod
    def load(cls, folder: str | Path, speaker: str = "") -> VectorPredictor:
        """Load a model folder of `ser fit`. `speaker` is the name of an enrolled speaker, if the model is adapted.

        Raises ModelError and ConfigError as `load_model`, `speaker_adapter` and `check_adapts` do, and ModelError if
        the head reads other views than `pooled` and `layers`, or vectors of several encoders.
        """
        head, card = load_model(folder)
        if card.joined:
            raise ModelError(
                f"{folder}: the head reads the vectors of {card.encoder} side by side; wanted a head of one encoder, "
                "because a file has the vectors of one. Predict recordings with this head."
            )
        if not set(card.view.split("+")) <= set(VIEWS):
            raise ModelError(f"{folder}: the head reads '{card.view}'; files of vectors have {' and '.join(VIEWS)}.")
        check_adapts([(Path(folder).name, card.adapted)], speaker)
        adapted = speaker_adapter(Path(folder), head, card, speaker)
        return cls(Path(folder), head, card, tuple(map(str, head.classes_)), adapted)

    def predict(self, path: str | Path, abstain_below: float | None = None) -> Iterator[Prediction]:
        """Yield the prediction of each row of a file of vectors; its `path` is the clip id, or the number of the row.

        The label is None if the confidence is below `abstain_below`. Raises StoreError if the file cannot be read, and
        ModelError if its vectors are not those of the head's encoder, as far as can be told.
        """
        check_abstain_below(abstain_below)
        file = open_vectors(path)
        self._check(file)
        names = file.ids or [f"row-{row + 1:06d}" for row in range(file.n_clips)]
        begin = 0
        for block in file.blocks(BLOCK):
            rows = self._proba(path, names[begin:], block)
            yield from map(self._prediction, names[begin : begin + len(rows)], rows, [abstain_below] * len(rows))
            begin += len(rows)

    def _encoder_info(self) -> EncoderInfo:
        try:
            return build(EncoderInfo, self.card.encoder_info)
        except ValueError as error:
            raise ModelError(f"{self.folder}: does not describe its encoder ({error}). Fit the head again.") from error

    def _check(self, file: VectorFile) -> None:
        """Raise ModelError if a file does not hold vectors of the encoder that the head was fitted on."""
        info = self._encoder_info()
        if (file.n_layers, file.dim) != (info.n_layers, info.dim):
            raise ModelError(
                f"{file.path}: has vectors of {file.n_layers} layers and {file.dim} numbers; '{self.card.encoder}', "
                f"whose vectors the head reads, has {info.n_layers} and {info.dim}. Use a file of that encoder."
            )
        known = (info.fingerprint, info.preprocessing) if info.is_imported else (info.fingerprint,)
        if file.encoder and not any(file.encoder.fingerprint in text for text in known):
            raise ModelError(
                f"{file.path}: has vectors of '{file.encoder.name}' ({file.encoder.fingerprint[:12]}); the head reads "
                f"those of '{self.card.encoder}' ({info.fingerprint[:12]}). Use a file of that encoder."
            )
        if not file.encoder and not info.is_imported:
            raise ModelError(
                f"{file.path}: does not say which encoder made its vectors; the head reads those of "
                f"'{self.card.encoder}'. Use a file of `ser cache export`, or predict recordings."
            )

    def _proba(self, path: str | Path, names: Sequence[str], block: Mapping[str, Vectors]) -> np.ndarray:
        if bad := infinite_rows(block["layers"]):
            clips = examples([names[row] for row in bad])
            raise ModelError(f"{path}: holds NaN or infinity; wanted finite numbers. Leave these clips out: {clips}.")
        parts = self.card.view.split("+")
        rows: np.ndarray = self.head.predict_proba(self.adapted(rows_of(block, parts, self.card.n_frames)))
        return rows

    def _prediction(self, name: str, row: np.ndarray, abstain_below: float | None) -> Prediction:
        label = self.labels[int(row.argmax())] if row.max() >= (abstain_below or 0) else None
        return Prediction(name, label, dict(zip(self.labels, map(float, row), strict=True)))
