"""transformers' Trainer, told what to do: arguments, loss, measures, and what is heard after each step and epoch."""

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
from .clips import ClipDataset, collate
from .network import Network, groups
from .settings import WHOLE, FinetuneSettings

LOADERS = 4  # processes that decode for a GPU

History = dict[str, list[float]]
Measures = Callable[[Any, Any], dict[str, float]]  # of true and predicted classes


def make_trainer(
    network: Network,
    train: ClipDataset,
    development: ClipDataset,
    settings: FinetuneSettings,
    scratch: Path,
    device: Any,
    measure: Measures,
) -> Trainer:
    """A Trainer that measures and saves after each epoch; without development clips it only saves."""
    held = len(development) > 0
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
        eval_strategy="epoch" if held else "no",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=2,  # the best and the last: with 1, Trainer drops the last at its end, and the log with it
        metric_for_best_model="uar" if held else None,
        greater_is_better=True if held else None,
        seed=settings.seed,
        use_cpu=device.type == "cpu",
        dataloader_num_workers=LOADERS if device.type == "cuda" else 0,
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        label_names=["labels"],
        ddp_find_unused_parameters=True,  # dropped layers, and the mask where no clip is masked
        disable_tqdm=True,
        report_to="none",
        log_level="error",
        logging_nan_inf_filter=False,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several are for `accelerate launch`, a process each
    trainer = Trainer(
        model=network,
        args=arguments,
        data_collator=collate,
        train_dataset=train,
        eval_dataset=development if held else None,
        compute_loss_func=Loss(train, settings),
        compute_metrics=lambda said: _measured(said, measure),
    )
    decayed = trainer.get_decay_parameter_names(network)
    trainer.optimizer = torch.optim.AdamW(groups(network, settings, decayed), lr=settings.lr)
    trainer.remove_callback(PrinterCallback)
    return trainer


class Loss:
    """Cross-entropy, each clip's by its label's weight, over the clips of a step: batches that are accumulated give
    what one batch gives. Raises FloatingPointError for what is no number."""

    def __init__(self, train: ClipDataset, settings: FinetuneSettings) -> None:
        self.weights = None
        if settings.class_weights:
            counts = torch.bincount(torch.tensor(train.classes))
            self.weights = counts.sum() / (len(counts) * counts)  # as scikit-learn's "balanced"

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        weights = None if self.weights is None else self.weights.to(labels.device)
        loss = cross_entropy(outputs["logits"], labels, weights, reduction="sum")
        loss = loss / (len(labels) if num_items_in_batch is None else num_items_in_batch)
        if not bool(loss.detach().isfinite()):
            raise FloatingPointError("the loss is not a number")  # of the next step, or of the development clips
        return loss


class ProgressCallback(TrainerCallback):
    """Hears of steps and epochs: progress, early stopping, weights that are no numbers; tells clips the epoch."""

    def __init__(self, settings: FinetuneSettings, train: ClipDataset, advance: Callable[[], None], log: Log) -> None:
        self.settings, self.train, self.advance, self.say = settings, train, advance, log

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell the clips which epoch this is."""
        self.train.epoch = round(state.epoch or 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Advance."""
        self.advance()

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
        """Raise FloatingPointError before weights that are no numbers are saved."""
        if not all(bool(p.detach().isfinite().all()) for p in model.parameters() if p.requires_grad):
            raise FloatingPointError("weights are not numbers")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark a checkpoint that is on the disk, with what every process wrote of it."""
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            sync_files(folder)
            (folder / WHOLE).touch()
            sync_folder(folder)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Say what the epoch came to, and stop where the best is long ago."""
        past = history_of(state.log_history)
        epoch, best = len(past["val_uar"]), best_epoch(past)
        shown = f"loss {past['train_loss'][-1]:.3f}, development loss {past['val_loss'][-1]:.3f}"
        self.say(f"epoch {epoch}: {shown}, UAR {past['val_uar'][-1]:.3f}{' (best)' if best == epoch else ''}")
        if is_stalled(past, self.settings):
            self.say(f"stopped: no epoch since {best} was better on the development speakers.")
            control.should_training_stop = True


def history_of(log: list[dict[str, float]]) -> History:
    """Curves by epoch, out of Trainer's log."""
    names = {"loss": "train_loss", "eval_loss": "val_loss", "eval_accuracy": "val_accuracy", "eval_uar": "val_uar"}
    return {ours: [entry[theirs] for entry in log if theirs in entry] for theirs, ours in names.items()}


def best_epoch(past: History) -> int:
    """The first epoch, from 1, with the best UAR; the last one where none was measured."""
    return int(np.argmax(past["val_uar"])) + 1 if past["val_uar"] else len(past["train_loss"])


def is_stalled(past: History, settings: FinetuneSettings) -> bool:
    """Whether the best epoch is `patience` epochs ago."""
    return bool(past["val_uar"]) and len(past["val_uar"]) - best_epoch(past) >= settings.patience


def _measured(said: EvalPrediction, measure: Measures) -> dict[str, float]:
    return measure(said.label_ids, np.asarray(said.predictions).argmax(axis=1))
