"""Fine-tuning under a protocol: one checkpoint a fold, and a row of the leaderboard beside the frozen heads'.

Without a protocol, one checkpoint of all clips. In both, some training speakers are development speakers: the epoch
that is kept is the one with the best UAR on them, and nothing is learned from them otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import Artifacts, EncoderInfo, ProtocolError, SerError
from embedcache.cache.content_keys import listed_recording
from embedcache.cache.store import slug
from embedcache.encoder import Log, no_log
from embedcache.finetune import CheckpointCard, Finetuned, FinetuneSettings, train
from embedcache.finetune.training import WORK, TrainingJob, is_first, open_base, parent_of, refuse_short, scratch_of
from embedcache.progress import Progress, silent

from ..data.listed_clips import LabelledClips
from ..data.task import Task
from ..evaluation.metrics import confusion, uar
from ..evaluation.predictions import Predictions, assemble
from ..evaluation.protocols import Fold, fold_hash, leaks, make_folds
from ..heads import inner_folds
from .comparison import save_run

PARTS = 10  # of the training speakers, one is for development
AT_ONCE = 64  # test clips that are held in memory
WAVEFORM = "waveform"  # the view that a fine-tuned encoder reads


@dataclass(frozen=True)
class FinetuneConfig:
    """What a fine-tuning was asked; saved beside its results. No protocol: one checkpoint of all clips."""

    datasets: tuple[str, ...] = ()
    encoder: str = "wav2vec2-base"
    protocol: str = ""
    folds: int = 5
    labels: str = "native"
    settings: FinetuneSettings = field(default_factory=FinetuneSettings)


@dataclass(frozen=True)
class FinetuneResult:
    """What came of it: the checkpoints, and under a protocol the run folder and the predictions on unseen clips."""

    checkpoints: tuple[Path, ...]
    run: Path | None = None
    predictions: tuple[Predictions, ...] = ()


def finetune(
    artifacts: Artifacts,
    asked: FinetuneConfig,
    out: Path | None = None,
    device: str = "auto",
    resume: bool = False,
    progress: Progress = silent,
    log: Log = no_log,
) -> FinetuneResult:
    """Fine-tune an encoder on extracted or stocked datasets, whole or fold by fold.

    `out` is the checkpoint's folder, or under a protocol that of all; by default below `artifacts/checkpoints`. With
    `resume`, a run that was stopped goes on in its folder. Raises as `make_folds` and `embedcache.finetune.train`, and
    ProtocolError where no development speakers can be had.
    """
    listed = LabelledClips.of(artifacts, asked.datasets, asked.labels)
    base = open_base(asked.encoder)
    refuse_short(listed.bare, base, asked.settings)
    out = out.resolve() if out and out.name in ("", "..") else out  # an encoder is called by its folder
    task = Task.of_clips(listed, np.empty((len(listed.clips), 0), np.float32), parent_of(base))
    rows = np.arange(len(task))
    folds = make_folds(task, asked.protocol, asked.folds) if asked.protocol else [Fold("", rows, rows[:0])]
    works = [_work(listed, task, fold, asked) for fold in folds]
    folder = out or _place(artifacts, f"{listed.name}-{base.info.name}-{asked.settings.called}", asked, resume)
    if not asked.protocol:
        train(works[0], folder, device, resume, progress, log)
        return FinetuneResult((folder,))
    made = []
    for fold, work in zip(folds, works, strict=True):
        log(f"fold {fold.name}: {len(fold.train)} clips to train on, {len(work.development)} of them for development")
        model = train(work, _of_fold(folder, fold), device, resume, progress, log)
        if is_first():
            made.append(_tested(listed, task, fold, model))
    checkpoints = tuple(_of_fold(folder, fold) for fold in folds)
    if not is_first():
        return FinetuneResult(checkpoints)
    predictions = _gather(asked, base.info, task, folds, made)
    run = save_run(artifacts, [predictions], asdict(asked), task.labels_from)
    return FinetuneResult(checkpoints, run, (predictions,))


def measures(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, float]:
    """UAR and accuracy of predicted classes (n,)."""
    classes = tuple(range(max(truth.max(), predicted.max()) + 1))
    return {"uar": float(uar(confusion(truth, predicted, classes))), "accuracy": float((truth == predicted).mean())}


@dataclass(frozen=True)
class _Tested:
    """What one fold's checkpoint says of its test clips."""

    proba: NDArray[np.float32]  # (n, C), in the order of the task's labels
    seconds: float
    card: CheckpointCard


