"""What `ser fit` does: cross-validate one head, fit it on all clips, save it as a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
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
    scored = _cross_validated(artifacts, with_best_head(artifacts, config, log), amount, jobs, progress, log)
    fitted = _fitted(scored.task, scored.spec, amount, log)
    sound = training_sound(artifacts, scored.config, scored.task, progress, log)
    rivals = rivals_of(artifacts, scored.row)
    if rivals:
        log(
            f"note: the head ranks first in the comparison {rivals[0].run}; the intervals of the model card are "
            "extended for this selection."
        )
    card = _card(scored, fitted, _common_channel(artifacts, scored.config), sound, rivals)
    folder = out or _free(artifacts.models / slug(f"{card.dataset}-{scored.task.encoder}-{card.head}"))
    return save_model(folder, fitted.chosen, card, fitted.adaptation), card, scored.predictions


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


@dataclass(frozen=True)
class _Scored:
    """A head with its cross-validated predictions."""

    config: ComparisonConfig  # with the protocol and the seeds that were chosen
    task: Task
    spec: Head  # with the tuning and the calibration that the configuration names
    predictions: list[Predictions]  # of the head, of its simpler forms, and of each test partition
    run: Path  # run folder

    @property
    def row(self) -> Predictions:
        """The predictions whose scores the model card has."""
        return self.rows[0]

    @property
    def rows(self) -> list[Predictions]:
        return [p for p in self.predictions if p.head == self.spec.name]


def _cross_validated(
    artifacts: Artifacts,
    config: ComparisonConfig,
    amount: Amount,
    jobs: int | None,
    progress: Progress,
    log: Log,
) -> _Scored:
    """Cross-validate the head that a configuration names, and save the run."""
    (spec,) = chosen_heads(config.heads, config.views, config.frames)
    choice = choose_folds(artifacts, config)
    config = replace(config, protocol=choice.protocol, seeds=choice.seeds)
    encoder = next(iter(config.encoders), None)
    specs = wrapped(readers(artifacts, config, encoder, [spec], log), config.tune, config.calibrate)
    (task,) = on_common_clips([load_task(artifacts, config, encoder, spec.view)], log)
    _check_predicts(task)
    log_people(task, log)
    splits = choice.splits(task)
    for line in choice.notes(task, splits):
        log(f"note: {line}")
    predictions = run_folds(task, specs, splits, config.protocol, jobs, progress, amounts=[amount])
    files = {**choice.files(task, splits), **drawn_files(task, splits, [amount])}
    run = save_run(artifacts, predictions, asdict(config), task.labels_from, jobs, files)
    scored = _Scored(config, task, specs[-1], predictions, run)
    if len(scored.rows) > 1:
        log(f"note: the model card has the scores of {scored.row.protocol}; the run folder has all scores.")
    return scored


@dataclass(frozen=True)
class _Fitted:
    """A head fitted on all clips of a task."""

    estimator: Any
    adapted: AdaptedFold | None  # None for a model that is not adapted to speakers
    amount: Amount

    @property
    def chosen(self) -> Any:
        """The estimator that predicts: of a tuned head, the one with the chosen parameters."""
        return self.estimator.model_ if isinstance(self.estimator, Tuned) else self.estimator

    @property
    def adaptation(self) -> ModelAdaptation | None:
        return ModelAdaptation(self.adapted.population, self.adapted.adaptation.strength) if self.adapted else None

    @property
    def adapts(self) -> str:
        """The amount of clips that the model is adapted to; "" for none."""
        return self.amount.name if self.adapted else ""


def _fitted(task: Task, spec: Head, amount: Amount, log: Log) -> _Fitted:
    rows = np.arange(len(task))
    with threadpool_limits(1):
        adapted = _adapted(task, amount, log)
        training = adapted.training_task(rows) if adapted else task
        return _Fitted(fit_head(spec, training, rows, seed=0), adapted, amount)


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
    scored: _Scored, fitted: _Fitted, channel: str, sound: TrainingSound | None, rivals: Sequence[Predictions]
) -> ModelCard:
    task, p, spec = scored.task, scored.row, scored.spec
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
        score=row | {"run": scored.run.name},
        params=params_of(innermost(fitted.estimator)),
        about=f"{spec.about} ({spec.source})",
        reads=about_view(task.view, task.n_frames, names),
        fitting=fitting(fitted.estimator, p),
        channel=channel,
        adapted=fitted.adapts,
        training_sound=asdict(sound) if sound else {},
        joined=task.encoder_infos if len(names) > 1 else (),
        **describe(task, p, bool(fitted.adapts), rivals),
    )
    return replace(card, predicting=predicting(card))


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _free(folder: Path) -> Path:
    """`folder` if it does not exist, else the first of folder-2, folder-3, … that does not."""
    names = [folder, *(folder.with_name(f"{folder.name}-{n}") for n in range(2, 10_000))]
    return next(name for name in names if not name.exists())
