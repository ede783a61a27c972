"""Models: loaded folders of `ser fit` or `ser finetune`. Waveforms in, probabilities and attributions out.

A head needs the vectors of its encoder, or those of several encoders side by side, a fine-tuned network the waveforms
themselves. `Model` hides the difference, and `EncodedWaveforms` runs an encoder once for all heads that share it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import Encoder, EncoderInfo, ModelError, encoders, load_encoder
from embedcache.audio.decode import Waveform
from embedcache.cache.extract import refuse_nan, too_short_or_long
from embedcache.encoder import Batch, Frames, Rows, is_ragged, resolve_views
from embedcache.finetune import Finetuned
from embedcache.provenance import CARD

from ..data.views import joined_rows, rows_of
from ..heads import innermost
from ..saved.hub_models import locate_model, model_name
from ..saved.model_folder import ModelCard, load_model
from ..saved.training_sound import TrainingSound
from .speakers import check_adapts, speaker_adapter

CONFIG = "config.json"  # of a transformers checkpoint; model folders of `ser fit` have no such file
LONGEST = 900.0  # longest clip that a fine-tuned network gets, in seconds
NAMES = ("name", "checkpoint", "trained_on")  # encoder fields that may differ: the hash of the weights is compared

Proba = NDArray[np.float64]


@dataclass(frozen=True)
class Attribution:
    """The shares of layers and frames in a model's prediction of one waveform; None if the model weighs none."""

    layers: tuple[float, ...] | None = None  # share of each layer, sum 1
    frames: tuple[float, ...] | None = None  # share of each frame, sum 1; the frames divide the waveform evenly


@dataclass(frozen=True)
class Model:
    """A loaded model folder."""

    folder: Path
    labels: tuple[str, ...]
    rate: int  # sample rate of the waveforms that the model takes, in Hz
    shortest: float  # shortest clip that the model takes, in seconds
    longest: float  # longest clip that the model takes, in seconds
    used_seconds: float  # longest part of a clip that the model uses, in seconds; the middle of a longer clip
    card: Mapping[str, Any]  # the model card, as its JSON file has it
    encoders: tuple[Encoder, ...]  # in the order in which the head reads them; () for a fine-tuned network
    views: tuple[str, ...]  # the views of the encoders that the head reads
    # All take the vectors of each encoder, in the order of `encoders`.
    vectors: Callable[[Sequence[Batch]], NDArray[Any]]  # vectors (n, d) before adaptation; (n, 0) for a network
    proba: Callable[[Sequence[Waveform], Sequence[Batch]], Proba]  # probabilities (n, C), columns as in `labels`
    attribution: Callable[[Waveform, Sequence[Batch]], Attribution]  # the attribution of one waveform
    training_sound: TrainingSound | None = None  # how the training clips sound; None if that is not known

    @property
    def name(self) -> str:
        """The name of the folder, or the hub id of a model of the hub."""
        return model_name(self.folder)

    @property
    def adapted(self) -> str:
        """The clips of a speaker to which the model is adapted, such as "10"; "" for a model that is not adapted."""
        return str(self.card.get("adapted", ""))

    def duration_fault(self, path: str, seconds: float) -> str:
        """Return why a clip of this duration is too short or too long for the model; "" if it is neither."""
        advice = "Predict it in windows (--window 3), or cut it into utterances."
        return too_short_or_long(path, seconds, self.name, self.rate, self.shortest, self.longest, advice)


def load_models(folders: Sequence[str | Path], device: str = "auto", speaker: str = "") -> tuple[Model, ...]:
    """Return the models of folders or hub ids. An encoder that several heads read is loaded once.

    `speaker` is the name of an enrolled speaker, to whom all adapted models are adapted. Raises ModelError and
    EncoderError as `load_head_and_encoders`, `Finetuned.load` and `load_speaker` do, and ConfigError if a speaker is
    named and no model is adapted.
    """
    loaded: dict[tuple[str, str], Encoder] = {}

    def model(folder: Path) -> Model:
        if (folder / CARD).exists() or (folder / CONFIG).exists():  # a checkpoint, even if other files are missing
            return _finetuned_model(folder, Finetuned.load(folder, device))
        return _head_model(folder, *load_head_and_encoders(folder, device, loaded), speaker)

    models = tuple(model(locate_model(folder)) for folder in folders)
    check_adapts([(model.name, model.adapted) for model in models], speaker)
    return models


