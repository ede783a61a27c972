"""The settings of a fine-tuning run: everything that determines the trained weights.

The fields are the options of `ser finetune`; this module imports nothing heavy, so that `ser --help` is quick.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from ..configuration import option
from ..errors import ConfigError, SerError
from ..text import install_hint

WHOLE = "whole"  # file in a training checkpoint; it is written last, so it says that all other files are on the disk
MLP, SEQUENCE = "mlp", "sequence"
CLASSIFIERS = (MLP, SEQUENCE)
POOLINGS = ("mean", "attention")
SCHEDULES = ("linear", "cosine", "constant")
ENCODER, ALL, TOP = "encoder", "all", "top:"
MOST_UNITS, MOST_LAYERS = 4096, 4  # of the hidden layers
HIDDEN = f"1 to {MOST_UNITS} units in each of at most {MOST_LAYERS} layers"
LONGEST = 60.0  # longest crop in seconds: attention over more frames takes hours


@dataclass(frozen=True)
class FinetuneSettings:
    """How a checkpoint is fine-tuned. Raises ConfigError for values that are out of range or exclude each other.

    The classifier `mlp` pools the frames of the last layer and applies layers of `hidden` units with ReLU and
    `dropout`. The classifier `sequence` is transformers' own `…ForSequenceClassification`, which has no such choices.
    """

    classifier: str = option(MLP, "Classifier on the encoder: mlp, or sequence (transformers' own).")
    pooling: str = option("mean", "Pooling over frames: mean or attention.")  # attention: softmax of w·tanh(V h)
    hidden: tuple[int, ...] = option(
        (256,), "Units of the hidden layers, separated by commas; none for no hidden layer."
    )
    dropout: float = option(0.1, "Dropout after each hidden layer.")
    unfreeze: str = option(ENCODER, "Part that is trained: encoder (all but the convolutions), all, or top:N blocks.")
    # A random crop in training, the middle of a clip elsewhere.
    seconds: float = option(5.0, "Length in seconds to which longer clips are cropped.")
    epochs: int = option(15, "Maximum number of epochs.")
    batch_size: int = option(16, "Clips in a batch.")
    accumulate: int = option(1, "Batches whose gradients are summed before a step.")
    lr: float = option(3e-5, "Learning rate of AdamW.")
    layer_decay: float = option(1.0, "Learning rate of a block, as a share of that of the block above.")
    weight_decay: float = option(0.01, "Weight decay of AdamW.")
    warmup: float = option(0.1, "Share of the steps over which the learning rate rises.")
    schedule: str = option("linear", "Learning rate after the warm-up: linear, cosine or constant.")
    patience: int = option(
        5, "Epochs without a better UAR on the development speakers before training stops; 0 runs every epoch."
    )
    class_weights: bool = option(False, "Weight the loss so that each label counts the same.")
    # Frames are masked in spans, as transformers does.
    spec_augment: float = option(0.05, "Share of the frames that SpecAugment masks in training; 0 for none.")
    augment: tuple[str, ...] = option(
        (),
        "Train on an augmented copy of each clip, a new one in each epoch: noise, pitch, stretch, gain.",
        shown="none",
    )
    precision: str = option("fp32", "Precision of the matrix products: fp32, bf16, or fp16 on a GPU.")
    gradient_checkpointing: bool = option(False, "Use less memory; training takes a third longer.")
    seed: int = option(0, "Random seed.")

    def __post_init__(self) -> None:
        for name, choice, choices in _choices(self):
            if choice not in choices:
                raise ConfigError(f"{name}: got '{choice}'; wanted one of {', '.join(choices)}.")
        for name, fits, wanted in _ranges(self):
            if not fits:
                got = getattr(self, name)
                shown = ",".join(map(str, got)) if isinstance(got, tuple) else f"{got:g}"
                raise ConfigError(f"{name.replace('_', '-')}: got {shown}; wanted {wanted}.")
        if self.unfreeze not in (ENCODER, ALL) and self.top is None:
            raise ConfigError(f"unfreeze: got '{self.unfreeze}'; wanted encoder, all, or top:N with N from 1.")
        if self.classifier == SEQUENCE and (self.pooling, self.hidden) != ("mean", (256,)):
            raise ConfigError("the classifier `sequence` pools in its own way. Leave out --pooling and --hidden.")
        if self.augment:
            from ..audio.augment import Augmentation

            Augmentation(self.augment, seed=self.seed)  # raises for an unknown transform

    @property
    def top(self) -> int | None:
        """The N of `top:N`; None otherwise."""
        number = self.unfreeze.removeprefix(TOP)
        good = self.unfreeze.startswith(TOP) and number.isdecimal() and int(number) > 0
        return int(number) if good else None

    @property
    def called(self) -> str:
        """Name of the classifier in runs and checkpoints: `mean`, `attention` or `sequence`."""
        return SEQUENCE if self.classifier == SEQUENCE else self.pooling


def _choices(s: FinetuneSettings) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    from ..encoder import PRECISIONS

    return (
        ("classifier", s.classifier, CLASSIFIERS),
        ("pooling", s.pooling, POOLINGS),
        ("schedule", s.schedule, SCHEDULES),
        ("precision", s.precision, PRECISIONS),
    )


def _ranges(s: FinetuneSettings) -> tuple[tuple[str, bool, str], ...]:
    return (
        ("hidden", all(0 < units <= MOST_UNITS for units in s.hidden) and len(s.hidden) <= MOST_LAYERS, HIDDEN),
        ("dropout", 0 <= s.dropout < 1, "0 or more, below 1"),
        ("seconds", 0 < s.seconds <= LONGEST, f"above 0, up to {LONGEST:g}"),
        ("epochs", s.epochs > 0, "1 or more"),
        ("batch_size", s.batch_size > 0, "1 or more"),
        ("accumulate", s.accumulate > 0, "1 or more"),
        ("lr", 0 < s.lr < 1, "above 0, below 1"),
        ("layer_decay", 0 < s.layer_decay <= 1, "above 0, up to 1"),
        ("weight_decay", 0 <= s.weight_decay < 1, "0 or more, below 1"),
        ("warmup", 0 <= s.warmup < 1, "a share of the steps from 0 to below 1"),
        ("patience", s.patience >= 0, "0 or more"),
        ("spec_augment", 0 <= s.spec_augment < 1, "a share of the frames from 0 to below 1"),
        ("seed", 0 <= s.seed < 2**32, "0 or more, below 2^32"),
    )


def need_finetune() -> None:
    """Raise SerError if the packages of the extra `finetune` are not installed."""
    if find_spec("accelerate") is None:
        raise SerError(f"Fine-tuning needs accelerate. Install it with `{install_hint('finetune')}`.")
