"""A fitted head as a folder: `model.json` says what it is, `head.skops` holds the estimator. No pickle, ever.

A folder from a stranger must not run code: see `_archive` for how the estimator is read. What comes out must be a head
that fits its card, and predict.
"""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from embedcache import DataError, ModelError, __version__
from embedcache.encoder import is_ragged
from embedcache.files.atomic import atomic_write
from embedcache.files.untrusted import read_json

from ..data.views import check_view, layers_in
from ..heads import innermost
from ._safe_skops import ADVICE, load_head, reason

FORMAT = "ser-model"
FORMAT_VERSION = 1
MODEL, HEAD = "model.json", "head.skops"
MOST_CARD = 1 << 20  # bytes; a card has 5 kB
MOST_FEATURES = 10_000_000
MOST_FRAMES = 100_000
LISTS = ("labels", "intended_use", "limits")  # of a card
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class ModelCard:
    """What a saved head is: enough to use it, and to judge it. `card.py` says what the sentences of it are.

    The fields from `data` on are those that earlier versions did not write: a card without them is read.
    """

    head: str
    encoder: str
    checkpoint: str
    fingerprint: str
    encoder_info: dict[str, Any]
    view: str
    labels: tuple[str, ...]
    dataset: str
    n_clips: int
    n_speakers: int
    score: dict[str, Any] = field(default_factory=dict)  # a leaderboard row: how well it may do on new speakers
    params: dict[str, Any] = field(default_factory=dict)  # of the head that is saved; where it was tuned, as chosen
    n_frames: int = 1  # that a clip is fitted to, in a view of frames
    version: str = __version__
    created: str = ""
    data: dict[str, Any] = field(default_factory=dict)  # dataset -> title, licence, citation …; counts
    protocol: dict[str, Any] = field(default_factory=dict)  # how `scores` were measured
    scores: dict[str, Any] = field(default_factory=dict)  # score -> value, interval, what it means
    leaks: dict[str, Any] = field(default_factory=dict)  # what training and test clips share -> what that means
    intended_use: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    about: str = ""  # what the head is
    reads: str = ""  # what the numbers of a row are, in order
    fitting: dict[str, Any] = field(default_factory=dict)  # how settings were chosen and probabilities calibrated


# How a card is written: what a person asks first comes first, and the long tables last.
ORDER = (
    "format",
    "format_version",
    "head",
    "about",
    "labels",
    "intended_use",
    "limits",
    "scores",
    "leaks",
    "protocol",
    "dataset",
    "n_clips",
    "n_speakers",
    "data",
    "encoder",
    "checkpoint",
    "view",
    "reads",
    "n_frames",
    "params",
    "fitting",
    "version",
    "created",
)


def save_model(folder: str | Path, estimator: Any, card: ModelCard) -> Path:
    """Write a model folder. Raises ModelError where it exists already."""
    import skops.io

    folder = Path(folder)
    if folder.exists():
        raise ModelError(f"{folder} exists already. Choose another folder with --out, or remove it.")
    facts = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(card)}
    facts["created"] = datetime.now(UTC).isoformat(timespec="seconds")
    with atomic_write(folder / HEAD, "wb") as file:
        skops.io.dump(estimator, file, compression=zipfile.ZIP_DEFLATED)
    with atomic_write(folder / MODEL, "wb") as file:  # last: a folder with a card is whole
        file.write(card_json(facts))
    return folder


