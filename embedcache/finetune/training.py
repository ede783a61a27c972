"""A training run: from clips to the folder of a fine-tuned checkpoint.

`train` checks the job, claims the folder, trains, and writes the checkpoint. After each epoch Trainer saves a
checkpoint of its own in the scratch folder, see `scratch`. A run that was stopped continues from the last complete one,
and ends with the same weights, bit for bit, on the same machine.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from ..encoder import Log, no_log
from ..encoders.checkpoint import Checkpoint
from ..encoders.engine.memory import is_out_of_memory
from ..errors import AudioError, SerError, first_line
from ..progress import Progress, silent
from ..provenance import TrainedOn
from .checkpoint import CheckpointCard, Finetuned, History, write_checkpoint
from .job import TrainingJob, open_base, parent_of, refuse_labels, refuse_large, refuse_short, training_device
from .scratch import best_checkpoint, claim, completed_steps, last_checkpoint, scratch_of, trainer_log
from .settings import FinetuneSettings, need_finetune


def train(
    job: TrainingJob,
    folder: Path,
    device: str = "auto",
    resume: bool = False,
    progress: Progress = silent,
    log: Log = no_log,
) -> Finetuned:
    """Fine-tune an encoder and write its checkpoint to `folder`. `log` receives a line after each epoch.

    With `resume`, a run that was stopped continues, and a finished one is read. Raises SerError if the extra
    `finetune` is not installed, if the folder is taken, if memory does not suffice, or if the loss is NaN or infinite;
    DataError for unusable labels; AudioError for clips that are too short; EncoderError if the checkpoint cannot be
    fine-tuned.
    """
    need_finetune()
    refuse_labels(job)
    torch_device = training_device(device, job.settings)
    base = open_base(job.encoder)
    refuse_short(job.clips, base, job.settings)
    folder = folder.resolve()
    scratch = scratch_of(folder)
    if is_first():
        claim(folder, scratch, job.configuration(base), resume, log)
    else:
        progress, log = silent, no_log
    try:
        if folder.exists():
            return Finetuned.load(folder, device)
        with _quiet():
            result = _fit(job, base, scratch, torch_device, progress, log)
        if is_first():
            write_checkpoint(folder, result)
        return result
    finally:
        if is_first() and (folder.exists() or last_checkpoint(scratch) is None):  # there is nothing to resume
            shutil.rmtree(scratch, ignore_errors=True)


def is_first() -> bool:
    """Whether this process writes and reports: the only one, or the first that `accelerate launch` started."""
    return int(os.environ.get("RANK", "0")) == 0


def _fit(job: TrainingJob, base: Checkpoint, scratch: Path, device: Any, progress: Progress, log: Log) -> Finetuned:
    """Train, and return the network with the weights of the best epoch."""
    from transformers import set_seed

    from ._trainer import history_of, make_trainer
    from .clips import ClipDataset
    from .network import build

    settings, labels = job.settings, job.labels
    train_clips = ClipDataset(job.train, labels, base.features, settings, training=True)
    development = ClipDataset(job.development, labels, base.features, settings, training=False)
    with _explain_errors(settings):
        set_seed(settings.seed)
        network = build(base, settings, labels)
        _limit_masks(network.base.config, job, int(base.features.sampling_rate))
        refuse_large(network, device)
        trainer = make_trainer(network, train_clips, development, settings, scratch, device, job.measure)
        seconds, speed = _run_trainer(trainer, train_clips, settings, scratch, progress, log)
        trainer.accelerator.wait_for_everyone()  # the first process saves the last checkpoint
        _load_best(network, scratch)
        history = history_of(trainer_log(scratch))
        trainer.accelerator.wait_for_everyone()  # all processes have read the scratch folder, which may now be removed
        # In float32, the precision in which the checkpoint's folder is read.
        network = trainer.accelerator.unwrap_model(network, keep_fp32_wrapper=False)
    card = _card(job, base, history, seconds, speed)
    return Finetuned(card, network.to(device).eval(), base.features, device)


def _limit_masks(config: Any, job: TrainingJob, rate: int) -> None:
    """Limit the spans that SpecAugment masks to half the shortest clip, so that no clip is masked completely."""
    from ..encoders.engine.convolutions import frames_of

    shortest = min(min(clip.seconds, job.settings.seconds) for clip in job.train)
    config.mask_time_length = max(1, min(config.mask_time_length, frames_of(config, round(shortest * rate)) // 2))


def _run_trainer(
    trainer: Any, train_clips: Any, settings: FinetuneSettings, scratch: Path, progress: Progress, log: Log
) -> tuple[float, float]:
    """Train from the last checkpoint, or from the beginning, to the end.

    Returns the duration in seconds and the number of clips per second.
    """
    from ._trainer import ProgressCallback, history_of, is_stalled

    start = last_checkpoint(scratch)
    steps_before = completed_steps(start) if start else 0
    clips_per_step = _clips_per_step(len(train_clips), settings)
    began = time.monotonic()
    with progress("fine-tuning", total=len(train_clips) * settings.epochs, unit="clips") as advance:
        advance(steps_before * clips_per_step)
        trainer.add_callback(ProgressCallback(settings, train_clips, lambda: advance(clips_per_step), log))
        if start is None or not is_stalled(history_of(trainer_log(scratch)), settings):
            _call_trainer(trainer, start, scratch)
    seconds = time.monotonic() - began
    steps = max(0, trainer.state.global_step - steps_before)  # Trainer counts none if it was not called
    return seconds, float(steps * clips_per_step / max(seconds, 1e-9))


def _clips_per_step(clips: int, settings: FinetuneSettings) -> float:
    """Return the mean number of clips in a step of an epoch.

    Example: 100 clips in batches of 16 are 7 batches; with `accumulate` 2 these are 4 steps, of 25 clips on average.
    """
    batches = math.ceil(clips / settings.batch_size)
    return clips / math.ceil(batches / settings.accumulate)


def _call_trainer(trainer: Any, start: Path | None, scratch: Path) -> None:
    """Call Trainer. Raises SerError if the checkpoint `start` cannot be read, or if the loss is NaN or infinite."""
    from safetensors import SafetensorError

    try:
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    except FloatingPointError as error:
        raise _diverged(error, trainer.state.global_step, scratch) from error
    except (EOFError, UnpicklingError, SafetensorError) as error:
        raise SerError(
            f"{start}: cannot be read ({first_line(error)}). Remove that folder; --resume then continues from the "
            "checkpoint before, or from the beginning."
        ) from error


def _diverged(error: Exception, step: int, scratch: Path) -> SerError:
    good = last_checkpoint(scratch)
    kept = f"The last good checkpoint is kept: {good}." if good else "No checkpoint has been saved yet."
    return SerError(
        f"after step {step}: {error} (NaN or infinite). {kept} Start again with a lower --lr, a longer --warmup, or "
        "--precision fp32."
    )


def _load_best(network: Any, scratch: Path) -> None:
    """Load the weights of the best epoch into the network."""
    from safetensors.torch import load_file

    network.load_state_dict(load_file(best_checkpoint(scratch) / "model.safetensors"))


def _card(job: TrainingJob, base: Checkpoint, history: History, seconds: float, speed: float) -> CheckpointCard:
    from ._trainer import best_epoch

    return CheckpointCard(
        base=base.info.name,
        base_sha256=base.info.weights_sha256,
        settings=job.settings,
        clips_sha256=job.clips_sha256,
        labels=job.labels,
        trained_on=TrainedOn.of(job.clips, parent_of(base)),
        development=tuple(sorted({clip.speaker for clip in job.development})),
        history=history,
        best_epoch=best_epoch(history),
        fit_seconds=seconds,
        clips_per_second=speed,
    )


@contextmanager
def _explain_errors(settings: FinetuneSettings) -> Iterator[None]:
    """Replace torch's errors about memory, and a loader's error about a clip, by errors that say what to do."""
    try:
        yield
    except AudioError as error:  # of a loader process: torch puts the traceback before the message
        raise AudioError(
            error.args[0].strip().splitlines()[-1].removeprefix("embedcache.errors.AudioError: ")
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        half = max(1, settings.batch_size // 2)
        raise SerError(
            f"batches of {settings.batch_size} clips of {settings.seconds:g} s do not fit into memory "
            f"({first_line(error)}). Use --batch-size {half} --accumulate {2 * settings.accumulate}, which gives the "
            "same steps, --gradient-checkpointing, or --precision bf16."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the notes of transformers and accelerate; `log` reports what matters."""
    from ..encoders.checkpoint import quiet

    accelerate = logging.getLogger("accelerate")
    level = accelerate.level
    accelerate.setLevel(logging.ERROR)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")  # of transformers' WavLM
            yield
    finally:
        accelerate.setLevel(level)
