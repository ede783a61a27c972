"""A fitted head as a folder: `model.json` says what it is, `head.skops` holds the estimator. No pickle, ever.

skops writes an estimator as a zip of JSON and plain arrays. It is loaded with the fixed list of types below: what a
file names beyond them is refused, so that a folder from a stranger cannot run code.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from embedcache import ModelError, __version__
from embedcache.layout import atomic_write

FORMAT = "ser-model"
FORMAT_VERSION = 1
MODEL, HEAD = "model.json", "head.skops"
TRUSTED = (
    "classifiers.heads.layer_weighted.LayerWeighted",
    "classifiers.heads.lgbm.LGBM",
    "classifiers.heads.logreg.LogReg",
    "classifiers.heads.mlp.MLP",
    "classifiers.heads.svm.SVM",
    "collections.OrderedDict",
    "collections.defaultdict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
)


@dataclass(frozen=True)
class Card:
    """What a saved head is: enough to use it, and to judge it."""

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
    params: dict[str, Any] = field(default_factory=dict)
    version: str = __version__
    created: str = ""


def save_model(folder: str | Path, estimator: Any, card: Card) -> Path:
    """Write a model folder. Raises ModelError where it exists already."""
    import skops.io

    folder = Path(folder)
    if folder.exists():
        raise ModelError(f"{folder} exists already. Choose another folder with --out, or remove it.")
    facts = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(card)}
    facts["created"] = datetime.now(UTC).isoformat(timespec="seconds")
    with atomic_write(folder / HEAD, "wb") as file:
        skops.io.dump(estimator, file, compression=zipfile.ZIP_DEFLATED)
    with atomic_write(folder / MODEL) as file:  # last: a folder with a card is whole
        json.dump(facts, file, indent=1)
    return folder


def load_model(folder: str | Path) -> tuple[Any, Card]:
    """The estimator and its card. Raises ModelError for what is no model folder, or holds other types than ours."""
    folder = Path(folder)
    card = _card(folder)
    return _estimator(folder / HEAD), card


def _card(folder: Path) -> Card:
    if not (folder / MODEL).is_file():
        raise ModelError(f"{folder}: no model here ({MODEL} is missing). `ser fit` writes such a folder and names it.")
    try:
        facts = json.loads((folder / MODEL).read_text(encoding="utf-8"))
        if (form := facts.pop("format")) != FORMAT:
            raise ModelError(f"{folder}: {MODEL} has the format '{form}', wanted '{FORMAT}'.")
        if (version := facts.pop("format_version")) != FORMAT_VERSION:
            raise ModelError(
                f"{folder}: has model format {version}, written by ser {facts.get('version')}; this is ser "
                f"{__version__}, which reads format {FORMAT_VERSION}. Fit again, or use that version."
            )
        return Card(**{**facts, "labels": tuple(facts["labels"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder}: {MODEL} cannot be read ({error!r}). Fit the head again.") from error


def _estimator(path: Path) -> Any:
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        estimator = skops.io.load(path, trusted=list(TRUSTED))
    except UntrustedTypesFoundException as error:
        raise ModelError(f"{path}: holds types that a head of ser has not, and is not loaded: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: cannot be loaded ({error!r}). Fit the head again.") from error
    kind = f"{type(estimator).__module__}.{type(estimator).__qualname__}"
    if not (kind.startswith("classifiers.heads.") and kind in TRUSTED):
        raise ModelError(f"{path}: is no head of ser: {type(estimator).__name__}. Fit a head with `ser fit`.")
    return estimator