def card_json(facts: dict[str, Any]) -> bytes:
    """The text of a card, for people: in the order of ORDER, letters of all languages as they are.

    What is no Unicode, as a folder's name may be, becomes the escape that JSON has for it.
    """
    first = {name: facts[name] for name in ORDER if name in facts}
    text = json.dumps({**first, **facts}, indent=1, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def load_model(folder: str | Path) -> tuple[Any, ModelCard]:
    """The estimator and its card.

    Raises ModelError for what is no model folder, holds anything that no head of ours holds, or does not predict.
    """
    folder = Path(folder)
    card = _card(folder)
    estimator = load_head(folder / HEAD)
    _check_fit(folder, estimator, card)
    return estimator, card


def _card(folder: Path) -> ModelCard:
    if not (folder / MODEL).is_file():
        raise ModelError(f"{folder}: no model here ({MODEL} is missing). `ser fit` writes such a folder and names it.")
    facts = read_json(folder / MODEL, MOST_CARD, ModelError, ADVICE)
    try:
        if (form := facts.pop("format")) != FORMAT:
            raise ModelError(f"{folder}: {MODEL} has the format '{form}', wanted '{FORMAT}'.")
        if (version := facts.pop("format_version")) != FORMAT_VERSION:
            raise ModelError(
                f"{folder}: has model format {version}, written by ser {facts.get('version')}; this is ser "
                f"{__version__}, which reads format {FORMAT_VERSION}. Fit again, or use that version."
            )
        lists = {name: tuple(value) for name, value in facts.items() if name in LISTS and isinstance(value, list)}
        card = ModelCard(**{**facts, **lists})
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder}: {MODEL} cannot be read ({error!r}). {ADVICE}") from error
    _check_types(folder, card)
    _check_origin(folder, card)
    return card


def _check_types(folder: Path, card: ModelCard) -> None:
    kinds = {"str": str, "int": int, "dict[str, Any]": dict, "tuple[str, ...]": tuple}
    wrong = [f.name for f in fields(card) if not isinstance(getattr(card, f.name), kinds[str(f.type)])]
    if not wrong:
        wrong = [name for name in LISTS if not all(isinstance(text, str) for text in getattr(card, name))]
    if wrong:
        raise ModelError(f"{folder}: {MODEL} cannot be read ({', '.join(wrong)} of another type). {ADVICE}")


def _check_origin(folder: Path, card: ModelCard) -> None:
    """The checkpoint is a hub id or a whole path: nothing that is found beside the model's folder."""
    try:
        check_view(card.view)
    except DataError as error:
        raise ModelError(f"{folder}: {MODEL} has no view that a head reads: {error} {ADVICE}") from error
    if not 0 < card.n_frames <= MOST_FRAMES:
        raise ModelError(f"{folder}: {MODEL} has {card.n_frames} frames a clip; wanted 1 to {MOST_FRAMES:,}. {ADVICE}")
    place = card.checkpoint
    whole = Path(place).is_absolute() and ".." not in Path(place).parts
    if place and not (whole or HUB_ID.fullmatch(place)):
        raise ModelError(f"{folder}: {MODEL} has the checkpoint {place!r}; wanted a hub id or a folder's whole path.")


def _check_fit(folder: Path, estimator: Any, card: ModelCard) -> None:
    """Raises ModelError for a head with other labels or dimensions than its card says, or that does not predict."""
    classes: Any = getattr(estimator, "classes_", None)
    fits = isinstance(classes, np.ndarray) and classes.shape == (len(card.labels),)
    if not (fits and tuple(map(str, classes)) == card.labels):
        raise ModelError(f"{folder}: the head's labels are not those of {MODEL}, {', '.join(card.labels)}. {ADVICE}")
    n, wanted = getattr(estimator, "n_features_in_", None), _width(card)
    if not isinstance(n, int) or not 0 < n <= MOST_FEATURES or n != (wanted or n):
        raise ModelError(f"{folder}: the head reads {n} numbers a clip, {MODEL} says {wanted}. {ADVICE}")
    if is_ragged(card.view) and (frames := getattr(innermost(estimator), "n_frames", 0)) != card.n_frames:
        raise ModelError(f"{folder}: the head reads {frames} frames a clip, {MODEL} says {card.n_frames}. {ADVICE}")
    try:
        proba = np.asarray(estimator.predict_proba(np.zeros((1, n), dtype=np.float32)))
    except Exception as error:  # of an estimator whose parts do not fit together: anything
        raise ModelError(f"{folder}: the head does not predict ({reason(error)}). {ADVICE}") from error
    if proba.shape != (1, len(card.labels)) or not np.isfinite(proba).all():
        raise ModelError(f"{folder}: the head does not give a probability for each label. {ADVICE}")


def _width(card: ModelCard) -> int:
    """Numbers a clip in the card's view; 0 where the card does not say, as of frames, which may keep fewer than dim."""
    dim, layers = (card.encoder_info.get(name) for name in ("dim", "n_layers"))
    if not (isinstance(dim, int) and isinstance(layers, int)) or is_ragged(card.view):
        return 0
    return dim * layers_in(card.view.split("+"), layers)