def _work(listed: LabelledClips, task: Task, fold: Fold, asked: FinetuneConfig) -> TrainingJob:
    """A fold's training clips, some speakers of which are for development."""
    learn, held = fold.train, fold.train[:0]
    if asked.settings.patience:
        classes = np.unique(task.y[fold.train], return_inverse=True)[1]
        splits = inner_folds(classes, task.speakers[fold.train], PARTS, asked.settings.seed)
        if not splits:
            who = ", ".join(sorted(set(task.speakers[fold.train].tolist()))[:5])
            raise ProtocolError(
                f"{listed.name}: no speakers can be set aside to stop early by, such that each label is left in "
                f"training (speakers: {who}). Record more speakers, or use --patience 0, which runs every epoch."
            )
        learn, held = (fold.train[part] for part in splits[0])
    clips = [listed.bare[row] for row in learn], [listed.bare[row] for row in held]
    return TrainingJob(asked.encoder, *clips, asked.settings, measures)


def _place(artifacts: Artifacts, title: str, asked: FinetuneConfig, resume: bool) -> Path:
    """The folder of that name, or the first of name-2, … that is free; to resume, the last that was stopped, or is."""
    if "WORLD_SIZE" in os.environ:
        raise SerError("several processes must be told one folder: name it with --out.")
    name = slug(f"{title}-{asked.protocol}" if asked.protocol else title)
    names = [artifacts.checkpoints / (name if n == 1 else f"{name}-{n}") for n in range(1, 10_000)]
    if resume and (taken := [path for path in names if _is_taken(path)]):
        stopped = [path for path in taken if scratch_of(path).exists() or any(path.glob(f"*{WORK}"))]
        return (stopped or taken)[-1]
    return next(path for path in names if not _is_taken(path))


def _is_taken(path: Path) -> bool:
    return path.exists() or scratch_of(path).exists()


def _of_fold(folder: Path, fold: Fold) -> Path:
    """A fold's checkpoint: an encoder is called by its folder, so it carries both names."""
    return folder / f"{folder.name}-fold-{slug(fold.name)}"


def _tested(listed: LabelledClips, task: Task, fold: Fold, model: Finetuned) -> _Tested:
    begin = perf_counter()
    clips = [listed.bare[row] for row in fold.test]
    parts = (clips[i : i + AT_ONCE] for i in range(0, len(clips), AT_ONCE))
    own = np.concatenate([model.proba([listed_recording(clip) for clip in part]) for part in parts])
    proba = np.zeros((len(own), len(task.labels)), np.float32)
    proba[:, [task.labels.index(label) for label in model.card.labels]] = own
    return _Tested(proba, perf_counter() - begin, model.card)


def _gather(
    asked: FinetuneConfig, info: EncoderInfo, task: Task, folds: Sequence[Fold], made: Sequence[_Tested]
) -> Predictions:
    proba = np.concatenate([one.proba for one in made])
    cards = [one.card for one in made]
    params: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(asked.settings).items()
    }
    return assemble(
        task,
        [(fold, 0) for fold in folds],  # the seed of the folds; that of the training is among the params
        proba,
        head=f"finetune-{asked.settings.called}",
        encoder=info.name,
        view=WAVEFORM,
        protocol=asked.protocol,
        leaks=leaks(task, folds, asked.protocol),
        fold_hash=fold_hash(task, folds),
        fingerprint=info.fingerprint,
        fit_seconds=float(np.mean([card.fit_seconds for card in cards])),
        predict_ms=1000 * sum(one.seconds for one in made) / len(proba),
        params=params,
        histories=tuple(card.history for card in cards),
        chosen=tuple(map(_chosen, cards)),
    )


def _chosen(card: CheckpointCard) -> dict[str, Any]:
    """The epoch that is kept, as heads say what they chose; its UAR is that of the development speakers."""
    setting = {"epoch": card.best_epoch, "development": list(card.development)}
    measured = card.history.get("val_uar")
    return {"setting": setting, "uar": measured[card.best_epoch - 1] if measured else None}
