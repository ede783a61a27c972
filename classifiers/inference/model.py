"""Model: a folder of `ser fit`, or of `ser finetune`, loaded. Waveforms in, probabilities out, and what counted.

A head needs the vectors of its encoder, a fine-tuned network the waveforms themselves: `Model` hides which it is, and
`Heard` sees to it that heads which share an encoder do not run it twice.
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

from ..data.views import rows_of
from ..heads import innermost
from ..saved.model_folder import ModelCard, load_model

CONFIG = "config.json"  # of transformers; model folders of `ser fit` have none
LONGEST = 900.0  # seconds of a clip that a fine-tuned network is given

Proba = NDArray[np.float64]


@dataclass(frozen=True)
class Attribution:
    """What a model's answer to one waveform rests on; None where it weighs neither."""

    layers: tuple[float, ...] | None = None  # each layer's share, sum 1
    frames: tuple[float, ...] | None = None  # each frame's share, sum 1, evenly over the waveform


@dataclass(frozen=True)
class Model:
    """One model folder, loaded."""

    folder: Path
    labels: tuple[str, ...]
    rate: int  # samples a second that it hears
    shortest: float  # seconds
    longest: float
    hears: float  # seconds of a clip; of a longer one, the middle alone
    about: Mapping[str, Any]  # its card, as JSON has it
    encoder: Encoder | None  # None: a network from waveform to label
    views: tuple[str, ...]  # of the encoder's, that it reads
    proba: Callable[[Sequence[Waveform], Batch], Proba]  # (n, C), columns in the order of `labels`
    counted: Callable[[Waveform, Batch], Attribution]

    @property
    def name(self) -> str:
        """What it is called: the folder's own name."""
        return self.folder.resolve().name

    def misfit(self, path: str, seconds: float) -> str:
        """Why it cannot take a clip that lasts so long; "" where it can."""
        instead = "Hear it in windows (--window 3), or cut it into utterances."
        return too_short_or_long(path, seconds, self.name, self.shortest, self.longest, instead)


def load_models(folders: Sequence[str | Path], device: str = "auto") -> tuple[Model, ...]:
    """Every folder as a model; an encoder that several heads read is loaded once.

    Raises ModelError and EncoderError as `load_whole` and `Finetuned.load` do.
    """
    loaded: dict[tuple[str, str], Encoder] = {}

    def model(folder: Path) -> Model:
        if (folder / CARD).exists() or (folder / CONFIG).exists():  # a checkpoint, whatever it lacks
            return _of_finetuned(folder, Finetuned.load(folder, device))
        return _of_head(folder, *load_whole(folder, device, loaded))

    return tuple(model(Path(folder)) for folder in folders)


def load_whole(
    folder: str | Path, device: str = "auto", loaded: dict[tuple[str, str], Encoder] | None = None
) -> tuple[Any, ModelCard, Encoder]:
    """A model folder's head and card, and the encoder that made its vectors: a checkpoint, or a built-in by name.

    `loaded` holds encoders by what they are called and their precision, and gets this one. Raises ModelError where
    there is no such encoder here, as of imported vectors, or it has other weights than the one the head was fitted on;
    where only a library's version differs, it warns.
    """
    estimator, card = load_model(folder)
    if not card.checkpoint and not encoders.find(card.encoder):
        have = ", ".join(encoders.names())
        raise ModelError(f"{folder}: its vectors are of '{card.encoder}', which is no encoder here; have {have}.")
    loaded = {} if loaded is None else loaded
    called = card.checkpoint or card.encoder, str(card.encoder_info.get("precision", "fp32"))
    if called not in loaded:
        loaded[called] = load_encoder(called[0], device, called[1])
    _check_encoder(card, loaded[called].info)
    return estimator, card, loaded[called]


@dataclass(frozen=True)
class EncodedWaveforms:
    """Waveforms and their vectors, for models that share them: each encoder has run once, over all that they read."""

    models: Sequence[Model]
    waves: Sequence[Waveform]
    batches: Mapping[int, Batch]  # by encoder

    @classmethod
    def of(cls, models: Sequence[Model], waves: Sequence[Waveform]) -> EncodedWaveforms:
        """Run the encoders. Raises EncoderError where a vector is not finite."""
        wanted: dict[int, tuple[Encoder, dict[str, None]]] = {}
        for model in models:
            if model.encoder is not None:
                _, views = wanted.setdefault(id(model.encoder), (model.encoder, {}))
                views.update(dict.fromkeys(model.views))
        batches = {number: encoder.encode(waves, tuple(views)) for number, (encoder, views) in wanted.items()}
        for batch in batches.values():
            refuse_nan([f"waveform {number}" for number in range(len(waves))], batch)
        return cls(models, waves, batches)

    def votes(self) -> list[Proba]:
        """Of each model, probabilities (n, C), columns in the order of its labels."""
        return [model.proba(self.waves, self.batches.get(id(model.encoder), {})) for model in self.models]

    def counted(self, number: int) -> list[Attribution]:
        """Of each model, what its answer to one of the waveforms rests on."""
        alone = {
            encoder: {view: _row(rows, number) for view, rows in batch.items()}
            for encoder, batch in self.batches.items()
        }
        return [model.counted(self.waves[number], alone.get(id(model.encoder), {})) for model in self.models]


