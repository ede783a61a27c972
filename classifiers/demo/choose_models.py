"""The models of the page: those named on the command line, the latest one, or one fitted on synthetic voices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embedcache import Artifacts, load_encoder
from embedcache.cache.dataset_extraction import extract_manifest
from embedcache.encoder import Log

from ..inference.model import Model, load_models
from ..inference.speakers import adaptation_note
from ..saved.hub_models import MODEL
from ..workflows.configurations import ComparisonConfig
from ..workflows.fitting import fit_model
from ..workflows.quickstart import FOLDS, NAME, sample
from .model_text import model_texts

SYNTHETIC = (
    "No model was found, so this one was trained on the quickstart's synthetic voices, to show that the page works. "
    "For a real one, run ser extract, then ser fit."
)


def models_for(
    folders: Sequence[Path], artifacts: Artifacts, device: str, log: Log, speaker: str = ""
) -> tuple[tuple[Model, ...], str]:
    """Return the loaded models, and a banner for the top of the page, "" for none.

    `speaker` is an enrolled speaker, to whom adapted models are adapted; the banner says to whom they are.

    Without `folders`, the model is the latest one in `artifacts`; without any, one is fitted on synthetic voices.
    """
    if folders:
        return _with_banner(load_models(folders, device, speaker), speaker)
    latest = latest_model(artifacts)
    if latest:
        log(f"model: {latest}, the latest model; name others with `ser demo MODEL…`")
        return _with_banner(load_models([latest], device, speaker), speaker)
    log(f"no model in {artifacts.models}: fitting one on the quickstart's synthetic sample")
    return load_models([fit_on_sample(artifacts)], device, speaker), SYNTHETIC


def _with_banner(models: tuple[Model, ...], speaker: str) -> tuple[tuple[Model, ...], str]:
    named = zip(model_texts(models), models, strict=True)
    line = adaptation_note([(text.title, model.adapted) for text, model in named], speaker)
    return models, f"{line}." if line else ""


def latest_model(artifacts: Artifacts) -> Path | None:
    """Return the model folder that was written last, or None if there is no model."""
    cards = sorted(artifacts.models.glob(f"*/{MODEL}"), key=lambda path: path.stat().st_mtime)
    return cards[-1].parent if cards else None


def fit_on_sample(artifacts: Artifacts) -> Path:
    """Fit a model on the synthetic sample, unless one exists, and return its folder, in `quickstart`."""
    quickstart = Artifacts(artifacts.root / "quickstart")
    if (existing := latest_model(quickstart)) is not None:
        return existing
    extract_manifest(quickstart, sample(quickstart), load_encoder("functionals"))
    config = ComparisonConfig((NAME,), ("functionals",), ("logreg",), folds=FOLDS, calibrate=True)
    return fit_model(quickstart, config, jobs=1)[0]
