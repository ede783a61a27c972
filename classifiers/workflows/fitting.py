"""What `ser fit` does: cross-validate one head, fit it on all clips, save it as a model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from embedcache import Artifacts, DataError, ModelError
from embedcache.cache.store import slug
from embedcache.progress import Progress, silent

from ..data.task import Task
from ..data.views import about_view
from ..evaluation.cross_validation import compare, fit_head, params_of
from ..evaluation.leaderboard import score
from ..evaluation.predictions import Predictions
from ..heads import Head, Tuned, innermost, wrapped
from ..saved.card_text import describe, fitting
from ..saved.model_folder import ModelCard, save_model
from .comparison import ComparisonConfig, configured_heads, load_task, save_run


def fit_model(
    artifacts: Artifacts,
    asked: ComparisonConfig,
    out: Path | None = None,
    jobs: int | None = None,
    progress: Progress = silent,
) -> tuple[Path, ModelCard, list[Predictions]]:
    """Cross-validate one head, fit it on all clips, save it: the model folder, its card, the predictions.

    Raises DataError where several encoders are possible, ModelError where `out` is taken.
    """
    for option, given in (("head", asked.heads), ("encoder", asked.encoders)):
        if len(given) > 1:
            raise DataError(f"one model has one {option}; got {', '.join(given)}. Use `ser compare` for several.")
    if out and out.exists():
        raise ModelError(f"{out} exists already. Choose another folder with --out, or remove it.")
    (spec,) = configured_heads(asked.heads, asked.views, asked.frames)
    specs = wrapped([spec], asked.tune, asked.calibrate)
    task = load_task(artifacts, asked, next(iter(asked.encoders), None), spec.view)
    predictions = compare(task, specs, asked.protocol, asked.folds, asked.seeds, jobs, progress)
    run = save_run(artifacts, predictions, asdict(asked), task.labels_from, jobs)
    with threadpool_limits(1):
        estimator = fit_head(specs[-1], task, np.arange(len(task)), seed=0)
    folder = out or _free(artifacts.models / slug(f"{task.dataset}-{task.encoder}-{specs[-1].name}"))
    card = _card(task, predictions[-1], run, specs[-1], estimator)
    chosen = estimator.model_ if isinstance(estimator, Tuned) else estimator
    return save_model(folder, chosen, card), card, predictions


def _card(task: Task, p: Predictions, run: Path, spec: Head, estimator: Any) -> ModelCard:
    row = {name: value if value == value else None for name, value in asdict(score(p)).items()}  # NaN is no JSON
    for among_others in ("rank", "p_vs_best"):
        del row[among_others]
    info = asdict(task.encoder_info) if task.encoder_info else {}
    return ModelCard(
        head=p.head,
        encoder=info.get("name", ""),
        checkpoint=info.get("checkpoint", ""),
        fingerprint=task.fingerprint,
        encoder_info=info,
        view=task.view,
        n_frames=task.n_frames,
        labels=task.labels,
        dataset=task.dataset,
        n_clips=len(task),
        n_speakers=len(set(task.speakers.tolist())),
        score=row | {"run": run.name},
        params=params_of(innermost(estimator)),
        about=f"{spec.about} ({spec.source})",
        reads=about_view(task.view, task.n_frames),
        fitting=fitting(estimator, p),
        **describe(task, p),
    )


def _free(folder: Path) -> Path:
    """The folder, or the first of folder-2, folder-3, … that does not exist."""
    names = [folder, *(folder.with_name(f"{folder.name}-{n}") for n in range(2, 10_000))]
    return next(name for name in names if not name.exists())