def load_head_and_encoders(
    folder: str | Path, device: str = "auto", loaded: dict[tuple[str, str], Encoder] | None = None
) -> tuple[Any, ModelCard, tuple[Encoder, ...]]:
    """Return the head and the card of a model folder, and the encoders of its vectors: checkpoints or built-in ones.

    `loaded` holds encoders by checkpoint or name and precision; these encoders are taken from it, or added. Raises
    ModelError if an encoder is not available, as for imported vectors, or if its weights are not those that the head
    was fitted on. Warns if only the version of a library differs.
    """
    estimator, card = load_model(folder)
    if card.is_of_imported:
        raise ModelError(
            f"{folder}: the head was fitted on imported vectors of '{card.encoder}', which no encoder here computes; "
            f"wanted a file of such vectors. Use `ser predict {folder} VECTORS.npz`."
        )
    loaded = {} if loaded is None else loaded
    return estimator, card, tuple(_load_encoder_of(info, Path(folder), device, loaded) for info in card.encoder_infos)


def _load_encoder_of(
    fitted: Mapping[str, Any], folder: Path, device: str, loaded: dict[tuple[str, str], Encoder]
) -> Encoder:
    """Return the encoder with the facts `fitted` of a model's card."""
    if not fitted["checkpoint"] and not encoders.find(fitted["name"]):
        available = ", ".join(encoders.names())
        raise ModelError(
            f"{folder}: the head reads vectors of '{fitted['name']}', which is not an available encoder; have "
            f"{available}. Fit a head on vectors of one of these."
        )
    key = fitted["checkpoint"] or fitted["name"], str(fitted.get("precision", "fp32"))
    if key not in loaded:
        name, precision = key
        loaded[key] = load_encoder(name, device, precision)
    _check_encoder(fitted, loaded[key].info)
    return loaded[key]


@dataclass(frozen=True)
class EncodedWaveforms:
    """Waveforms and their vectors, for several models. Each encoder has run once, for all models that share it."""

    models: Sequence[Model]
    waves: Sequence[Waveform]
    batches: Mapping[int, Batch]  # the vectors of each encoder, by `id` of the encoder

    @classmethod
    def encode(cls, models: Sequence[Model], waves: Sequence[Waveform]) -> EncodedWaveforms:
        """Run the encoders of the models. Raises EncoderError if a vector is not finite."""
        needed: dict[int, tuple[Encoder, dict[str, None]]] = {}  # encoder and views, which keep their order
        for model in models:
            for encoder in model.encoders:
                _, views = needed.setdefault(id(encoder), (encoder, {}))
                views.update(dict.fromkeys(model.views))
        batches = {key: encoder.encode(waves, tuple(views)) for key, (encoder, views) in needed.items()}
        for batch in batches.values():
            refuse_nan([f"waveform {number}" for number in range(len(waves))], batch)
        return cls(models, waves, batches)

    def probabilities(self) -> list[Proba]:
        """Return the probabilities (n, C) of each model, columns in the order of its labels."""
        return [model.proba(self.waves, _batches_of(model, self.batches)) for model in self.models]

    def vectors(self) -> NDArray[Any]:
        """Return the vectors (n, d) of the first model, before they are adapted to a speaker."""
        return self.models[0].vectors(_batches_of(self.models[0], self.batches))

    def attributions(self, index: int) -> list[Attribution]:
        """Return the attribution of each model for the waveform at `index`."""
        batches = {
            key: {view: _row(rows, index) for view, rows in batch.items()} for key, batch in self.batches.items()
        }
        return [model.attribution(self.waves[index], _batches_of(model, batches)) for model in self.models]


def _batches_of(model: Model, batches: Mapping[int, Batch]) -> list[Batch]:
    return [batches[id(encoder)] for encoder in model.encoders]


def _row(rows: Rows, index: int) -> Rows:
    return rows.take([index]) if isinstance(rows, Frames) else rows[[index]]


def _head_model(
    folder: Path, estimator: Any, card: ModelCard, encoders: tuple[Encoder, ...], speaker: str = ""
) -> Model:
    (parts,) = {resolve_views(card.view.split("+"), encoder) for encoder in encoders}  # names differ only for frames

    adapted = speaker_adapter(folder, estimator, card, speaker)

    def vectors(batches: Sequence[Batch]) -> NDArray[Any]:
        return joined_rows(batches, parts, card.n_frames)

    def proba(waves: Sequence[Waveform], batches: Sequence[Batch]) -> Proba:
        rows: Proba = estimator.predict_proba(adapted(vectors(batches)))
        return rows

    def attribution(wave: Waveform, batches: Sequence[Batch]) -> Attribution:
        head = innermost(estimator)
        frames = _frame_shares(head, card, batches[0], parts) if hasattr(head, "frame_weights") else None
        return Attribution(_layer_shares(head), frames)

    return Model(
        folder=folder,
        labels=tuple(map(str, estimator.classes_)),
        rate=encoders[0].info.sample_rate,
        shortest=max(encoder.shortest for encoder in encoders),
        longest=min(encoder.longest for encoder in encoders),
        used_seconds=_seconds_of_frames(encoders[0], parts, card.n_frames),
        card=asdict(card),
        encoders=encoders,
        views=parts,
        vectors=vectors,
        proba=proba,
        attribution=attribution,
        training_sound=TrainingSound.from_dict(card.training_sound),
    )


