"""What `ser finetune` does: fine-tune an encoder on all clips, or, under a protocol, once for each fold.

Under a protocol, each fold's checkpoint is tested on the fold's test clips, which gives a row of the leaderboard. Some
training speakers are set aside as development speakers, unless the folds have development clips: the checkpoint of the
epoch with the best UAR on them is kept, and the network is not trained on them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import Artifacts, ConfigError, EncoderInfo, ProtocolError
from embedcache.audio.clip_recordings import file_order, forget_files
from embedcache.cache.content_keys import listed_recording
from embedcache.cache.store import slug
from embedcache.encoder import Log, no_log
from embedcache.finetune import CheckpointCard, Finetuned, FinetuneSettings, train
from embedcache.finetune.job import TrainingJob, open_base, parent_of, refuse_short
from embedcache.finetune.scratch import WORK, scratch_of
from embedcache.finetune.training import is_first
from embedcache.progress import Progress, silent

from ..data.listed_clips import LabelledClips
from ..data.task import Task
from ..evaluation.metrics import confusion, uar
from ..evaluation.predictions import Predictions, assemble
from ..heads import inner_folds
from ..protocols.catalogue import make_folds, rows_by_name
from ..protocols.fold import Fold, fitted_together, fold_hash
from ..protocols.leaks import leaks
from .comparison import log_people, save_run
from .fold_choice import fold_notes

DEVELOPMENT = 10  # one in so many training speakers is a development speaker
AT_ONCE = 64  # test clips held in memory
WAVEFORM = "waveform"  # the view that a fine-tuned encoder reads


@dataclass(frozen=True)
class FinetuneConfig:
    """The configuration of a fine-tuning. With the protocol "", one checkpoint is trained on all clips."""

    datasets: tuple[str, ...] = ()
    encoder: str = "wav2vec2-base"
    protocol: str = ""
    folds: int = 5
    labels: str = "native"
    settings: FinetuneSettings = field(default_factory=FinetuneSettings)
    same_names: str = ""


@dataclass(frozen=True)
class FinetuneResult:
    """The checkpoints; under a protocol also the run folder and the predictions on the test clips."""

    checkpoints: tuple[Path, ...]
    run: Path | None = None
    predictions: tuple[Predictions, ...] = ()


def finetune(
    artifacts: Artifacts,
    config: FinetuneConfig,
    out: Path | None = None,
    device: str = "auto",
    resume: bool = False,
    progress: Progress = silent,
    log: Log = no_log,
) -> FinetuneResult:
    """Fine-tune an encoder on datasets that have a manifest, on all clips or fold by fold.

    `out` is the folder of the checkpoint, or, under a protocol, of all its checkpoints; by default a new folder below
    `artifacts/checkpoints`. With `resume`, a run that was stopped continues in its folder. Raises as `make_folds` and
    `embedcache.finetune.train` do, and ProtocolError if no development speakers can be set aside.
    """
    listed = LabelledClips.of(artifacts, config.datasets, config.labels, config.same_names)
    base = open_base(config.encoder)
    refuse_short(listed.source_clips, base, config.settings)
    out = out.resolve() if out and out.name in ("", "..") else out  # the checkpoint's name is that of its folder
    task = Task.of_clips(listed, np.empty((len(listed.clips), 0), np.float32), parent_of(base))
    log_people(task, log)
    rows = np.arange(len(task))
    folds = make_folds(task, config.protocol, config.folds) if config.protocol else [Fold("", rows, rows[:0])]
    for line in fold_notes(task, folds, config.protocol) if config.protocol else ():
        log(f"note: {line}")
    groups = fitted_together(folds)
    jobs = [_training_job(listed, task, group[0], config) for group in groups]
    folder = out or _checkpoint_folder(
        artifacts, f"{listed.name}-{base.info.name}-{config.settings.called}", config, resume
    )
    if not config.protocol:
        train(jobs[0], folder, device, resume, progress, log)
        return FinetuneResult((folder,))
    results: dict[str, _FoldResult] = {}
    for group, job in zip(groups, jobs, strict=True):
        log(f"{_called(group)}: {len(job.train)} training clips, {len(job.development)} development clips")
        model = train(job, _fold_folder(folder, group), device, resume, progress, log)
        if is_first():
            results |= {fold.name: _test_fold(listed, task, fold, model) for fold in group}
    checkpoints = tuple(_fold_folder(folder, group) for group in groups)
    if not is_first():
        return FinetuneResult(checkpoints)
    predictions = tuple(
        _gather(replace(config, protocol=name), base.info, task, some, [results[fold.name] for fold in some])
        for name, (some,) in rows_by_name(task, [folds], config.protocol).items()
    )
    run = save_run(artifacts, predictions, asdict(config), task.labels_from)
    return FinetuneResult(checkpoints, run, predictions)


def measures(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, float]:
    """UAR and accuracy of predicted classes (n,)."""
    classes = tuple(range(max(truth.max(), predicted.max()) + 1))
    return {"uar": float(uar(confusion(truth, predicted, classes))), "accuracy": float((truth == predicted).mean())}


@dataclass(frozen=True)
class _FoldResult:
    """The probabilities that one fold's checkpoint gives its test clips."""

    proba: NDArray[np.float32]  # (n, C), columns in the order of the task's labels
    seconds: float
    card: CheckpointCard


