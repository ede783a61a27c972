"""A training job, and the checks that refuse what cannot be trained before training starts."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .. import encoders
from ..audio.augment import TRANSFORMS
from ..encoder import count_samples, describe_length, pick_device
from ..encoders import UNTRAINED
from ..encoders.checkpoint import Checkpoint, open_checkpoint, untrained
from ..encoders.contamination import known_training
from ..encoders.hub import is_checkpoint
from ..errors import AudioError, DataError, EncoderError, SerError, complain
from ..manifest import Clip
from ..provenance import TrainedOn, read_checkpoint_training_list
from .settings import FinetuneSettings

WEIGHT_BYTES = 4  # of a float32 weight
# Memory of a trained weight in addition to the weight: its gradient and the two moments of AdamW, in float32.
TRAINING_BYTES = 12

Measure = Callable[[Any, Any], dict[str, float]]  # true and predicted classes (n,) -> `uar` and `accuracy`


@dataclass(frozen=True)
class TrainingJob:
    """The clips and the settings with which one checkpoint is trained."""

    encoder: str  # name of a built-in encoder, folder or hub id
    train: Sequence[Clip]  # training clips; their labels are the classes
    development: Sequence[
        Clip
    ]  # clips for early stopping, of other speakers if `ser` chose them; empty with a patience of 0
    settings: FinetuneSettings
    measure: Measure

    @property
    def clips(self) -> list[Clip]:
        """All clips: the training clips, then the development clips."""
        return [*self.train, *self.development]

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the training clips, sorted; the columns of the classifier."""
        return tuple(sorted({clip.label for clip in self.train}))

    @property
    def clips_sha256(self) -> str:
        """SHA-256 of the training and development clips with their labels and speakers, in order."""
        parts = (self.train, self.development)
        rows = [[(clip.key, clip.label, clip.dataset, clip.speaker) for clip in part] for part in parts]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def configuration(self, base: Checkpoint) -> dict[str, Any]:
        """Return everything that must be equal for a run to be resumed, as JSON stores it."""
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        data = {"encoder": base.info.weights_sha256, "clips": self.clips_sha256, "processes": processes}
        return data | stored_settings(self.settings)


def stored_settings(settings: FinetuneSettings) -> dict[str, Any]:
    """Return settings as JSON stores them: lists instead of tuples."""
    stored: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return stored


def open_base(encoder: str) -> Checkpoint:
    """Open the checkpoint from which training starts.

    Raises EncoderError if it cannot be opened or has no weights, UnknownName if there is no encoder of that name.
    """
    if encoder == UNTRAINED:
        return untrained("fp32")
    if is_checkpoint(encoder):
        return open_checkpoint(encoder, "", "fp32")
    spec = encoders.get(encoder)
    if not spec.checkpoint:
        raise EncoderError(f"{encoder}: has no weights to fine-tune. Use wav2vec2-base, or a checkpoint.")
    return open_checkpoint(spec.checkpoint, spec.name, "fp32")


def parent_of(base: Checkpoint) -> TrainedOn:
    """Return what a checkpoint was trained on before, as far as is known."""
    info = base.info
    if not info.trained_on:
        return known_training(info)
    listed = read_checkpoint_training_list(encoders.folder_of(info.checkpoint), info.trained_on)
    return listed or known_training(info)


def training_device(device: str, settings: FinetuneSettings) -> Any:
    """Return the torch device called `device`. Raises EncoderError if it cannot be used with these settings."""
    picked = pick_device(device)
    if picked.index is not None:
        raise EncoderError(
            f"--device {device}: fine-tuning accepts no numbered GPU. Set CUDA_VISIBLE_DEVICES={picked.index} and use "
            "--device cuda."
        )
    if picked.type == "cpu" and settings.precision == "fp16":
        raise EncoderError("--precision fp16 needs a GPU. Use fp32, or bf16 if the processor supports it.")
    return picked


def refuse_labels(job: TrainingJob) -> None:
    """Raise DataError for training clips of one label, and for development clips of a label that is not trained."""
    if len(job.labels) < 2:
        labels = ", ".join(job.labels) or "none"
        raise DataError(f"labels of the training clips: got {labels}; wanted at least two. Use another label view.")
    if unknown := sorted({clip.label for clip in job.development} - set(job.labels)):
        raise DataError(
            f"development clips have the labels {', '.join(unknown)}, which no training clip has. Add such clips."
        )


def refuse_short(clips: Sequence[Clip], base: Checkpoint, settings: FinetuneSettings) -> None:
    """Raise SerError if crops are too short for one frame of the encoder, AudioError if clips are."""
    from ..encoders.engine.convolutions import receptive_field

    needed, rate = receptive_field(base.model.config), base.info.sample_rate
    if count_samples(settings.seconds, rate) < needed:
        raise SerError(
            f"seconds: got {settings.seconds:g}; {base.info.name} needs {needed / rate:g} for one frame. Use longer "
            "crops."
        )
    if "stretch" in settings.augment:  # its highest speed, by which a stretched copy is shorter than its clip
        needed = math.ceil(round(needed * TRANSFORMS["stretch"].high, 6))
    lengths = [(clip.path, count_samples(clip.seconds, rate)) for clip in clips]
    faults = [f"{path}: has {describe_length(samples, rate)}" for path, samples in lengths if samples < needed]
    if faults:
        limit = describe_length(needed, rate)
        summary = f"{len(faults)} of {len(clips)} clips are shorter than the {limit} of one frame"
        raise AudioError(*complain(summary, faults, "Remove them from their folder, and run again with --root."))


def refuse_large(network: Any, device: Any) -> None:
    """Raise SerError if the weights and their gradients do not fit into memory, where the system would end the process.

    The memory of a batch, which comes on top, is not counted.
    """
    import psutil
    import torch

    weights = sum(p.numel() for p in network.parameters())
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    needed, free = TRAINING_BYTES * trained, psutil.virtual_memory().available
    if device.type == "cuda":  # on a CPU the weights are in memory already
        needed, free = needed + WEIGHT_BYTES * weights, torch.cuda.mem_get_info(device)[0]
    if needed > free:
        raise SerError(
            f"{trained / 1e6:,.0f} million trained weights need {needed / 1e9:.1f} GB in addition to a batch; "
            f"{free / 1e9:.1f} GB are free. Train fewer with --unfreeze top:2, or use a smaller encoder."
        )
