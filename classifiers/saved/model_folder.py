"""Model folders: a fitted head with its model card, saved without pickle.

A model folder holds `model.json`, the model card, and `head.skops`, the estimator. A folder from an untrusted source
must not run code: `_safe_skops.py` describes how the estimator is loaded. The loaded estimator must be a head that
agrees with its card and can predict.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from embedcache import Artifacts, DataError, EncoderInfo, ModelError, __version__
from embedcache.encoder import is_ragged
from embedcache.encoders.hub import HUB_ID
from embedcache.files.atomic import atomic_write
from embedcache.files.existing import refuse_existing
from embedcache.files.untrusted import build, read_json
from embedcache.text import examples

from ..data.views import check_joinable, check_view, layers_in
from ..heads import innermost
from ._safe_skops import ADVICE, load_head, reason
from .hub_models import HEAD, locate_model
from .hub_models import MODEL as MODEL
from .speaker_files import ModelAdaptation, save_adaptation
from .training_sound import TrainingSound

FORMAT = "ser-model"
FORMAT_VERSION = 1
OTHER_FOLDER = "Choose another folder with --out, or remove it."  # advice if the folder exists already
MAX_CARD = 1 << 20  # largest model.json in bytes; a card has about 5 kB
MAX_FEATURES = 10_000_000  # largest number of values per clip
MAX_FRAMES = 100_000  # largest number of frames per clip


@dataclass(frozen=True)
class ModelCard:
    """The description of a saved head, for people and for the code that uses it.

    Earlier versions did not write the fields from `data` on; a card without them can be loaded. `card_text.py` has the
    texts of a card.
    """

    head: str
    encoder: str
    checkpoint: str  # hub id, with its revision, or absolute path of the encoder's checkpoint; "" if it has none
    fingerprint: str  # fingerprint of the encoder, or of all encoders together
    encoder_info: dict[str, Any]  # facts about the encoder; empty if there are several
    view: str
    labels: tuple[str, ...]
    dataset: str
    n_clips: int
    n_speakers: int
    score: dict[str, Any] = field(default_factory=dict)  # the leaderboard row of the head, from cross-validation
    params: dict[str, Any] = field(default_factory=dict)  # parameters of the saved head, after tuning
    n_frames: int = 1  # number of frames to which a clip is cut or padded, in a view of frames
    version: str = __version__  # version of ser that wrote the card
    created: str = ""  # time in UTC, ISO 8601
    data: dict[str, Any] = field(default_factory=dict)  # title, licence and citation by dataset; numbers of clips
    protocol: dict[str, Any] = field(default_factory=dict)  # how `scores` were measured
    scores: dict[str, Any] = field(default_factory=dict)  # value, interval and meaning by score
    leaks: dict[str, Any] = field(default_factory=dict)  # meaning by leak
    intended_use: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    about: str = ""  # description of the head
    reads: str = ""  # description of the values of a row that the head reads, in order
    fitting: dict[str, Any] = field(default_factory=dict)  # how settings, temperature and layer were chosen
    channel: str = ""  # number of the channel that all clips are of, from 0; "" for the mean of all channels
    encoder_licences: dict[str, str] = field(default_factory=dict)  # by encoder, without those that are a part of ser
    adapted: str = ""  # clips of a speaker, such as "10", to which the model is adapted; "" for none
    predicting: dict[str, str] = field(default_factory=dict)  # what `ser predict` does with the model
    training_sound: dict[str, Any] = field(default_factory=dict)  # see `TrainingSound`; empty if it is not known
    joined: tuple[EncoderInfo, ...] = ()  # the encoders whose vectors the head reads side by side, if several, in order

    @property
    def encoder_infos(self) -> tuple[dict[str, Any], ...]:
        """The facts about each encoder, with its name and its checkpoint, in the order of the columns of X."""
        one = self.encoder_info | {"name": self.encoder, "checkpoint": self.checkpoint}
        return tuple(map(asdict, self.joined)) or (one,)

    @property
    def is_of_imported(self) -> bool:
        """Whether the head was fitted on imported vectors, whose encoder is not here."""
        return bool(self.encoder_info) and not self.encoder_info.get("sample_rate")


# The order of the fields in model.json: first what people look for, last the long tables, which are not listed here.
ORDER = (
    "format",
    "format_version",
    "head",
    "about",
    "labels",
    "intended_use",
    "limits",
    "predicting",
    "scores",
    "leaks",
    "protocol",
    "dataset",
    "n_clips",
    "n_speakers",
    "data",
    "encoder",
    "checkpoint",
    "encoder_licences",
    "view",
    "reads",
    "n_frames",
    "channel",
    "adapted",
    "params",
    "fitting",
    "version",
    "created",
    "training_sound",
    "joined",
)


def save_model(folder: str | Path, estimator: Any, card: ModelCard, adaptation: ModelAdaptation | None = None) -> Path:
    """Write a model folder and return its path. Raises ModelError if the folder exists.

    A model whose card says `adapted` has an `adaptation`, which is written beside the head.
    """
    import skops.io

    folder = Path(folder)
    refuse_existing(folder, ModelError, OTHER_FOLDER)
    values = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(card)}
    values["created"] = datetime.now(UTC).isoformat(timespec="seconds")
    with atomic_write(folder / HEAD, "wb") as file:
        skops.io.dump(estimator, file, compression=zipfile.ZIP_DEFLATED)
    if adaptation:
        save_adaptation(folder, adaptation)
    with atomic_write(folder / MODEL, "wb") as file:  # last, so that a folder with a card is complete
        file.write(card_json(values))
    return folder


def card_json(values: dict[str, Any]) -> bytes:
    """Return the text of model.json, encoded as UTF-8: fields in the order of ORDER, non-ASCII letters unescaped.

    Characters that are not valid Unicode, such as in names of folders, are written as JSON escapes.
    """
    first = {name: values[name] for name in ORDER if name in values}
    text = json.dumps({**first, **values}, indent=1, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def load_model(folder: str | Path) -> tuple[Any, ModelCard]:
    """Load the estimator and the card of a model folder, or of a model on the hub, named `user/model[@revision]`.

    The estimator is a fitted scikit-learn classifier: `estimator.predict(X)`, with X as the card's `reads` describes.
    Raises ModelError if the folder is not a model folder, holds anything that no head of ser has, or if the head does
    not agree with its card or cannot predict.
    """
    folder = locate_model(folder)
    card = _load_card(folder)
    estimator = load_head(folder / HEAD)
    _check_head(folder, estimator, card)
    return estimator, card


def _load_card(folder: Path) -> ModelCard:
    if not (folder / MODEL).is_file():
        raise ModelError(f"{folder}: no model found ({MODEL} is missing). {_advice_for(folder)}")
    values = read_json(folder / MODEL, MAX_CARD, ModelError, ADVICE)
    try:
        if (file_format := values.pop("format")) != FORMAT:
            raise ModelError(
                f"{folder}: {MODEL} has the format '{file_format}'; wanted '{FORMAT}'. Give a folder that `ser fit` "
                "wrote."
            )
        if (version := values.pop("format_version")) != FORMAT_VERSION:
            raise ModelError(
                f"{folder}: got the model format {version}, written by ser {values.get('version')}; ser {__version__} "
                f"reads format {FORMAT_VERSION}. Fit the head again, or use that version of ser."
            )
        card = build(ModelCard, values)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"{folder}: {MODEL} cannot be read ({error}). {ADVICE}") from error
    _check_values(folder, card)
    return card


def _advice_for(folder: Path) -> str:
    """Return what to give instead of a path that is no model folder."""
    named = Artifacts.at().models / folder.name
    inside = sorted(path.parent.name for path in folder.glob(f"*/{MODEL}"))
    if folder.is_file():
        return "It is a file: give the model folder first, then recordings."
    if inside:
        return f"Give one of the models in it: {examples(inside)}."
    return f"Give its path: {named}." if (named / MODEL).is_file() else "Give a folder that `ser fit` wrote."


def _check_values(folder: Path, card: ModelCard) -> None:
    """Raise ModelError unless view, number of frames, checkpoints, joined encoders and training sound are valid.

    A checkpoint is a hub id or an absolute path. A relative path could lead to a checkpoint that came with the folder.
    """
    try:
        TrainingSound.from_dict(card.training_sound)
    except ValueError as error:
        raise ModelError(f"{folder}: {MODEL} cannot be read: {error}. {ADVICE}") from error
    try:
        check_view(card.view)
        if card.joined:
            check_joinable(card.view, card.encoder)
    except DataError as error:
        raise ModelError(f"{folder}: {MODEL} has an invalid view: {error} {ADVICE}") from error
    if not 0 < card.n_frames <= MAX_FRAMES:
        raise ModelError(f"{folder}: {MODEL} has {card.n_frames} frames per clip; wanted 1 to {MAX_FRAMES:,}. {ADVICE}")
    if card.joined and (len(card.joined) < 2 or card.encoder_info or len({i.sample_rate for i in card.joined}) > 1):
        raise ModelError(
            f"{folder}: {MODEL} has {len(card.joined)} joined encoders; wanted two or more of one sample rate, and no "
            f"encoder_info beside them. {ADVICE}"
        )
    for checkpoint in (info["checkpoint"] for info in card.encoder_infos):
        absolute = Path(checkpoint).is_absolute() and ".." not in Path(checkpoint).parts
        if checkpoint and not (absolute or HUB_ID.fullmatch(checkpoint)):
            raise ModelError(
                f"{folder}: {MODEL} has the checkpoint {checkpoint!r}; wanted a hub id or the absolute path of a "
                f"folder. {ADVICE}"
            )


def _check_head(folder: Path, estimator: Any, card: ModelCard) -> None:
    """Raise ModelError if labels or dimensions of the head are not those of its card, or if the head cannot predict."""
    classes: Any = getattr(estimator, "classes_", None)
    is_vector = isinstance(classes, np.ndarray) and classes.shape == (len(card.labels),)
    if not (is_vector and tuple(map(str, classes)) == card.labels):
        raise ModelError(f"{folder}: the head's labels are not those of {MODEL}, {', '.join(card.labels)}. {ADVICE}")
    n, expected = getattr(estimator, "n_features_in_", None), _values_per_clip(card)
    if not isinstance(n, int) or not 0 < n <= MAX_FEATURES or n != (expected or n):
        raise ModelError(f"{folder}: the head reads {n} values per clip; {MODEL} has {expected}. {ADVICE}")
    if is_ragged(card.view) and (frames := getattr(innermost(estimator), "n_frames", 0)) != card.n_frames:
        raise ModelError(f"{folder}: the head reads {frames} frames per clip; {MODEL} has {card.n_frames}. {ADVICE}")
    try:
        proba = np.asarray(estimator.predict_proba(np.zeros((1, n), dtype=np.float32)))
    except Exception as error:  # an estimator with inconsistent parts can raise any error
        raise ModelError(f"{folder}: the head cannot predict ({reason(error)}). {ADVICE}") from error
    if proba.shape != (1, len(card.labels)) or not np.isfinite(proba).all():
        raise ModelError(f"{folder}: the head does not return a finite probability for each label. {ADVICE}")


def _values_per_clip(card: ModelCard) -> int:
    """Return the number of values per clip in the view of the card; 0 if the card does not determine it.

    It is not determined for views of frames, because their frames may have fewer dimensions than the encoder.
    """
    total = 0
    for info in card.encoder_infos:
        dim, layers = (info.get(name) for name in ("dim", "n_layers"))
        if not (isinstance(dim, int) and isinstance(layers, int)) or is_ragged(card.view):
            return 0
        total += dim * layers_in(card.view.split("+"), layers)
    return total