def _training_job(listed: LabelledClips, task: Task, fold: Fold, config: FinetuneConfig) -> TrainingJob:
    """The training job of a fold: its training clips, split by speaker into training and development.

    Development clips of the fold itself are used instead of a split.
    """
    learn, held = fold.train, fold.dev if config.settings.patience else fold.train[:0]
    if config.settings.patience and not len(held):
        classes = np.unique(task.y[fold.train], return_inverse=True)[1]
        splits = inner_folds(classes, task.speakers[fold.train], DEVELOPMENT, config.settings.seed)
        if not splits:
            who = ", ".join(sorted(set(task.speakers[fold.train].tolist()))[:5])
            raise ProtocolError(
                f"{listed.name}: no development speakers can be set aside for early stopping, because each label must "
                f"remain in training (speakers: {who}). Add speakers, or use --patience 0, which runs every epoch."
            )
        learn, held = (fold.train[part] for part in splits[0])
    clips = [listed.source_clips[row] for row in learn], [listed.source_clips[row] for row in held]
    return TrainingJob(config.encoder, *clips, config.settings, measures)


def _checkpoint_folder(artifacts: Artifacts, title: str, config: FinetuneConfig, resume: bool) -> Path:
    """Return an unused folder named after the title; to resume, the folder of the last stopped run."""
    if "WORLD_SIZE" in os.environ:
        raise ConfigError("several processes must write to the same folder. Name this folder with --out.")
    name = slug(f"{title}-{config.protocol}" if config.protocol else title)
    names = [artifacts.checkpoints / (name if n == 1 else f"{name}-{n}") for n in range(1, 10_000)]
    if resume and (taken := [path for path in names if _is_taken(path)]):
        stopped = [path for path in taken if scratch_of(path).exists() or any(path.glob(f"*{WORK}"))]
        return (stopped or taken)[-1]
    return next(path for path in names if not _is_taken(path))


def _is_taken(path: Path) -> bool:
    return path.exists() or scratch_of(path).exists()


def _called(group: Sequence[Fold]) -> str:
    """Return the name of folds that share a checkpoint, such as `fold 1` or `fold test1+test2`."""
    return f"fold {'+'.join(fold.name for fold in group)}"


def _fold_folder(folder: Path, group: Sequence[Fold]) -> Path:
    """Return the folder of the checkpoint of folds. Its name names both, because it becomes the checkpoint's name."""
    return folder / f"{folder.name}-{slug(_called(group))}"


def _test_fold(listed: LabelledClips, task: Task, fold: Fold, model: Finetuned) -> _FoldResult:
    begin = perf_counter()
    clips = [listed.source_clips[row] for row in fold.test]
    order = file_order(clips)
    parts = (order[i : i + AT_ONCE] for i in range(0, len(order), AT_ONCE))
    proba = np.zeros((len(clips), len(task.labels)), np.float32)
    columns = [task.labels.index(label) for label in model.card.labels]
    for part in parts:
        proba[np.ix_(part, columns)] = model.proba(listed_recording(clips[place]) for place in part)
    forget_files()
    return _FoldResult(proba, perf_counter() - begin, model.card)


def _gather(
    config: FinetuneConfig, info: EncoderInfo, task: Task, folds: Sequence[Fold], results: Sequence[_FoldResult]
) -> Predictions:
    proba = np.concatenate([result.proba for result in results])
    cards = [result.card for result in results]
    params: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config.settings).items()
    }
    return assemble(
        task,
        [(fold, 0) for fold in folds],  # the seed of the folds; that of the training is among the params
        proba,
        head=f"finetune-{config.settings.called}",
        encoder=info.name,
        view=WAVEFORM,
        protocol=config.protocol,
        leaks=leaks(task, folds, config.protocol),
        fold_hash=fold_hash(task, folds),
        fingerprint=info.fingerprint,
        fit_seconds=float(np.mean([card.fit_seconds for card in cards])),
        predict_ms=1000 * sum(result.seconds for result in results) / len(proba),
        params=params,
        histories=tuple(card.history for card in cards),
        chosen=tuple(map(_chosen, cards)),
    )


def _chosen(card: CheckpointCard) -> dict[str, Any]:
    """Return the kept epoch and its UAR on the development speakers, in the format of a head's `chosen_`."""
    setting = {"epoch": card.best_epoch, "development": list(card.development)}
    measured = card.history.get("val_uar")
    return {"setting": setting, "uar": measured[card.best_epoch - 1] if measured else None}