def _row(rows: Rows, number: int) -> Rows:
    return rows.take([number]) if isinstance(rows, Frames) else rows[[number]]


def _of_head(folder: Path, estimator: Any, card: ModelCard, encoder: Encoder) -> Model:
    parts = resolve_views(card.view.split("+"), encoder)

    def proba(waves: Sequence[Waveform], batch: Batch) -> Proba:
        said: Proba = estimator.predict_proba(rows_of(batch, parts, card.n_frames))
        return said

    def what_counted(wave: Waveform, batch: Batch) -> Attribution:
        head = innermost(estimator)
        frames = _frames(head, card, batch, parts) if hasattr(head, "frame_weights") else None
        return Attribution(_layers(head), frames)

    labels = tuple(map(str, estimator.classes_))
    return Model(
        folder,
        labels,
        encoder.info.sample_rate,
        encoder.shortest,
        encoder.longest,
        _hears(encoder, parts, card.n_frames),
        asdict(card),
        encoder,
        parts,
        proba,
        what_counted,
    )


def _hears(encoder: Encoder, parts: Sequence[str], n_frames: int) -> float:
    """Seconds that so many frames last; of a view without frames, no end."""
    ragged = [part for part in parts if is_ragged(part)]
    if not ragged:
        return float("inf")
    seconds = max(2.0, encoder.shortest)
    frames = encoder.encode([np.zeros(round(seconds * encoder.info.sample_rate), np.float32)], ragged[:1])[ragged[0]]
    return n_frames * seconds / len(frames[0])


def _of_finetuned(folder: Path, tuned: Finetuned) -> Model:
    def proba(waves: Sequence[Waveform], batch: Batch) -> Proba:
        return tuned.proba_of(waves).astype(np.float64)

    def what_counted(wave: Waveform, batch: Batch) -> Attribution:
        weights = tuned.attention_of(wave)
        if weights is None:
            return Attribution()
        share = min(1.0, tuned.card.settings.seconds * tuned.rate / len(wave))
        return Attribution(frames=_centred(weights, round(len(weights) / share)))

    card = tuned.card
    return Model(
        folder,
        card.labels,
        tuned.rate,
        tuned.shortest,
        LONGEST,
        card.settings.seconds,
        card.to_dict(),
        None,
        (),
        proba,
        what_counted,
    )


def _layers(head: Any) -> tuple[float, ...] | None:
    """Each layer's share: what was learned, or all of it for the layer that was chosen."""
    n_layers = getattr(head, "n_layers", 1)
    if n_layers < 2:
        return None
    if hasattr(head, "layer_"):
        return tuple(float(layer == head.layer_) for layer in range(n_layers))
    weights = getattr(head, "layer_weights_", None)
    return None if weights is None else tuple(map(float, weights))


def _frames(head: Any, card: ModelCard, batch: Batch, parts: Sequence[str]) -> tuple[float, ...]:
    """Each frame's share over the whole clip, 0 where a long one was cut."""
    frames = next(rows for part in parts if is_ragged(part) and isinstance(rows := batch[part], Frames))
    length = len(frames[0])
    weights = head.frame_weights(rows_of(batch, parts, card.n_frames))[0]
    return _centred(weights[: min(length, card.n_frames)], length)


def _centred(weights: NDArray[Any], length: int) -> tuple[float, ...]:
    """The weights of a clip's middle, as of all its frames."""
    whole = np.zeros(max(length, len(weights)))
    begin = (len(whole) - len(weights)) // 2
    whole[begin : begin + len(weights)] = weights
    return tuple(map(float, whole))


def _check_encoder(card: ModelCard, here: EncoderInfo) -> None:
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
    warnings.warn(f"the head's vectors were made a little differently: {said}", UserWarning, stacklevel=5)
