"""What `ser fit` does: cross-validate one head, fit it on all clips, save it as a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from embedcache import Artifacts, ConfigError, ModelError, SerError
from embedcache.cache.store import slug
from embedcache.encoder import Log, no_log
from embedcache.files.existing import check_writable, refuse_existing
from embedcache.progress import Progress, silent

from ..adaptation.amounts import Amount, parse_amounts
from ..adaptation.choice import choose_strength
from ..adaptation.drawing import drawn_files
from ..adaptation.fold_vectors import Adaptation, AdaptedFold
from ..data.listed_clips import load_manifests
from ..data.task import Task
from ..data.views import about_view
from ..evaluation.cross_validation import fit_head, params_of, run_folds
from ..evaluation.intervals import uar_interval
from ..evaluation.leaderboard import score
from ..evaluation.predictions import Predictions
from ..heads import Head, Tuned, innermost, wrapped
from ..protocols.fold import Fold
from ..saved.card_text import describe, fitting, predicting
from ..saved.model_folder import OTHER_FOLDER, ModelCard, save_model
from ..saved.speaker_files import ModelAdaptation
from ..saved.training_sound import TrainingSound
from .best_head import rivals_of, with_best_head
from .comparison import OTHER_PLACE, load_task, log_people, on_common_clips, readers, save_run
from .configurations import ComparisonConfig
from .fold_choice import choose_folds
from .head_choice import chosen_heads
from .training_clips import training_sound


def fit_model(
    artifacts: Artifacts,
    config: ComparisonConfig,
    out: Path | None = None,
    jobs: int | None = None,
    progress: Progress = silent,
    log: Log = no_log,
) -> tuple[Path, ModelCard, list[Predictions]]:
    """Cross-validate one head, fit it on all clips and save it. Return model folder, card and predictions.

    The card has the scores on one row: with several test partitions, those on the first of them, which its protocol
    names. The model is fitted on all clips, also on those of test partitions and of none, and splits its training data.
    Without a head in the configuration, it is the best of the latest comparison: see `best_head.py`. The intervals of
    the card are extended for the selection of such a head.

    `out` is the model folder, by default a new one below `artifacts.models`. `log` receives notes, a line each. Raises
    ConfigError for several heads or encoders, DataError if several encoders are extracted and none is named, ModelError
    if `out` exists, and SerError if the folders of runs and models cannot be written.
    """
    amount = _check_one_each(config)
    if out:
        refuse_existing(out, ModelError, OTHER_FOLDER)
    for place in (artifacts.runs, out.parent if out else artifacts.models):
        check_writable(place, SerError, OTHER_PLACE)
    config = with_best_head(artifacts, config, log)
    (spec,) = chosen_heads(config.heads, config.views, config.frames)
    choice = choose_folds(artifacts, config)
    config = replace(config, protocol=choice.protocol, seeds=choice.seeds)
    specs = wrapped([spec], config.tune, config.calibrate)
    encoder = next(iter(config.encoders), None)
    (spec,) = readers(artifacts, config, encoder, [spec], log)
    (task,) = on_common_clips([load_task(artifacts, config, encoder, spec.view)], log)
    _check_predicts(task)
    log_people(task, log)
    splits = choice.splits(task)
    for line in choice.notes(task, splits):
        log(f"note: {line}")
    predictions = run_folds(task, specs, splits, config.protocol, jobs, progress, amounts=[amount])
    scored = [p for p in predictions if p.head == specs[-1].name]
    if len(scored) > 1:
        log(f"note: the model card has the scores of {scored[0].protocol}; the run folder has all scores.")
    files = {**choice.files(task, splits), **drawn_files(task, splits, [amount])}
    run = save_run(artifacts, predictions, asdict(config), task.labels_from, jobs, files)
    with threadpool_limits(1):
        adapted = _adapted(task, amount, log)
        training = adapted.training_task(np.arange(len(task))) if adapted else task
        estimator = fit_head(specs[-1], training, np.arange(len(task)), seed=0)
    folder = out or _free(artifacts.models / slug(f"{task.dataset}-{task.encoder}-{specs[-1].name}"))
    adapts, sound = amount.name if adapted else "", training_sound(artifacts, config, task, progress, log)
    channel = _common_channel(artifacts, config)
    if rivals := rivals_of(artifacts, scored[0]):
        log(
            f"note: the head ranks first in the comparison {rivals[0].run}; the intervals of the model card are "
            "extended for this selection."
        )
    card = _card(task, scored[0], run, specs[-1], estimator, channel, adapts, sound, rivals)
    chosen = estimator.model_ if isinstance(estimator, Tuned) else estimator
    adaptation = ModelAdaptation(adapted.population, adapted.adaptation.strength) if adapted else None
    return save_model(folder, chosen, card, adaptation), card, predictions


def _check_one_each(config: ComparisonConfig) -> Amount:
    """Return the amount of adaptation. Raises ConfigError for several heads, encoders or amounts."""
    amounts = parse_amounts(config.adapt)
    named = {"head": config.heads, "encoder": config.encoders, "adapt": [amount.name or "0" for amount in amounts]}
    for option, names in named.items():
        if len(names) > 1:
            what = option if option != "adapt" else "number of clips to adapt to"
            raise ConfigError(
                f"got --{option} {','.join(names)}; a model has one {what}. Use `ser compare` for several."
            )
    return amounts[0]


def _adapted(task: Task, amount: Amount, log: Log) -> AdaptedFold | None:
    """Return all clips of a task as training clips that are adapted to their speakers, with a chosen strength.

    None if the amount is 0, and if inner folds score higher without an adaptation, of which `log` receives a note.
    """
    rows = np.arange(len(task))
    if not amount.name:
        return None
    strength = choose_strength(task, Fold("all", rows, rows[:0]), amount, seed=0)
    if not strength.adapts:
        log("note: the model is not adapted to speakers, because the inner folds scored higher without.")
        return None
    return AdaptedFold.of(task, rows, Adaptation(amount, strength, 0))


def _check_predicts(task: Task) -> None:
    """Raise ConfigError if encoders that are joined cannot all encode one recording: a model would predict nothing."""
    infos = task.encoder_infos
    rates = sorted({info.sample_rate for info in infos})
    if len(infos) > 1 and (len(rates) > 1 or not rates[0]):
        takes = ", ".join(f"{i.name} {'was imported' if i.is_imported else f'takes {i.sample_rate} Hz'}" for i in infos)
        raise ConfigError(
            f"got --encoder {task.encoder} ({takes}); wanted encoders of this machine that take one sample rate, "
            "because a model runs all of them on a recording. Use `ser compare` to compare these."
        )


def _common_channel(artifacts: Artifacts, config: ComparisonConfig) -> str:
    """Return the channel that all clips are of; "" if they are the mean of all channels, or differ."""
    clips = (clip for manifest in load_manifests(artifacts, config.datasets) for clip in manifest.usable)
    channels = {clip.channel for clip in clips}
    number = channels.pop() if len(channels) == 1 else None
    return "" if number is None else str(number)


def _card(
    task: Task,
    p: Predictions,
    run: Path,
    spec: Head,
    estimator: Any,
    channel: str = "",
    adapts: str = "",
    sound: TrainingSound | None = None,
    rivals: Sequence[Predictions] = (),
) -> ModelCard:
    low, high = uar_interval(p, rivals)
    fields = asdict(replace(score(p), uar_low=low, uar_high=high))
    row = {name: None if _is_nan(value) else value for name, value in fields.items()}  # JSON has no NaN
    for comparative in ("rank", "p_vs_best", "smallest_difference"):  # fields that describe a row among others
        del row[comparative]
    names = [encoder.name for encoder in task.encoder_infos]
    info = asdict(task.encoder_infos[0]) if len(names) == 1 else {}
    card = ModelCard(
        head=p.head,
        encoder="+".join(names),
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
        reads=about_view(task.view, task.n_frames, names),
        fitting=fitting(estimator, p),
        channel=channel,
        adapted=adapts,
        training_sound=asdict(sound) if sound else {},
        joined=task.encoder_infos if len(names) > 1 else (),
        **describe(task, p, bool(adapts), rivals),
    )
    return replace(card, predicting=predicting(card))


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _free(folder: Path) -> Path:
    """`folder` if it does not exist, else the first of folder-2, folder-3, … that does not."""
    names = [folder, *(folder.with_name(f"{folder.name}-{n}") for n in range(2, 10_000))]
    return next(name for name in names if not name.exists())
