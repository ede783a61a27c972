"""Which models the page is about: those that were named, the latest, or one of the synthetic sample."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

from embedcache import Artifacts, EmbeddingStore, SerError, extract, load_encoder

from ..inference.model import Model, load_models
from ..saved.model_folder import MODEL
from ..workflows.comparison import ComparisonConfig
from ..workflows.fitting import fit_model
from ..workflows.quickstart import FOLDS, NAME, sample

SYNTHETIC = (
    "No model was there: this one was fitted on the quickstart's made-up voices. Its answers show that the page works, "
    "and nothing about emotion. Fit one on recordings: ser extract, then ser fit."
)

Say = Callable[[str], None]


def need_demo() -> None:
    """Raises SerError, with the way to install it, where Gradio is not there."""
    if importlib.util.find_spec("gradio") is None:
        raise SerError("ser demo needs gradio: `pip install 'ser[demo]'`.")


def models_for(folders: Sequence[Path], artifacts: Artifacts, device: str, log: Say) -> tuple[tuple[Model, ...], str]:
    """The models, loaded, and what the page has to say of them before anything else."""
    if folders:
        return load_models(folders, device), ""
    latest = latest_model(artifacts)
    if latest:
        log(f"model: {latest}, the latest; `ser demo MODEL…` takes others")
        return load_models([latest], device), ""
    log(f"no model below {artifacts.models}: fitting one on the quickstart's synthetic sample")
    return load_models([fit_on_sample(artifacts)], device), SYNTHETIC


def latest_model(artifacts: Artifacts) -> Path | None:
    """The folder of the model that was written last, if there is one."""
    cards = sorted(artifacts.models.glob(f"*/{MODEL}"), key=lambda path: path.stat().st_mtime)
    return cards[-1].parent if cards else None


def fit_on_sample(artifacts: Artifacts) -> Path:
    """A model of the sample, below `quickstart`; the one that is there already, if it is."""
    place = Artifacts(artifacts.root / "quickstart")
    if (found := latest_model(place)) is not None:
        return found
    encoder = load_encoder("mfcc")
    manifest, _ = extract(sample(place), encoder, EmbeddingStore.of(place.cache, encoder.info))
    manifest.to_csv(place.manifest(NAME))
    asked = ComparisonConfig((NAME,), ("mfcc",), ("logreg",), folds=FOLDS, calibrate=True)
    return fit_model(place, asked, jobs=1)[0]
