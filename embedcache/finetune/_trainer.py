"""transformers' Trainer for a fine-tuning run: its arguments, loss, measures and callback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import EvalPrediction, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from ..encoder import Log
from ..files.atomic import sync_files, sync_folder
from .checkpoint import History
from .clips import ClipDataset, collate
from .job import Measure
from .network import Network, parameter_groups
from .settings import WHOLE, FinetuneSettings

LOADERS = 4  # processes that decode clips for a GPU


def make_trainer(
    network: Network,
    train: ClipDataset,
    development: ClipDataset,
    settings: FinetuneSettings,
    scratch: Path,
    device: Any,
    measure: Measure,
) -> Trainer:
    """Return a Trainer that saves a checkpoint after each epoch.

    It also measures the development clips after each epoch, if there are any.
    """
    has_development = len(development) > 0
    trainer = Trainer(
        model=network,
        args=_arguments(settings, scratch, device, has_development),
        data_collator=collate,
        train_dataset=train,
        eval_dataset=development if has_development else None,
        compute_loss_func=Loss(train, settings),
        compute_metrics=lambda prediction: _measure(prediction, measure),
    )
    decayed = trainer.get_decay_parameter_names(network)
    trainer.optimizer = torch.optim.AdamW(parameter_groups(network, settings, decayed), lr=settings.lr)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(settings: FinetuneSettings, scratch: Path, device: Any, has_development: bool) -> TrainingArguments:
    on_gpu = device.type == "cuda"
    arguments = TrainingArguments(
        output_dir=str(scratch),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.lr,
        lr_scheduler_type=settings.schedule if settings.schedule != "constant" else "constant_with_warmup",
        warmup_steps=settings.warmup,
        bf16=settings.precision == "bf16",
        fp16=settings.precision == "fp16",
        eval_strategy="epoch" if has_development else "no",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=2,  # the best and the last; with 1, Trainer would remove the last, and the log with it
        metric_for_best_model="uar" if has_development else None,
        greater_is_better=True if has_development else None,
        seed=settings.seed,
        use_cpu=device.type == "cpu",
        dataloader_num_workers=LOADERS if on_gpu else 0,
        dataloader_pin_memory=on_gpu,
        remove_unused_columns=False,
        label_names=["labels"],
        ddp_find_unused_parameters=True,  # dropped layers, and the mask's embedding if no clip is masked
        disable_tqdm=True,
        report_to="none",
        log_level="error",
        logging_nan_inf_filter=False,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # `accelerate launch` uses several GPUs, with one process for each
    return arguments


class Loss:
    """Cross-entropy: the mean over the clips of a step, each weighted by the weight of its label.

    The sum is divided by the clips of the whole step, so accumulated batches give the same as one large batch. Raises
    FloatingPointError if the loss is NaN or infinite.
    """

    def __init__(self, train: ClipDataset, settings: FinetuneSettings) -> None:
        self.weights = None
        if settings.class_weights:
            counts = torch.bincount(torch.tensor(train.classes))
            self.weights = counts.sum() / (len(counts) * counts)  # scikit-learn's "balanced"

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        weights = None if self.weights is None else self.weights.to(labels.device)
        loss = cross_entropy(outputs["logits"], labels, weights, reduction="sum")
        loss = loss / (len(labels) if num_items_in_batch is None else num_items_in_batch)
        if not bool(loss.detach().isfinite()):  # in the next step, or on the development clips
            raise FloatingPointError("the loss is not a number")
        return loss


class ProgressCallback(TrainerCallback):
    """Report steps and epochs, stop training early, and refuse weights that are NaN or infinite."""

    def __init__(self, settings: FinetuneSettings, train: ClipDataset, advance: Callable[[], None], log: Log) -> None:
        self.settings, self.train, self.advance, self.log = settings, train, advance, log

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Set the epoch of the clips, which decides their crops and augmentation."""
        self.train.epoch = round(state.epoch or 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Advance the progress bar."""
        self.advance()

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
        """Raise FloatingPointError before NaN or infinite weights are saved."""
        if not all(bool(p.detach().isfinite().all()) for p in model.parameters() if p.requires_grad):
            raise FloatingPointError("weights are not numbers")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark a checkpoint as complete, after every process has written its part and all files are on the disk."""
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            sync_files(folder)
            (folder / WHOLE).touch()
            sync_folder(folder)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Log the losses and the UAR of the epoch, and stop if the best epoch is `patience` epochs ago."""
        history = history_of(state.log_history)
        epoch, best = len(history["val_uar"]), best_epoch(history)
        losses = f"loss {history['train_loss'][-1]:.3f}, development loss {history['val_loss'][-1]:.3f}"
        self.log(f"epoch {epoch}: {losses}, UAR {history['val_uar'][-1]:.3f}{' (best)' if best == epoch else ''}")
        if is_stalled(history, self.settings):
            self.log(f"stopped early: no epoch after epoch {best} has a higher UAR on the development speakers.")
            control.should_training_stop = True


def history_of(log: list[dict[str, float]]) -> History:
    """Return the losses and scores of each epoch from Trainer's log."""
    names = {"loss": "train_loss", "eval_loss": "val_loss", "eval_accuracy": "val_accuracy", "eval_uar": "val_uar"}
    return {ours: [entry[theirs] for entry in log if theirs in entry] for theirs, ours in names.items()}


def best_epoch(history: History) -> int:
    """Return the first epoch, from 1, with the highest UAR; the last epoch if no UAR was measured."""
    return int(np.argmax(history["val_uar"])) + 1 if history["val_uar"] else len(history["train_loss"])


def is_stalled(history: History, settings: FinetuneSettings) -> bool:
    """Whether the best epoch is `patience` epochs ago or more.

    Example: UARs of 0.3, 0.5, 0.4, 0.5 have the best epoch 2, two epochs ago: stalled if `patience` is 2. With 0,
    training is never stalled.
    """
    uar = history["val_uar"]
    return bool(settings.patience and uar) and len(uar) - best_epoch(history) >= settings.patience


def _measure(prediction: EvalPrediction, measure: Measure) -> dict[str, float]:
    return measure(prediction.label_ids, np.asarray(prediction.predictions).argmax(axis=1))