def _seconds_of_frames(encoder: Encoder, parts: Sequence[str], n_frames: int) -> float:
    """Return the duration of `n_frames` frames, in seconds; infinity if no view has frames."""
    ragged = [part for part in parts if is_ragged(part)]
    if not ragged:
        return float("inf")
    seconds = max(2.0, encoder.shortest)
    silence = np.zeros(round(seconds * encoder.info.sample_rate), np.float32)
    frames = encoder.encode([silence], ragged[:1])[ragged[0]]
    return n_frames * seconds / len(frames[0])


def _finetuned_model(folder: Path, tuned: Finetuned) -> Model:
    card = tuned.card

    def proba(waves: Sequence[Waveform], batches: Sequence[Batch]) -> Proba:
        return tuned.proba_of(waves).astype(np.float64)

    def attribution(wave: Waveform, batches: Sequence[Batch]) -> Attribution:
        weights = tuned.attention_of(wave)
        if weights is None:
            return Attribution()
        used_share = min(1.0, card.settings.seconds * tuned.rate / len(wave))
        return Attribution(frames=_pad_around(weights, round(len(weights) / used_share)))

    return Model(
        folder=folder,
        labels=card.labels,
        rate=tuned.rate,
        shortest=tuned.shortest,
        longest=LONGEST,
        used_seconds=card.settings.seconds,
        card=card.to_dict(),
        encoders=(),
        views=(),
        vectors=lambda batches: np.empty((0, 0)),
        proba=proba,
        attribution=attribution,
    )


def _layer_shares(head: Any) -> tuple[float, ...] | None:
    """Return the share of each layer: the learned weights, or 1 for the chosen layer and 0 for the others."""
    n_layers = getattr(head, "n_layers", 1)
    if n_layers < 2:
        return None
    if hasattr(head, "layer_"):
        return tuple(float(layer == head.layer_) for layer in range(n_layers))
    weights = getattr(head, "layer_weights_", None)
    return None if weights is None else tuple(map(float, weights))


def _frame_shares(head: Any, card: ModelCard, batch: Batch, parts: Sequence[str]) -> tuple[float, ...]:
    """Return the share of each frame of the clip; 0 for the frames that were cropped from a long clip."""
    frames = next(rows for part in parts if is_ragged(part) and isinstance(rows := batch[part], Frames))
    length = len(frames[0])
    weights = head.frame_weights(rows_of(batch, parts, card.n_frames))[0]
    return _pad_around(weights[: min(length, card.n_frames)], length)


def _pad_around(weights: NDArray[Any], length: int) -> tuple[float, ...]:
    """Return the weights of the middle frames of a clip with zeros on both sides, `length` frames in all.

    For example, the weights [0.4, 0.6] become (0, 0.4, 0.6, 0, 0) for a clip of 5 frames.
    """
    padded = np.zeros(max(length, len(weights)))
    start = (len(padded) - len(weights)) // 2
    padded[start : start + len(weights)] = weights
    return tuple(map(float, padded))


def _check_encoder(fitted: Mapping[str, Any], info: EncoderInfo) -> None:
    """Check that the encoder computes the vectors that the head was fitted on, those of an encoder with these facts.

    Raises ModelError if any setting but the preprocessing differs. Different preprocessing, which names the versions of
    libraries, is a warning.
    """
    names = [field.name for field in fields(info) if field.name not in NAMES]
    differing = [name for name in names if fitted.get(name) != getattr(info, name)]
    if not differing:
        return
    changes = "; ".join(f"{name} was {fitted.get(name)}, is {getattr(info, name)}" for name in differing)
    if differing != ["preprocessing"]:
        raise ModelError(
            f"the head was fitted on vectors of a different '{fitted['name']}': {changes}. Fit the head again."
        )
    message = f"the vectors that the head was fitted on were made with other library versions: {changes}."
    warnings.warn(message, UserWarning, stacklevel=5)
